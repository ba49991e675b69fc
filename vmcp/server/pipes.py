"""Our own stdin and stdout as a two-way stream: one message a line (basic/transports "stdio").

The rule: stdout carries messages and nothing else, so both are taken away from the rest of the process first; a line that is
too long is left out and said to be, and what was written is flushed before the end.
"""

import asyncio
import contextlib
import os
import signal
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import cast

from vmcp.errors import Code, McpError
from vmcp.protocol import jsonrpc
from vmcp.server.flow import Flow

INBOX = 16
"""Messages that wait to be acted on; then nothing more is read."""
CHUNK = 1 << 16
FLUSH = 5.0
"""Seconds that the client has to read the last that was written."""

Line = bytes | McpError
"""A message, or why there is none."""


class Lines(asyncio.Protocol):
    """Cuts what comes into lines of at most ``limit`` bytes; back-pressure through the transport."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False
        self._inbox: asyncio.Queue[Line | None] = asyncio.Queue()
        self._held = False
        self._transport: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who is to be held back."""
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            self._end_line()
        self._add(rest)
        if not self._held and self._inbox.qsize() >= INBOX and self._transport is not None:
            self._held = True
            self._transport.pause_reading()

    def _add(self, piece: bytes) -> None:
        self._rest += piece if not self._skipping else b""
        if len(self._rest) > self._limit:
            self._rest.clear()
            self._skipping = True

    def _end_line(self) -> None:
        line = bytes(self._rest).strip()
        self._rest.clear()
        if self._skipping:
            self._skipping = False
            text = f"Invalid request: a message of more than {self._limit} bytes is not accepted"
            self._inbox.put_nowait(McpError(Code.INVALID_REQUEST, text, vmcp_code=Code.INVALID_MESSAGE))
        elif line:
            self._inbox.put_nowait(line)

    def eof_received(self) -> None:
        """Nothing more will come; the last line needs no end."""
        self._end_line()
        self.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """As ``eof_received``, which a pipe that breaks does not tell."""
        self.stop()

    def stop(self) -> None:
        """Let ``read`` say that this is the end, behind what has come."""
        self._inbox.put_nowait(None)

    async def read(self) -> Line | None:
        """The next line; None at the end."""
        line = await self._inbox.get()
        if self._held and self._inbox.qsize() < INBOX and self._transport is not None:
            self._held = False
            self._transport.resume_reading()
        return line


class _Written(asyncio.BaseProtocol):
    """What the transport of stdout tells."""

    def __init__(self, flow: Flow, on_gone: Callable[[], None]) -> None:
        self._flow = flow
        self._on_gone = on_gone
        self.closed = asyncio.Event()

    def pause_writing(self) -> None:
        """See ``Flow``."""
        self._flow.pause()

    def resume_writing(self) -> None:
        """See ``Flow``."""
        self._flow.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads."""
        self._flow.end()
        self.closed.set()
        self._on_gone()


class _Thread(asyncio.ReadTransport):
    """Reads what no event loop can wait for: a file, a terminal. A thread of its own, which nobody waits for at the end."""

    def __init__(self, descriptor: int, lines: Lines) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self._turn = threading.Semaphore(1)
        self._paused = False
        lines.connection_made(self)
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    def _run(self) -> None:
        data = b"-"
        while data:
            self._turn.acquire()
            try:
                data = os.read(self._descriptor, CHUNK)
            except OSError:
                data = b""
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._got, data)

    def _got(self, data: bytes) -> None:
        if not data:
            self._lines.eof_received()
            return
        self._lines.data_received(data)
        if not self._paused:
            self._turn.release()

    def pause_reading(self) -> None:
        """See ``asyncio``."""
        self._paused = True

    def resume_reading(self) -> None:
        """See ``asyncio``."""
        self._paused = False
        self._turn.release()

    def close(self) -> None:
        """The thread may be waiting, and ends with the process."""


class Pipes:
    """A two-way stream of lines. Made by ``pipes``."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._flow = Flow(self._give_up)
        self._told = _Written(self._flow, lines.stop)
        self._transport: asyncio.WriteTransport | None = None
        self._descriptor = -1

    async def open(self, descriptor: int) -> None:
        """Write to ``descriptor``, which is ours from now on."""
        if not _waitable(descriptor):
            self._descriptor = descriptor
            return
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_write_pipe(lambda: self._told, os.fdopen(descriptor, "wb", 0))

    async def read(self) -> Line | None:
        """The next line; None at the end."""
        return await self._lines.read()

    def stop(self) -> None:
        """Let ``read`` say that this is the end."""
        self._lines.stop()

    async def write(self, text: bytes) -> None:
        """See ``duplex.Write``."""
        line = jsonrpc.one_line(text) + b"\n"
        if self._transport is None:
            self._write_through(line)
        elif (not self._flow.paused or await self._flow.ready()) and not self._flow.lost:
            self._transport.write(line)

    def _write_through(self, line: bytes) -> None:
        """To a file or a terminal, which take everything at once."""
        while line and not self._flow.lost:
            try:
                line = line[os.write(self._descriptor, line) :]
            except OSError:
                self._told.connection_lost(None)

    def _give_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Flush and close."""
        if self._transport is None:
            os.close(self._descriptor)
            return
        self._transport.close()
        try:
            async with asyncio.timeout(FLUSH):
                await self._told.closed.wait()
        except TimeoutError:
            self._transport.abort()


@contextlib.asynccontextmanager
async def pipes(reading: int, writing: int, limit: int) -> AsyncIterator[Pipes]:
    """A stream over two descriptors, both of which are closed at the end."""
    lines = Lines(limit)
    found = Pipes(lines)
    await found.open(writing)
    transport: asyncio.ReadTransport
    if _waitable(reading):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: lines, os.fdopen(reading, "rb", 0))
    else:
        transport = _Thread(reading, lines)
    try:
        yield found
    finally:
        transport.close()
        await found.close()


def _waitable(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def claim() -> tuple[int, int]:
    """Take stdin and stdout away from everybody else: who reads there finds nothing, who writes there writes to stderr."""
    mine = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return mine


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ``stop`` the block in order, a second one cancels it; that is not an error."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    seen: list[int] = []

    def on_signal() -> None:
        seen.append(1)
        if len(seen) == 1:
            stop()
        else:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    except asyncio.CancelledError:
        if len(seen) < 2:
            raise
        task.uncancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
