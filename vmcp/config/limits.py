"""How often and how much at a time: rate limits over all backends, and concurrency at one.

The rule: what is not written is not limited; what is written counts for the whole process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmcp.config.quantities import seconds

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bucket:
    """``tokens`` calls in ``seconds``, and no more than ``tokens`` at once."""

    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Limited:
    """What is limited, by name (a glob for tools): for all clients together, and for each of them."""

    name: str
    shared: Bucket | None = None
    per_user: Bucket | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """All rate limits; those of ``tools`` and ``backends`` count beside the general ones."""

    shared: Bucket | None = None
    per_user: Bucket | None = None
    tools: tuple[Limited, ...] = ()
    backends: tuple[Limited, ...] = ()


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Calls of one backend at a time, how many more may wait and for how long, and the most of one principal."""

    max_in_flight: int = 64
    queue: int = 128
    queue_wait: float = 1.0
    per_user: int | None = None


def rate_limits(data: Data | None) -> RateLimits | None:
    """``rateLimiting`` as values; None when nothing is limited."""
    if not data:
        return None
    return RateLimits(
        shared=_bucket(data.get("shared")),
        per_user=_bucket(data.get("perUser")),
        tools=_limited(data.get("tools", ())),
        backends=_limited(data.get("backends", ())),
    )


def concurrency(data: Data | None) -> Concurrency | None:
    """A backend's ``concurrency`` as values; None when it has none."""
    if data is None:
        return None
    names = {"maxInFlight": "max_in_flight", "queue": "queue", "perUser": "per_user"}
    given: dict[str, Any] = {name: int(data[key]) for key, name in names.items() if key in data}
    if "queueWait" in data:
        given["queue_wait"] = seconds(data["queueWait"])
    return Concurrency(**given)


def _bucket(data: Data | None) -> Bucket | None:
    return None if data is None else Bucket(int(data["maxTokens"]), seconds(data["refillPeriod"]))


def _limited(entries: Any) -> tuple[Limited, ...]:
    return tuple(Limited(each["name"], _bucket(each.get("shared")), _bucket(each.get("perUser"))) for each in entries)
