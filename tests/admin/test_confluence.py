"""Streams of several workers as one. Rule: a number is given once."""

from vmcp.admin.confluence import Confluence, Streams


def told(stream: Confluence[str], since: int = 0) -> list[tuple[int, int, str]]:
    return stream.all(since)


def test_what_is_new_comes_in_the_order_in_which_it_happened_and_is_numbered_once() -> None:
    stream = Confluence[str](10, str)
    stream.add([(0, 100, [(1, "b"), (2, "d")]), (1, 200, [(1, "a"), (2, "c")])])
    assert told(stream) == [(1, 1, "a"), (2, 0, "b"), (3, 1, "c"), (4, 0, "d")]
    assert stream.known == {0: (100, 2), 1: (200, 2)}
    stream.add([(0, 100, [(2, "d"), (3, "e")]), (1, 200, [])])
    assert told(stream, 4) == [(5, 0, "e")], "what was there already is not taken twice"
    assert stream.count == 5


def test_another_process_of_the_same_number_begins_anew() -> None:
    stream = Confluence[str](10, str)
    stream.add([(1, 200, [(7, "a")])])
    stream.add([(1, 201, [(1, "b")])])
    assert told(stream) == [(1, 1, "a"), (2, 1, "b")]
    stream.add([(1, 202, [])])
    assert stream.known == {1: (202, 0)}


def test_only_so_many_are_kept_and_numbers_go_on() -> None:
    stream = Confluence[str](2, str)
    stream.add([(0, 1, [(1, "a"), (2, "b"), (3, "c")])])
    assert told(stream) == [(2, 0, "b"), (3, 0, "c")]


def test_lines_of_logs_are_put_in_order_by_their_time() -> None:
    streams = Streams()
    early, late = '{"ts":"2026-01-01T00:00:00.001Z","msg":"b"}', '{"ts":"2026-01-01T00:00:00.002Z","msg":"a"}'
    streams.lines.add([(0, 1, [(1, late)]), (1, 2, [(1, early)])])
    assert [line for _, _, line in streams.lines.all()] == [early, late]
