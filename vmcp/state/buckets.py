"""Token buckets: how often something may happen, for everybody together or for each of many.

The rule: a bucket is full until it is used, so one that has filled up again need not be kept; memory is bounded, and the clock is
the caller's. Several buckets are taken from together or not at all.
"""

from collections.abc import Callable, Container, Sequence
from typing import Final, Protocol

import msgspec

MOST: Final = 65_536
"""Buckets that are kept. Beyond, the one that was used longest ago is forgotten, which means that it is full."""


class Rate(msgspec.Struct, frozen=True):
    """``tokens`` in ``seconds``, filled evenly, and never more than ``tokens`` in the bucket. ``rule`` says whose it is."""

    rule: str
    tokens: int
    seconds: float


class Short(msgspec.Struct, frozen=True):
    """A bucket that is empty, and the seconds until it is not."""

    rule: str
    seconds: float


class Takes(Protocol):
    """Buckets, wherever they are."""

    def taker(self, rate: Rate) -> Callable[[str], Short | None]:
        """``take`` from one bucket of ``rate``, which is what nearly every call does."""
        ...

    def take(self, wanted: Sequence[tuple[Rate, str]]) -> Short | None:
        """One token of each bucket, a rate and whose (empty: everybody's). None, or the one that takes longest to have one."""
        ...

    def forget(self, rules: Container[str]) -> None:
        """The buckets of these rules are full again: their rates are others now."""
        ...


class Buckets:
    """All buckets of a process. Mutable. ``now`` is a clock that never goes back, in seconds."""

    def __init__(self, now: Callable[[], float], most: int = MOST) -> None:
        self._now = now
        self._most = most
        # When each will be full; the order is that of the last use.
        self._full: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._full)

    def taker(self, rate: Rate) -> Callable[[str], Short | None]:
        """See ``Takes``."""
        rule, seconds, clock = rate.rule, rate.seconds, self._now
        each, roomy = seconds / rate.tokens, self._most // 2
        little = each * 1e-6

        def take_one(whose: str) -> Short | None:
            now, known, key = clock(), self._full, (rule, whose)
            full = known.get(key, now)
            after = (full if full > now else now) + each
            missing = after - now - seconds
            if missing > 0 and missing > little:
                return Short(rule, missing)
            # As long as there is much room, it is all the same who goes first.
            if len(known) > roomy:
                known.pop(key, None)
                known[key] = after
                if len(known) > self._most:
                    del known[next(iter(known))]
            else:
                known[key] = after
            return None

        return take_one

    def take(self, wanted: Sequence[tuple[Rate, str]]) -> Short | None:
        """See ``Takes``."""
        now = self._now()
        short = None
        for rate, whose in wanted:
            missing = self._after(rate, whose, now) - now - rate.seconds
            # Sums of many small numbers are a little off; a millionth of a token is no token.
            if missing > rate.seconds / rate.tokens * 1e-6 and (short is None or missing > short.seconds):
                short = Short(rate.rule, missing)
        if short is None:
            for rate, whose in wanted:
                after = self._after(rate, whose, now)
                self._full.pop((rate.rule, whose), None)
                self._full[rate.rule, whose] = after
            while len(self._full) > self._most:
                del self._full[next(iter(self._full))]
        return short

    def forget(self, rules: Container[str]) -> None:
        """See ``Takes``."""
        self._full = {key: full for key, full in self._full.items() if key[0] not in rules}

    def _after(self, rate: Rate, whose: str, now: float) -> float:
        """When the bucket would be full again, had one token more been taken."""
        return max(self._full.get((rate.rule, whose), now), now) + rate.seconds / rate.tokens
