"""Server-sent events: against a slow reader written from the standard's text, and one message in, one event out.

Rule: every property holds for every way to cut the stream.
"""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmcp.errors import WireError
from vmcp.protocol.sse import Event, Parser, comment, encode


def reference(stream: bytes) -> list[Event]:
    """The standard's interpretation (WHATWG HTML 9.2.6), line by line over the whole stream."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    lines = re.split(rb"\r\n|\r|\n", stream)[:-1]  # what follows the last line end is no line
    events, data, kind, last_id = [], b"", b"", b""
    for line in lines:
        if line == b"":
            if data:
                events.append(Event(data[:-1], kind or b"message", last_id))
            data, kind = b"", b""
        elif not line.startswith(b":"):
            field, colon, value = line.partition(b":")
            if colon and value.startswith(b" "):
                value = value[1:]
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                kind = value
            elif field == b"id" and b"\0" not in value:
                last_id = value
    return events


def parsed(pieces: list[bytes]) -> list[Event]:
    parser = Parser()
    return [event for piece in pieces for event in parser.feed(piece)]


def cut(stream: bytes, places: set[int]) -> list[bytes]:
    edges = [0, *sorted(p for p in places if p < len(stream)), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


TOKENS = [
    *(b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b":", b" ", b": ", b"data", b"data:", b"data: ", b"event: message"),
    *(
        b"event: ping",
        b"id: 1",
        b"id",
        b"id: \0",
        b"retry: 10",
        b"Data: x",
        b"x",
        b"{}",
        b"\xef\xbb\xbf",
        b"\xe2\x80\xa8",
    ),
    *(b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"\0", b"event: message\r\ndata: {}\r\n\r\n", b"data: {}\n\n"),
]
STREAMS = st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join)


@given(STREAMS, st.sets(st.integers(1, 150)))
@example(b"data: a\r\n\r\n", {8, 9, 10})
@example(b"\xef\xbb\xbfdata: a\n\ndata: b\r\n", {1, 2})
@example(b"data: a\n\ndata: b\r\ndata: c\n\r\n", {9})
def test_a_stream_means_the_same_however_it_is_cut(stream: bytes, places: set[int]) -> None:
    expected = reference(stream)
    assert parsed([stream]) == expected
    assert parsed(cut(stream, places)) == expected
    assert parsed([stream[i : i + 1] for i in range(len(stream))]) == expected


@given(st.lists(STREAMS, max_size=6))
def test_events_come_with_the_chunk_that_ends_them(chunks: list[bytes]) -> None:
    parser, seen = Parser(), b""
    for chunk in chunks:
        before = len(reference(seen))
        seen += chunk
        # A lone CR ends a line at once; a LF after it in the next chunk ends nothing more.
        assert len(parser.feed(chunk)) == len(reference(seen)) - before


MESSAGES = st.binary(max_size=60).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b""))


@given(MESSAGES | st.text('a\u2028\u2029\x85\x0b{}" :', max_size=30).map(str.encode), st.booleans())
def test_one_message_in_is_one_event_out(data: bytes, first: bool) -> None:
    parser = Parser()
    if not first:
        assert parser.feed(comment(b"hi")) == []
    [event] = parser.feed(encode(data))
    assert event.event == b"message"
    shown = event.data
    for escaped, raw in ((b"\\u2028", "\u2028"), (b"\\u2029", "\u2029"), (b"\\u0085", "\x85")):
        assert raw.encode() not in shown
        shown, data = shown.replace(escaped, raw.encode()), data.replace(escaped, raw.encode())
    assert shown == data


def test_all_fields_go_out_and_come_in() -> None:
    raw = encode(b'{"a":1}', b"endpoint", id=b"s-7", retry=1500)
    assert raw == b'event: endpoint\nid: s-7\nretry: 1500\ndata: {"a":1}\n\n'
    parser = Parser()
    assert parser.feed(raw) == [Event(b'{"a":1}', b"endpoint", b"s-7")]
    assert (parser.last_id, parser.retry) == (b"s-7", 1500)
    assert parser.feed(b"data: x\n\n") == [Event(b"x", b"message", b"s-7")]
    assert parser.feed(b"id\ndata\n\n") == [Event(b"", b"message", b"")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "opening", [b"event: message%bdata: ", b"data: ", b"data:", b": c%bdata: ", b"event:message%bdata: "]
)
def test_a_whole_message_in_one_chunk_is_one_event(opening: bytes, end: bytes) -> None:
    parser = Parser()
    raw = opening.replace(b"%b", end) + b'{"a": "b"}' + end + end
    for _ in range(3):
        assert parser.feed(raw) == [Event(b'{"a": "b"}')]


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\r", b"\nid: 1\n"])
def test_an_event_that_has_not_ended_is_not_given(ending: bytes) -> None:
    parser = Parser()
    assert parser.feed(b": warm\n\n") == []
    assert parser.feed(b"data: {}" + ending) == []


def test_a_priming_event_has_an_id_and_empty_data_and_one_without_data_is_none() -> None:
    parser = Parser()
    assert parser.feed(b"id: a\ndata:\n\n") == [Event(b"", b"message", b"a")]
    assert parser.feed(b"event: x\nid: b\n\ndata: 1\n\n") == [Event(b"1", b"message", b"b")]


def test_the_id_of_an_event_that_was_cut_off_does_not_count() -> None:
    parser = Parser()
    assert [event.id for event in parser.feed(b"retry: 7\nid: 1\ndata: a\n\nid: 2\ndata: b\n")] == [b"1"]
    assert parser.last_id == b"1"
    parser.renew()
    assert (parser.last_id, parser.retry) == (b"1", 7)
    assert parser.feed(b"\xef\xbb\xbfdata: c\n\n") == [Event(b"c", id=b"1")]
    parser.feed(b"id: 3\n")
    assert parser.feed(b"data: d\n\n") == [Event(b"d", id=b"3")]
    assert parser.feed(b"data: e\n\n") == [Event(b"e", id=b"3")]
    assert parser.last_id == b"3"


@pytest.mark.parametrize("value", [b"1.5", b"-1", b"", b"9" * 10, b"1a", "\u0661".encode()])
def test_a_retry_that_is_no_small_number_is_ignored(value: bytes) -> None:
    parser = Parser()
    parser.feed(b"retry: 7\nretry: " + value + b"\n")
    assert parser.retry == 7


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_line_is_limited(step: int) -> None:
    parser = Parser(max_line=100, max_event=1000)
    good = b"data: " + b"x" * 94 + b"\n\n"
    assert len(parser.feed(good)) == 1
    assert len(parser.feed(good)) == 1
    with pytest.raises(WireError, match="line of more than 100 bytes"):
        [parser.feed((b"data: " + b"x" * 194)[i : i + step]) for i in range(0, 200, step)]
    with pytest.raises(WireError, match="line of more than 100 bytes"):
        Parser(max_line=100).feed(b":" + b"x" * 100 + b"\n")


def test_an_event_is_limited_and_a_message_of_one_chunk_too() -> None:
    parser = Parser(max_event=100)
    for _ in range(3):
        assert len(parser.feed(b"data: 12345678\n" * 6 + b"\n")) == 1
    with pytest.raises(WireError, match="event of more than 100 bytes"):
        parser.feed(b"data: 12345678\n" * 8)
    parser = Parser(max_event=100)
    assert len(parser.feed(b"data: " + b"x" * 90 + b"\n\n")) == 1
    with pytest.raises(WireError, match="event of more than 100 bytes"):
        parser.feed(b"data: " + b"x" * 101 + b"\n\n")


@pytest.mark.parametrize("bad", [b"a\nb", b"a\rb", b"a\r\nb", b"\n"])
def test_what_would_end_a_line_is_not_sent(bad: bytes) -> None:
    for attempt in (
        lambda: encode(b"{}", bad),
        lambda: encode(b"{}", id=bad),
        lambda: comment(bad),
    ):
        with pytest.raises(WireError, match="line end"):
            attempt()
    with pytest.raises(WireError, match="NUL"):
        encode(b"{}", id=b"a\0")


def test_a_message_over_several_lines_is_one_line_of_data() -> None:
    assert encode(b'{\r\n"a": 1\n}') == b'event: message\ndata: {  "a": 1 }\n\n'
