"""A WebSocket towards a backend: each message is a text frame of its own, both sides speak when they like.

The rule: the library does the protocol (RFC 6455) and never the I/O: the socket is dialled like every other one, and what is
offered is the subprotocol ``mcp`` and no extension, so that no small frame can become a large message.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from vmcp.errors import Code, Overdue, Unavailable, WireError
from vmcp.upstream.dial import dial, why
from vmcp.upstream.endpoint import Endpoint
from vmcp.upstream.http import refused
from vmcp.upstream.inbox import Inbox, printable
from vmcp.upstream.wire import Headers

SUBPROTOCOL = Subprotocol("mcp")
HANDSHAKE_WAIT = 10.0
"""Seconds for the backend to agree to the upgrade."""
PING_EVERY = 30.0
"""Seconds of silence before the backend is asked whether it is there, and for its answer."""
CLOSE_WAIT = 1.0
_UNSAFE = frozenset(b"\r\n\0")


class WebSocketWire(Inbox, asyncio.Protocol):
    """One connection. Make it with ``connect``."""

    def __init__(self, name: str, target: Endpoint, headers: Headers, max_message: int) -> None:
        super().__init__(name)
        path, _, query = target.path.partition("?")
        uri = WebSocketURI(target.tls is not None, target.host, target.port, path, query, None, None)
        self._protocol = ClientProtocol(uri, subprotocols=[SUBPROTOCOL], max_size=max_message)
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._agreed: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._text: bytearray | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = self._closing = False
        self._why = ""

    async def open(self, target: Endpoint, until: float) -> None:
        """Connect before ``until`` (loop time) and agree on the protocol."""
        began = self._loop.time()
        if any(not _UNSAFE.isdisjoint(value) for header in self._headers for value in header):
            raise WireError(f"backend '{self.name}' was to get a header that cannot be sent")
        try:
            await dial(self, target, until)
        except TimeoutError as late:
            if late.errno is not None:
                raise Unavailable(self.name, why(late), Code.CONNECTION_FAILED) from late
            raise Overdue(self.name, "timeouts.connect", round(until - began, 3)) from None
        except OSError as error:
            raise Unavailable(self.name, why(error), Code.CONNECTION_FAILED) from error
        try:
            async with asyncio.timeout(HANDSHAKE_WAIT):
                await asyncio.shield(self._agreed)
        except TimeoutError:
            raise Overdue(self.name, "WebSocket handshake", HANDSHAKE_WAIT) from None

    # --- what asyncio tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        request = self._protocol.connect()
        for name, value in self._headers:
            request.headers[name.decode("ascii")] = value.decode("latin-1")
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Frames, or the answer to our handshake."""
        self._quiet = False
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Response):
                self._answered()
        self._flush()
        if self._protocol.handshake_exc is not None and not self._agreed.done():
            self._answered()
        if self._protocol.close_expected() and not self._closing:
            self._closing = True
            self._ring_in(CLOSE_WAIT, self._abort)
            self._end()

    def eof_received(self) -> None:
        """The backend has closed its side; returning None closes ours."""
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._protocol.receive_eof()
        if self._timer is not None:
            self._timer.cancel()
        if not self._agreed.done():
            self._agreed.set_exception(self._no_websocket())
            self._agreed.exception()
        if not self._lost.done():
            self._lost.set_result(None)
        self._end()

    # --- the protocol

    def _answered(self) -> None:
        if self._agreed.done():
            return
        if self._protocol.handshake_exc is not None:
            self._agreed.set_exception(self._no_websocket())
            self._agreed.exception()  # it is told even when nobody waits any more
            self._abort()
        else:
            self._agreed.set_result(None)
            self._ring_in(PING_EVERY, self._watch)

    def _no_websocket(self) -> Unavailable:
        reason = self._protocol.handshake_exc
        if isinstance(reason, InvalidStatus):
            return refused(self.name, reason.response.status_code, bytes(reason.response.body or b""))
        return Unavailable(self.name, "it did not agree to speak WebSocket", Code.PROTOCOL_ERROR)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            self._take(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            self._text = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._text is not None:
            self._text += frame.data
            if frame.fin:
                text, self._text = bytes(self._text), None
                self._take(text)
        elif frame.opcode is Opcode.BINARY and self._protocol.state is State.OPEN:
            self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "text only")
            self._why = "it sent something that is no text"

    def _flush(self) -> None:
        """Send what the protocol wants to send; an empty piece ends our side."""
        transport = self._transport
        pieces: Sequence[bytes] = self._protocol.data_to_send()
        if transport is None or transport.is_closing():
            return
        if data := b"".join(pieces):
            transport.write(data)
        if b"" in pieces:
            transport.close()

    def _ring_in(self, seconds: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, act)

    def _watch(self) -> None:
        """Ping a backend that has been silent; one that is silent after that is gone."""
        if self._quiet:
            self._why = "it does not answer to pings"
            self._abort()
            return
        self._quiet = True
        if self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"vmcp")
            self._flush()
        self._ring_in(PING_EVERY, self._watch)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- what a link asks

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``; headers have no place here. A backend that reads nothing for ten seconds is left."""
        if self._protocol.state is not State.OPEN:
            raise self._gone_error()
        try:
            await self._until_writable("WebSocket write stall")
        except Overdue:
            self._abort()
            raise
        if self._protocol.state is not State.OPEN:
            raise self._gone_error()
        self._protocol.send_text(body)
        self._flush()

    def obituary(self) -> str:
        """Why it is not there any more, in the backend's words if it gave any."""
        close, broken = self._protocol.close_rcvd, self._protocol.parser_exc
        if self._why:
            return self._why
        if isinstance(broken, PayloadTooBig):
            return f"it sent a message of more than {self._protocol.max_message_size} bytes"
        if close is None:
            return "the connection broke off" if isinstance(broken, EOFError | None) else "it broke the protocol"
        said = f': "{printable(close.reason.encode())}"' if close.reason else ""
        return f"it closed the connection ({close.code}){said}"

    async def close(self) -> None:
        """See ``Wire``: say goodbye and wait a moment for the answer."""
        if self._transport is None:
            return
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
            await asyncio.wait([self._lost], timeout=CLOSE_WAIT)
        self._abort()
        await asyncio.wait([self._lost], timeout=CLOSE_WAIT)
        self._end()


async def connect(name: str, target: Endpoint, headers: Headers, *, within: float, max_message: int) -> WebSocketWire:
    """A WebSocket to ``target``, connected ``within`` so many seconds. Raises ``Unavailable`` and ``Overdue``."""
    wire = WebSocketWire(name, target, headers, max_message)
    opened = False
    try:
        await wire.open(target, asyncio.get_running_loop().time() + within)
        opened = True
    finally:
        if not opened:
            await wire.close()
    return wire
