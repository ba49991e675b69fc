"""HTTP/1.1 towards one backend: one connection, which carries one response after the other (RFC 9112).

Rule: a connection serves the response it holds; when that one is complete, broken or left, the two part for good, so that
nobody who comes late can touch a connection which already serves somebody else.
"""

import asyncio
import functools
from math import inf
from typing import Protocol, cast

from vmcp.config.timeouts import Timeouts
from vmcp.errors import Code, McpError, Overdue, Unavailable, VmcpError, WireError
from vmcp.upstream.dial import keep_alive
from vmcp.upstream.faults import CutOff, Dropped, UnsentUnavailable
from vmcp.upstream.filling import Filling
from vmcp.upstream.framing import Framer
from vmcp.upstream.response import Response
from vmcp.upstream.room import LARGE, STEP, room
from vmcp.upstream.span import Limit, whole

HIGH_WATER = LARGE
DRAIN_BYTES = 64 << 10
DRAIN_SECONDS = 0.25
_DRAINING = "draining"
_FIRST_BYTE = "firstByte"
_IDLE_STREAM = "idleStream"


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


class Connection(asyncio.Protocol):
    """One connection, which its pool lends to one request at a time. Only the event loop and the pool change it."""

    __slots__ = (
        "_framer",
        "_limits",
        "_own",
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
        "_whole",
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
        self._limits = owner.timeouts
        self._own: Timeouts | None = None
        self._whole: Limit | None = None

    async def ask(
        self,
        request: bytes,
        bodiless: bool,
        started: float,
        latest: float,
        kind: type[Response] = Response,
        limits: Timeouts | None = None,
    ) -> Response:
        """Send a request as one write and wait for the head of its response, at most until ``latest``.

        ``limits`` are the request's own; without them those of the backend count, and ``latest`` may have other reasons.
        """
        transport = self.transport
        if transport is None:
            raise UnsentUnavailable(self._owner.name, "it is not connected", Code.TRANSPORT_CLOSED)
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._response = response = kind(self, waiter)
        self._framer.begin(response, bodiless)
        self._served += 1
        self._started, self._total_at = started, latest
        self._limits = own = limits or self._owner.timeouts
        self._own, self._whole = limits, None
        self._phase = _FIRST_BYTE
        self._phase_at = at = self.loop.time() + own.first_byte
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
        name, limits = self._owner.name, self._limits
        if self._total_at <= self._phase_at:
            return Overdue(name, *(self._whole or whole(self._own, self._total_at - self._started)))
        seconds = limits.first_byte if self._phase == _FIRST_BYTE else limits.idle_stream
        return Overdue(name, f"{limits.place}.{self._phase}", seconds)

    def _await(self, phase: str, seconds: float) -> None:
        self._phase = phase
        self._phase_at = at = self.loop.time() + seconds
        self._ring_at(at)

    def prolong(self, at: float, limit: Limit) -> None:
        """The end of the whole is another one now; the timer looks when it rings."""
        self._total_at, self._whole = at, limit

    def expect_more(self, response: Response) -> None:
        """The reader of a stream waits for its next piece."""
        if self._response is not None and not response.lasting:
            self._await(_IDLE_STREAM, self._limits.idle_stream)
            if response.taken > LARGE:
                self._ask_for_room(response, response.taken)

    def expect_rest(self, response: Response) -> None:
        """The reader waits for the whole body: its size and the total time limit it."""
        self._phase_at = inf
        self._limit(response)
        if self._paused and self._response is response:
            self._ask_for_room(response, response.size)

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
            if response.size > LARGE and self._response is response:
                self._ask_for_room(response, response.size)
        elif self._framer.headed:
            if response.size > HIGH_WATER:
                self._pause()
            response.wake()

    def _ask_for_room(self, response: Response, size: int) -> None:
        """What is large is read on when there is room for it, and so much more as is sure to come."""
        if size <= response.granted:
            return
        response.room = found = response.room or room()
        response.granted = wanted = min(_length(response) or size + STEP, self._owner.max_response)
        if found.ask(response, wanted, functools.partial(self._enter, response)):
            self._enter(response)
        else:
            self._phase_at = inf  # it is not the backend's fault
            self._pause()

    def _enter(self, response: Response) -> None:
        """There is room for it."""
        if self._response is response:
            length = _length(response)
            if response.whole and response.size < length <= self._owner.max_response:
                self._fill(response, length)
            elif not response.whole:
                self._await(_IDLE_STREAM, self._limits.idle_stream)
            self.resume()

    def _fill(self, response: Response, length: int) -> None:
        """Let the rest of it come to where it stays."""
        body = bytearray(length)  # which nobody changes any more when it is whole: messages are views of it
        rest = memoryview(body)
        for part in response.parts:
            rest[: len(part)] = part
            rest = rest[len(part) :]
        response.parts, response.size = [body], length
        self._hand_to(Filling(self, rest))

    def filled(self) -> None:
        """A body has come that way, to its end."""
        self._hand_to(self)
        self._framer.ended_beside()
        if self._response is not None:
            self._finish(self._response)

    def _hand_to(self, protocol: asyncio.BaseProtocol) -> None:
        if self.transport is not None:
            self._pause()  # a transport looks at its protocol when it begins to read
            self.transport.set_protocol(protocol)
            self.resume()

    def _pause(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

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
            self._await(_FIRST_BYTE, self._limits.first_byte)

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
            return CutOff(str(self._framer.broken("was cut off")))
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


def _length(response: Response) -> int:
    """The size of its body, if it says so; the parser has let it pass, so it is a number."""
    return int(response.header(b"content-length") or 0)
