"""Whether calls are let through to an endpoint that keeps failing.

The rule: it is told what became of calls and what time it is, and does nothing by itself. Whoever is admitted tells the outcome
exactly once; what began before the state last changed is counted and decides nothing.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from vmcp.config.health import BreakerSpec

State = Literal["closed", "open", "half-open"]
REFUSED: Final = -1
"""What ``admit`` says instead of a number."""


class Statistics(msgspec.Struct):
    """What was counted since the start: calls that succeeded, failed and were refused, and how often it opened."""

    succeeded: int = 0
    failed: int = 0
    refused: int = 0
    opened: int = 0


def _always() -> bool:
    return True


def _quietly(state: State) -> None:
    """Nobody wants to know."""


class Breaker:
    """The breaker of one endpoint. ``may_open``: asked before it opens; as long as that says no, calls go on. ``on_change`` is
    told of every new state.

    Half-open it lets one call in, and one more beside for each that succeeded; ``half_open`` successes close it, and the first
    failure opens it again.
    """

    __slots__ = (
        "_epoch",
        "_failures",
        "_since",
        "_spec",
        "_successes",
        "_trying",
        "may_open",
        "on_change",
        "state",
        "statistics",
    )

    def __init__(self, spec: BreakerSpec) -> None:
        self._spec = spec
        self.state: State = "closed"
        self.statistics = Statistics()
        self.may_open: Callable[[], bool] = _always
        self.on_change: Callable[[State], None] = _quietly
        self._epoch = 0
        self._failures = 0
        self._successes = 0
        self._trying = 0
        self._since = 0.0

    def admit(self, now: float) -> int:
        """A number to tell the outcome with, or ``REFUSED``."""
        if self.state == "closed":
            return self._epoch
        if self.state == "open" and now >= self._since + self._spec.timeout:
            self._become("half-open", now)
        if self.state == "open" or self._trying > self._successes or self._full:
            self.statistics.refused += 1
            return REFUSED
        self._trying += 1
        return self._epoch

    @property
    def _full(self) -> bool:
        return self._successes + self._trying >= self._spec.half_open

    def admits(self, now: float) -> bool:
        """Whether ``admit`` would let a call in; changes nothing."""
        if self.state == "closed":
            return True
        if self.state == "open":
            return now >= self._since + self._spec.timeout
        return self._trying <= self._successes and not self._full

    def wait(self, now: float) -> float:
        """Seconds until another try makes sense."""
        return max(0.0, self._since + self._spec.timeout - now) if self.state == "open" else 0.0

    def succeeded(self, epoch: int, now: float) -> None:
        """The call answered: whatever it said, the endpoint works."""
        self.statistics.succeeded += 1
        if epoch != self._epoch:
            return
        self._failures = 0
        if self.state == "half-open":
            self._trying -= 1
            self._successes += 1
            if self._successes >= self._spec.half_open:
                self._become("closed", now)

    def failed(self, epoch: int, now: float) -> None:
        """The call could not be brought to an answer, and that is the endpoint's fault."""
        self.statistics.failed += 1
        if epoch != self._epoch:
            return
        self._failures += 1
        if self.state == "half-open":
            self._trying -= 1
            self._become("open", now)
        elif self._failures >= self._spec.failures and self.may_open():
            self._become("open", now)

    def abandoned(self, epoch: int) -> None:
        """The call ended without saying anything about the endpoint: its caller left, or it was never sent."""
        if epoch == self._epoch and self.state == "half-open":
            self._trying -= 1

    def reset(self, now: float) -> None:
        """Close it, whatever happened before."""
        self._become("closed", now)

    def _become(self, state: State, now: float) -> None:
        self.statistics.opened += state == "open"
        self.state = state
        self._since = now
        self._epoch += 1
        self._failures = self._successes = self._trying = 0
        self.on_change(state)
