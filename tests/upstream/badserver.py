"""A server of raw bytes for tests: a script per connection says what it sends, and how it misbehaves.

Rule: it does exactly what its script says, and is gone with everything it opened when its block ends.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """The next request, head and body."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length: "):
                return head + await self._reader.readexactly(int(line[16:]))
        return head

    async def send(self, *pieces: bytes) -> None:
        """Send each piece by itself."""
        for piece in pieces:
            if self._writer.is_closing():
                raise ConnectionResetError
            self._writer.write(piece)
            await self._writer.drain()
            for _ in range(3):
                await asyncio.sleep(0)

    async def answer(self, *pieces: bytes) -> bytes:
        """Read a request, then send."""
        request = await self.request()
        await self.send(*pieces)
        return request

    async def gone(self) -> bytes:
        """What else the client sends until it closes."""
        with contextlib.suppress(ConnectionError):
            return await self._reader.read(-1)
        return b""

    def half_close(self) -> None:
        """Say that no more will come, and go on reading."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close in an orderly way."""
        self._writer.close()

    def reset(self) -> None:
        """Close with a RST."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class BadServer:
    """What a test may know of the server: its port, and the connections it has seen and still has."""

    port: int = 0
    accepted: int = 0
    tasks: set["asyncio.Task[None] | None"] = field(default_factory=set)

    @property
    def open(self) -> int:
        return len(self.tasks)


@contextlib.asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[BadServer]:
    """Run ``script`` for each connection on a free port of the loopback interface."""
    state = BadServer()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.accepted += 1
        task = asyncio.current_task()
        state.tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await script(Peer(reader, writer, state.accepted))
        finally:
            writer.transport.abort()
            state.tasks.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls, limit=1 << 20)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        left = {task for task in state.tasks if task is not None}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds, at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


def ok(body: bytes, *extra: bytes) -> bytes:
    """A plain response."""
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *extra]
    return b"\r\n".join(head) + b"\r\n\r\n" + body
