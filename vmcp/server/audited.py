"""The application with the audit log before it: what is answered or refused without becoming a call is recorded here.

The rule: a request that got a status has one event: its call's, which says so on the origin, or the one that is made here.
Streams and connections that stay open have two: when they open and when they end.
"""

from collections.abc import Awaitable
from time import perf_counter
from typing import Any

import msgspec

from vmcp.call import Identity, Origin
from vmcp.middleware.audit import Auditor
from vmcp.server.address import Addresses
from vmcp.server.app import LONGEST_AGENT, PROBES, App, refuse_with
from vmcp.server.asgi import IDENTITY, ORIGIN, REQUEST, WHY, Header, Receive, Refused, Scope, Send
from vmcp.server.cycle import STATUS
from vmcp.server.listener import REJECTED, TASK
from vmcp.server.upgrade import Upgrade

_PATH = 256
_DENIED = frozenset({401, 403, 421, 429})
_STREAM = b"text/event-stream"


class Audited:
    """An ASGI application and a ``listener.Door``, as ``App`` is."""

    def __init__(self, app: App, auditor: Auditor, addresses: Addresses) -> None:
        self._app = app
        self.auditor = auditor
        """Who is told; another one takes over from one that was closed."""
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http" or scope["raw_path"] in PROBES:
            await self._app(scope, receive, send)
            return
        client, headers = scope.get("client"), scope["headers"]
        if client and not self._addresses.trusting:
            origin = Origin("streamable-http", client[0])
        else:
            origin = self._origin("streamable-http", client, headers)
        scope[ORIGIN] = origin
        began, seen = perf_counter(), None
        extra: list[Header] = []  # (``list[Header]()`` takes ten times as long)
        if scope["method"] == "GET" or TASK not in scope:
            seen = _Seen(self, scope, origin, send, began)
            send = seen.send
        try:
            # (Not as ``App`` does it itself: a coroutine around another one costs each request.)
            await self._app.begin(scope, receive, send, extra)
        except Refused as refused:
            await refuse_with(scope, send, refused, extra)
        finally:
            if not origin.told or (seen is not None and seen.stands):
                # What came through the listener, and is no stream, needs nobody to look on: its scope says how it was answered.
                (seen or _Seen(self, scope, origin, send, began, scope.get(STATUS, 0))).end()

    def _origin(self, transport: str, client: Any, headers: Any) -> Origin:
        """What ``App`` reads of the headers, it adds itself."""
        peer = str(client[0]) if client else ""
        address = self._addresses.of(peer, headers)
        return Origin(transport, address, via="" if peer == address else peer)

    def told(self, origin: Origin, kind: str, outcome: str, scope: Scope, extra: dict[str, Any]) -> None:
        """Record something of a request or connection."""
        why = scope.get(WHY)
        if why is not None:
            extra["reason"] = why
        if REQUEST in scope:
            extra["request_id"] = scope[REQUEST]
        path = scope["raw_path"].decode("latin-1")[:_PATH]
        target = {"endpoint": path, "method": scope["method"]}
        self.auditor.happened(kind, outcome, origin, scope.get(IDENTITY), target, extra)

    # --- the door of the listener

    def upgrades(self, raw_path: bytes) -> bool:
        """See ``listener.Door``."""
        return self._app.upgrades(raw_path)

    def upgrade(self, asked: Upgrade) -> None:
        """See ``listener.Door``. The connection is recorded when it opens, or is refused, and when it ends."""
        origin = self._origin("websocket", asked.transport.get_extra_info("peername"), asked.headers)
        agent = next((value for name, value in asked.headers if name == b"user-agent"), b"")
        origin.agent = agent[:LONGEST_AGENT].decode("latin-1")
        self._app.upgrade(asked, _Upgrading(self, asked.raw_path, origin))

    def rejected(self, status: int, client: Any, raw_path: bytes) -> None:
        """The listener has refused something that is no proper request."""
        scope: Scope = {"raw_path": raw_path, "method": "", WHY: "not a proper HTTP request, or beyond the limits"}
        origin = self._origin("streamable-http", client, ())
        self.told(origin, "http_request", _outcome(status), scope, {"http_status": status})

    def drain(self) -> None:
        """See ``App``."""
        self._app.drain()


class _Upgrading:
    """One request to upgrade to a WebSocket, and the connection; see ``websocket.Watch``."""

    def __init__(self, owner: Audited, raw_path: bytes, origin: Origin) -> None:
        self.origin = origin
        self.identity: Identity | None = None
        self._owner = owner
        self._scope: Scope = {"raw_path": raw_path, "method": "GET"}
        self._began = perf_counter()

    def answered(self, status: int, why: str | None) -> None:
        """See ``Watch``."""
        if why is not None:
            self._scope[WHY] = why
        opened = status == 101
        kind, outcome = ("websocket_connection", "success") if opened else (_kind(status), _outcome(status))
        extra: dict[str, Any] = {"phase": "open", "http_status": status} if opened else {"http_status": status}
        self._scope[IDENTITY] = self.identity
        self._owner.told(self.origin, kind, outcome, self._scope, extra)

    def ended(self, _: object) -> None:
        """See ``Watch``."""
        extra = {"phase": "close", "duration_ms": round((perf_counter() - self._began) * 1000, 3)}
        self._owner.told(self.origin, "websocket_connection", "success", self._scope, extra)


class _Seen(msgspec.Struct, gc=False):
    """One HTTP request, by its answer. ``stands``: it is a stream whose opening was recorded, so its end has to be, too."""

    _owner: Audited
    _scope: Scope
    _origin: Origin
    _send: Send
    _began: float
    _status: int = 0
    stands: bool = False

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        """Hand on, and look at the head."""
        if "status" in message:
            self._status = message["status"]
            if self._scope["method"] == "GET" and any(v == _STREAM for _, v in message["headers"]):
                self.stands = True
                extra = {"phase": "open", "http_status": self._status}
                self._owner.told(self._origin, "sse_connection", "success", self._scope, extra)
        return self._send(message)

    def end(self) -> None:
        """The request is over, and no call of it has said so."""
        extra: dict[str, Any] = {"duration_ms": round((perf_counter() - self._began) * 1000, 3)}
        # What the listener has refused in the midst of it was closed then: no other answer has left.
        self._status = self._scope.get(REJECTED, self._status)
        if self._status:
            extra["http_status"] = self._status
        if self.stands:
            self._owner.told(self._origin, "sse_connection", "success", self._scope, {"phase": "close", **extra})
            return
        kind = self._origin.kind or _kind(self._status)
        self._owner.told(self._origin, kind, _outcome(self._status), self._scope, extra)


def _kind(status: int) -> str:
    return "auth_failure" if status in (401, 403) else "http_request"


def _outcome(status: int) -> str:
    if status in _DENIED:
        return "denied"
    if status >= 500 or not status:
        return "error"
    return "failure" if status >= 400 else "success"
