"""Takes connections: many in one turn of the loop, and none while descriptors are short.

The rule: a busy loop turns seldom, and libuv accepts one connection in a turn, so a crowd would wait for seconds before it could
be served or told to come again. While descriptors are short nobody is told anything: who comes waits in the system's queue. The
number of a new descriptor is the smallest that is free, so it says how many are in use without counting them.
"""

import asyncio
import functools
import logging
import os
import resource
import socket
from collections.abc import Callable
from typing import Final, Protocol

from vmcp.server.vigil import Vigil
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.server")

AT_ONCE: Final = 64
"""Connections that are taken in one turn of the loop."""
LEAST: Final = 16
"""Descriptors that are kept for backends and files; a twentieth of all, if that is more."""
LOOK: Final = 0.25
"""Seconds between two looks whether there is room again."""


class Gives(Protocol):
    """Who may find a better place for a connection than here."""

    def gives(self, descriptor: int, opening: int) -> bool:
        """Whether it has; ``opening`` are those that were taken and are not counted yet."""


class Acceptor:
    """Mutable. ``paused``: nobody is accepted. ``most`` is how many descriptors the process may have."""

    def __init__(
        self,
        listening: socket.socket,
        vigil: Vigil,
        protocol: Callable[..., asyncio.Protocol],
        nest: Nest,
        most: int | None = None,
        relay: Gives | None = None,
    ) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if most is None else most
        self._listening = listening
        self._vigil = vigil
        self._protocol = protocol
        self._nest = nest
        self._relay = relay
        self._reserve = max(LEAST, most // 20)
        self._mark = most - self._reserve
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self.paused = False
        self.pauses = 0

    def start(self) -> None:
        """Take connections from now on."""
        self._loop.add_reader(self._listening, self._on_some)

    def stop(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._listening)
        if self._timer is not None:
            self._timer.cancel()

    async def settle(self) -> None:
        """Until those who were taken last are connections like the others: one that is given up midway is never told its end."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _on_some(self) -> None:
        for _ in range(AT_ONCE):
            try:
                taken, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return  # there is nobody (any more)
            except OSError as error:
                self._pause(error.strerror)
                return
            taken.setblocking(False)
            if self._relay is not None and self._relay.gives(taken.fileno(), len(self._opening)):
                taken.close()
                continue
            self.take(taken)
            if self.paused:
                return

    def take(self, taken: socket.socket, first: bytes = b"") -> None:
        """Make a connection of an open socket; ``first`` is what another worker has read of it."""
        self._opening.add(task := self._nest.start(self._open(taken, first), "connection"))
        task.add_done_callback(self._opening.discard)
        if taken.fileno() >= self._mark and not self.paused:
            self._pause()

    async def _open(self, taken: socket.socket, first: bytes) -> None:
        protocol = functools.partial(self._protocol, first=first) if first else self._protocol
        try:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(protocol, taken)
        except OSError:
            taken.close()

    def _pause(self, error: str | None = None) -> None:
        log.warning("descriptors are short: no connections are accepted", extra={"kept": self._reserve, "error": error})
        self._loop.remove_reader(self._listening)
        self.paused = self._vigil.hurry = True
        self.pauses += 1
        self._timer = self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        if self._room():
            self.paused = self._vigil.hurry = False
            self.start()
            log.info("connections are accepted again")
        else:
            self._timer = self._loop.call_later(LOOK, self._look)

    def _room(self) -> bool:
        """Whether half of what is kept free is free besides."""
        try:
            lowest = os.dup(self._listening.fileno())
        except OSError:
            return False
        os.close(lowest)
        return lowest < self._mark - self._reserve // 2
