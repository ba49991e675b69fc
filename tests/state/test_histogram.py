"""Percentiles of many durations in few words. Rule: what is told is compared with all of them, sorted."""

import random

import pytest

from vmcp.state.histogram import BOUNDS, FIRST, Calls, bucket, merge, middle, quantiles


@pytest.mark.parametrize("spread", [(0.0001, 0.01), (0.005, 0.006), (0.01, 60.0)])
def test_a_percentile_is_right_to_four_percent(spread: tuple[float, float]) -> None:
    dice = random.Random(7)  # noqa: S311 - of a test
    all_of_them = sorted(dice.uniform(*spread) for _ in range(5000))
    calls = Calls()
    for each in all_of_them:
        calls.merge(Calls(1, 0, each, 0, {bucket(each): 1}))
    told = calls.told()
    for said, share in ((told.median, 0.5), (told.p95, 0.95), (told.p99, 0.99)):
        right = all_of_them[round(share * 5000) - 1]
        assert said == pytest.approx(right, rel=0.045)
    assert told.mean == pytest.approx(sum(all_of_them) / 5000)
    assert told.count == 5000


def test_of_nothing_there_is_no_percentile_and_nothing_failed() -> None:
    assert quantiles({}, (0.5, 0.95)) == [None, None]
    assert (Calls().told().success_rate, Calls().told().mean) == (1.0, 0.0)


def test_what_is_very_short_or_very_long_has_a_bucket_too() -> None:
    assert middle(bucket(0.0)) == FIRST
    assert bucket(1e9) == len(BOUNDS)
    assert middle(len(BOUNDS)) == BOUNDS[-1]
    assert quantiles({bucket(1e9): 1}, (0.5,)) == [BOUNDS[-1]]


def test_to_merge_is_to_have_counted_together() -> None:
    into = {1: 2, 3: 1}
    merge(into, {3: 4, 9: 1})
    assert into == {1: 2, 3: 5, 9: 1}
    one, other = Calls(2, 1, 0.2, 10, {5: 2}), Calls(1, 0, 0.1, 5, {6: 1})
    one.when, other.when = 7.0, 9.0
    one.merge(other)
    told = one.told()
    assert (told.count, told.errors, told.bytes, told.last) == (3, 1, 15, 9.0)
    assert told.success_rate == pytest.approx(2 / 3)
