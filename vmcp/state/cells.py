"""Token buckets that all workers of one vmcp take from, in memory that they share.

The rule: a token that one worker gave is gone for all of them. The table has a fixed size, its key is drawn for each start, so
nobody can aim at the bucket of another; a bucket that must go is a full one, or else the one that was used longest ago.
"""

import mmap
import secrets
from collections.abc import Callable, Container, Sequence
from hashlib import blake2b
from typing import Final

from vmcp.state.buckets import MOST, Rate, Short
from vmcp.state.locks import Locks

WAYS: Final = 8
"""Cells of a set; a bucket is in one of them or full."""
STRIPES: Final = 64
"""Locks, each for every so-many-th set."""
KEY: Final = 16
KNOWN: Final = 4096
"""Places that a worker has in mind; the time to find one anew is a microsecond."""

Spot = tuple[int, int, bytes]
"""Where a bucket is: the number of its lock, the first cell of its set, and its key."""


class Cells:
    """The memory, made before the workers part: for each cell a key, when its bucket is full, and when it was used last."""

    def __init__(self, most: int = MOST) -> None:
        self.sets = max(1, most // WAYS)
        self.keys = mmap.mmap(-1, self.sets * WAYS * KEY)
        self.times = memoryview(mmap.mmap(-1, self.sets * WAYS * 16)).cast("d")
        self.locks = Locks(STRIPES)
        self.secret = secrets.token_bytes(32)


class SharedBuckets:
    """One worker's hand in ``cells``. ``now`` is the same clock for all of them."""

    def __init__(self, cells: Cells, now: Callable[[], float]) -> None:
        self._cells = cells
        self._now = now
        self._spots: dict[tuple[Rate, str], Spot] = {}

    def taker(self, rate: Rate) -> Callable[[str], Short | None]:
        """See ``Takes``."""
        spots, clock, locks = self._spots, self._now, self._cells.locks
        each, seconds = rate.seconds / rate.tokens, rate.seconds
        little = each * 1e-6

        def take_one(whose: str) -> Short | None:
            lock, first, key = spots.get((rate, whose)) or self._spot(rate, whose)
            held = locks.take(lock)
            try:
                now = clock()
                after = self._full(first, key, now, seconds) + each
                missing = after - now - seconds
                if missing <= little:
                    self._put(first, key, after, now)
                    return None
            finally:
                if held:
                    locks.free(lock)
            return Short(rate.rule, missing)

        return take_one

    def take(self, wanted: Sequence[tuple[Rate, str]]) -> Short | None:
        """See ``Takes``."""
        spots = [self._spots.get((rate, whose)) or self._spot(rate, whose) for rate, whose in wanted]
        locks = self._cells.locks
        # Always in the same order, so that no two wait for each other.
        held = [lock for lock in sorted({spot[0] for spot in spots}) if locks.take(lock)]
        try:
            return self._taken(wanted, spots)
        finally:
            for lock in held:
                locks.free(lock)

    def forget(self, rules: Container[str]) -> None:
        """Nothing to do: the key of a bucket says its rate, so that another rate has other buckets for all workers at once."""

    def short(self, rate: Rate, whose: str) -> Short | None:
        """What ``take`` would say of one bucket, without taking."""
        _, first, key = self._spots.get((rate, whose)) or self._spot(rate, whose)
        return self._missing(rate, first, key, self._now())

    def _missing(self, rate: Rate, first: int, key: bytes, now: float) -> Short | None:
        each = rate.seconds / rate.tokens
        missing = self._full(first, key, now, rate.seconds) + each - now - rate.seconds
        return Short(rate.rule, missing) if missing > each * 1e-6 else None

    def _taken(self, wanted: Sequence[tuple[Rate, str]], spots: Sequence[Spot]) -> Short | None:
        now, short = self._now(), None
        for (rate, _), (_, first, key) in zip(wanted, spots, strict=True):
            missing = self._missing(rate, first, key, now)
            if missing is not None and (short is None or missing.seconds > short.seconds):
                short = missing
        if short is None:
            for (rate, _), (_, first, key) in zip(wanted, spots, strict=True):
                after = self._full(first, key, now, rate.seconds) + rate.seconds / rate.tokens
                self._put(first, key, after, now)
        return short

    def _spot(self, rate: Rate, whose: str) -> Spot:
        said = f"{len(rate.rule)} {rate.tokens} {rate.seconds} {rate.rule}{whose}".encode(errors="surrogatepass")
        digest = blake2b(said, digest_size=KEY + 8, key=self._cells.secret).digest()
        number = int.from_bytes(digest[KEY:], "little") % self._cells.sets
        if len(self._spots) >= KNOWN:
            self._spots.clear()
        found = self._spots[rate, whose] = number % STRIPES, number * WAYS, digest[:KEY]
        return found

    def _at(self, first: int, key: bytes) -> int:
        """The cell of a bucket; negative when it has none."""
        start = first * KEY
        return self._cells.keys.find(key, start, start + WAYS * KEY) // KEY

    def _full(self, first: int, key: bytes, now: float, seconds: float) -> float:
        """When it will be full: at the earliest now, and never later than if it were empty, whatever a worker left behind."""
        cell = self._at(first, key)
        return min(max(self._cells.times[2 * cell], now), now + seconds) if cell >= 0 else now

    def _put(self, first: int, key: bytes, full: float, now: float) -> None:
        times, cell = self._cells.times, self._at(first, key)
        if cell >= 0:
            times[2 * cell], times[2 * cell + 1] = full, now
            return
        cell = min(range(first, first + WAYS), key=lambda each: (times[2 * each] > now, times[2 * each + 1]))
        # Whoever is killed in the middle leaves a free cell, never the debts of one bucket with another.
        place = slice(cell * KEY, cell * KEY + KEY)
        self._cells.keys[place] = bytes(KEY)
        times[2 * cell], times[2 * cell + 1] = full, now
        self._cells.keys[place] = key
