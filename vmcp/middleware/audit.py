"""Who did what, when, and how it ended: one event for every request that was answered or refused, in ToolHive's shape, extended.

The rule: of arguments there is a keyed digest and their number, of results their size; they themselves, and the texts of errors,
which may repeat them, are written only where the configuration says so, redacted and cut. No token is ever looked at. Names that
a client made up are cut, and a URI is written without its query.
"""

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from time import time
from typing import Any, Final, Protocol

import msgspec

from vmcp.call import Identity, Origin, Peer, Trail
from vmcp.config.audit import TYPES as TYPES_TO_CHOOSE
from vmcp.config.audit import AuditSpec
from vmcp.errors import Code, McpError, Overdue, Unavailable
from vmcp.middleware import event, redaction
from vmcp.middleware.event import Extra
from vmcp.middleware.scribe import LONGEST, OTHERS, SAID, TYPES, WHOLE, Note, Scribe
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import LARGE, Request
from vmcp.protocol.revisions import MODERN

PATIENCE: Final = 0.25
"""Seconds that a call waits for room in the queue."""
BUSY: Final = 0.8
"""How full the queue is when calls begin to wait."""
_NAP: Final = 0.01
_MESSAGE: Final = 300

FREE: Final = frozenset(
    {
        *("initialize", "server/discover", "ping", "logging/setLevel", "vmcp/servers/health"),
        *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    }
)
"""What is served although nothing can be recorded: it reads nothing of a backend, and changes nothing."""
_NAMED: Final = {"tool": "name", "prompt": "name", "resource": "uri"}
_KEYS: Final = {method: _NAMED.get(named, "") for method, (_, named) in TYPES.items()}
"""Under which key the name of what each method is about stands; empty: under none."""
_COMPLETE: Final = b'{"resultType":"complete"'
_USUAL: Final = ("", "complete")
_NO_ERROR: Final = b'"isError":false}'
_IS_ERROR: Final = b'"isError"'
_NOT: Final = b'"isError":false'
_TYPE: Final = b'"resultType"'
_USUAL_TYPE: Final = b'"resultType":"complete"'
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

    def note(self, draft: Note) -> None:
        """Write one, later."""


class _Marks(msgspec.Struct):
    is_error: bool = msgspec.field(default=False, name="isError")
    result_type: str = msgspec.field(default="", name="resultType")


_marks = msgspec.json.Decoder(_Marks).decode
_NO_MARKS: Final = _Marks()


