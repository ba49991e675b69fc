"""Who did what, when, and how it ended: one event for every request that was answered or refused, in ToolHive's shape, extended.

The rule: of arguments there is a keyed digest and their number, of results their size; they themselves, and the texts of errors,
which may repeat them, are written only where the configuration says so, redacted and cut. No token is ever looked at. Names that
a client made up are cut, and a URI is written without its query.
"""

import asyncio
import hmac
import itertools
import secrets
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from vmcp.call import Identity, Origin, Peer, Trail
from vmcp.config.audit import AuditSpec
from vmcp.errors import Code, McpError, Overdue, Unavailable
from vmcp.middleware import redaction
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.revisions import MODERN
from vmcp.state.auditlog import now

PATIENCE: Final = 0.25
"""Seconds that a call waits for room in the queue."""
BUSY: Final = 0.8
"""How full the queue is when calls begin to wait."""
_NAP: Final = 0.01
_NAME: Final = 256
_MESSAGE: Final = 300

TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "initialize": ("mcp_initialize", ""),
    "server/discover": ("mcp_initialize", ""),
    "ping": ("mcp_ping", ""),
    "tools/call": ("mcp_tool_call", "tool"),
    "tools/list": ("mcp_tools_list", ""),
    "prompts/get": ("mcp_prompt_get", "prompt"),
    "prompts/list": ("mcp_prompts_list", ""),
    "resources/read": ("mcp_resource_read", "resource"),
    "resources/list": ("mcp_resources_list", ""),
    "resources/templates/list": ("mcp_resources_list", ""),
    "resources/subscribe": ("mcp_subscription", "resource"),
    "resources/unsubscribe": ("mcp_subscription", "resource"),
    "subscriptions/listen": ("mcp_subscription", ""),
    "completion/complete": ("mcp_completion", ""),
    "logging/setLevel": ("mcp_logging", ""),
    "tasks/get": ("mcp_task", "task"),
    "tasks/result": ("mcp_task", "task"),
    "tasks/update": ("mcp_task", "task"),
    "tasks/cancel": ("mcp_task", "task"),
    "tasks/list": ("mcp_task", ""),
}
"""The type of the event of each method, and of what its name is one."""
FREE: Final = frozenset(
    {
        *("initialize", "server/discover", "ping", "logging/setLevel"),
        *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    }
)
"""What is served although nothing can be recorded: it reads nothing of a backend, and changes nothing."""
_NAMED: Final = {"tool": "name", "prompt": "name", "resource": "uri"}
_MARKS: Final = (b'"isError"', b'"resultType"')
_UNWANTED: Final = frozenset(
    {
        *(Code.METHOD_NOT_FOUND, Code.INVALID_PARAMS, Code.INVALID_REQUEST, Code.PARSE_ERROR, Code.RESOURCE_NOT_FOUND),
        *(Code.HEADER_MISMATCH, Code.MISSING_CAPABILITY, Code.UNSUPPORTED_VERSION),
    }
)
_DENIED: Final = frozenset(
    {Code.UNAUTHORIZED, Code.PERSONA_NOT_FOUND, Code.SERVER_NOT_ALLOWED, Code.INSUFFICIENT_PERMISSIONS}
)
_LOGGED_CLAIMS: Final = ("client_id", "azp", "jti")


class Book(Protocol):
    """What keeps the records; see ``state.auditlog.AuditLog``."""

    failing: str | None

    @property
    def load(self) -> float:
        """How full its queue is, 0 to 1."""

    def put(self, body: bytes, *, vital: bool) -> None:
        """Write one."""


class _Marks(msgspec.Struct):
    is_error: bool = msgspec.field(default=False, name="isError")
    result_type: str = msgspec.field(default="", name="resultType")


class _Info(msgspec.Struct):
    name: str = ""
    version: str = ""


_marks = msgspec.json.Decoder(_Marks).decode
_info = msgspec.json.Decoder(_Info).decode


