"""WebSocket towards clients: one message is one text frame, in both directions (RFC 6455, subprotocol ``mcp``).

The rule: a connection is upgraded only where WebSocket is served, after Host and Origin have passed the same checks as every
request; what a client may make us hold is bounded: the size of a message, messages not yet acted on, frames it leaves unread.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Opening
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from vmcp.call import Identity, Origin
from vmcp.config.model import Limits
from vmcp.protocol import jsonrpc
from vmcp.server.asgi import Refused, error_of
from vmcp.server.duplex import Duplex, Opens
from vmcp.server.expiry import Guests
from vmcp.server.flow import PATIENCE, Flow
from vmcp.server.upgrade import Connections, Upgrade
from vmcp.tasks import Nest

_quiet = logging.getLogger("vmcp.server.websocket.frames")  # the library tells of every connection and every frame
_quiet.setLevel(logging.ERROR)

PING = 20.0
"""Seconds of a client's silence after which it is asked whether it is there; after as many more it is let go."""
FAREWELL = 2.0
"""Seconds that a client has to read the last that we say."""
INBOX = 16
"""Messages that wait to be acted on; then nothing more is read."""
UNREAD_PONGS = 64
_MCP = Subprotocol("mcp")
_OPENING = (b"connection", b"upgrade", b"sec-websocket-")


class Watch(Protocol):
    """Who records what becomes of a request to upgrade."""

    origin: Origin
    identity: Identity | None
    """Who it is, once that is known."""

    def answered(self, status: int, why: str | None) -> None:
        """It got this status; ``why`` it was refused."""

    def ended(self, _: object) -> None:
        """The connection is over."""


