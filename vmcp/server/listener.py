"""uvicorn's HTTP protocol with the limits that it lacks, and word of a client that goes away.

The rule: what a client may make us hold before a request is complete is bounded in bytes, count and time; headers are frozen
before anybody reads them, so that trailers cannot add to them (uvicorn 0.54 appends trailers to its own live list). Nothing is
ever upgraded but to WebSocket, and only where that is served. Times are the watch's to look after (``vigil``): what is done
here on the way of a request are attribute writes.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any, ClassVar, Protocol, cast, runtime_checkable
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

from vmcp.config.model import Limits
from vmcp.errors import WireError
from vmcp.server import head
from vmcp.server.cycle import Cycle
from vmcp.server.load import Load
from vmcp.server.memory import budget
from vmcp.server.parser import Parser
from vmcp.server.timed import Timed
from vmcp.server.upgrade import Upgrade
from vmcp.server.vigil import Seat, Vigil

LEAVES = "vmcp.leaves"
"""Key of the scope: whether the request ends when its client goes away."""
TASK = "vmcp.task"
"""Key of the scope: the task that serves the request (``asyncio.current_task`` is a system call before CPython 3.12)."""
GONE = "vmcp.gone"
"""Key of the scope: the client went away, and the request was cancelled for it."""

REJECTED = "vmcp.rejected"
"""Key of the scope: the status with which a request was refused here although it had begun."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_EVENTS = b"text/event-stream"
_DROPPED: Any = deque(maxlen=0)
"""Where trailers go."""
PIPELINE = 64
"""Requests of one connection that may wait for the answer to the one before them."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}


@runtime_checkable
class Door(Protocol):
    """Where WebSockets are opened."""

    def upgrades(self, raw_path: bytes) -> bool:
        """Whether that is the place."""

    def upgrade(self, asked: Upgrade) -> None:
        """Take the connection over, or refuse and close it."""


class Listener(Timed):
    """One connection of a client. ``limits`` is set on a subclass (``listener``), as uvicorn wants a class."""

    door: ClassVar[Door | None] = None
    rejected: ClassVar[Callable[[int, Any, bytes], None] | None] = None
    """Who is told of what is refused here: the status, the client, the path if it has come."""
    load: ClassVar[Load]
    spared: ClassVar[frozenset[bytes]] = frozenset()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = cast(Any, Parser(self))
        self._head_bytes = 0
        self._piece = 0
        self._unframed = 0
        """Bytes since the last of a body; -1 while there was some in this very piece."""
        self._broken = False
        """Whether nothing more is read: what came is not proper."""
        self._verdict: tuple[bytes, bytes] | None = None
        """How that is to be answered, after what is still due before."""
        self._offered = False
        self._upgrading = False
        self._replaying = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the client a time for its first request, if there is a place for it."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._since = self.vigil.now
        refused = self.vigil.enter(self, self.connections)
        if refused is not None:
            self._reject(refused, more=b"retry-after: 1\r\n")

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head that does not end, and the time of whatever does not end."""
        if self._broken:
            return
        begun = self._head_bytes > 0
        self._piece = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._reject(b"400 Bad Request")
            return
        if self._in_head:
            self._head_grows(len(data), begun=begun)
        elif self._in_body:
            self._body_grows(len(data))

    def _head_grows(self, size: int, *, begun: bool) -> None:
        if self._since == inf:
            self._since = self.vigil.now
        # What else is in the piece in which a head begins belongs to the request before.
        self._head_bytes += size if begun else min(size, self.limits.header_bytes)
        if self._head_bytes > self.limits.header_bytes:
            self._reject(head.too_long(self.url, self.limits))

    def _body_grows(self, size: int) -> None:
        """A body goes on in the next piece. Between two bytes of it there may be little: chunks have names, and trailers."""
        if self._since == inf:
            self._since, self._received, self._unframed = self.vigil.now, 0, -1
        self._received += size
        self._unframed = self._unframed + size if self._unframed >= 0 else 0
        if self._unframed > self.limits.header_bytes:
            self._reject(b"400 Bad Request")
        elif self._received > self.limits.body_bytes and self.cycle.response_complete:
            self._close()  # The rest of what was answered already.

    # --- what the parser tells

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
        self._offered = cast("Parser", self.parser).offers()
        self._since = inf
        fields = dict(self.headers)
        version = self.parser.get_http_version()
        fault = self._fault(fields, version)
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
        if waiting and len(self.pipeline) >= PIPELINE:
            self._reject(b"400 Bad Request", begun=False)
            raise WireError("too many requests in line")
        self.scope = scope = self._scope(version)
        self.cycle = self._cycle(scope, fields)
        if not self._offered:
            self.headers = _DROPPED
        if waiting:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """A piece of the body; we stop reading when nobody takes it."""
        cycle = cast(Cycle, self.cycle)
        self._unframed = -1
        if not cycle.response_complete and cycle.arrived(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is whole, unless the parser only thinks so because of an offer to upgrade."""
        if not self._offered:
            self._in_body = False
            self._since = inf
            cast(Cycle, self.cycle).whole()

    def on_response_complete(self) -> None:
        """A response is out: the next request in line, or a time for the next one to come."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._verdict is not None:
            self._refuse(*self._verdict)
            self._tell(int(self._verdict[0][:3]), b"")
        elif not self._in_head:
            self._idle_since = self.vigil.now

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
        raw_path = self.url.partition(b"?")[0]
        seat = Seat(self.vigil, self, self.connections)
        refused = self.load.refuses(len(self.tasks), None, standing=True) if self.load.uneasy else None
        if refused is not None:
            self._reject(b"503 Service Unavailable", begun=False, more=b"retry-after: 5\r\n")
            return True
        self.door.upgrade(Upgrade(self.transport, seat, raw_path, tuple(self.headers), rest))
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

    def _scope(self, version: str) -> Any:
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
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
        if len(self.tasks) >= self.load.ceiling and self._turned_away(cycle):
            return
        cycle.task = cycle.scope[TASK] = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _turned_away(self, cycle: Cycle) -> bool:
        scope = cycle.scope
        if scope["raw_path"] in self.spared:
            return False
        fields = dict(scope["headers"])
        standing = scope["method"] == "GET" and _EVENTS in fields.get(b"accept", b"")
        method = fields.get(b"mcp-method", b"").decode("latin-1")
        refusal = self.load.refuses(len(self.tasks), method, standing=standing)
        if refusal is None:
            return False
        self._tell(refusal.status, scope["raw_path"])
        cycle.refuse(refusal)
        return True

    def _cycle(self, scope: Any, fields: Mapping[bytes, bytes]) -> Cycle:
        return Cycle(
            scope,
            self.transport,
            self.flow,
            self.server_state.default_headers,
            self.on_response_complete,
            expects=fields.get(b"expect", b"").lower() == b"100-continue",
            keep_alive=scope["http_version"] != "1.0"
            and self.limits.keep_alive > 0
            and self.parser.should_keep_alive(),
        )

    def _fault(self, fields: Mapping[bytes, bytes], version: str) -> bytes | None:
        # A head that came whole, in a piece that is within the limit, need not be counted.
        counted = self._head_bytes > 0 or self._piece > self.limits.header_bytes
        return head.fault(self.url, self.headers, fields, self.limits, counted=counted) or head.framing(fields, version)

    def _reject(self, status: bytes, begun: bool | None = None, more: bytes = b"") -> None:
        """Answer what is no proper request, and close. ``begun``: it has been given to the application.

        Answers that are due before are given first, and nothing is ever said in the midst of one.
        """
        if self._broken or self.transport.is_closing():
            return
        self._broken = True
        self._since = inf
        begun = self._in_body if begun is None else begun
        cycle = cast("Cycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete and not (begun and cycle is self._served):
            if begun:
                self.pipeline.popleft()
            self._verdict = status, more
        elif begun and cycle is not None and cycle.response_started:
            self.transport.close()
        else:
            self._refuse(status, more)
            scope: Any = cycle.scope if begun and cycle is not None else None
            if scope is not None:
                scope[REJECTED] = int(status[:3])
            else:
                self._tell(int(status[:3]), b"" if self._in_head else self.url.partition(b"?")[0])

    def _refuse(self, status: bytes, more: bytes) -> None:
        self.transport.write(b"HTTP/1.1 %b\r\n%bcontent-length: 0\r\nconnection: close\r\n\r\n" % (status, more))
        self.transport.close()

    def _tell(self, status: int, raw_path: bytes) -> None:
        tell = type(self).rejected
        if tell is not None:
            tell(status, self.client, raw_path)

    def refuse_late(self) -> None:
        """See ``Timed``."""
        self._reject(b"408 Request Timeout")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has been given."""
        self._reject(b"400 Bad Request")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whoever serves it hears of it."""
        self.vigil.leave(self)
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


def listener(
    limits: Limits,
    app: object = None,
    load: Load | None = None,
    trusted: Iterable[str] = (),
    spared: Iterable[bytes] = (),
) -> type[Listener]:
    """The protocol class for ``limits``; what ``app`` wants to be upgraded, is.

    ``trusted`` are networks of proxies, whose connections are many; the paths ``spared`` are served under any load.
    """
    load = load or Load(limits, budget(limits.memory_bytes))
    more = {
        "limits": limits,
        "door": app if isinstance(app, Door) else None,
        "rejected": getattr(app, "rejected", None),
        "load": load,
        "vigil": Vigil(limits, load, trusted),
        "spared": frozenset(spared),
    }
    return type("LimitedListener", (Listener,), more)