class Auditor:
    """Makes events and has them written. ``key`` is for the digests of arguments and of session ids."""

    def __init__(self, spec: AuditSpec, book: Book, key: bytes | None = None) -> None:
        self._spec = spec
        self._book = book
        self._key = hmac.digest(key or secrets.token_bytes(32), b"vmcp audit digests", "sha256")
        self._run = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._closed = spec.on_failure == "fail_closed"

    # --- before

    async def admit(self, method: str) -> None:
        """Whether a request may be served now. Raises ``McpError`` where what it does could not be recorded."""
        if not self._closed or method in FREE or not self._short():
            return
        if self._book.failing is None:
            for _ in range(int(PATIENCE / _NAP)):
                await asyncio.sleep(_NAP)
                if not self._short():
                    return
        raise McpError(
            Code.INTERNAL_ERROR,
            "audit unavailable: what cannot be recorded is not served; try again later",
            vmcp_code=Code.GATEWAY_ERROR,
        )

    def _short(self) -> bool:
        return self._book.failing is not None or self._book.load >= BUSY

    # --- after

    def served(self, request: Request, peer: Peer, path: str, trail: Trail, seconds: float, result: bytes) -> None:
        """A request has its result."""
        extra = self._extra(request, peer, trail, seconds)
        extra["response_size"] = len(result)
        marks = self._look(result) if len(result) and any(mark in result for mark in _MARKS) else _Marks()
        if marks.result_type and marks.result_type != "complete":
            extra["result_type"] = marks.result_type
        failed = marks.is_error and self._spec.application_errors
        told = {"response": redaction.shown(result, self._spec.max_data)} if self._spec.responses else {}
        self._call(request, peer, path, "application_error" if failed else "success", extra, told)

    @staticmethod
    def _look(result: bytes) -> _Marks:
        try:
            return _marks(result)
        except msgspec.MsgspecError:
            return _Marks()

    def failed(
        self, request: Request, peer: Peer, path: str, trail: Trail, seconds: float, error: McpError | None
    ) -> None:
        """A request has ended with an error; None: it was cancelled, or its client went away."""
        extra = self._extra(request, peer, trail, seconds)
        if error is None:
            extra["cancelled"] = True
        else:
            self._blame(extra, error)
        self._call(request, peer, path, outcome_of(error, trail), extra, {})

    def refused(self, method: str, error: McpError, origin: Origin | None, identity: Identity | None = None) -> None:
        """A message was refused before it became a request of anybody."""
        extra: dict[str, Any] = {}
        self._blame(extra, error)
        kind = TYPES.get(method, ("mcp_request", ""))[0]
        target = {"method": _cut(method)} if method else {}
        self._put(kind, outcome_of(error, Trail()), origin, _nobody(identity), target, extra, {})

    def happened(
        self,
        kind: str,
        outcome: str,
        origin: Origin,
        identity: Identity | None,
        target: Mapping[str, str],
        extra: Mapping[str, Any],
    ) -> None:
        """Something that is no message: an HTTP request without one, a connection that was opened or closed."""
        self._put(kind, outcome, origin, _nobody(identity), target, dict(extra), {})

    # --- the event

    def _blame(self, extra: dict[str, Any], error: McpError) -> None:
        extra["jsonrpc_error_code"] = error.code
        if error.vmcp_code is not None:
            extra["vmcp_error_code"] = int(error.vmcp_code)
        if self._spec.responses:
            extra["jsonrpc_error_message"] = redaction.text(error.message, min(_MESSAGE, self._spec.max_data))

    def _extra(self, request: Request, peer: Peer, trail: Trail, seconds: float) -> dict[str, Any]:
        extra: dict[str, Any] = {"duration_ms": round(seconds * 1000, 3), "revision": str(peer.revision)}
        if trail.backend is not None:
            extra["backend_name"] = trail.backend
            extra["backend_ms"] = round(trail.upstream_seconds * 1000, 3)
            if trail.original is not None and trail.original not in (request.tree.get("name"), request.tree.get("uri")):
                extra["backend_target"] = _plain(trail.original)
        if trail.decision is not None:
            extra["decision"] = trail.decision
            extra["policies"] = trail.policies
        if trail.persona is not None:
            extra["persona"] = trail.persona
        if trail.limited is not None:
            extra["limited_by"] = trail.limited
        arguments = request.params.get("arguments")
        if arguments is not None:
            self._digest(extra, arguments, request.tree.get("arguments"))
        return extra

    def _mark(self, text: bytes, size: int) -> str:
        """What shows that two texts are the same, to nobody else. (Keyed BLAKE2: OpenSSL's HMAC takes five times as long.)"""
        return blake2b(text, key=self._key, digest_size=size).hexdigest()

    def _digest(self, extra: dict[str, Any], arguments: Raw, tree: Any) -> None:
        text = bytes(arguments)
        extra["arguments_digest"] = "blake2b:" + self._mark(text, 32)
        extra["arguments_size"] = len(text)
        if isinstance(tree, dict):
            extra["arguments_count"] = len(tree)

    def _call(
        self, request: Request, peer: Peer, path: str, outcome: str, extra: dict[str, Any], data: dict[str, Any]
    ) -> None:
        kind, named = TYPES.get(request.method, ("mcp_request", ""))
        target = {"endpoint": path, "method": _cut(request.method)}
        name = request.tree.get(_NAMED.get(named, ""))
        if isinstance(name, str):
            target |= {"type": named, "name": _uri(name) if named == "resource" else _cut(name)}
        if self._spec.requests and "arguments" in request.params:
            data = {"request": redaction.shown(request.params["arguments"], self._spec.max_data), **data}
        self._put(kind, outcome, peer.origin, peer, target, extra, data)

    def _put(
        self,
        kind: str,
        outcome: str,
        origin: Origin | None,
        peer: Peer | None,
        target: Mapping[str, Any],
        extra: dict[str, Any],
        data: Mapping[str, Any],
    ) -> None:
        if origin is not None:
            origin.told = True
        spec = self._spec
        if kind in spec.leave_out or (spec.only and kind not in spec.only):
            return
        where = origin if origin is not None else _NOWHERE
        if where.transport:
            extra["transport"] = where.transport
        event: dict[str, Any] = {
            "msg": "audit_event",
            "audit_id": f"{self._run}-{next(self._numbers):012x}",
            "type": kind,
            "logged_at": now(),
            "outcome": outcome,
            "component": spec.component,
            "source": self._source(where, peer),
            "subjects": subjects(peer),
            "target": target,
            "metadata": {"extra": extra},
        }
        chain = self._delegation(peer)
        if chain:
            event["delegation"] = chain
        if data:
            event["data"] = data
        self._book.put(_ENCODE(event), vital=outcome != "success")

    def _source(self, origin: Origin, peer: Peer | None) -> dict[str, Any]:
        extra: dict[str, str] = {}
        if origin.agent:
            extra["user_agent"] = _cut(origin.agent)
        if origin.via:
            extra["via"] = origin.via
        if peer is not None and peer.session is not None:
            # The id itself is as good as a key: whoever reads the log shall not have it.
            extra["session"] = self._mark(peer.session.encode(), 8)
        local = not origin.address
        return {"type": "local" if local else "network", "value": origin.address or "local", "extra": extra}

    def _delegation(self, peer: Peer | None) -> list[dict[str, str]]:
        """Who acted for whom (RFC 8693 ``act``), the nearest first, and no deeper than configured."""
        identity = _identity(peer)
        actor = identity.claims.get("act") if identity is not None else None
        chain: list[dict[str, str]] = []
        while isinstance(actor, Mapping) and len(chain) < self._spec.delegation_depth:
            chain.append({key: _cut(str(actor[key])) for key in ("iss", "sub", "client_id") if key in actor})
            actor = actor.get("act")
        if isinstance(actor, Mapping):
            chain.append({"truncated": "true"})
        return chain


