"""One HTTP response as it comes in: a status and headers, and a body for its one reader.

The rule: it holds its connection until it is complete, broken or left, and then lets go of it for good.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from vmcp.errors import VmcpError, WireError
from vmcp.upstream.framing import Message
from vmcp.upstream.room import Room
from vmcp.upstream.span import Limit


class Carrier(Protocol):
    """What a response asks of the connection that it comes over."""

    loop: asyncio.AbstractEventLoop

    def expect_more(self, response: "Response") -> None:
        """The reader of a stream waits for its next piece."""

    def expect_rest(self, response: "Response") -> None:
        """The reader waits for the whole body."""

    def prolong(self, at: float, limit: Limit) -> None:
        """The end of the whole is another one now."""

    def drain(self, response: "Response") -> None:
        """Nobody reads on."""

    def resume(self) -> None:
        """The reader has taken what was buffered."""

    def break_off(self, response: "Response", fault: VmcpError) -> None:
        """End it with ``fault``."""


class Response(Message):
    """A status, headers, and a body still to come or here already.

    It has one reader, who must ``read`` it, exhaust ``chunks``, ``release`` or close it; the total deadline ends it anyhow.
    """

    __slots__ = ("_connection", "done", "fault", "granted", "room", "taken", "waiter", "whole")
    lasting = False

    def __init__(self, connection: Carrier, waiter: "asyncio.Future[None]") -> None:
        super().__init__()
        self._connection: Carrier | None = connection
        self.waiter: asyncio.Future[None] | None = waiter
        self.done = False
        self.whole = False
        self.room: Room | None = None
        """Where it has asked for room, as it is large; ``granted`` is how much it asked for."""
        self.granted = 0
        self.taken = 0
        """Bytes that its reader has taken and not done with."""
        self.fault: VmcpError | None = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header ``name`` (in lower case), without white space around it."""
        for key, value in self.headers:
            if key == name:
                return value.strip()
        return None

    async def read(self) -> bytes:
        """The whole body, at most ``max_response``. Does not suspend if it is here already."""
        text = bytes(await self.body())
        self.parts = [text]
        return text

    async def body(self) -> bytes | bytearray:
        """The same, once, without a copy and not to be changed: an idle connection would keep what it brought last."""
        connection = self._connection
        if connection is not None:
            self.whole = True
            connection.expect_rest(self)
            try:
                while not self.done:
                    await self._progress(connection)
            finally:
                self.digested()
        if self.fault is not None:
            raise self.fault
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

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
                    connection.expect_more(self)
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

    def prolong(self, at: float, limit: Limit) -> None:
        """It may take until ``at`` (loop time), and ``limit`` says why no longer."""
        if self._connection is not None:
            self._connection.prolong(at, limit)

    def part(self) -> None:
        """The connection has no more to do with it."""
        self._connection = None
        if self.room is not None and not self.whole:
            self.digested()

    def digested(self) -> None:
        """What its reader has taken is messages now, which are passed on before anybody else has their room."""
        self.taken = 0
        if self.room is not None:
            asyncio.get_running_loop().call_soon(self.room.leave, self)
            self.room, self.granted = None, 0

    def wake(self) -> None:
        """Let the reader look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _taken(self) -> bytes:
        data = b"".join(self.parts)
        self.taken += len(data)
        self.parts, self.size = [], 0
        if self._connection is not None:
            self._connection.resume()
        return data

    async def _progress(self, connection: Carrier) -> None:
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
