"""HTTP/1.1 towards one backend: one connection, and the response that comes over it (RFC 9112).

Rule: a connection serves the response it holds; when that one is complete, broken or left, the two part for good, so that
nobody who comes late can touch a connection which already serves somebody else.
"""

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Protocol, cast

from vmcp.config.model import Timeouts
from vmcp.errors import Code, McpError, Overdue, Unavailable, VmcpError, WireError
from vmcp.upstream.dial import keep_alive
from vmcp.upstream.framing import Framer, Message

HIGH_WATER = 256 << 10
DRAIN_BYTES = 64 << 10
DRAIN_SECONDS = 0.25
_DRAINING = "draining"


class Unsent:
    """Marks an error raised before a byte of the request was written: to send it once more is safe."""


class UnsentUnavailable(Unsent, Unavailable):
    """The backend could not be reached, and nothing was sent."""


class UnsentOverdue(Unsent, Overdue):
    """A deadline passed before anything was sent."""


class Dropped(Unavailable):
    """A kept-alive connection ended without a byte of answer. Whether the backend acted cannot be known."""


class Owner(Protocol):
    """What a connection asks of the pool that it belongs to."""

    name: str
    timeouts: Timeouts
    max_response: int

    def lost(self, connection: "Connection") -> None:
        """The transport is gone."""

    def release(self, connection: "Connection") -> None:
        """The connection is clean and free."""

    def discard(self, connection: "Connection") -> None:
        """The connection is of no further use. May be told more than once."""


