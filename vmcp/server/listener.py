"""uvicorn's HTTP protocol with the limits that it lacks, and word of a client that goes away.

The rule: what a client may make us hold before a request is complete is bounded in bytes, count and time; headers are frozen
before anybody reads them, so that trailers cannot add to them (uvicorn 0.54 appends trailers to its own live list). Nothing is
ever upgraded.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from vmcp.config.model import Limits
from vmcp.errors import WireError
from vmcp.server.cycle import Cycle

LEAVES = "vmcp.leaves"
"""Key of the scope: whether the request ends when its client goes away."""
GONE = "vmcp.gone"
"""Key of the scope: the client went away, and the request was cancelled for it."""

_ONCE = frozenset(
    {
        *(b"host", b"origin", b"content-length", b"content-type", b"authorization", b"transfer-encoding"),
        *(b"mcp-session-id", b"mcp-protocol-version", b"mcp-method", b"mcp-name"),
    }
)
_PARAM = b"mcp-param-"
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class _Parser:
    """httptools' parser for a server that upgrades nothing: after an offer it would take the body for another protocol.

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
            self._renew()
            self._listener.replay(self._parser.feed_data)
            self.feed_data(data[offer.args[0] :])

    def offers(self) -> bool:
        """Whether the client offers another protocol."""
        return bool(self._parser.should_upgrade())

    def should_upgrade(self) -> bool:
        """Never."""
        return False


class Listener(HttpToolsProtocol):
    """One connection of a client. ``limits`` is set on a subclass (``listener``), as uvicorn wants a class."""

    limits: ClassVar[Limits] = Limits()

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
        self._offered = False
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
        super().data_received(data)
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
        elif self._in_head or (self.timeout_keep_alive_task is None and self.cycle.response_complete):
            # The second is a line end between two requests: uvicorn takes it for the begin of one.
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
            super().on_message_begin()
            self._in_head = True

    def on_headers_complete(self) -> None:
        """Freeze the head, and start the request unless the head is beyond the limits."""
        if self._replaying:
            return
        self._in_head, self._in_body = False, True
        self._head_bytes = 0
        self._offered = cast("_Parser", self.parser).offers()
        self._in_time()
        fault = self._fault()
        if fault is not None:
            self._reject(fault)
            # The parser must not go on to a body whose request was never started.
            raise WireError(fault.decode())
        self._fill_scope()
        before = cast("Cycle | None", self.cycle)
        waiting = before is not None and not before.response_complete
        self.cycle = self._cycle()
        if waiting:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def on_message_complete(self) -> None:
        """The request is whole, unless the parser only thinks so because of an offer to upgrade."""
        if not self._offered:
            self._in_body = False
            self._in_time()
            super().on_message_complete()

    def replay(self, feed: Callable[[bytes], None]) -> None:
        """Bring a fresh parser behind the head that has been read."""
        framing = b"".join(b"%b: %b\r\n" % header for header in self.headers if header[0] in _FRAMING)
        self._offered = False
        self._replaying = True
        try:
            feed(b"%b / HTTP/1.1\r\n%b\r\n" % (self.scope["method"].encode(), framing))
        finally:
            self._replaying = False

    def _fill_scope(self) -> None:
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        scope: Any = self.scope
        scope["headers"] = tuple(self.headers)
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = self.parser.get_http_version()
        scope["raw_path"] = raw_path
        scope["path"] = unquote(path) if "%" in path else path
        scope["query_string"] = query

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._served = cycle
        cycle.task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _cycle(self) -> Cycle:
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def _fault(self) -> bytes | None:
        if not self.url.startswith(b"/"):
            return b"400 Bad Request"
        size = len(self.url)
        once: dict[bytes, bytes] = {}
        for name, value in self.headers:
            size += len(name) + len(value)
            if name in _ONCE or name.startswith(_PARAM):
                if name in once:
                    return b"400 Bad Request"
                once[name] = value
        if size > self.limits.header_bytes or len(self.headers) > self.limits.header_count:
            return b"431 Request Header Fields Too Large"
        coding = once.get(b"transfer-encoding")
        proper = b"content-length" not in once and self.parser.get_http_version() == "1.1"
        if coding is not None and not (coding.strip().lower() == b"chunked" and proper):
            return b"400 Bad Request"
        return None

    def _reject(self, status: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has been given."""
        self._reject(b"400 Bad Request")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whoever serves it hears of it."""
        self._in_time()
        served = self._served
        unanswered = served is not None and not served.response_complete
        super().connection_lost(exc)
        if served is not None and unanswered:
            # uvicorn tells the newest request only, which may still stand in line.
            served.disconnected = True
            served.message_event.set()
            if served.task is not None and served.scope.get(LEAVES):
                scope: Any = served.scope
                scope[GONE] = True
                served.task.cancel()


def listener(limits: Limits) -> type[Listener]:
    """The protocol class for ``limits``."""
    return type("LimitedListener", (Listener,), {"limits": limits})
