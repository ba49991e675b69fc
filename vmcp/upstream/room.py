"""How much of what backends answer may be in our hands at once: what is being read of it, and what clients have not read.

The rule: a large answer asks for all its room when its size is known, and is not read before it has that; one of unknown size
asks for more as it grows. Who asked first is first, and whoever has been let in for longest never waits, so that somebody ends.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

LARGE: Final = 192 << 10
"""Bytes from which an answer is large. What is smaller is read without asking."""
STEP: Final = 1 << 20
"""Bytes that an answer of unknown size asks for at a time."""
SHARE: Final = 0.625
"""Of the bytes that may be in memory for clients: the rest is for what is just being passed on."""

Enter = Callable[[], None]
"""Called when there is room."""


class Room:
    """Mutable; changed by whoever reads an answer, and by the watch over the clients. ``limit`` is of bytes."""

    __slots__ = ("_growing", "_held", "_unread", "_waiting", "limit")

    def __init__(self, limit: int = 80 << 20) -> None:
        self.limit = limit
        self._held: OrderedDict[object, int] = OrderedDict()
        self._unread = 0
        self._growing: OrderedDict[object, tuple[int, Enter]] = OrderedDict()
        self._waiting: OrderedDict[object, tuple[int, Enter]] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes of answers that are being read, and of those that clients have not read."""
        return sum(self._held.values()) + self._unread

    @property
    def wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting or self._growing)

    def ask(self, who: object, size: int, enter: Enter) -> bool:
        """Whether ``who`` may have so many bytes now, in all. If not, ``enter`` is called when he may, unless he left before."""
        if who in self._held:
            return self._grow(who, size, enter)
        if not self.wanted and self._fits(who, size):
            self._held[who] = size
            return True
        self._waiting[who] = size, enter
        return False

    def _grow(self, who: object, size: int, enter: Enter) -> bool:
        if size <= self._held[who]:
            return True
        if self._fits(who, size):
            self._held[who] = size
            return True
        self._growing[who] = size, enter
        return False

    def leave(self, who: object) -> None:
        """His answer has been passed on, or nobody wants it any more."""
        self._waiting.pop(who, None)
        self._growing.pop(who, None)
        self._held.pop(who, None)
        self._admit()

    def leaves_unread(self, change: int) -> None:
        """Clients have so many bytes more before them than before, or less."""
        self._unread += change
        if change < 0:
            self._admit()

    def _fits(self, who: object, size: int) -> bool:
        has = self._held.get(who)
        if has is not None and next(iter(self._held)) is who:
            return True
        # (Whoever is larger than all there is need not wait until nobody else is there.)
        return self.used - (has or 0) + min(size, self.limit // 2) <= self.limit

    def _admit(self) -> None:
        """Let in whom there is room for: first those who have begun, as they have something in hand."""
        for who, (size, enter) in list(self._growing.items()):
            if self._fits(who, size):
                del self._growing[who]
                self._held[who] = size
                enter()
        while self._waiting:
            who, (size, enter) = next(iter(self._waiting.items()))
            if self._growing or not self._fits(who, size):
                return
            del self._waiting[who]
            self._held[who] = size
            enter()


_ROOMS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Room]] = WeakKeyDictionary()


def room() -> Room:
    """That of the running loop; vmcp has only one, and tests have one after the other."""
    return _ROOMS.setdefault(asyncio.get_running_loop(), Room())
