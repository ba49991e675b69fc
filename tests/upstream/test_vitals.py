"""What is concluded from calls and probes; the clock is a number and nobody is asked.

The rule: every health has a way into it and a way out of it here.
"""

import pytest

from vmcp.config.health import BreakerSpec, HealthSpec
from vmcp.errors import Code, McpError, Overdue, SessionLost, Unavailable, VmcpError, WireError
from vmcp.upstream.breaker import Breaker
from vmcp.upstream.faults import UnsentUnavailable
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.vitals import Tripped, Verdict, Vitals, judged, reason

GONE = Unavailable("b", "it is gone", Code.TRANSPORT_CLOSED)
LATE = Overdue("b", "timeouts.total", 10.0)
NO = HttpRefused("b", "it wants credentials", 401)


def vitals(**more: int) -> Vitals:
    fresh = Vitals("b", HealthSpec(interval=30.0, timeout=10.0, **more))
    fresh.rose(0.0)
    return fresh


def call(vitals: Vitals, verdict: Verdict, times: int = 1) -> None:
    for _ in range(times):
        vitals.leave(vitals.enter(0.0), verdict, 0.0)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (McpError(-32603, "the tool failed"), Verdict.ANSWERED),
        (McpError(Code.METHOD_NOT_FOUND, "Method not found"), Verdict.ANSWERED),
        (GONE, Verdict.FAILED),
        (UnsentUnavailable("b", "connection refused", Code.CONNECTION_FAILED), Verdict.FAILED),
        (Unavailable("b", "no answer to the greeting", Code.CONNECTION_TIMEOUT), Verdict.FAILED),
        (WireError("that is no JSON"), Verdict.FAILED),
        (LATE, Verdict.FAILED),
        (Overdue("b", "operational.timeouts.default", 1.0), Verdict.FAILED),
        (Overdue("b", "pool.acquireTimeout", 5.0), Verdict.SILENT),
        (Unavailable("b", "too many calls wait for a connection"), Verdict.SILENT),
        (Unavailable("b", "missing secret", Code.CONFIGURATION_ERROR), Verdict.SILENT),
        (Unavailable("b", "the result is too large", Code.BACKEND_ERROR), Verdict.ANSWERED),
        (Unavailable("b", "its token endpoint gives nothing", Code.UNAUTHORIZED), Verdict.BARRED),
        (NO, Verdict.REFUSED),
        (HttpRefused("b", "", 403), Verdict.REFUSED),
        (HttpRefused("b", "", 404), Verdict.FAILED),
        (HttpRefused("b", "", 413), Verdict.ANSWERED),
        (HttpRefused("b", "", 429), Verdict.ANSWERED),
        (HttpRefused("b", "", 503), Verdict.FAILED),
        (SessionLost("HTTP 404"), Verdict.ANSWERED),
    ],
)
def test_only_who_does_not_answer_has_failed(error: VmcpError, verdict: Verdict) -> None:
    assert judged(error) is verdict


def test_a_reason_has_no_name_in_it() -> None:
    assert (reason(GONE), reason(WireError("broken"))) == ("it is gone", "broken")


def test_it_is_unknown_until_it_was_there_and_healthy_from_the_first_time() -> None:
    fresh = Vitals("b", HealthSpec())
    assert (fresh.health, fresh.why, fresh.since) == ("unknown", "", 0.0)
    fresh.rose(7.0)
    assert (fresh.health, fresh.since) == ("healthy", 7.0)


def test_some_failed_probes_make_it_degraded_and_enough_of_them_unhealthy() -> None:
    told = vitals()
    found = []
    for now in (30.0, 60.0, 90.0, 120.0):
        told.probed(GONE, 0.1, now)
        found.append(told.health)
    assert found == ["degraded", "degraded", "unhealthy", "unhealthy"]
    assert (told.why, told.since, told.probes, told.changes) == ("it is gone", 90.0, 4, 3)


def test_a_good_probe_in_between_begins_the_count_anew() -> None:
    told = vitals(unhealthy=2, healthy=1)
    for _ in range(4):
        told.probed(GONE, 0.1, 1.0)
        assert told.health == "degraded"
        told.probed(None, 0.1, 2.0)
        assert (told.health, told.why) == ("healthy", "")


def test_who_never_was_there_stays_unknown_until_probes_have_failed_often_enough() -> None:
    told = Vitals("b", HealthSpec(unhealthy=2))
    told.probed(GONE, 0.1, 1.0)
    assert told.health == "unknown"
    told.probed(GONE, 0.1, 2.0)
    assert told.health == "unhealthy"


