"""The replicas of one backend, and how the calls are shared out among them.

The rule: replicas are one server; what differs between them is where they are and how much they take.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vmcp.config.quantities import seconds

Data = Mapping[str, Any]
Strategy = Literal[
    "roundRobin",
    "random",
    "leastConnections",
    "weightedRoundRobin",
    "weightedRandom",
    "adaptive",
    "consistentHash",
]
HashOn = Literal["principal", "session", "tool"]


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One replica. A ``weight`` of 0 gets no calls at all."""

    url: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Balancing:
    """``window``: calls that ``adaptive`` looks back on. ``ejection``: the share of the replicas, in percent, that may be left
    out for failing. ``slow_start``: seconds in which one that came back gets more and more."""

    strategy: Strategy = "roundRobin"
    hash_on: HashOn = "principal"
    window: int = 100
    ejection: int = 50
    slow_start: float = 30.0


def endpoints(entries: Any) -> tuple[EndpointSpec, ...]:
    """A backend's ``endpoints`` as values."""
    return tuple(EndpointSpec(each["url"], int(each.get("weight", 1))) for each in entries)


def balancing(data: Data) -> Balancing:
    """A backend's ``loadBalancing`` as values."""
    given: dict[str, Any] = {}
    for key, name in {"strategy": "strategy", "hashOn": "hash_on"}.items():
        if key in data:
            given[name] = data[key]
    for key, name in {"window": "window", "maxEjectionPercent": "ejection"}.items():
        if key in data:
            given[name] = int(data[key])
    if "slowStart" in data:
        given["slow_start"] = seconds(data["slowStart"])
    return Balancing(**given)