class Socket(asyncio.Protocol):
    """One WebSocket connection. Mutable; its messages have one reader."""

    def __init__(
        self, transport: asyncio.Transport, limit: int, server: Connections, patience: float = PATIENCE
    ) -> None:
        self.flow = Flow(self._abort, patience)
        self.on_shutdown: Callable[[], None] = self.close
        self.transport = transport
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._frames = ServerProtocol(max_size=limit, select_subprotocol=_choose, logger=_quiet)
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._message = bytearray()
        self._held = False
        self._heard = True
        self._pongs = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(self, head: bytes) -> bool:
        """Answer the request to upgrade; whether it is a good one."""
        self._server.connections.add(self)
        self.transport.set_protocol(self)
        self._frames.receive_data(head)
        for event in self._frames.events_received():
            if isinstance(event, Opening):
                self._frames.send_response(self._frames.accept(event))
        self._flush()
        opened = self._frames.state is State.OPEN
        if opened:
            self._wait_for(PING, self._beat)
        return opened

    async def read(self) -> bytes | None:
        """The next message; None when there will be no more."""
        text = await self._inbox.get()
        if self._held and self._inbox.qsize() < INBOX:
            self._held = False
            self.transport.resume_reading()
        return text

    async def write(self, text: bytes) -> None:
        """See ``duplex.Write``."""
        if self.flow.paused:
            await self.flow.ready()
        if not self.flow.lost and self._frames.state is State.OPEN:
            self._frames.send_text(text)
            self._flush()

    def close(self, code: int = CloseCode.GOING_AWAY) -> None:
        """Begin to part; the client has a moment to answer."""
        if self._frames.state is State.OPEN:
            self._frames.send_close(code)
            self._flush()
            self._wait_for(FAREWELL, self._abort)
        self._inbox.put_nowait(None)

    def shutdown(self) -> None:
        """The server is stopping (uvicorn)."""
        self.on_shutdown()

    # --- what the transport tells

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        self._heard = True
        self._frames.receive_data(data)
        for event in self._frames.events_received():
            if isinstance(event, Frame):
                self._take(event)
        if self._frames.parser_exc is not None:
            self._inbox.put_nowait(None)
        self._flush()

    def eof_received(self) -> None:
        """The client sends nothing more, not even the answer to a close."""
        self._inbox.put_nowait(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self.flow.end()
        self._server.connections.discard(self)
        self._inbox.put_nowait(None)
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """See ``Flow``."""
        self.flow.pause()

    def resume_writing(self) -> None:
        """See ``Flow``."""
        self._pongs = 0
        self.flow.resume()

    # --- frames

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._message += frame.data
            if frame.fin:
                self._deliver()
        elif frame.opcode is Opcode.BINARY:
            self._frames.fail(CloseCode.UNSUPPORTED_DATA, "a message is a text frame")
            self._inbox.put_nowait(None)
        elif frame.opcode is Opcode.CLOSE:
            self._inbox.put_nowait(None)
        elif frame.opcode is Opcode.PING and self.flow.paused:
            self._pongs += 1
            if self._pongs > UNREAD_PONGS:
                self._abort()

    def _deliver(self) -> None:
        text, self._message = bytes(self._message), bytearray()
        self._inbox.put_nowait(text)
        if not self._held and self._inbox.qsize() >= INBOX:
            self._held = True
            self.transport.pause_reading()

    def _flush(self) -> None:
        for data in self._frames.data_to_send():
            if data and not self.flow.lost:
                self.transport.write(data)
            elif not data:  # the end, after which a client that does not read gets no second chance
                self.transport.close()
                self._wait_for(FAREWELL, self._abort)

    def _beat(self) -> None:
        """Nothing was heard since the last time: ask, and the next time part. Who is held up by us is not silent."""
        if not (self._heard or self._held):
            self._abort()
            return
        self._heard = False
        if not self.flow.paused and self._frames.state is State.OPEN:
            self._frames.send_ping(b"")
            self._flush()
        self._wait_for(PING, self._beat)

    def _wait_for(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)

    def _abort(self) -> None:
        self.transport.abort()


def _choose(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return _MCP if _MCP in offered else None


class WebSockets:
    """Takes connections over from the HTTP listener. ``paths``: where, and the face that is served there."""

    def __init__(self, opens: Opens, limits: Limits, nest: Nest, guests: Guests) -> None:
        self._paths: Mapping[bytes, str] = {}
        self._opens = opens
        self._limits = limits
        self._nest = nest
        self._guests = guests
        self._open = 0

    def place(self, paths: Mapping[bytes, str]) -> None:
        """From now on the faces are served there."""
        self._paths = paths

    def wants(self, raw_path: bytes) -> bool:
        """Whether WebSocket is served there."""
        return raw_path in self._paths

    def upgrade(self, asked: Upgrade, identity: Identity, watch: Watch | None = None) -> int:
        """Take over a connection whose client has asked for it. The status that it got. Raises ``Refused``."""
        path = self._paths.get(asked.raw_path)
        if path is None:
            raise Refused(404, "this endpoint is not served any more")
        if self._open >= self._limits.sessions:
            raise Refused(503, "too many connections; try again later")
        socket = Socket(asked.transport, self._limits.body_bytes, asked.server, self._limits.write_stall)
        fields = b"".join(b"%b: %b\r\n" % header for header in asked.headers if header[0].startswith(_OPENING))
        if socket.open(b"GET / HTTP/1.1\r\n%b\r\n" % fields):
            self._open += 1
            origin = watch.origin if watch is not None else None
            task = self._nest.start(self._serve(socket, path, origin, identity), "websocket")
            task.add_done_callback(self._on_end)
            if watch is not None:
                task.add_done_callback(watch.ended)
            if asked.rest:
                socket.data_received(asked.rest)
            return 101
        return 400

    def _on_end(self, _: object) -> None:
        self._open -= 1

    def wait(self, transport: asyncio.Transport, opening: Coroutine[Any, Any, None]) -> None:
        """Let it take a moment to decide on an upgrade; nothing is read meanwhile."""
        transport.pause_reading()
        self._nest.start(opening, "websocket opening")

    async def _serve(self, socket: Socket, path: str, origin: Origin | None, identity: Identity | None) -> None:
        try:
            async with self._opens(path, socket.write) as line:
                line.origin = origin
                line.identity = identity
                line.hang_up = socket.close
                socket.on_shutdown = functools.partial(self._part, socket, line)
                leave = functools.partial(socket.close, CloseCode.POLICY_VIOLATION)
                with self._guests.stay(path, lambda: identity, leave):
                    while (text := await socket.read()) is not None:
                        await line.take(text)
        finally:
            socket.close()

    def _part(self, socket: Socket, line: Duplex) -> None:
        self._nest.start(self._farewell(socket, line), "websocket farewell")

    async def _farewell(self, socket: Socket, line: Duplex) -> None:
        await line.settle(self._limits.shutdown_grace)
        socket.close()


def refuse(transport: asyncio.Transport, refused: Refused) -> None:
    """Answer a request to upgrade with a refusal."""
    body = jsonrpc.failure(jsonrpc.NULL, error_of(refused))
    head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n%b\r\n"
    reason = HTTPStatus(refused.status).phrase.encode()
    more = b"".join(b"%b: %b\r\n" % header for header in refused.headers)
    transport.write(head % (refused.status, reason, len(body), more) + body)
    transport.close()
