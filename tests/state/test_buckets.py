"""Token buckets against a clock that only the test moves.

Rule: beside what is given stands what is refused, and the wait that is told is exactly long enough.
"""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.state.buckets import Buckets, Rate, Short

THREE = Rate("three", 3, 60.0)
ONE = Rate("one", 1, 10.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_as_many_as_there_are_and_then_one_by_one() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    assert [buckets.take([(THREE, "ann")]) for _ in range(3)] == [None] * 3
    assert buckets.take([(THREE, "ann")]) == Short("three", pytest.approx(20.0))
    clock.now += 19.9
    assert buckets.take([(THREE, "ann")]) == Short("three", pytest.approx(0.1))
    clock.now += 0.1
    assert buckets.take([(THREE, "ann")]) is None
    assert buckets.take([(THREE, "ann")]) == Short("three", pytest.approx(20.0)), "only one has come back"
    clock.now += 1e6
    assert [buckets.take([(THREE, "ann")]) is None for _ in range(4)] == [True, True, True, False], (
        "never more than full"
    )


def test_each_has_his_own() -> None:
    buckets = Buckets(Clock())
    assert [buckets.take([(ONE, who)]) is None for who in ("ann", "bob", "ann", "")] == [True, True, False, True]


def test_several_are_taken_from_together_or_not_at_all() -> None:
    clock = Clock()
    buckets = Buckets(clock)
    assert buckets.take([(THREE, ""), (ONE, "ann")]) is None
    for _ in range(5):
        assert buckets.take([(THREE, ""), (ONE, "ann")]) == Short("one", pytest.approx(10.0))
    assert [buckets.take([(THREE, "")]) is None for _ in range(3)] == [True, True, False], "the refused took nothing"
    assert buckets.take([(ONE, "ann"), (THREE, "")]) == Short("three", pytest.approx(20.0)), "the longest wait is told"
    assert buckets.take([]) is None


def test_memory_is_bounded_and_the_one_used_longest_ago_goes_first() -> None:
    buckets = Buckets(Clock(), most=2)
    for who in ("ann", "bob", "ann", "cid"):
        buckets.take([(THREE, who)])
    assert len(buckets) == 2
    assert [buckets.take([(THREE, "ann")]) is None for _ in range(2)] == [True, False], "ann was used after bob"


@given(
    st.integers(1, 20),
    st.floats(0.01, 1000, allow_nan=False),
    st.lists(st.floats(0, 100, allow_nan=False), max_size=200),
)
def test_no_window_ever_holds_more_than_was_full_and_came_back(tokens: int, period: float, pauses: list[float]) -> None:
    clock = Clock()
    buckets, rate = Buckets(clock), Rate("r", tokens, period)
    taken: deque[float] = deque()
    for pause in pauses:
        clock.now += pause
        short = buckets.take([(rate, "ann")])
        if short is None:
            taken.append(clock.now)
        else:
            clock.now += short.seconds
            assert buckets.take([(rate, "ann")]) is None, "the wait that was told is long enough"
            taken.append(clock.now)
    for index, first in enumerate(taken):
        for count, last in enumerate(list(taken)[index:], start=1):
            assert count <= tokens + (last - first) / period * tokens + 1e-3


@given(steps=st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.floats(0, 30)), max_size=40))
def test_one_bucket_alone_is_taken_from_as_among_several(steps: list[tuple[str, float]]) -> None:
    clock = [0.0]
    alone, among = Buckets(lambda: clock[0], most=1), Buckets(lambda: clock[0], most=1)
    for who, pause in steps:
        clock[0] += pause
        assert alone.taker(THREE)(who) == among.take([(THREE, who)])
        assert len(alone) == len(among) <= 1
