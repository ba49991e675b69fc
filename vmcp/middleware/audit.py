"""Who did what, when, and how it ended: one event for every request that was answered or refused, in ToolHive's shape, extended.

The rule: of arguments there is a keyed digest and their number, of results their size; they themselves, and the texts of errors,
which may repeat them, are written only where the configuration says so, redacted and cut. No token is ever looked at. Names that
a client made up are cut, and a URI is written without its query.
"""

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec

from vmcp.call import Identity, Origin, Peer, Trail
from vmcp.config.audit import TYPES as TYPES_TO_CHOOSE
from vmcp.config.audit import AuditSpec
from vmcp.errors import Code, McpError, Overdue, Unavailable
from vmcp.middleware import event, redaction
from vmcp.middleware.event import Extra, Told
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.revisions import MODERN, Revision

PATIENCE: Final = 0.25
"""Seconds that a call waits for room in the queue."""
BUSY: Final = 0.8
"""How full the queue is when calls begin to wait."""
_NAP: Final = 0.01
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
        *("initialize", "server/discover", "ping", "logging/setLevel", "vmcp/servers/health"),
        *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    }
)
"""What is served although nothing can be recorded: it reads nothing of a backend, and changes nothing."""
_SAID: Final = {each: str(each.value) for each in Revision}
_NAMED: Final = {"tool": "name", "prompt": "name", "resource": "uri"}
_KEYS: Final = {method: _NAMED[named] for method, (_, named) in TYPES.items() if named in _NAMED}
Called = tuple[str, str, str | None, Revision, str, str | None, str | None, str | None, tuple[str, ...], str | None]
"""What is the same of calls of one thing: path, method, name, revision, transport, and what the trail says."""
_COMPLETE: Final = b'{"resultType":"complete"'
_USUAL: Final = ("", "complete")
_WHOLE: Final = 2.0**52
"""From here on floats are whole numbers: to add it and to take it away again rounds, in a third of the time."""
_NO_ERROR: Final = b'"isError":false}'
_UNWANTED: Final = frozenset(
    {
        *(Code.METHOD_NOT_FOUND, Code.INVALID_PARAMS, Code.INVALID_REQUEST, Code.PARSE_ERROR, Code.RESOURCE_NOT_FOUND),
        *(Code.HEADER_MISMATCH, Code.MISSING_CAPABILITY, Code.UNSUPPORTED_VERSION),
    }
)
_DENIED: Final = frozenset(
    {Code.UNAUTHORIZED, Code.PERSONA_NOT_FOUND, Code.SERVER_NOT_ALLOWED, Code.INSUFFICIENT_PERMISSIONS}
)


class Book(Protocol):
    """What keeps the records; see ``state.auditlog.AuditLog``."""

    failing: str | None
    crowded: bool
    """False while ``load`` is far from being too much."""

    @property
    def load(self) -> float:
        """How full its queue is, 0 to 1."""

    def put(self, body: bytes, *, vital: bool) -> None:
        """Write one."""


class _Marks(msgspec.Struct):
    is_error: bool = msgspec.field(default=False, name="isError")
    result_type: str = msgspec.field(default="", name="resultType")


_marks = msgspec.json.Decoder(_Marks).decode


