"""How many child processes there are, whose they are, and how many may be starting at a time.

The rule: one count for the whole process, whichever generation of the configuration started a child; a place is given back
exactly once, and a start gives way to the next as soon as its child has spoken, ended, or was silent for too long.
"""

import asyncio
from collections import Counter, deque
from typing import Final
from weakref import WeakKeyDictionary

from vmcp.config.model import Limits
from vmcp.errors import Code, Unavailable

SILENCE: Final = 5.0
"""Seconds after which a child that says nothing does not keep the next one from starting."""


class NoPlace(Unavailable):
    """There are as many children as there may be of all together."""


class Places:
    """The children of one event loop. Mutable."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._starting = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def total(self) -> int:
        """How many children there are."""
        return self._held.total()

    async def take(self, backend: str, whose: str, limits: Limits) -> "Place":
        """A place for a child of ``whose`` (empty: vmcp's own), once it may start. Raises ``Unavailable``."""
        if self.total >= limits.processes:
            raise NoPlace(backend, _full("processes", limits.processes), Code.SERVER_UNAVAILABLE)
        place = Place(self, self.hold(backend, whose, limits))
        try:
            await self._turn(limits.process_starts)
        except asyncio.CancelledError:
            place.leave()
            raise
        place.starts()
        return place

    def hold(self, backend: str, whose: str, limits: Limits) -> str:
        """Count a child for ``whose``. Raises ``Unavailable``."""
        if whose and self._held[whose] >= limits.processes_per_principal:
            why = _full("processesPerPrincipal", limits.processes_per_principal)
            raise Unavailable(backend, why, Code.SERVER_UNAVAILABLE)
        self._held[whose] += 1
        return whose

    async def _turn(self, most: int) -> None:
        """Wait until fewer than ``most`` are starting; who is let in is counted already."""
        if self._starting < most and not self._waiting:
            self._starting += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.next()
            raise

    def next(self) -> None:
        """One start is over: its turn goes to who waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._starting -= 1

    def free(self, whose: str) -> None:
        """A child is gone."""
        self._held[whose] -= 1
        if not self._held[whose]:
            del self._held[whose]


class Place:
    """One child's place. Mutable; both of its ends are harmless when called twice."""

    def __init__(self, places: Places, whose: str) -> None:
        self._places = places
        self._whose = whose
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    def starts(self) -> None:
        """Its turn has come."""
        self._timer = asyncio.get_running_loop().call_later(SILENCE, self.started)

    def give(self, backend: str, whose: str, limits: Limits) -> None:
        """It is the place of ``whose`` from now on. Raises ``Unavailable``, and then it is not."""
        before, self._whose = self._whose, self._places.hold(backend, whose, limits)
        self._places.free(before)

    def started(self) -> None:
        """It has spoken, or will not: the next one may start."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._places.next()

    def leave(self) -> None:
        """Nothing is left of it."""
        self.started()
        if not self._over:
            self._over = True
            self._places.free(self._whose)


def _full(key: str, most: int) -> str:
    return f"no more child processes can be started: server.limits.{key} is {most}"


_PLACES: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Places]] = WeakKeyDictionary()


def places() -> Places:
    """The places of the running loop; vmcp has only one, and tests have one after the other."""
    return _PLACES.setdefault(asyncio.get_running_loop(), Places())
