"""The chain of an audit log: what is whole is called so, and whatever is done to it is found and told.

Rule: each way of tampering is tried at every record, not at one that suits.
"""

import random
from collections.abc import Callable

import pytest

from vmcp.state.chain import GENESIS, HEAD_BYTES, START, Chain, Place, Proof, digest, place_of, read_head

KEY = b"a key of at least sixteen bytes"


def line(chain: Chain, body: bytes) -> bytes:
    made = bytearray()
    chain.add([body], made)
    return bytes(made)


def lines(count: int, key: bytes | None = None, start: Place = START) -> list[bytes]:
    chain = Chain(start, key)
    kind = b"hmac-sha256" if key else b"sha256"
    made = [line(chain, b'{"type":"audit_start","chain":"%b"}' % kind)]
    return made + [line(chain, b'{"type":"mcp_tool_call","n":%d}' % number) for number in range(count - 1)]


def proof(found: list[bytes], key: bytes | None = None, pins: tuple[Place, ...] = ()) -> Proof:
    made = Proof(key, pins)
    made.read("log", found)
    made.end("log")
    return made


def end(found: list[bytes]) -> Place:
    place = place_of(found[-1])
    assert place is not None
    return place


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_written_is_whole(key: bytes | None) -> None:
    made = lines(20, key)
    whole = proof(made, key, (end(made),))
    assert (whole.faults, whole.notes, whole.records, whole.first, whole.last) == ([], [], 20, 1, end(made))


def test_nothing_at_all_is_whole_unless_there_was_something() -> None:
    assert proof([]).faults == []
    assert "was cut" in proof([], pins=(Place(0 + 3, GENESIS),)).faults[0].what


EDITS: list[Callable[[list[bytes], int], list[bytes]]] = [
    lambda all_, at: [
        *all_[:at],
        all_[at].replace(b'"n"', b'"m"').replace(b"audit_start", b"audit_begin"),
        *all_[at + 1 :],
    ],
    lambda all_, at: [*all_[:at], *all_[at + 1 :]],
    lambda all_, at: (
        [*all_[: at - 1], all_[at], all_[at - 1], *all_[at + 1 :]] if at else [*all_[1:2], all_[0], *all_[2:]]
    ),
    lambda all_, at: [*all_[: at + 1], all_[at], *all_[at + 1 :]],
    lambda all_, at: all_[:at],
    lambda all_, at: [*all_[:at], b"not a record\n", *all_[at:]],
    lambda all_, at: [*all_[:at], all_[at][:-30], *all_[at + 1 :]],
    lambda all_, at: [*all_[:at], all_[at].replace(b'"hash":"', b'"hash":"0')[:-3] + b'"}\n', *all_[at + 1 :]],
]


@pytest.mark.parametrize("edit", EDITS, ids=["edit", "drop", "swap", "double", "cut", "insert", "tear", "rehash"])
@pytest.mark.parametrize("at", range(8))
def test_whatever_is_done_to_a_record_is_found(edit: Callable[[list[bytes], int], list[bytes]], at: int) -> None:
    made = lines(8)
    assert edit(made, at) != made
    if not (at == 0 and edit is EDITS[1]):  # the oldest may be gone: see below
        assert proof(edit(made, at), pins=(end(made),)).faults


def test_the_oldest_records_may_be_gone_but_nobody_is_the_first_who_is_not() -> None:
    made = lines(8)
    rest = proof(made[3:], pins=(end(made),))
    assert (rest.faults, rest.first) == ([], 4)
    forged = line(Chain(Place(0, b"1" * 64), None), b'{"a":1}')
    assert "cannot be the first" in proof([forged]).faults[0].what


def test_who_has_no_key_cannot_write_it_anew() -> None:
    made = lines(5, KEY)
    forged = lines(5, b"another key of sixteen bytes")
    assert len(proof(forged, KEY).faults) == 5
    assert "needs the key" in proof(made).faults[0].what
    assert proof(lines(5), KEY).faults, "a log without a key is none of hers"
    rewritten = lines(5)
    assert "is not the one" in proof(rewritten, pins=(Place(3, b"f" * 64),)).faults[0].what


def test_an_edited_record_with_a_hash_that_fits_does_not_fit_the_next_one() -> None:
    made = lines(6)
    before = place_of(made[1])
    assert before is not None
    made[2] = line(Chain(before, None), b'{"type":"mcp_tool_call","n":99}')
    assert [fault.what for fault in proof(made).faults] == ["record 4 does not belong to the record before it"]


def test_a_fault_is_told_with_its_place_and_the_rest_is_still_looked_at() -> None:
    made = lines(6)
    made[2] = made[2].replace(b'"n":1', b'"n":7')
    del made[4]
    found = proof(made).faults
    assert [(fault.line, fault.what) for fault in found] == [
        (3, "record 3 was changed, or the key is another one"),
        (5, "records 5 to 5 are missing"),
    ]


def test_a_torn_record_is_explained_by_the_start_that_found_it_only() -> None:
    first = lines(3)
    torn = b'{"type":"mcp_tool'
    again = Chain(end(first), None)
    told = line(again, b'{"type":"audit_start","torn":"%b"}' % digest(torn, None))
    explained = proof([*first, torn + b"\n", told])
    assert explained.faults == []
    assert "killed" in explained.notes[0]
    assert proof([*first, torn + b"x\n", told]).faults
    assert proof([*first, torn + b"\n", line(Chain(end(first), None), b'{"type":"audit_start"}')]).faults


def test_a_last_record_that_is_not_whole_is_noted_and_a_last_line_that_is_none_is_a_fault() -> None:
    made = lines(3)
    assert proof([*made, b'{"type":"mc']).faults == []
    assert proof([*made, b'{"type":"mc']).notes
    assert proof([*made, b'{"type":"mc\n']).faults


def test_what_the_log_tells_of_itself() -> None:
    chain = Chain(START, None)
    told = proof([line(chain, b'{"type":"audit_start","head":"missing"}'), line(chain, b'{"type":"audit_gap"}')])
    assert "without its head" in told.faults[0].what
    assert "gap" in told.notes[0]
    odd = proof([line(Chain(START, None), b'{"type":5}')])
    assert odd.faults == [], "what a record says is not ours to judge"


@pytest.mark.parametrize("key", [None, KEY])
def test_a_head_says_where_the_log_ends_and_cannot_be_made_up(key: bytes | None) -> None:
    chain = Chain(START, key)
    line(chain, b'{"a":1}')
    head = chain.head()
    assert len(head) == HEAD_BYTES
    assert read_head(head, key) == chain.end
    assert read_head(head.replace(b'"seq":1', b'"seq":2'), key) is None
    assert read_head(head, b"another key of sixteen bytes") is None
    assert read_head(b"", key) is None


def test_random_damage_to_one_byte_is_always_found() -> None:
    made = b"".join(lines(12))
    dice = random.Random(4)  # noqa: S311 - a seed, not a secret
    for _ in range(300):
        at = dice.randrange(len(made))
        other = bytes([made[at] ^ (1 << dice.randrange(7))])
        damaged = made[:at] + other + made[at + 1 :]
        pins = (end(lines(12)),)
        assert proof(damaged.splitlines(keepends=True), pins=pins).faults, (at, other)
