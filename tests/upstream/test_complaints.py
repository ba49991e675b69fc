"""The stderr of a child: what is kept of it, and what of it is in the log.

Rule: the clock is the test's own, and what was left out is counted to the line.
"""

import logging

import pytest

from vmcp.upstream.complaints import KEPT, LINES, LONGEST, Complaints


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "vmcp.upstream.stdio")
    return caplog


def lines(told: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["line"] for record in told.records if record.message == "stderr"]


def left_out(told: pytest.LogCaptureFixture) -> list[int]:
    return [record.__dict__["lines"] for record in told.records if record.message == "stderr lines left out"]


def test_the_last_lines_are_remembered_in_any_pieces_and_without_control_characters(clock: Clock) -> None:
    said = Complaints("files", clock)
    for piece in (b"one\ntw", b"o\n\n \r\n", b"\x1b[31mthr", b"ee\xff"):
        said.feed(piece)
    assert said.tail(20) == ["one", "two", " [31mthree\ufffd"]
    assert said.tail(1) == [" [31mthree\ufffd"]


def test_what_is_to_be_hidden_is_shown_nowhere(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    said = Complaints("files", clock)
    said.hide(["hush-hush", "hush-hush-longer"])
    said.feed(b"cannot log in with hush-hush-longer or " + b"x" * 2030 + b"hush-hush\n")
    assert "hush" not in said.tail(1)[0] + lines(told)[0]
    assert said.tail(1)[0].startswith("cannot log in with *** or x")


def test_as_much_is_kept_as_was_said_and_a_line_that_was_cut_is_not_shown(clock: Clock) -> None:
    said = Complaints("files", clock)
    for number in range(20_000):
        said.feed(b"line %06d\n" % number)
        assert len(said._kept) <= 2 * KEPT
    tail = said.tail(10**6)
    assert tail[-1] == "line 019999"
    assert all(len(line) == 11 for line in tail)
    assert (KEPT // 12) - 1 <= len(tail) <= KEPT // 12


def test_a_flood_without_an_end_keeps_its_end(clock: Clock) -> None:
    said = Complaints("files", clock)
    said.feed(b"x" * (5 * KEPT))
    assert len(said._kept) == KEPT
    said.feed(b"\nlast")
    assert said.tail(1) == ["last"]


def test_so_many_lines_are_in_the_log_within_a_second_and_the_others_are_counted(
    clock: Clock, told: pytest.LogCaptureFixture
) -> None:
    said = Complaints("files", clock)
    said.feed(b"".join(b"%d\n" % number for number in range(LINES + 50)))
    said.feed(b"more\nand more\npart")
    assert lines(told) == [str(number) for number in range(LINES)]
    assert left_out(told) == []
    clock.now = 1.0
    said.feed(b"ly\nnext\n")
    assert lines(told)[LINES:] == ["partly", "next"]
    assert left_out(told) == [52]
    clock.now = 2.5
    said.feed(b"later\n")
    assert left_out(told) == [52], "told once"


def test_a_long_line_is_cut_and_an_empty_one_is_no_line(clock: Clock, told: pytest.LogCaptureFixture) -> None:
    said = Complaints("files", clock)
    said.feed(b"\n \n" + b"y" * 5000)
    said.feed(b"z" * 5000 + b"\n")
    (line,) = lines(told)
    assert (line[0], len(line)) == ("y", LONGEST)


def test_a_log_that_nobody_reads_costs_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vmcp.upstream.stdio")
    said = Complaints("files", clock)
    said.feed(b"line\n" * 10)
    assert said.tail(3) == ["line"] * 3
    assert not caplog.records
    assert said._line == b""
