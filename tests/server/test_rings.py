"""Seconds and minutes that go round. Rule: the clock is a number."""

from vmcp.server.rings import MINUTES, SECONDS, Rings, Slot
from vmcp.state.histogram import Calls

EDGE = ("/mcp", "files")


def calls(count: int = 1, errors: int = 0) -> Calls:
    return Calls(count, errors, 0.1 * count, 0, {100: count})


def test_what_ended_in_a_second_is_there_once_it_is_over() -> None:
    rings = Rings(100.0)
    rings.count(100.5, EDGE, calls(3, 1))
    rings.count(101.2, EDGE, calls())
    rings.advance(102.0)
    assert [slot.sums for slot in rings.seconds()][-3:] == [(0, 0), (3, 1), (1, 0)]
    assert len(rings.seconds()) == SECONDS
    assert [slot.number for slot in rings.seconds()][-1] == 1


def test_seconds_in_which_nothing_was_counted_are_empty_and_not_missing() -> None:
    rings = Rings(0.0)
    rings.count(0.0, EDGE, calls())
    rings.count(5.0, EDGE, calls())
    rings.advance(6.0)
    assert [slot.sums[0] for slot in rings.seconds()][-6:] == [1, 0, 0, 0, 0, 1]
    assert [slot.number for slot in rings.seconds()] == list(range(6 - SECONDS, 6))


def test_a_minute_is_the_sum_of_its_seconds_and_the_last_goes_on() -> None:
    rings = Rings(0.0)
    for second in range(150):
        rings.count(second + 0.5, EDGE, calls(2, 1))
    told = rings.minutes()
    assert len(told) == MINUTES
    assert [(slot.number, slot.sums) for slot in told[-3:]] == [(0, (120, 60)), (1, (120, 60)), (2, (60, 30))]
    assert told[-1].times == {100: 60}
    assert rings.minutes()[-1].sums == (60, 30), "and to look changes nothing"


def test_what_is_old_is_forgotten_however_long_the_machine_has_slept() -> None:
    rings = Rings(0.0)
    rings.count(1.0, EDGE, calls())
    rings.advance(1e9)
    assert not any(slot.edges for slot in (*rings.seconds(), *rings.minutes()))
    rings.count(1e9 + 1, EDGE, calls())
    rings.advance(1e9 + 2)
    assert rings.seconds()[-1].sums == (1, 0)


def test_what_is_told_late_is_counted_now() -> None:
    rings = Rings(0.0)
    rings.advance(10.0)
    rings.count(3.0, EDGE, calls())
    assert rings.second.sums == (1, 0)


def test_lately_is_of_few_seconds_right_after_the_start() -> None:
    rings = Rings(0.0)
    assert (rings.lately(10)[0].sums, rings.lately(10)[1]) == ((0, 0), 1)
    rings.count(0.5, EDGE, calls(4))
    rings.advance(3.0)
    whole, seconds = rings.lately(10)
    assert (whole.sums, seconds) == ((4, 0), 3)


def test_both_ends_of_an_edge_have_their_sums() -> None:
    slot = Slot(0)
    slot.count(("/a", "x"), calls(2, 1))
    slot.count(("/a", "y"), calls())
    slot.count(("/b", ""), calls())
    assert slot.by(0) == {"/a": (3, 1), "/b": (1, 0)}
    assert slot.by(1) == {"x": (2, 1), "y": (1, 0)}
