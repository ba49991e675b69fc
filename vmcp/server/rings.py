"""Counting by the second and by the minute, and by what was called, in rings that forget what is old.

The rule: to count a call costs a few additions whatever there is; nothing grows with how many calls there are.
"""

from collections import deque
from typing import Final

import msgspec

from vmcp.state import histogram
from vmcp.state.histogram import Calls, Counts

SECONDS: Final = 60
MINUTES: Final = 60
Edge = tuple[str, str]
"""The path of an endpoint, and the name of a backend; empty: none was reached."""


class Slot(msgspec.Struct):
    """A second or a minute that is counted."""

    number: int
    busy: int = 0
    times: Counts = {}
    edges: dict[Edge, list[int]] = {}

    def count(self, edge: Edge, calls: Calls) -> None:
        """Count these calls."""
        histogram.merge(self.times, calls.times)
        found = self.edges.setdefault(edge, [0, 0])
        found[0] += calls.count
        found[1] += calls.errors

    def merge(self, other: "Slot") -> None:
        """Count those of ``other`` too."""
        self.busy = max(self.busy, other.busy)
        histogram.merge(self.times, other.times)
        for edge, (requests, errors) in other.edges.items():
            found = self.edges.setdefault(edge, [0, 0])
            found[0] += requests
            found[1] += errors

    @property
    def sums(self) -> tuple[int, int]:
        """Requests and errors of all."""
        return sum(each[0] for each in self.edges.values()), sum(each[1] for each in self.edges.values())

    def by(self, place: int) -> dict[str, tuple[int, int]]:
        """Requests and errors by one end of the edges: 0 for endpoints, 1 for backends."""
        found: dict[str, tuple[int, int]] = {}
        for edge, (requests, errors) in self.edges.items():
            if edge[place]:
                before = found.get(edge[place], (0, 0))
                found[edge[place]] = before[0] + requests, before[1] + errors
        return found


class Rings:
    """The last minute by the second, and the last hour by the minute. Mutable; ``began`` is when the first second did."""

    def __init__(self, began: float) -> None:
        self.second = Slot(0)
        """The one that goes on."""
        self._began = began
        self._minute = Slot(0)
        self._seconds: deque[Slot] = deque(maxlen=SECONDS)
        self._minutes: deque[Slot] = deque(maxlen=MINUTES - 1)

    def advance(self, at: float) -> None:
        """Go on to the second of ``at``; in those between nothing was counted."""
        number = int(at - self._began)
        # After a long sleep of the machine there is nothing but empty seconds.
        for each in range(max(self.second.number, number - SECONDS * MINUTES), number):
            self._minute.merge(self.second)
            self._seconds.append(self.second)
            self.second = Slot(each + 1)
            if self.second.number // 60 != self._minute.number:
                self._minutes.append(self._minute)
                self._minute = Slot(self.second.number // 60)

    def count(self, at: float, edge: Edge, calls: Calls) -> None:
        """Count calls that ended at ``at``, by the clock of ``began``."""
        self.advance(at)
        self.second.count(edge, calls)

    def seconds(self) -> list[Slot]:
        """The last 60 that have ended, the oldest first."""
        missing = range(SECONDS, len(self._seconds), -1)
        return [*(Slot(self.second.number - each) for each in missing), *self._seconds]

    def minutes(self) -> list[Slot]:
        """The last 60, of which one goes on."""
        current = Slot(self._minute.number)
        current.merge(self._minute)
        current.merge(self.second)
        missing = range(MINUTES - 1, len(self._minutes), -1)
        return [*(Slot(current.number - each) for each in missing), *self._minutes, current]

    def lately(self, most: int) -> tuple[Slot, int]:
        """So many of the last seconds in one, and how many they are: few right after the start, but one at least."""
        whole, last = Slot(0), list(self._seconds)[-most:]
        for slot in last:
            whole.merge(slot)
        return whole, max(1, len(last))
