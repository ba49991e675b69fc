"""Which of several replicas gets a call.

The rule: ``Chooser`` decides by what it is given (the replicas, the time, random numbers, a key) and by nothing else, so that
every choice can be played again.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from vmcp.config.balancing import Balancing

Random = Callable[[], float]
"""Gives a number from 0 up to, but not including, 1."""
LEAST: Final = 0.1
"""The share of its calls that a replica gets at once when it comes back."""


class Load:
    """What is known of one replica. Mutable; whoever sends the calls keeps it.

    ``active`` calls are with it now, ``latency`` is the usual time of an answer (0: there was none yet), ``faults`` the share of
    calls that got none. ``back`` is when it came back; None when that is long ago, or it never was away.
    """

    __slots__ = ("active", "back", "current", "faults", "latency", "number", "seed", "weight")

    def __init__(self, number: int, url: str, weight: int = 1) -> None:
        self.number = number
        self.weight = weight
        self.seed = hashlib.blake2b(url.encode(), digest_size=16).digest()
        self.active = 0
        self.latency = 0.0
        self.faults = 0.0
        self.current = 0
        self.back: float | None = None

    def answered(self, seconds: float, window: int) -> None:
        """A call was answered."""
        share = 2.0 / (window + 1)
        self.latency += share * (seconds - self.latency) if self.latency else seconds
        self.faults -= share * self.faults

    def failed(self, window: int) -> None:
        """A call was not. How long that took says nothing: the dead are fast."""
        self.faults += 2.0 / (window + 1) * (1.0 - self.faults)


Each = TypeVar("Each", bound=Load)


class Chooser:
    """Chooses by one strategy. Mutable: it remembers whose turn it was."""

    def __init__(self, spec: Balancing) -> None:
        self._spec = spec
        self._last = -1
        strategies: dict[str, Callable[[Sequence[Any], Random, bytes], Any]] = {
            "roundRobin": lambda among, _random, _key: self._in_turn(among),
            "random": lambda among, random, _key: _any(among, random),
            "leastConnections": lambda among, random, _key: _least(among, random),
            "weightedRoundRobin": lambda among, _random, _key: _in_weighted_turn(among),
            "weightedRandom": lambda among, random, _key: _any_weighted(among, random),
            "adaptive": lambda among, random, _key: _better_of_two(among, random),
            "consistentHash": lambda among, _random, key: _nearest(among, key),
        }
        self._strategy = strategies[spec.strategy]

    def choose(self, among: Sequence[Each], now: float, random: Random, key: bytes = b"") -> Each:
        """One of ``among``, which is not empty and in the order of the numbers."""
        if len(among) > 1 and self._spec.slow_start and self._spec.strategy != "consistentHash":
            among = [each for each in among if each.back is None or self._warm(each, now, random)] or among
        chosen: Each = among[0] if len(among) == 1 else self._strategy(among, random, key)
        return chosen

    def _warm(self, each: Load, now: float, random: Random) -> bool:
        """Whether one that came back takes part this time."""
        assert each.back is not None
        share = (now - each.back) / self._spec.slow_start
        if share >= 1.0:
            each.back = None
        return share >= 1.0 or random() < max(share, LEAST)

    def _in_turn(self, among: Sequence[Load]) -> Load:
        chosen = next((each for each in among if each.number > self._last), among[0])
        self._last = chosen.number
        return chosen


def _any(among: Sequence[Load], random: Random) -> Load:
    return among[int(random() * len(among))]


def _least(among: Sequence[Load], random: Random) -> Load:
    """The one with the fewest calls for its weight; any of those that have equally few."""
    fewest = min(each.active / each.weight for each in among)
    return _any([each for each in among if each.active / each.weight == fewest], random)


def _in_weighted_turn(among: Sequence[Load]) -> Load:
    """Each gains its weight, and whoever has the most pays for all: turns as even as the weights allow."""
    for each in among:
        each.current += each.weight
    chosen = max(among, key=lambda each: each.current)
    chosen.current -= sum(each.weight for each in among)
    return chosen


def _any_weighted(among: Sequence[Load], random: Random) -> Load:
    at = random() * sum(each.weight for each in among)
    for each in among:
        at -= each.weight
        if at < 0:
            return each
    return among[-1]


def _better_of_two(among: Sequence[Load], random: Random) -> Load:
    """Of two, drawn by chance, the one that promises an answer sooner. Not the best of all: everybody would go there."""
    first = int(random() * len(among))
    second = int(random() * (len(among) - 1))
    one, other = among[first], among[second + (second >= first)]
    return one if _cost(one) <= _cost(other) else other


def _cost(each: Load) -> float:
    """The time that its calls take, and the more the less of them are answered; nothing for one that nobody knows yet."""
    return each.latency * (each.active + 1) / each.weight / max(1.0 - each.faults, 0.01) ** 2


def _nearest(among: Sequence[Load], key: bytes) -> Load:
    """The same for a key as long as it is there; without it, its keys go to all others alike (rendezvous hashing)."""
    return max(among, key=lambda each: each.weight / -math.log(_unit(each.seed, key)))


def _unit(seed: bytes, key: bytes) -> float:
    """A number between 0 and 1, neither of them, that depends on both."""
    digest = hashlib.blake2b(key, digest_size=8, key=seed).digest()
    return ((int.from_bytes(digest, "big") >> 11) + 0.5) / (1 << 53)
