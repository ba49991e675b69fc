"""The last lines of the log. Rule: bounded in lines and in length, and nothing is told twice."""

import logging

import msgspec

from vmcp.admin.tail import FEW, KEPT, LONGEST, Left, Tail
from vmcp.state.estate import Estate


def said(tail: Tail, text: str) -> None:
    tail.handle(logging.LogRecord("n", logging.INFO, "f", 1, text, (), None))


def test_it_keeps_the_last_and_no_more() -> None:
    tail = Tail(logging.Formatter("%(message)s"))
    assert tail.last(5) == []
    for number in range(KEPT + 7):
        said(tail, str(number))
    assert tail.last(2) == [str(KEPT + 5), str(KEPT + 6)]
    assert len(tail.last(10 * KEPT)) == KEPT
    assert tail.last(0) == []


def test_what_was_told_is_not_told_again() -> None:
    tail = Tail(logging.Formatter("%(message)s"))
    for number in range(5):
        said(tail, str(number))
    seen = tail.count
    assert tail.last(9, seen) == []
    said(tail, "5")
    assert tail.last(9, seen) == ["5"]
    assert tail.last(9, 99) == []


def test_no_line_is_endless() -> None:
    tail = Tail(logging.Formatter("%(message)s"))
    said(tail, "x" * 10 * LONGEST)
    assert len(tail.last(1)[0]) == LONGEST


def test_what_is_left_for_another_process_are_the_last_few_with_their_numbers() -> None:
    estate = Estate()
    left = Left(estate, logging.Formatter("%(message)s"))
    for number in range(FEW + 5):
        left.emit(logging.makeLogRecord({"msg": str(number)}))
    kept = msgspec.msgpack.decode(estate.get() or b"", type=list[tuple[int, str]])
    assert (len(kept), kept[0], kept[-1]) == (FEW, (6, "5"), (FEW + 5, str(FEW + 4)))
    estate.close()
