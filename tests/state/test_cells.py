"""Buckets in shared memory: the same answers as the dictionary's, and exactly as many tokens for several processes as for one.

Rule: the model is ``Buckets``; processes are real, and a clock stands still unless the test moves it.
"""

import mmap
import os
import signal
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.state.buckets import Buckets, Rate, Short
from vmcp.state.cells import KEY, KNOWN, STRIPES, WAYS, Cells, SharedBuckets

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
THREE = Rate("three", 3, 60.0)
ONE = Rate("one", 1, 10.0)
MANY = Rate("many", 1000, 1e6)
LOTS = Rate("lots", 20_000, 1e6)
RATES = [THREE, ONE, Rate("seven", 7, 0.5)]
CELLS = Cells(512)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def close(one: Short | None, other: Short | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.rule == other.rule and one.seconds == pytest.approx(other.seconds)


TAKES = st.lists(
    st.tuples(st.sampled_from(RATES), st.sampled_from(["", "ann", "bob"])), min_size=1, max_size=4, unique=True
)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 3.0, 20.0]), TAKES, st.booleans()), max_size=40))
def test_they_say_what_a_dictionary_would_whichever_worker_is_asked(steps: Sequence[tuple]) -> None:
    clock, cells = Clock(), CELLS
    for place in (cells.keys, cells.times):
        place[:] = bytes(len(place)) if place is cells.keys else memoryview(bytes(place.nbytes)).cast("d")
    model, workers = Buckets(clock), [SharedBuckets(cells, clock) for _ in range(2)]
    for pause, wanted, who in steps:
        clock.now += pause
        if len(wanted) == 1:
            (rate, whose), *_ = wanted
            assert close(workers[who].taker(rate)(whose), model.taker(rate)(whose))
        else:
            assert close(workers[who].take(wanted), model.take(wanted))


def forked(work: Callable[[], int]) -> int:
    """The number of a child that ends with what ``work`` says."""
    pid = os.fork()
    if pid:
        return pid
    code = 255
    try:
        code = work()
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("together", [False, True])
def test_four_processes_get_exactly_as_many_tokens_as_there_are(together: bool) -> None:
    cells, clock, told = Cells(), Clock(), memoryview(mmap.mmap(-1, 32)).cast("q")

    def given(index: int) -> int:
        mine = SharedBuckets(cells, clock)
        take_one = mine.taker(LOTS)
        for n in range(8_000):
            # Whoever takes from two buckets gets none of the one when the other is empty.
            one = mine.take([(LOTS, ""), (MANY, str(n % 500))]) if together else take_one("")
            told[index] += one is None
        return 0

    assert [ended(pid) for pid in [forked(lambda index=index: given(index)) for index in range(4)]] == [0] * 4
    assert sum(told) == LOTS.tokens
    assert SharedBuckets(cells, clock).taker(LOTS)("") is not None


def test_workers_that_are_killed_anywhere_leave_nothing_that_others_would_wait_for() -> None:
    cells, clock = Cells(16), Clock()
    told, tells = os.pipe()

    def takes() -> int:
        mine = SharedBuckets(cells, clock)
        os.write(tells, b".")
        for n in range(1 << 62):
            mine.take([(MANY, str(n % 50)), (MANY, "")])
        return 0

    for _ in range(20):
        pid = forked(takes)
        os.read(told, 1)
        os.kill(pid, signal.SIGKILL)
        ended(pid)
        clock.now += MANY.seconds
        assert [SharedBuckets(cells, clock).taker(MANY)("") for _ in range(1000)] == [None] * 1000
        assert SharedBuckets(cells, clock).taker(MANY)("") is not None
    for each in (told, tells):
        os.close(each)


def test_another_rate_has_other_buckets_for_all_workers_however_often_they_are_told() -> None:
    cells, clock = Cells(), Clock()
    workers = [SharedBuckets(cells, clock) for _ in range(3)]
    before, after = Rate("r", 2, 60.0), Rate("r", 3, 60.0)
    assert [workers[0].taker(before)("ann") is None for _ in range(3)] == [True, True, False]
    allowed = []
    for worker in workers:
        worker.forget({"r"})
        allowed += [worker.taker(after)("ann") is None for _ in range(3)]
    assert allowed.count(True) == 3
    assert workers[1].taker(before)("ann") is not None, "and back again nobody has gained anything"


def test_a_full_bucket_goes_first_and_then_the_one_used_longest_ago() -> None:
    clock, cells = Clock(), Cells(WAYS)
    mine = SharedBuckets(cells, clock)
    for n in range(WAYS):
        assert mine.taker(MANY if n < WAYS - 1 else Rate("brief", 1, 1.0))(str(n)) is None
        clock.now += 2.0
    assert mine.taker(ONE)("new") is None
    assert mine.taker(ONE)("new") is not None
    keys = {cells.keys[at * KEY : at * KEY + KEY] for at in range(WAYS)}
    assert {mine._spot(MANY, str(n))[2] for n in range(WAYS - 1)} <= keys, "only the full one is gone"
    assert mine.taker(MANY)("newer") is None
    keys = {cells.keys[at * KEY : at * KEY + KEY] for at in range(WAYS)}
    assert mine._spot(MANY, "0")[2] not in keys


def test_a_worker_keeps_few_places_in_mind_and_finds_the_others_again() -> None:
    mine = SharedBuckets(Cells(), Clock())
    assert mine.taker(ONE)("ann") is None
    for n in range(KNOWN):
        mine._spot(ONE, str(n))
    assert len(mine._spots) <= KNOWN
    assert mine.taker(ONE)("ann") is not None


def test_the_place_of_a_bucket_is_another_in_each_vmcp() -> None:
    spots = {SharedBuckets(Cells(), Clock())._spot(ONE, "ann") for _ in range(8)}
    assert len({key for *_, key in spots}) == 8
    assert all(0 <= lock < STRIPES for lock, *_ in spots)


def test_whatever_stands_in_a_cell_a_bucket_is_never_emptier_than_empty() -> None:
    clock, cells = Clock(), Cells(WAYS)
    mine = SharedBuckets(cells, clock)
    assert mine.taker(ONE)("ann") is None
    cells.times[2 * mine._at(0, mine._spot(ONE, "ann")[2])] = 1e18
    assert mine.taker(ONE)("ann") == Short("one", pytest.approx(10.0))


def test_with_a_lock_that_nobody_gives_back_tokens_are_still_counted() -> None:
    cells, clock = Cells(), Clock()
    mine = SharedBuckets(cells, clock)
    cells.locks._patience = 0.01
    assert cells.locks.take(mine._spot(ONE, "ann")[0])
    assert [mine.taker(ONE)("ann") is None for _ in range(2)] == [True, False]
    assert [mine.take([(ONE, "ann"), (THREE, "ann")]) for _ in range(2)] == [Short("one", pytest.approx(10.0))] * 2