def test_who_comes_back_recovers_before_it_is_healthy() -> None:
    told = vitals(healthy=3)
    told.fell(GONE, 10.0)
    assert (told.health, told.why, told.since) == ("unhealthy", "it is gone", 10.0)
    told.rose(20.0)
    assert (told.health, told.why) == ("degraded", "it is recovering")
    told.probed(None, 0.1, 30.0)
    assert told.health == "degraded"
    told.probed(None, 0.1, 40.0)
    assert (told.health, told.why, told.since) == ("healthy", "", 40.0)


def test_a_late_answer_to_a_probe_makes_it_degraded() -> None:
    told = vitals()
    told.probed(None, 5.1, 1.0)
    assert (told.health, told.why) == ("degraded", "it took 5.1 s to answer a probe")
    told.probed(None, 4.9, 2.0)
    told.probed(None, 4.9, 3.0)
    assert told.health == "healthy"


def test_whoever_takes_nobody_without_a_credential_is_unauthenticated_and_not_unhealthy() -> None:
    told = vitals(healthy=1)
    for _ in range(5):
        told.probed(NO, 0.1, 1.0)
    assert (told.health, told.why) == ("unauthenticated", "it wants credentials")
    told.probed(GONE, 0.1, 2.0)
    assert told.health == "unauthenticated", "one failure says nothing yet"
    told.probed(None, 0.1, 2.0)
    assert told.health == "healthy"
    for error in (NO, Unavailable("b", "no token", Code.UNAUTHORIZED)):
        told.fell(GONE, 3.0)
        told.fell(error, 4.0)
        assert told.health == "unauthenticated"


def test_calls_that_are_answered_make_a_probe_needless() -> None:
    told = vitals()
    assert not told.evident(1.0)
    call(told, Verdict.ANSWERED, 20)
    call(told, Verdict.REFUSED, 20)
    assert told.evident(2.0)
    assert (told.health, told.probes) == ("healthy", 0)
    assert not told.evident(3.0), "that was of the time before"


def test_one_call_in_ten_that_fails_makes_it_degraded() -> None:
    told = vitals()
    call(told, Verdict.ANSWERED, 91)
    call(told, Verdict.FAILED, 9)
    assert told.evident(1.0)
    assert told.health == "healthy"
    call(told, Verdict.ANSWERED, 9)
    call(told, Verdict.FAILED, 1)
    assert told.evident(2.0)
    assert (told.health, told.why) == ("degraded", "1 of 10 calls got no answer")
    call(told, Verdict.FAILED, 3)
    assert not told.evident(3.0), "only failures: it has to be asked"


def test_whoever_is_busy_with_a_call_need_not_answer_a_probe() -> None:
    told = vitals(unhealthy=1)
    epoch = told.enter(1.0)
    told.probed(LATE, 10.0, 11.0)
    assert (told.health, told.why) == ("degraded", "it is busy")
    told.probed(GONE, 0.1, 12.0)
    assert told.health == "unhealthy", "a refused connection is no sign of work"
    told.leave(epoch, Verdict.ANSWERED, 12.0)
    assert told.active == 0


def test_whoever_lets_calls_fail_too_is_not_busy() -> None:
    told = vitals(unhealthy=1)
    epoch = told.enter(1.0)
    call(told, Verdict.FAILED)
    told.probed(LATE, 10.0, 11.0)
    assert told.health == "unhealthy"
    told.leave(epoch, Verdict.SILENT, 12.0)


def test_a_complaint_makes_it_degraded() -> None:
    told = vitals()
    told.complained("it prints what is no message", 1.0)
    assert (told.health, told.why) == ("degraded", "it prints what is no message")


def test_an_open_breaker_refuses_at_once_and_says_when_to_come_back() -> None:
    told = Vitals("b", HealthSpec(), Breaker(BreakerSpec(failures=2, timeout=10.0)))
    for verdict in (
        Verdict.FAILED,
        Verdict.ANSWERED,
        Verdict.FAILED,
        Verdict.REFUSED,
        Verdict.FAILED,
        Verdict.SILENT,
        Verdict.BARRED,
    ):
        told.leave(told.enter(0.0), verdict, 0.0)
    told.leave(told.enter(1.0), Verdict.FAILED, 1.0)
    with pytest.raises(Tripped) as refused:
        told.enter(3.5)
    error = refused.value
    assert (error.vmcp_code, error.data) == (Code.SERVER_UNAVAILABLE, {"retryAfter": 8})
    assert error.message == "backend 'b' is unavailable: it failed too often and is left alone; try again in 8 s"
    assert told.active == 0
    assert told.facts() == {
        "active": 0,
        "probes": 0,
        "changes": 0,
        "breaker": {"state": "open", "succeeded": 2, "failed": 4, "refused": 1, "opened": 1},
    }
    assert told.facts(3.5)["breaker"]["waitSeconds"] == 7.5
    assert "breaker" not in vitals().facts()
