"""What is known of how one endpoint does: the calls that it got, what probes found, and its breaker.

The rule: it is told what happened and what time it is, and draws conclusions; it asks nobody. What an endpoint answers is never
held against it, only that it does not answer, or takes nobody without a credential.
"""

from enum import Enum
from typing import Any, Final

import msgspec

from vmcp.config.health import HealthSpec
from vmcp.errors import Code, Overdue, Unavailable, VmcpError, WireError
from vmcp.upstream.breaker import REFUSED, Breaker
from vmcp.upstream.faults import Unsent
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.owner import Health

PARTLY: Final = 10
"""One call in so many that fails makes an endpoint degraded."""
_BROKEN: Final = frozenset(
    {Code.TRANSPORT_ERROR, Code.CONNECTION_FAILED, Code.CONNECTION_TIMEOUT, Code.TRANSPORT_CLOSED, Code.PROTOCOL_ERROR}
)
_ELSEWHERE: Final = frozenset({404, 405})


class Verdict(Enum):
    """What a request says about the endpoint."""

    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"
    BARRED = "barred"
    """It was not asked, as there is no credential that it would take."""
    SILENT = "silent"
    """Nothing: it was never asked, or its caller did not wait."""


ANSWERED: Final = Verdict.ANSWERED
FAILED: Final = Verdict.FAILED
SILENT: Final = Verdict.SILENT
UNKNOWN: Final = frozenset({Verdict.REFUSED, Verdict.BARRED})
"""It wants to know who asks."""


def judged(error: VmcpError) -> Verdict:
    """What an error of a request says about the endpoint."""
    if isinstance(error, HttpRefused):
        return _of_status(error.status)
    if isinstance(error, Overdue):
        return Verdict.SILENT if error.which.startswith("pool.") else Verdict.FAILED
    if isinstance(error, Unavailable):
        return _of_code(error.vmcp_code)
    return Verdict.FAILED if isinstance(error, WireError) else Verdict.ANSWERED


def _of_status(status: int) -> Verdict:
    if status in (401, 403):
        return Verdict.REFUSED
    return Verdict.FAILED if status >= 500 or status in _ELSEWHERE else Verdict.ANSWERED


def _of_code(code: int | None) -> Verdict:
    if code == Code.UNAUTHORIZED:
        return Verdict.BARRED
    if code == Code.BACKEND_ERROR:
        return Verdict.ANSWERED
    return Verdict.FAILED if code in _BROKEN else Verdict.SILENT


