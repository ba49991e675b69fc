"""What a schema cannot say about health checks and the circuit breaker.

The rule: a probe is over before the next one begins, and what is said twice says the same.
"""

from collections.abc import Iterator
from typing import Any

from vmcp.config.health import HealthSpec
from vmcp.config.quantities import seconds
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

_AT: Path = ("operational", "failureHandling")


def checks(document: Document) -> Iterator[Problem]:
    """Every problem of ``operational.failureHandling``."""
    data: dict[str, Any] = document.data.get("operational", {}).get("failureHandling", {})
    interval, timeout = data.get("healthCheckInterval"), data.get("healthCheckTimeout")
    between = seconds(interval) if interval is not None else HealthSpec().interval
    if timeout is not None and seconds(timeout) >= between:
        what = f"a probe may not take as long as the time between two of them ({between:g} s)"
        hint = "choose a shorter timeout, or a longer healthCheckInterval"
        yield document.problem(Rule.CONTRADICTION, (*_AT, "healthCheckTimeout"), what, hint)
    breaker = data.get("circuitBreaker", {})
    if "timeout" in breaker and "recoveryTimeout" in breaker:
        what = "timeout is given too, and means the same"
        at = (*_AT, "circuitBreaker", "recoveryTimeout")
        yield document.problem(Rule.CONTRADICTION, at, what, "remove one of them", key=True)
