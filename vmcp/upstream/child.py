"""A child process as vmcp sees it: three streams, and what its nurse tells of it over the control socket.

The rule: who starts a child owns it; a start that fails or is cancelled leaves nothing, as the end of the control socket is the
end of the child, in whatever state both are.
"""

import asyncio
import errno
import json
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, Protocol, cast

from vmcp import nursery
from vmcp.upstream.spawn import NURSERY

START: Final = 10.0
"""Seconds for the nursery and the kernel to start a program."""
WRITE_HIGH: Final = 1 << 20
"""Bytes that wait for a child to read them; then whoever writes waits too."""
CHUNK: Final = 1 << 16

Order = Mapping[str, Any]
"""See ``vmcp.nursery``."""


class Listener(Protocol):
    """Who hears of a child. Streams go by their numbers."""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It wrote something."""

    def pipe_connection_lost(self, fd: int) -> None:
        """It, and whoever else held it, closed a stream."""

    def process_exited(self) -> None:
        """It is gone; what descends from it may not be."""

    def pause_writing(self) -> None:
        """It reads less than it is told."""

    def resume_writing(self) -> None:
        """It reads again."""


class Refused(OSError):
    """A program that could not be started. ``stage``: "limits", "cwd" or "program", or "nursery" when the failure is ours."""

    def __init__(self, number: int, stage: str) -> None:
        super().__init__(number, os.strerror(number))
        self.stage = stage


class Child(asyncio.Protocol):
    """One child, and the protocol of its control socket. Mutable. ``returncode`` is None while it lives, below 0 for a signal."""

    def __init__(self, listener: Listener) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()
        self._over = asyncio.Event()
        self._said = bytearray()
        self._control: asyncio.WriteTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._open: dict[int, int] = {}

    # --- its start

    async def start(self, order: Order) -> None:
        """Start it. Raises ``Refused``."""
        kept = False
        try:
            async with asyncio.timeout(START):
                told = await self._ordered(json.dumps(order).encode())
            kept = bool(self.pid)  # who is cancelled in the moment of its start does not have it
        except TimeoutError:
            raise Refused(errno.ETIMEDOUT, "nursery") from None
        except OSError as failed:
            raise Refused(failed.errno or errno.EIO, "nursery") from None
        finally:
            if not kept:
                self.drop()
        if not self.pid:
            raise Refused(told["errno"], told["of"])

    async def _ordered(self, order: bytes) -> Mapping[str, Any]:
        control, stdin = self._streams()
        with ExitStack() as near:
            near.callback(stdin.close)
            await self._loop.create_unix_connection(lambda: self, sock=control)
            near.pop_all()
        self._stdin, _ = await self._loop.create_unix_connection(lambda: _Stdin(self._listener), sock=stdin)
        self._stdin.set_write_buffer_limits(high=WRITE_HIGH)
        for number, descriptor in self._open.items():
            self._loop.add_reader(descriptor, self._read, number, descriptor)
        assert self._control is not None
        if self._control.is_closing():
            raise ConnectionResetError(errno.ECONNRESET, "the nursery has died")
        self._control.write(nursery.HEAD.pack(len(order)) + order)
        return await self._answer

    def _streams(self) -> tuple[socket.socket, socket.socket]:
        """Make the streams and hand their far ends to the nursery; of the near ones, the control socket and stdin."""
        with ExitStack() as far, ExitStack() as near:
            ours, ends = [], []
            for _ in range(2):
                here, there = socket.socketpair()
                here.setblocking(False)
                ours.append(near.enter_context(here))
                ends.append(far.enter_context(there).fileno())
            for number in (1, 2):
                self._open[number], end = os.pipe()
                os.set_blocking(self._open[number], False)
                far.callback(os.close, end)
                ends.append(end)
            NURSERY.hand(ends)
            near.pop_all()
        return ours[0], ours[1]

    # --- the control socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it (uvloop's transports have the interface, not the base classes)."""
        self._control = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """The nurse tells something: a line of JSON."""
        *lines, rest = (bytes(self._said) + data).split(b"\n")
        self._said[:] = rest
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, told: Mapping[str, Any]) -> None:
        if "exit" in told:
            self._exited(told["exit"])
        elif not self._answer.done():
            self.pid = told.get("pid", 0)
            self._answer.set_result(told)

    def connection_lost(self, exc: Exception | None) -> None:
        """The nurse is gone, so nothing of the child is left; one that told nothing before was killed, and the child with it."""
        self._over.set()
        if not self._answer.done():
            self._answer.set_result({"errno": errno.ECONNRESET, "of": "nursery"})
        elif self.pid and self.returncode is None:
            self._exited(-9)

    def _exited(self, code: int) -> None:
        self.returncode = code
        self._listener.process_exited()

    # --- its streams

    def _read(self, number: int, descriptor: int) -> None:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._listener.pipe_data_received(number, data)
        else:
            self._shut(number)
            self._listener.pipe_connection_lost(number)

    def pause(self, number: int) -> None:
        """Leave a stream unread for now."""
        if number in self._open:
            self._loop.remove_reader(self._open[number])

    def resume(self, number: int) -> None:
        """Read it again."""
        if number in self._open:
            self._loop.add_reader(self._open[number], self._read, number, self._open[number])

    def _shut(self, number: int) -> None:
        descriptor = self._open.pop(number, None)
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    @property
    def mute(self) -> bool:
        """Whether nothing can come from it any more."""
        return not self._open

    @property
    def deaf(self) -> bool:
        """Whether nothing can be told to it any more."""
        return self._stdin is None or self._stdin.is_closing() or self.returncode is not None

    def write(self, data: bytes) -> None:
        """Tell it something."""
        assert self._stdin is not None
        self._stdin.write(data)

    # --- its end

    def kill(self) -> None:
        """End it, and its group, at once."""
        if self._control is not None and not self._control.is_closing():
            self._control.write(nursery.KILL)

    def leave(self) -> None:
        """Close its input, and have its nurse end it in order if it does not end by itself."""
        if self._stdin is not None:
            self._stdin.close()
        if self._control is not None and not self._control.is_closing():
            self._control.write_eof()

    async def gone(self, seconds: float) -> bool:
        """Wait until nothing of it is left; False when that takes too long."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    def drop(self) -> None:
        """Let go of everything at once."""
        for transport in (self._stdin, self._control):
            if transport is not None:
                transport.abort()
        for number in list(self._open):
            self._shut(number)


class _Stdin(asyncio.Protocol):
    """What the transport of a child's input tells. Nothing that comes from there means anything."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def pause_writing(self) -> None:
        """The child reads less than it is told."""
        self._listener.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._listener.resume_writing()