class Auditor:
    """Makes events and has them written. ``key`` is for the digests of arguments and of session ids."""

    def __init__(self, spec: AuditSpec, book: Book, key: bytes | None = None) -> None:
        self._spec = spec
        self._book = book
        secret = hmac.digest(key or secrets.token_bytes(32), b"vmcp audit digests", "sha256")
        self.closed = spec.on_failure == "fail_closed"
        """Whether what cannot be recorded is not served: then ``strained`` says whether ``admit`` has to be asked."""
        left = self._left_out = spec.leave_out | (frozenset(TYPES_TO_CHOOSE) - spec.only if spec.only else frozenset())
        self._keys = {method: None if TYPES[method][0] in left else key for method, key in _KEYS.items()}
        self._other_key = None if OTHERS[0] in left else ""
        # Keyed BLAKE2, begun once: OpenSSL's HMAC takes five times as long.
        self._begun = blake2b(key=secret, digest_size=32)
        self._plain = not (spec.requests or spec.responses)
        self._form = event.Form(
            spec.component, spec.delegation_depth, lambda id_: blake2b(id_, key=secret, digest_size=8).hexdigest()
        )
        self._scribe = Scribe(self._form, self._begun)
        self._number = self._form.numbers.__next__

    # --- before

    @property
    def strained(self) -> bool:
        """Whether it is not certain that there is room for a record."""
        book = self._book
        return book.crowded or book.failing is not None

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

    def served(
        self, request: Request, peer: Peer, path: str, trail: Trail, seconds: float, result: bytes
    ) -> Note | None:
        """A request has its result. If that was noted, the note, which is of a call that did not fail in any way."""
        method, tree, info, origin = request.method, request.tree, peer.info, peer.origin or Origin()
        origin.told = True
        key = self._keys.get(method, self._other_key)
        if key is None:
            return None
        # Only results of 2026-07-28 have a type, and the usual one usually stands at the beginning; the usual ``isError`` at
        # the end.
        marks, plain = _NO_MARKS, self._plain
        if not (plain and result.endswith(_NO_ERROR)) or (peer.revision is MODERN and not result.startswith(_COMPLETE)):
            marks, plain = self._looked_at(result, peer)
        name = tree.get(key) if key else None
        if type(name) is not str:
            name = None
        elif len(name) > event.LONGEST:
            plain = False
        arguments, count = request.params.get("arguments"), None
        if arguments is not None:
            plain = plain and len(arguments) <= LONGEST
            given = tree.get("arguments")
            if type(given) is dict:
                count = len(given)
        if not plain or (info is not None and len(info) > LONGEST):
            self._told_in_full(request, peer, path, trail, seconds, result, marks)
            return None
        note = Note(
            self._scribe,
            self._number(),
            time(),
            path,
            method,
            name,
            peer.revision,
            peer.identity,
            info,
            peer.session,
            origin,
            trail,
            bytes(arguments) if arguments is not None else None,  # (it is a view of all that the client has sent)
            count,
            seconds,
            len(result),
        )
        self._book.note(note)
        return note

    def _looked_at(self, result: bytes, peer: Peer) -> tuple[_Marks, bool]:
        """What a result says of itself, and whether that is nothing but that it is one."""
        # (With escapes a key may be written in another way.)
        usual = self._plain and len(result) <= LARGE and result.find(b"\\u") < 0 and _says(result, _IS_ERROR, _NOT)
        if usual and (peer.revision is not MODERN or _says(result, _TYPE, _USUAL_TYPE)):
            return _NO_MARKS, True
        marks = _look(result)
        return marks, self._plain and not marks.is_error and marks.result_type in _USUAL

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
        extra.request_id = trail.request or None
        self._call(request, peer, path, outcome_of(error, trail), extra, None)

    def refused(
        self, method: str, error: McpError, origin: Origin | None, identity: Identity | None = None, request: str = ""
    ) -> None:
        """A message was refused before it became a request of anybody."""
        kind = TYPES.get(method, OTHERS)[0]
        target = {"method": event.cut(method)} if method else {}
        names = ("jsonrpc_error_code", "vmcp_error_code", "jsonrpc_error_message")
        told = {name: value for name, value in zip(names, self._blame(error), strict=True) if value is not None}
        told |= {"request_id": request} if request else {}
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
        extra = Extra(SAID[peer.revision], transport, (seconds * 1e6 + WHOLE - WHOLE) / 1000, backend)
        if backend is not None:
            extra.backend_ms = (trail.upstream_seconds * 1e6 + WHOLE - WHOLE) / 1000
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
        kind, named = TYPES.get(method, OTHERS)
        if kind in self._left_out:
            return
        name = request.tree.get(_NAMED[named]) if named in _NAMED else None
        if name is not None and type(name) is not str:
            name = None
        target = event.target(path, method, named, name)
        if self._spec.requests and "arguments" in request.params:
            data = {"request": redaction.shown(request.params["arguments"], self._spec.max_data), **(data or {})}
        self._book.put(self._form.event(kind, outcome, origin, peer, target, extra, data), vital=outcome != "success")


def _says(result: bytes, key: bytes, usual: bytes) -> bool:
    """Whether a result has ``key`` nowhere, at any depth, or once, and then with the usual value."""
    # (``in`` takes bytes for a number first, and finds out by an exception that they are none.)
    at = result.find(key)
    return at < 0 or (result.startswith(usual, at) and result.find(key, at + 1) < 0)


def _look(result: bytes) -> _Marks:
    try:
        if len(result) > LARGE and (end := jsonrpc.ending(result, b'"isError"')) is not None:
            with contextlib.suppress(msgspec.MsgspecError):
                found = _marks(end)
                if found.result_type:
                    return found
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
