"""When a backend counts as healthy, when it is left alone for a while, and what readiness asks for.

The rule: health is always looked at; a circuit breaker is there only when it is asked for, or where replicas need one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vmcp.config.quantities import seconds

Data = Mapping[str, Any]
Readiness = Literal["required", "all", "any"]


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """Probes: one each ``interval`` seconds, with ``timeout`` for its answer; so many in a row change the verdict."""

    interval: float = 30.0
    timeout: float = 10.0
    unhealthy: int = 3
    healthy: int = 2


@dataclass(frozen=True, slots=True)
class BreakerSpec:
    """``failures`` in a row open it for ``timeout`` seconds; then ``half_open`` calls that succeed close it again."""

    failures: int = 5
    timeout: float = 60.0
    half_open: int = 3


def health(data: Data) -> HealthSpec:
    """``operational.failureHandling`` as values. A timeout of zero means that a probe may take until the next one."""
    given: dict[str, Any] = {}
    for key, name in {"healthCheckInterval": "interval", "healthCheckTimeout": "timeout"}.items():
        if key in data:
            given[name] = seconds(data[key])
    for key, name in {"unhealthyThreshold": "unhealthy", "healthyThreshold": "healthy"}.items():
        if key in data:
            given[name] = int(data[key])
    interval = given.get("interval", HealthSpec().interval)
    given["timeout"] = min(given.get("timeout", HealthSpec().timeout) or interval, interval)
    return HealthSpec(**given)


def breaker(data: Data) -> BreakerSpec | None:
    """``operational.failureHandling`` as values; None when calls are let through whatever happened."""
    block: Data = data.get("circuitBreaker", {})
    if not block.get("enabled", False):
        return None
    given: dict[str, Any] = {}
    for key, name in {"failureThreshold": "failures", "halfOpenMaxCalls": "half_open"}.items():
        if key in block:
            given[name] = int(block[key])
    for key in ("timeout", "recoveryTimeout"):
        if key in block:
            given["timeout"] = seconds(block[key])
    return BreakerSpec(**given)
