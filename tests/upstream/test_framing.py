"""The framer without a network: however the bytes are cut, what comes out is the same.

Rule: the reference is the same framer fed at once, and a count made by hand.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.errors import WireError
from vmcp.upstream.framing import Framer, Message

STREAM = (
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type:  a/b \r\nX-Two: 1\r\nX-Two: 2\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-Trailer: t\r\n\r\n"
)


def fed(pieces: list[bytes], *, bodiless: bool = False) -> tuple[Framer, Message]:
    framer, message = Framer("time"), Message()
    framer.begin(message, bodiless)
    for piece in pieces:
        framer.feed(piece)
    return framer, message


@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_a_message_is_the_same_however_it_was_cut(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    framer, message = fed([STREAM[a:b] for a, b in itertools.pairwise(edges)])
    assert (framer.headed, framer.complete, framer.reusable, framer.until_close) == (True, True, True, False)
    assert message.status == 200
    assert [(name, value.strip()) for name, value in message.headers] == [
        (b"content-type", b"a/b"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
        (b"transfer-encoding", b"Chunked"),
    ]
    assert b"".join(message.parts) == b"hello world"
    assert message.size == 11


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_an_error_of_the_family(data: bytes) -> None:
    for raw in (data, b"HTTP/1.1 200 OK\r\n" + data, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data):
        framer = Framer("time")
        try:
            framer.feed(raw)
        except WireError:
            assert not framer.complete


def test_crumbs_of_a_body_do_not_cost_an_object_each() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, message = fed([head, b"2\r\nab\r\n" * 5000, b"0\r\n\r\n"])
    assert b"".join(message.parts) == b"ab" * 5000
    assert len(message.parts) < 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 4.0),
        (b"timeout=5, max=100", 4.0),
        (b"Timeout=1", 0.5),
        (b"timeout=0", 0.5),
        (b"max=100", float("inf")),
        (b"timeout=5x", float("inf")),
        (b"timeout=99999999999", float("inf")),
        (b"timeout=-1", float("inf")),
    ],
)
def test_the_keep_alive_header_is_read_with_care(value: bytes, seconds: float) -> None:
    framer, _ = fed([b"HTTP/1.1 200 OK\r\nKeep-Alive: " + value + b"\r\nContent-Length: 0\r\n\r\n"])
    assert framer.keep_alive == seconds