class Auditor:
    """Makes events and has them written. ``key`` is for the digests of arguments and of session ids."""

    def __init__(self, spec: AuditSpec, book: Book, key: bytes | None = None) -> None:
        self._spec = spec
        self._book = book
        secret = hmac.digest(key or secrets.token_bytes(32), b"vmcp audit digests", "sha256")
        self.closed = spec.on_failure == "fail_closed"
        """Whether what cannot be recorded is not served: then ``strained`` says whether ``admit`` has to be asked."""
        self._left_out = spec.leave_out | (frozenset(TYPES_TO_CHOOSE) - spec.only if spec.only else frozenset())
        # Keyed BLAKE2, begun once: OpenSSL's HMAC takes five times as long.
        self._begun = blake2b(key=secret, digest_size=32)
        self._plain = not (spec.requests or spec.responses)
        self._calls: dict[Called, bytes] = {}
        self._form = event.Form(
            spec.component, spec.delegation_depth, lambda id_: blake2b(id_, key=secret, digest_size=8).hexdigest()
        )

    # --- before

    @property
    def strained(self) -> bool:
        """Whether it is not certain that there is room for a record."""
        return self._book.crowded or self._book.failing is not None

    async def admit(self, method: str) -> None:
        """Whether a request may be served now. Raises ``McpError`` where what it does could not be recorded."""
        if not self.closed or method in FREE or not self.short():
            return
        if self._book.failing is None:
            for _ in range(int(PATIENCE / _NAP)):
                await asyncio.sleep(_NAP)
                if not self.short():
                    return
        raise McpError(
            Code.INTERNAL_ERROR,
            "audit unavailable: what cannot be recorded is not served; try again later",
            vmcp_code=Code.GATEWAY_ERROR,
        )

    def short(self) -> bool:
        """Whether records cannot be written at the moment, or hardly fast enough."""
        return self._book.failing is not None or self._book.load >= BUSY

    # --- after

    def served(self, request: Request, peer: Peer, path: str, trail: Trail, seconds: float, result: bytes) -> None:
        """A request has its result."""
        # Only results of 2026-07-28 have a type, and the usual one usually stands at the beginning; the usual ``isError`` at
        # the end. (``in`` takes bytes for a number first, and finds out by an exception that they are none.)
        revision = peer.revision
        odd = not result.endswith(_NO_ERROR) and result.find(b'"isError"') >= 0
        if odd or not self._plain or (revision is MODERN and not result.startswith(_COMPLETE)):
            marks = _look(result)
            if not self._plain or marks.is_error or marks.result_type not in _USUAL:
                self._told_in_full(request, peer, path, trail, seconds, result, marks)
                return
        origin, tree, method = peer.origin, request.tree, request.method
        transport = ""
        if origin is not None:
            origin.told = True
            transport = origin.transport
        key = _KEYS.get(method)
        name = tree.get(key) if key is not None else None
        if type(name) is not str:
            name = None
        called = (
            path,
            method,
            name,
            revision,
            transport,
            trail.backend,
            trail.original,
            trail.decision,
            trail.policies,
            trail.persona,
        )
        call = self._calls.get(called)
        if call is None:
            call = self._call_of(called)
        if not call:
            return
        arguments, digest, length, count = request.params.get("arguments"), None, None, None
        if arguments is not None:
            # It shows that two texts are the same, to nobody else.
            mark = self._begun.copy()
            mark.update(arguments)
            digest, length, given = "blake2b:" + mark.hexdigest(), len(arguments), tree.get("arguments")
            if type(given) is dict:
                count = len(given)
        upstream = None if trail.backend is None else (trail.upstream_seconds * 1e6 + _WHOLE - _WHOLE) / 1000
        told = Told((seconds * 1e6 + _WHOLE - _WHOLE) / 1000, len(result), upstream, digest, length, count)
        self._book.put(self._form.laid(origin, peer, call, event.text(told)[1:], b"}}"), vital=False)

    def _call_of(self, called: Called) -> bytes:
        """What is the same of all these calls, as text; none where they are not to be recorded."""
        path, method, name, revision, transport, backend, original, decision, policies, persona = called
        kind, named = TYPES.get(method, ("mcp_request", ""))
        extra = Extra(_SAID[revision], transport, backend_name=backend, persona=persona)
        if backend is not None and original is not None and original != name:
            extra.backend_target = event.plain(original)
        if decision is not None:
            extra.decision, extra.policies = decision, policies
        call = b"" if kind in self._left_out else event.call(event.target(path, method, named, name), kind, extra)
        # Long names are not remembered.
        if max(len(name or ""), len(method), len(original or "")) <= event.LONGEST:
            event.keep(self._calls, called, call)
        return call

    def _told_in_full(
        self, request: Request, peer: Peer, path: str, trail: Trail, seconds: float, result: bytes, marks: _Marks
    ) -> None:
        outcome, extra = "success", self._extra(request, peer, trail, seconds)
        extra.response_size = len(result)
        if marks.result_type not in _USUAL:
            extra.result_type = marks.result_type
        if marks.is_error and self._spec.application_errors:
            outcome = "application_error"
        told = {"response": redaction.shown(result, self._spec.max_data)} if self._spec.responses else None
        self._call(request, peer, path, outcome, extra, told)

    def failed(
        self, request: Request, peer: Peer, path: str, trail: Trail, seconds: float, error: McpError | None
    ) -> None:
        """A request has ended with an error; None: it was cancelled, or its client went away."""
        extra = self._extra(request, peer, trail, seconds)
        if error is None:
            extra.cancelled = True
        else:
            extra.jsonrpc_error_code, extra.vmcp_error_code, extra.jsonrpc_error_message = self._blame(error)
        extra.limited_by = trail.limited
        self._call(request, peer, path, outcome_of(error, trail), extra, None)

    def refused(self, method: str, error: McpError, origin: Origin | None, identity: Identity | None = None) -> None:
        """A message was refused before it became a request of anybody."""
        kind = TYPES.get(method, ("mcp_request", ""))[0]
        target = {"method": event.cut(method)} if method else {}
        names = ("jsonrpc_error_code", "vmcp_error_code", "jsonrpc_error_message")
        told = {name: value for name, value in zip(names, self._blame(error), strict=True) if value is not None}
        self.happened(kind, outcome_of(error, Trail()), origin, identity, target, told)

    def happened(
        self,
        kind: str,
        outcome: str,
        origin: Origin | None,
        identity: Identity | None,
        target: Mapping[str, str],
        extra: Mapping[str, Any],
    ) -> None:
        """Something that is no message: an HTTP request without one, a connection that was opened or closed."""
        somebody = Peer(MODERN, identity=identity) if identity is not None else None
        if origin is not None:
            origin.told = True
            extra = {**extra, "transport": origin.transport} if origin.transport else extra
        if kind not in self._left_out:
            told = self._form.event(kind, outcome, origin, somebody, event.text(target), extra, None)
            self._book.put(told, vital=outcome != "success")

    # --- the event

    def _blame(self, error: McpError) -> tuple[int, int | None, str | None]:
        """Code, our own code, and the text where that is to be written."""
        said = redaction.text(str(error), min(_MESSAGE, self._spec.max_data)) if self._spec.responses else None
        return error.code, int(error.vmcp_code) if error.vmcp_code is not None else None, said

    def _extra(self, request: Request, peer: Peer, trail: Trail, seconds: float) -> Extra:
        origin, backend, tree = peer.origin, trail.backend, request.tree
        transport = origin.transport if origin is not None else ""
        extra = Extra(_SAID[peer.revision], transport, (seconds * 1e6 + _WHOLE - _WHOLE) / 1000, backend)
        if backend is not None:
            extra.backend_ms = (trail.upstream_seconds * 1e6 + _WHOLE - _WHOLE) / 1000
            original = trail.original
            if original is not None and original != tree.get("name") and original != tree.get("uri"):
                extra.backend_target = event.plain(original)
        if trail.decision is not None:
            extra.decision, extra.policies = trail.decision, trail.policies
        extra.persona = trail.persona
        arguments = request.params.get("arguments")
        if arguments is not None:
            # It shows that two texts are the same, to nobody else.
            digest = self._begun.copy()
            digest.update(arguments)
            extra.arguments_digest = "blake2b:" + digest.hexdigest()
            extra.arguments_size = memoryview(arguments).nbytes
            given = tree.get("arguments")
            if type(given) is dict:
                extra.arguments_count = len(given)
        return extra

    def _call(
        self, request: Request, peer: Peer, path: str, outcome: str, extra: Extra, data: Mapping[str, Any] | None
    ) -> None:
        method, origin = request.method, peer.origin
        if origin is not None:
            origin.told = True
        kind, named = TYPES.get(method, ("mcp_request", ""))
        if kind in self._left_out:
            return
        name = request.tree.get(_NAMED[named]) if named in _NAMED else None
        if name is not None and type(name) is not str:
            name = None
        target = event.target(path, method, named, name)
        if self._spec.requests and "arguments" in request.params:
            data = {"request": redaction.shown(request.params["arguments"], self._spec.max_data), **(data or {})}
        self._book.put(self._form.event(kind, outcome, origin, peer, target, extra, data), vital=outcome != "success")


def _look(result: bytes) -> _Marks:
    try:
        return _marks(result)
    except msgspec.MsgspecError:
        return _Marks()


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
