"""Which limit of time counts, and what progress changes about it.

Rule: pure; the clock is a number.
"""

from vmcp.config.timeouts import Timeouts
from vmcp.upstream.span import PROGRESS, Span, whole

LIMITS = Timeouts(total=10.0, total_with_progress=25.0, idle_stream=4.0)


def test_without_progress_a_call_ends_after_its_total() -> None:
    span = Span(LIMITS, 10.0)
    assert not span.heard("notifications/message", 5.0)
    assert (span.at, span.limit(0.0)) == (10.0, ("timeouts.total", 10.0))


def test_each_report_of_progress_starts_the_total_anew_up_to_a_limit_of_its_own() -> None:
    span = Span(LIMITS, 10.0)
    assert span.heard(PROGRESS, 6.0)
    assert (span.at, span.limit(0.0)) == (16.0, ("timeouts.total", 10.0))
    assert span.heard(PROGRESS, 15.5)
    assert (span.at, span.limit(0.0)) == (25.0, ("timeouts.totalWithProgress", 25.0))
    assert not span.heard(PROGRESS, 20.0), "there is nothing left to move"


def test_progress_never_shortens_a_call() -> None:
    span = Span(LIMITS, 10.0)
    span.heard(PROGRESS, -3.0)
    assert span.at == 10.0


def test_where_progress_may_prolong_nothing_it_does_not() -> None:
    for limits in (Timeouts(total=10.0, total_with_progress=10.0), Timeouts(total=10.0, total_with_progress=3.0)):
        span = Span(limits, 10.0)
        assert not span.heard(PROGRESS, 5.0)
        assert (span.at, span.limit(0.0)) == (10.0, ("timeouts.total", 10.0))


def test_what_is_no_call_has_a_fixed_end() -> None:
    span = Span(None, 10.0)
    assert not span.heard(PROGRESS, 5.0)
    assert (span.at, span.limit(7.0)) == (10.0, ("timeouts.total", 3.0))


def test_silence_counts_as_long_as_it_ends_before_the_whole() -> None:
    span = Span(LIMITS, 10.0)
    assert span.silent("idleStream", 4.0, 3.0) == 7.0
    assert span.limit(0.0) == ("timeouts.idleStream", 4.0)
    assert span.silent("idleStream", 4.0, 6.0) == 10.0
    assert span.limit(0.0) == ("timeouts.total", 10.0)


def test_the_limit_of_a_tool_says_that_it_is_one() -> None:
    own = Timeouts(total=10.0, total_with_progress=10.0, place="timeouts.tools[slow_*]")
    assert whole(own, 3.0) == ("timeouts.tools[slow_*].total", 10.0)
    span = Span(own, 10.0)
    span.silent("firstByte", 2.0, 0.0)
    assert span.limit(0.0) == ("timeouts.tools[slow_*].firstByte", 2.0)
    assert whole(None, 1.23456) == ("timeouts.total", 1.235)
