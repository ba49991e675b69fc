"""Numbered things that come from several workers, as one stream with numbers of its own: exchanges, and lines of the log.

The rule: a number is given once, when a thing is first seen here, and never changes; so who asks for what came since a number
misses nothing that is still kept and sees nothing twice.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from vmcp.admin import tail
from vmcp.server.recent import KEPT, Exchanged

T = TypeVar("T")


class Confluence(Generic[T]):
    """Mutable. ``at`` says when a thing happened, such that what is new can be put in order."""

    def __init__(self, kept: int, at: Callable[[T], Any]) -> None:
        self.count = 0
        """How many there have been."""
        self._at = at
        self._kept: deque[tuple[int, int, T]] = deque(maxlen=kept)
        self.known: dict[int, tuple[int, int]] = {}
        """Of each worker its process, and the last of its numbers that is here."""

    def add(self, found: Iterable[tuple[int, int, Sequence[tuple[int, T]]]]) -> None:
        """Take what is new: of each worker its number, its process, and things with their numbers there."""
        fresh: list[tuple[int, T]] = []
        for worker, pid, things in found:
            before, last = self.known.get(worker, (pid, 0))
            if pid != before:
                last = 0  # another process counts from the beginning
            fresh += [(worker, thing) for number, thing in things if number > last]
            self.known[worker] = pid, max((last, *(number for number, _ in things)))
        for worker, thing in sorted(fresh, key=lambda each: self._at(each[1])):
            self.count += 1
            self._kept.append((self.count, worker, thing))

    def all(self, since: int = 0) -> list[tuple[int, int, T]]:
        """What is kept and came after a number, the oldest first: its number, its worker, and the thing."""
        return [each for each in self._kept if each[0] > since]


class Streams:
    """Those of one desk. Mutable."""

    def __init__(self) -> None:
        self.exchanges = Confluence[Exchanged](KEPT, lambda each: each.at)
        self.lines = Confluence[str](tail.KEPT, _time)


def _time(line: str) -> str:
    """A line of JSON begins with its time."""
    return line[:32]
