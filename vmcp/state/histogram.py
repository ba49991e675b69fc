"""How many calls there were, how they ended and how long they took, such that a percentile can be told of any number of them.

The rule: two neighbouring buckets are a twelfth apart, so what is told is right to four percent; a bucket that nobody fell into
costs nothing, and to count one is a search in a tuple and an addition.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

FIRST: Final = 50e-6
RATIO: Final = 13 / 12
BOUNDS: Final = tuple(FIRST * RATIO**each for each in range(204))
"""Seconds: from 50 µs to ten minutes."""
Counts = dict[int, int]
"""How many fell into each bucket; bucket ``n`` ends at ``BOUNDS[n]``, the last one has no end."""


def bucket(seconds: float) -> int:
    """Where it falls."""
    return bisect_left(BOUNDS, seconds)


def merge(into: Counts, other: Mapping[int, int]) -> None:
    """Count those of ``other`` too."""
    for place, count in other.items():
        into[place] = into.get(place, 0) + count


def quantiles(counts: Mapping[int, int], shares: Iterable[float]) -> list[float | None]:
    """Seconds within which each share of them was done, the shares in rising order; None of nothing."""
    total = sum(counts.values())
    if not total:
        return [None for _ in shares]
    ranked = sorted(counts)
    found: list[float | None] = []
    at, seen = 0, counts[ranked[0]]
    for share in shares:
        while seen < share * total and at + 1 < len(ranked):
            at += 1
            seen += counts[ranked[at]]
        found.append(middle(ranked[at]))
    return found


def middle(place: int) -> float:
    """The seconds that stand for a bucket."""
    if place == 0:
        return FIRST
    if place >= len(BOUNDS):
        return BOUNDS[-1]
    low, high = BOUNDS[place - 1], BOUNDS[place]
    return float((low * high) ** 0.5)


class Statistic(msgspec.Struct, frozen=True, rename="camel"):
    """Of some calls, since the start. Seconds; the success rate is 0 to 1."""

    count: int
    errors: int
    success_rate: float
    mean: float
    median: float | None
    p95: float | None
    p99: float | None
    bytes: int
    last: float


class Calls(msgspec.Struct):
    """Some calls, counted together. Mutable; ``when`` is the end of the last one (epoch)."""

    count: int = 0
    errors: int = 0
    seconds: float = 0.0
    bytes: int = 0
    times: Counts = {}
    when: float = 0.0

    def merge(self, other: "Calls") -> None:
        """Count those too."""
        self.count += other.count
        self.errors += other.errors
        self.bytes += other.bytes
        self.seconds += other.seconds
        self.when = max(self.when, other.when)
        merge(self.times, other.times)

    def told(self) -> Statistic:
        """In numbers to show."""
        count = self.count
        median, p95, p99 = quantiles(self.times, (0.5, 0.95, 0.99))
        rate = 1 - self.errors / count if count else 1.0
        mean = self.seconds / count if count else 0.0
        return Statistic(count, self.errors, rate, mean, median, p95, p99, self.bytes, self.when)