class Response(Message):
    """A status, headers, and a body still to come or here already.

    It has one reader, who must ``read`` it, exhaust ``chunks``, ``release`` or close it; the total deadline ends it anyhow.
    """

    __slots__ = ("_connection", "done", "fault", "waiter", "whole")
    lasting = False

    def __init__(self, connection: "Connection", waiter: "asyncio.Future[None]") -> None:
        super().__init__()
        self._connection: Connection | None = connection
        self.waiter: asyncio.Future[None] | None = waiter
        self.done = False
        self.whole = False
        self.fault: VmcpError | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header ``name`` (in lower case), without white space around it."""
        for key, value in self.headers:
            if key == name:
                return value.strip()
        return None

    async def read(self) -> bytes:
        """The whole body, at most ``max_response``. Does not suspend if it is here already."""
        connection = self._connection
        if connection is not None:
            self.whole = True
            connection.expect_rest(self)
            while not self.done:
                await self._progress(connection)
        if self.fault is not None:
            raise self.fault
        if len(self.parts) > 1:
            self.parts = [b"".join(self.parts)]
        return bytes(self.parts[0]) if self.parts else b""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, with back-pressure. Who stops before its end closes the response, or releases it."""
        try:
            while True:
                if self.parts:
                    yield self._taken()
                elif self.fault is not None:
                    raise self.fault
                elif (connection := self._connection) is None:
                    return
                else:
                    connection.expect_more()
                    await self._progress(connection)
        finally:
            self.close()

    async def release(self) -> None:
        """The reader has all it wants. If the body ends within a moment, its connection is kept. Does not suspend."""
        if self._connection is not None:
            self._connection.drain(self)

    async def aclose(self) -> None:
        """Leave the response. One that was not complete costs its connection. Does not suspend."""
        self.close()

    def close(self) -> None:
        """``aclose`` for places that cannot await."""
        if self._connection is not None:
            self._connection.break_off(self, WireError("the response was closed before its end"))

    def part(self) -> None:
        """The connection has no more to do with it."""
        self._connection = None

    def wake(self) -> None:
        """Let the reader look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _taken(self) -> bytes:
        data = b"".join(self.parts)
        self.parts, self.size = [], 0
        if self._connection is not None:
            self._connection.resume()
        return data

    async def _progress(self, connection: "Connection") -> None:
        self.waiter = waiter = connection.loop.create_future()
        woken = False
        try:
            await waiter
            woken = True
        finally:
            if not woken:
                self.close()


class Lasting(Response):
    """A response that takes its time on purpose: it is limited by the total deadline that was given with it, if any."""

    __slots__ = ()
    lasting = True


class Connection(asyncio.Protocol):
    """One connection, which its pool lends to one request at a time. Only the event loop and the pool change it."""

    __slots__ = (
        "_first_byte",
        "_framer",
        "_owner",
        "_paused",
        "_phase",
        "_phase_at",
        "_response",
        "_served",
        "_started",
        "_timer",
        "_timer_at",
        "_total_at",
        "_writing",
        "idle_since",
        "loop",
        "transport",
    )

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport | None = None
        self.idle_since = inf
        self._owner = owner
        self._framer = Framer(owner.name)
        self._response: Response | None = None
        self._served = 0
        self._paused = self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._phase_at = self._total_at = inf
        self._first_byte = owner.timeouts.first_byte

    async def ask(
        self, request: bytes, bodiless: bool, started: float, latest: float, kind: type[Response] = Response
    ) -> Response:
        """Send a request as one write and wait for the head of its response, at most until ``latest``."""
        transport = self.transport
        if transport is None:
            raise UnsentUnavailable(self._owner.name, "it is not connected", Code.TRANSPORT_CLOSED)
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._response = response = kind(self, waiter)
        self._framer.begin(response, bodiless)
        self._served += 1
        self._started, self._total_at = started, latest
        self._phase = "timeouts.firstByte"
        self._phase_at = at = self.loop.time() + self._first_byte
        if response.lasting:
            keep_alive(transport)
            self._phase_at = at = inf
        self._ring_at(at if at < latest else latest)
        woken = False
        try:
            transport.write(request)
            await waiter
            woken = True
        finally:
            if not woken:
                response.close()
        if response.fault is not None and not response.status:
            raise response.fault
        return response

    def usable(self, now: float) -> bool:
        """Whether a request may still be written to it."""
        transport = self.transport
        return transport is not None and not transport.is_closing() and now - self.idle_since < self._framer.keep_alive

    # ---- deadlines: one lazy timer, which stays armed from request to request and looks when it rings

    def _ring_at(self, at: float) -> None:
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self.loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, inf
        response = self._response
        if response is not None:
            at = min(self._phase_at, self._total_at)
            if self.loop.time() < at:
                self._ring_at(at)
            else:
                self.break_off(response, self._overdue())

    def _overdue(self) -> Overdue:
        name, timeouts = self._owner.name, self._owner.timeouts
        if self._total_at <= self._phase_at:
            return Overdue(name, "timeouts.total", round(self._total_at - self._started, 3))
        first = self._phase == "timeouts.firstByte"
        return Overdue(name, self._phase, timeouts.first_byte if first else timeouts.idle_stream)

    def _await(self, phase: str, seconds: float) -> None:
        self._phase = phase
        self._phase_at = at = self.loop.time() + seconds
        self._ring_at(at)

    def expect_more(self) -> None:
        """The reader of a stream waits for its next piece."""
        if self._response is not None and not self._response.lasting:
            self._await("timeouts.idleStream", self._owner.timeouts.idle_stream)

    def expect_rest(self, response: Response) -> None:
        """The reader waits for the whole body: its size and the total time limit it."""
        self._phase_at = inf
        self._limit(response)
        self.resume()

    def drain(self, response: Response) -> None:
        """Nobody reads on; see whether the end is near."""
        response.part()
        self._await(_DRAINING, DRAIN_SECONDS)
        self.resume()

    # ---- what comes in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pool's attempt to connect succeeded."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the response; on an idle connection nobody asked for them, so it is closed."""
        response, framer = self._response, self._framer
        if response is None:
            self._owner.discard(self)
            return
        try:
            framer.feed(data)
        except WireError as fault:
            self.break_off(response, fault)
            return
        if framer.complete:
            self._finish(response)
        else:
            self._progress(response)

    def _progress(self, response: Response) -> None:
        if self._phase == _DRAINING:
            if response.size > DRAIN_BYTES:
                self.break_off(response, WireError("nobody reads it"))
            return
        self._phase_at = inf  # something came in time: until the reader waits again only the total counts
        if response.whole:
            self._limit(response)
        elif self._framer.headed:
            if response.size > HIGH_WATER and not self._paused and self.transport is not None:
                self._paused = True
                self.transport.pause_reading()
            response.wake()

    def _limit(self, response: Response) -> None:
        if response.size > self._owner.max_response and self._response is response:
            self.break_off(response, self._too_large())

    def _too_large(self) -> WireError:
        return self._framer.broken(f"has more than {self._owner.max_response} bytes")

    def _finish(self, response: Response) -> None:
        self._part(response)
        if response.size > self._owner.max_response:
            response.fault = self._too_large()
        if self._framer.reusable and not self._writing:
            self.resume()
            self._owner.release(self)
        else:
            self._owner.discard(self)
        response.wake()

    def _part(self, response: Response) -> None:
        self._response = None
        response.done = True
        response.part()

    def resume(self) -> None:
        """The reader has taken what was buffered."""
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """The request is larger than what the transport takes at once: for now only the total time limits it."""
        self._writing = True
        self._phase_at = inf

    def resume_writing(self) -> None:
        """It is out, but for the transport's low-water mark: from here the first byte is awaited."""
        self._writing = False
        if self._response is not None and not self._framer.received and not self._response.lasting:
            self._await("timeouts.firstByte", self._first_byte)

    # ---- the end

    def eof_received(self) -> None:
        """The peer has closed its side; returning None closes ours."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._end(exc)
        self._owner.lost(self)

    def _end(self, exc: Exception | None) -> None:
        response, framer = self._response, self._framer
        if response is None:
            self._owner.discard(self)
        elif framer.headed and framer.until_close and exc is None:
            framer.reusable = False
            self._finish(response)
        else:
            self.break_off(response, self._cut_off())

    def _cut_off(self) -> VmcpError:
        if self._framer.received:
            return self._framer.broken("was cut off")
        kind = Dropped if self._served > 1 else Unavailable
        return kind(self._owner.name, "the connection closed before an answer", Code.TRANSPORT_CLOSED)

    def break_off(self, response: Response, fault: VmcpError) -> None:
        """End this response with ``fault``, and the connection with it."""
        if self._response is response:
            self._part(response)
            response.fault = fault
            self._owner.discard(self)
            response.wake()

    def abort(self, fault: McpError | None = None) -> None:
        """Close at once; a response still under way ends with ``fault``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is not None:
            self.transport.abort()
        if self._response is not None and fault is not None:
            self.break_off(self._response, fault)
