"""Streams cut into messages: the same whatever the chunks were, in both framings, with chatter in between, within limits.

Rule: nothing that is a line of JSON is ever taken for anything else.
"""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmcp.errors import WireError
from vmcp.protocol.lines import MAX_HEAD, Cutter, behind_head

JSON = b'{"jsonrpc":"2.0","id":1}'


def cut(*chunks: bytes, limit: int = 1000, detects: bool = True) -> list[bytes]:
    """The messages of these chunks but for blank lines, and what was left at the end."""
    cutter = Cutter(limit, detects=detects)
    found = [text for chunk in chunks for text in cutter.feed(chunk)]
    return [text for text in (*found, cutter.rest()) if text.strip()]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b"{}\n{}\r\n\n{}", [b"{}", b"{}\r", b"{}"]),
        (b"hello\n{}\n", [b"hello", b"{}"]),
        (behind_head(b"{}"), [b"{}"]),
        (behind_head(b'{"x":"\n\n"}') * 2 + b"{}\n", [b'{"x":"\n\n"}'] * 2 + [b"{}"]),
        (b"content-length:2\n\n{}", [b"{}"]),
        (b"Content-Type: x\r\nContent-Length: 2\r\nX: y\r\n\r\n{}", [b"{}"]),
        (behind_head(b"{}") + b"\r\n" + behind_head(b"[]"), [b"{}", b"[]"]),
        (b"log\n" + behind_head(b"{}") + b"log\n" + behind_head(b"{}"), [b"log", b"{}", b"log", b"{}"]),
        (b"Content-Length: 5\n{}\n", [b"{}"]),
        (b"Content-Length: 5\nContent-Length: 2\n\n{}", [b"{}"]),
        (b"Content-Length: -5\n\n{}\n", [b"{}"]),
        (b"Content-Length: x\n\n{}\n", [b"{}"]),
        (b"Content-Length: 0\n\n{}\n", [b"{}"]),
        (b"Content-Type: x\n\n{}\n", [b"{}"]),
        (b"Content-Length: 5\n\n{}", []),
        (b"Content-Length: 2\n", []),
        (b'{"x":"Content-Length: 5"}\n', [b'{"x":"Content-Length: 5"}']),
    ],
)
def test_messages_of_a_stream_however_it_was_cut(stream: bytes, expected: Sequence[bytes]) -> None:
    assert cut(stream) == expected
    assert cut(*(stream[at : at + 1] for at in range(len(stream)))) == expected
    for at in range(len(stream)):
        assert cut(stream[:at], stream[at:]) == expected


def test_a_reader_that_does_not_look_for_heads_sees_lines() -> None:
    assert cut(b"Content-Length: 2\n\n{}\n", detects=False) == [b"Content-Length: 2", b"{}"]


@pytest.mark.parametrize(
    ("stream", "framed"),
    [
        (b"{}\n", False),
        (behind_head(b"{}"), True),
        (behind_head(b"[]"), True),
        (behind_head(b"GET"), False),
        (behind_head(b"{}") + b"a log line\n\n", True),
        (behind_head(b"{}") + b"{}\n", False),
    ],
)
def test_the_framing_is_that_of_the_latest_message(stream: bytes, framed: bool) -> None:
    cutter = Cutter(1000)
    list(cutter.feed(stream))
    assert cutter.framed is framed


@pytest.mark.parametrize(
    "stream",
    [
        b"x" * 101,
        b"x" * 101 + b"\n",
        b"Content-Length: 101\n\n",
        b"Content-Length: 2\n" + b"X: y\n" * MAX_HEAD,
        b"Content-Length: 2\nX: " + b"y" * 100,
    ],
)
def test_what_is_too_long_ends_the_stream_after_what_came_before(stream: bytes) -> None:
    cutter = Cutter(100)
    pieces = cutter.feed(b"{}\n[]\n" + stream)
    assert [next(pieces), next(pieces)] == [b"{}", b"[]"]
    with pytest.raises(WireError, match="a message has"):
        next(pieces)
    cutter.clear()
    assert list(cutter.feed(b"{}\n")) == [b"{}"]


def test_what_is_just_short_enough_passes() -> None:
    assert cut(b"x" * 100 + b"\n" + b"y" * 100, limit=100) == [b"x" * 100, b"y" * 100]
    assert cut(behind_head(b"x" * 100), limit=100) == [b"x" * 100]


def test_a_body_may_be_longer_than_what_comes_at_a_time() -> None:
    cutter = Cutter(1 << 20)
    head, body = b"Content-Length: 1000000\r\n\r\n", b"x" * 1_000_000
    pieces = [*cutter.feed(head + body[:10]), *cutter.feed(body[10:500_000]), *cutter.feed(body[500_000:] + b"{}\n")]
    assert pieces == [body, b"{}"]


@given(
    st.lists(st.tuples(st.sampled_from(["line", "head"]), st.dictionaries(st.text(max_size=3), st.text(max_size=9)))),
    st.lists(st.integers(0, 400)),
)
@example([("head", {"": "\n"}), ("line", {})], [1, 20])
def test_whatever_is_framed_comes_out_again(messages: list[tuple[str, dict[str, str]]], cuts: list[int]) -> None:
    texts = [repr(content).encode() for _, content in messages]
    stream = b"".join(
        behind_head(text) if how == "head" else text + b"\n" for text, (how, _) in zip(texts, messages, strict=True)
    )
    at = [0, *sorted(min(each, len(stream)) for each in cuts), len(stream)]
    assert cut(*(stream[a:b] for a, b in itertools.pairwise(at)), limit=10_000) == texts


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_break_it(data: bytes, size: int) -> None:
    try:
        whole = cut(data)
    except WireError:
        return
    assert cut(*(data[at : at + size] for at in range(0, len(data), size))) == whole
