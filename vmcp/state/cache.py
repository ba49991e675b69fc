"""Results that are kept in memory for a while.

The rule: bounded by number and bytes, the least recently used goes first; what was forgotten is not put back by a call that had
begun before (``epoch``). Nothing is looked up but by the whole key.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

OVERHEAD: Final = 512
"""Bytes that an entry costs besides its body."""


class Kept(msgspec.Struct, frozen=True):
    """A result: ``body`` as the backend said it in ``revision``, ``name`` its original name or URI. Times are of ``now``."""

    backend: str
    name: str
    body: bytes
    revision: str
    born: float
    expires: float


class Counts(msgspec.Struct):
    """How often it was asked, and what became of it. Mutable; written by the cache only."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0

    @property
    def rate(self) -> float:
        """Hits of all that was asked for, 0 to 1."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class Memory:
    """Mutable; on the loop only."""

    def __init__(self, entries: int, most: int, now: Callable[[], float]) -> None:
        self._entries = entries
        self._most = most
        self._now = now
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._epochs: dict[str, int] = {}
        self.size = 0
        self.counts = Counts()

    def __len__(self) -> int:
        return len(self._kept)

    def epoch(self, backend: str) -> int:
        """A number that changes whenever all of ``backend`` is forgotten; it belongs into every key."""
        return self._epochs.get(backend, 0)

    def get(self, key: bytes) -> Kept | None:
        """What is kept under ``key`` and still good."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.expires <= self._now():
            self._remove(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def put(self, key: bytes, kept: Kept) -> None:
        """Keep it, if there is room for it at all."""
        self._remove(key)
        if _weight(kept) > self._most or not self._entries:
            return
        self._kept[key] = kept
        self.size += _weight(kept)
        while len(self._kept) > self._entries or self.size > self._most:
            self._remove(next(iter(self._kept)))
            self.counts.evicted += 1

    def forget(self, matches: Callable[[Kept], bool]) -> int:
        """Remove what ``matches``; how many that were."""
        found = list(self._matching(matches))
        for key in found:
            self._remove(key)
        return len(found)

    def forget_backend(self, backend: str) -> int:
        """Remove all of a backend; what is on its way from there is of no use any more."""
        self._epochs[backend] = self.epoch(backend) + 1
        return self.forget(lambda kept: kept.backend == backend)

    def _matching(self, matches: Callable[[Kept], bool]) -> Iterator[bytes]:
        return (key for key, kept in self._kept.items() if matches(kept))

    def _remove(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= _weight(kept)


def _weight(kept: Kept) -> int:
    return len(kept.body) + OVERHEAD
