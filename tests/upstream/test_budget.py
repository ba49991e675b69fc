"""The retry budget: a fifth of what is asked, and never nothing.

Rule: pure; the clock is a number.
"""

from hypothesis import given
from hypothesis import strategies as st

from vmcp.upstream.budget import LEAST, SHARE, WINDOW, Budget


def taken(budget: Budget, now: float, wanted: int = 1000) -> int:
    return sum(budget.take(now) for _ in range(wanted))


def test_however_little_is_asked_three_retries_in_ten_seconds_are_fine() -> None:
    budget = Budget()
    assert taken(budget, 0.0) == LEAST
    assert taken(budget, WINDOW - 0.1) == 0
    assert taken(budget, WINDOW) == LEAST
    assert budget.taken == 2 * LEAST


def test_who_asks_much_may_retry_a_fifth_of_it() -> None:
    budget = Budget()
    budget.take(0.0)
    budget.requests += 100
    assert taken(budget, 5.0) == 100 * SHARE - 1


def test_what_was_asked_in_the_window_before_is_the_measure_for_the_next() -> None:
    budget = Budget()
    budget.take(0.0)
    budget.requests += 400
    assert taken(budget, 2 * WINDOW) == 200 * SHARE, "that was two windows ago and one"


def test_what_was_asked_long_ago_is_no_credit() -> None:
    budget = Budget()
    budget.take(0.0)
    budget.requests += 1_000_000
    assert taken(budget, 1_000_000 * WINDOW) == LEAST


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50), st.integers(0, 50)), max_size=60))
def test_retries_stay_a_share_whatever_happens(steps: list[tuple[float, int, int]]) -> None:
    budget, now = Budget(), 0.0
    for pause, asked, wanted in steps:
        now += pause
        budget.requests += asked
        taken(budget, now, wanted)
    windows = now / WINDOW + 2
    assert budget.taken <= 2 * SHARE * budget.requests + LEAST * windows + 1