class Tripped(Unsent, Unavailable):
    """The breaker of an endpoint is open: it failed too often, and is left alone for a while. Nothing was sent."""

    def __init__(self, backend: str, seconds: float) -> None:
        wait = max(1, -int(-seconds // 1))
        super().__init__(backend, f"it failed too often and is left alone; try again in {wait} s")
        self.data = {"retryAfter": wait}


class Vitals:
    """Of one endpoint of the backend ``name``. Mutable; its ``Backend`` is its one owner.

    ``active`` calls are with it now; ``health`` is the verdict, ``why`` the reason when it is not healthy, ``since`` its age.
    """

    __slots__ = (
        "_answered",
        "_good",
        "_missed",
        "_name",
        "_poor",
        "_spec",
        "active",
        "breaker",
        "changes",
        "health",
        "probes",
        "since",
        "why",
    )

    def __init__(self, name: str, spec: HealthSpec, breaker: Breaker | None = None) -> None:
        self._name = name
        self._spec = spec
        self.breaker = breaker
        self.active = 0
        self.health: Health = "unknown"
        self.why = ""
        self.since = 0.0
        self.probes = 0
        self.changes = 0
        self._answered = self._missed = 0  # calls since it was last looked at
        self._good = self._poor = 0  # probes in a row

    # --- calls

    def enter(self, now: float) -> int:
        """A call begins; ``leave`` takes the number. Raises ``Tripped``."""
        epoch = 0
        if self.breaker is not None:
            epoch = self.breaker.admit(now)
            if epoch == REFUSED:
                raise Tripped(self._name, self.breaker.wait(now))
        self.active += 1
        return epoch

    def leave(self, epoch: int, verdict: Verdict, now: float) -> None:
        """A call is over."""
        self.active -= 1
        if verdict is ANSWERED:
            self._answered += 1
        elif verdict is FAILED:
            self._missed += 1
        if self.breaker is not None:
            told(self.breaker, epoch, verdict, now)

    # --- probes

    def evident(self, now: float) -> bool:
        """Whether calls have shown since the last time that it answers, so that nobody needs to ask; then that is noted."""
        answered, missed = self._answered, self._missed
        if not answered:
            return False
        self._answered = self._missed = 0
        if missed * PARTLY >= answered + missed:
            self._poorly(f"{missed} of {answered + missed} calls got no answer", now)
        else:
            self._well(now)
        return True

    def probed(self, error: VmcpError | None, seconds: float, now: float) -> None:
        """A probe took ``seconds``, and ended well or with ``error``."""
        self.probes += 1
        missed, self._missed = self._missed, 0
        verdict = Verdict.ANSWERED if error is None else judged(error)
        if isinstance(error, Overdue) and self.active and not missed:
            # One that does a single thing at a time is busy with the calls that it has, and those have their own limits.
            self._poorly("it is busy", now)
        elif error is not None and verdict is Verdict.FAILED:
            late = isinstance(error, Overdue)
            self._badly(f"it did not answer a probe in {self._spec.timeout:g} s" if late else reason(error), now)
        elif error is not None and verdict in UNKNOWN:
            self._refused(reason(error), now)
        elif seconds > self._spec.timeout / 2:
            self._poorly(f"it took {seconds:.1f} s to answer a probe", now)
        else:
            self._well(now)

    def complained(self, why: str, now: float) -> None:
        """It answers, but does what it should not."""
        self._poorly(why, now)

    def rose(self, now: float) -> None:
        """A connection was made, and it was listed."""
        self._answered = self._missed = 0
        self._well(now)

    def fell(self, error: VmcpError, now: float) -> None:
        """There is no connection any more, or none can be made."""
        if judged(error) in UNKNOWN:
            self._refused(reason(error), now)
        else:
            self._good = 0
            self._become("unhealthy", reason(error), now)

    def facts(self, now: float | None = None) -> dict[str, Any]:
        """Numbers, for whoever shows them; with ``now`` also how long an open breaker waits."""
        facts: dict[str, Any] = {"active": self.active, "probes": self.probes, "changes": self.changes}
        if self.breaker is not None:
            facts["breaker"] = {"state": self.breaker.state, **msgspec.structs.asdict(self.breaker.statistics)}
            if now is not None and self.breaker.state == "open":
                facts["breaker"]["waitSeconds"] = round(self.breaker.wait(now), 1)
        return facts

    # --- conclusions

    def _well(self, now: float) -> None:
        self._poor, self._good = 0, self._good + 1
        if self.health in ("unknown", "healthy") or self._good >= self._spec.healthy:
            self._become("healthy", "", now)
        else:
            self._become("degraded", "it is recovering", now)

    def _poorly(self, why: str, now: float) -> None:
        self._poor = self._good = 0
        self._become("degraded", why, now)

    def _badly(self, why: str, now: float) -> None:
        self._poor, self._good = self._poor + 1, 0
        if self._poor >= self._spec.unhealthy:
            self._become("unhealthy", why, now)
        elif self.health in ("healthy", "degraded"):
            self._become("degraded", why, now)

    def _refused(self, why: str, now: float) -> None:
        self._poor = self._good = 0
        self._become("unauthenticated", why, now)

    def _become(self, health: Health, why: str, now: float) -> None:
        self.why = why
        if health != self.health:
            self.health, self.since, self.changes = health, now, self.changes + 1


def reason(error: VmcpError) -> str:
    """What an error says, without the name of the backend."""
    return error.why if isinstance(error, Unavailable) else str(error)


def told(breaker: Breaker, epoch: int, verdict: Verdict, now: float) -> None:
    """Tell a breaker what became of what it let through."""
    if verdict is ANSWERED or verdict is Verdict.REFUSED:
        breaker.succeeded(epoch, now)
    elif verdict is FAILED:
        breaker.failed(epoch, now)
    else:
        breaker.abandoned(epoch)