_ENCODE: Final = msgspec.json.Encoder(enc_hook=str).encode
_NOWHERE: Final = Origin()


def outcome_of(error: McpError | None, trail: Trail) -> str:
    """success, failure, error, denied or application_error: the last is what the backend itself answered."""
    if error is None:
        return "failure"
    if trail.decision == "deny" or trail.limited is not None or error.vmcp_code in _DENIED:
        return "denied"
    if isinstance(error, Unavailable | Overdue):
        return "error"
    if trail.backend is not None and error.vmcp_code is None:
        return "application_error"
    return "failure" if error.code in _UNWANTED else "error"


def subjects(peer: Peer | None) -> dict[str, str]:
    """Who it was, by what was verified, and with which program, by its own word. Names and addresses of people are left out."""
    told: dict[str, str] = {}
    identity = _identity(peer)
    if identity is not None:
        told = {"user_id": _cut(identity.subject), "issuer": _cut(identity.issuer)}
        for name in _LOGGED_CLAIMS:
            if name in identity.claims:
                told[name] = _cut(str(identity.claims[name]))
    if peer is not None and peer.info is not None:
        told |= _program(peer.info)
    return told


def _nobody(identity: Identity | None) -> Peer | None:
    """Who is known to be somebody, and has said nothing else yet."""
    return Peer(MODERN, identity=identity) if identity is not None else None


def _identity(peer: Peer | None) -> Identity | None:
    return peer.identity if peer is not None else None


@lru_cache(1024)
def _program(info: bytes) -> dict[str, str]:
    try:
        told = _info(info)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return {"client_name": _cut(told.name), "client_version": _cut(told.version)}


@lru_cache(4096)
def _short_name(said: str) -> str:
    return redaction.text(said, _NAME)


def _cut(said: str) -> str:
    """A name that a client or a token says. The same few come all the time; long ones are nobody's to keep."""
    return _short_name(said) if len(said) <= _NAME else redaction.text(said, _NAME)


def _plain(target: str) -> str:
    return _uri(target) if "://" in target else _cut(target)


def _uri(uri: str) -> str:
    """A URI without what may be secret in it: user, password, query, fragment."""
    try:
        parts = urlsplit(uri[: _NAME * 4])
    except ValueError:
        return ""
    cut = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="…" if parts.query else "", fragment="")
    return _cut(cut.geturl())
