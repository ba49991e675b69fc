"""A TCP proxy that does to its connections what networks do, by the dice of a seed.

Rule: all that happens follows from the seed and the order of what passes; while it is ``calm`` it does nothing but pass it on.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

GARBAGE: Final = b"\xff\xfe\x00{garbage\r\n"
KINDS: Final = ("latency", "rst", "half", "truncate", "garbage", "blackhole")


class Chaos:
    """``done`` counts what it did. ``rate``: the part of all pieces that something is done to."""

    def __init__(self, target: int, seed: int, rate: float = 0.05, kinds: tuple[str, ...] = KINDS) -> None:
        self.port = 0
        self.calm = True
        self.done: Counter[str] = Counter()
        self.open = 0
        self._target = target
        self._dice = random.Random(seed)  # noqa: S311 - a seed, no secret
        self._rate = rate
        self._kinds = kinds
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._tasks.add(task := asyncio.current_task())
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
                try:
                    await self._joined((reader, writer), (far_reader, far_writer))
                finally:
                    far_writer.transport.abort()
        finally:
            writer.transport.abort()
            self.open -= 1
            self._tasks.discard(task)

    async def _joined(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Until one direction is torn, or both have ended in order."""
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(near[0], far[1], near[1]))
                group.create_task(self._pump(far[0], near[1], far[1]))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        """Raises ``ConnectionError`` when the connection is torn."""
        while data := await reader.read(65536):
            kind = "" if self.calm or self._dice.random() >= self._rate else self._dice.choice(self._kinds)
            self.done[kind] += bool(kind)
            at = self._dice.randrange(len(data) + 1)
            if kind == "latency":
                await asyncio.sleep(self._dice.uniform(0, 0.05))
            elif kind == "rst":
                for each in (writer, back):
                    reset(each)
                raise ConnectionResetError
            elif kind == "half":
                break
            elif kind == "truncate":
                writer.write(data[:at])
                await writer.drain()
                raise ConnectionResetError
            elif kind == "garbage":
                data = data[:at] + GARBAGE + data[at:]
            elif kind == "blackhole":
                while await reader.read(65536):
                    pass
                return
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    def sever(self) -> None:
        """Tear all that is open."""
        for task in self._tasks:
            if task is not None:
                task.cancel()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST."""
    raw: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def between(target: int, seed: int, rate: float = 0.05, kinds: tuple[str, ...] = KINDS) -> AsyncIterator[Chaos]:
    """A proxy to a port of this machine, calm at first."""
    chaos = Chaos(target, seed, rate, kinds)
    server = await asyncio.start_server(chaos.serve, "127.0.0.1", 0, backlog=512)
    chaos.port = server.sockets[0].getsockname()[1]
    try:
        yield chaos
    finally:
        server.close()
        chaos.sever()
        while chaos.open:  # noqa: ASYNC110 - they are cancelled, and end in a few turns
            await asyncio.sleep(0)
