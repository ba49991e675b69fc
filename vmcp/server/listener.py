"""uvicorn's HTTP protocol with the limits that it lacks, and word of a client that goes away.

The rule: what a client may make us hold before a request is complete is bounded in bytes, count and time; headers are frozen
before anybody reads them, so that trailers cannot add to them (uvicorn 0.54 appends trailers to its own live list). Nothing is
ever upgraded but to WebSocket, and only where that is served.
"""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, ClassVar, Protocol, cast, runtime_checkable
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from vmcp.config.model import Limits
from vmcp.errors import WireError
from vmcp.server.cycle import Cycle

LEAVES = "vmcp.leaves"
"""Key of the scope: whether the request ends when its client goes away."""
TASK = "vmcp.task"
"""Key of the scope: the task that serves the request (``asyncio.current_task`` is a system call before CPython 3.12)."""
GONE = "vmcp.gone"
"""Key of the scope: the client went away, and the request was cancelled for it."""

REJECTED = "vmcp.rejected"
"""Key of the scope: the status with which a request was refused here although it had begun."""

_ONCE = frozenset(
    {
        *(b"host", b"origin", b"content-length", b"content-type", b"authorization", b"transfer-encoding"),
        *(b"mcp-session-id", b"mcp-protocol-version", b"mcp-method", b"mcp-name"),
    }
)
_PARAM = b"mcp-param-"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_ASGI = {"version": "3.0", "spec_version": "2.3"}


@runtime_checkable
class Door(Protocol):
    """Where WebSockets are opened."""

    def upgrades(self, raw_path: bytes) -> bool:
        """Whether that is the place."""

    def upgrade(
        self,
        transport: asyncio.Transport,
        server: ServerState,
        raw_path: bytes,
        headers: tuple[tuple[bytes, bytes], ...],
        rest: bytes,
    ) -> None:
        """Take the connection over, or refuse and close it; ``rest`` has come behind the request."""


class _Parser:
    """httptools' parser for a server that takes few offers: after each of them it would take the body for another protocol.

    java.net.http offers h2c with every first request. What follows such a head goes to a fresh parser, which has been shown a
    head with the same framing.
    """

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self._listener)
        # As uvicorn does: the answer to a request is due although another one follows "Connection: close".
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.get_http_version = self._parser.get_http_version
        self.get_method = self._parser.get_method
        self.should_keep_alive = self._parser.should_keep_alive

    def feed_data(self, data: bytes) -> None:
        """Parse ``data``; calls the listener back."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
            if self._listener.upgraded(rest):
                return
            self._renew()
            self._listener.replay(self._parser.feed_data)
            self.feed_data(rest)

    def offers(self) -> bool:
        """Whether the client offers another protocol."""
        return bool(self._parser.should_upgrade())

    def should_upgrade(self) -> bool:
        """Never."""
        return False


class Listener(HttpToolsProtocol):
    """One connection of a client. ``limits`` is set on a subclass (``listener``), as uvicorn wants a class."""

    limits: ClassVar[Limits] = Limits()
    door: ClassVar[Door | None] = None
    rejected: ClassVar[Callable[[int, Any, bytes], None] | None] = None
    """Who is told of what is refused here: the status, the client, the path if it has come."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = cast(Any, _Parser(self))
        self._head_bytes = 0
        self._in_head = True
        self._in_body = False
        self._piece = 0
        self._idle_since = inf
        self._idle_timer: asyncio.TimerHandle | None = None
        self._offered = False
        self._upgrading = False
        self._replaying = False
        self._timer: asyncio.TimerHandle | None = None
        self._served: Cycle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the client a time for its first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that does not end, and the time of whatever does not end."""
        begun = self._head_bytes > 0
        self._piece = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._reject(b"400 Bad Request")
        if self._in_head:
            # What else is in the piece in which a head begins belongs to the request before.
            self._head_bytes += len(data) if begun else min(len(data), self.limits.header_bytes)
            if self._head_bytes > self.limits.header_bytes:
                self._reject(b"431 Request Header Fields Too Large")
        if self._timer is None:
            self._watch()

    def _watch(self) -> None:
        """Give the client a time for what it has begun."""
        if self._in_body:
            self._timer = self.loop.call_later(self.limits.body_timeout, self._on_late)
        elif self._in_head:
            self._timer = self.loop.call_later(self.limits.header_timeout, self._on_late)

    def _on_late(self) -> None:
        self._timer = None
        if self.pipeline:
            self._watch()  # We do not read at the moment.
        elif self._in_body and not self.cycle.response_started:
            self._reject(b"408 Request Timeout")
        elif not self.transport.is_closing():
            self.transport.close()

    def _in_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self._replaying:
            self.url = b""
            self.headers = []
            self._in_head = True
            self._idle_since = inf

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Freeze the head, and start the request unless the head is beyond the limits."""
        if self._replaying:
            return
        self._in_head, self._in_body = False, True
        self._offered = cast("_Parser", self.parser).offers()
        self._in_time()
        fields = dict(self.headers)
        fault = self._fault(fields)
        if fault is not None:
            self._reject(fault, begun=False)
            # The parser must not go on to a body whose request was never started.
            raise WireError(fault.decode())
        self._head_bytes = 0
        before = cast("Cycle | None", self.cycle)
        waiting = before is not None and not before.response_complete
        if self._offered and not waiting and self._wanted(fields):
            self._in_body, self._upgrading = False, True
            return
        self.scope = scope = self._scope()
        self.cycle = self._cycle(scope, fields)
        if waiting:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """A piece of the body; we stop reading when nobody takes it."""
        cycle = cast(Cycle, self.cycle)
        if not cycle.response_complete and cycle.arrived(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is whole, unless the parser only thinks so because of an offer to upgrade."""
        if not self._offered:
            self._in_body = False
            self._in_time()
            cast(Cycle, self.cycle).whole()

    def on_response_complete(self) -> None:
        """A response is out: the next request in line, or a time for the next one to come."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._in_head:
            self._idle_since = self.loop.time()
            if self._idle_timer is None:
                self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._on_idle)

    def _on_idle(self) -> None:
        """The timer stays armed from request to request and looks when it rings; one that finds us busy is not renewed."""
        self._idle_timer = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            self.transport.close()
        elif left < inf:
            self._idle_timer = self.loop.call_later(left, self._on_idle)

    def _wanted(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether this is a WebSocket that is to be opened where there are some."""
        asked = fields.get(b"upgrade", b"").strip().lower() == b"websocket" and not _FRAMING & fields.keys()
        proper = self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        return asked and proper and self.door is not None and self.door.upgrades(self.url.partition(b"?")[0])

    def upgraded(self, rest: bytes) -> bool:
        """Give the connection away, if that is what was asked for; ``rest`` is what came behind the head."""
        if not self._upgrading or self.door is None:
            return False
        self.connections.discard(self)
        self._in_time()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        raw_path = self.url.partition(b"?")[0]
        self.door.upgrade(self.transport, self.server_state, raw_path, tuple(self.headers), rest)
        return True

    def replay(self, feed: Callable[[bytes], None]) -> None:
        """Bring a fresh parser behind the head that has been read."""
        framing = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING)
        self._offered = False
        self._replaying = True
        try:
            feed(b"%b / HTTP/1.1\r\n%b\r\n" % (self.scope["method"].encode(), framing))
        finally:
            self._replaying = False

    def _scope(self) -> Any:
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": self.parser.get_http_version(),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": tuple(self.headers),
            "method": self.parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
        }

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._served = cycle
        cycle.task = cycle.scope[TASK] = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _cycle(self, scope: Any, fields: Mapping[bytes, bytes]) -> Cycle:
        return Cycle(
            scope,
            self.transport,
            self.flow,
            self.server_state.default_headers,
            self.on_response_complete,
            expects=fields.get(b"expect", b"").lower() == b"100-continue",
            keep_alive=scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
        )

    def _fault(self, fields: Mapping[bytes, bytes]) -> bytes | None:
        if not self.url.startswith(b"/") or (len(fields) != len(self.headers) and self._repeats()):
            return b"400 Bad Request"
        if len(self.headers) > self.limits.header_count or self._too_long():
            return b"431 Request Header Fields Too Large"
        coding = fields.get(b"transfer-encoding")
        proper = b"content-length" not in fields and self.parser.get_http_version() == "1.1"
        if coding is not None and not (coding.strip().lower() == b"chunked" and proper):
            return b"400 Bad Request"
        return None

    def _repeats(self) -> bool:
        """Whether a field that means something to us is there more than once."""
        names = [name for name, _ in self.headers if name in _ONCE or name.startswith(_PARAM)]
        return len(names) != len(set(names))

    def _too_long(self) -> bool:
        if self._head_bytes == 0 and self._piece <= self.limits.header_bytes:
            return False  # it came whole, in a piece that is within the limit
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.limits.header_bytes

    def _reject(self, status: bytes, begun: bool | None = None) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
            self.transport.close()
            if self._in_body if begun is None else begun:
                scope: Any = cast(Cycle, self.cycle).scope
                scope[REJECTED] = int(status[:3])
            elif (tell := type(self).rejected) is not None:
                tell(int(status[:3]), self.client, b"" if self._in_head else self.url.partition(b"?")[0])

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has been given."""
        self._reject(b"400 Bad Request")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whoever serves it hears of it."""
        self._in_time()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        served = self._served
        unanswered = served is not None and not served.response_complete
        super().connection_lost(exc)
        if served is not None and unanswered:
            # uvicorn tells the newest request only, which may still stand in line.
            served.left()
            if served.task is not None and served.scope.get(LEAVES):
                scope: Any = served.scope
                scope[GONE] = True
                served.task.cancel()


def listener(limits: Limits, app: object = None) -> type[Listener]:
    """The protocol class for ``limits``; what ``app`` wants to be upgraded, is."""
    door = app if isinstance(app, Door) else None
    more = {"limits": limits, "door": door, "rejected": getattr(app, "rejected", None)}
    return type("LimitedListener", (Listener,), more)
