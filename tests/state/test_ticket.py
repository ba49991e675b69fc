"""What is handed out to be brought back: by whom it may be, and that nothing else opens it.

Rule: beside each permission stands every refusal, and all refusals look the same.
"""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.state.ticket import Seal, Ticket, issue, redeem

SEAL = Seal(bytes(32))
TICKET = Ticket("git", True, "theirs", "", "1:xann", b"digest", 100.0)
MINE: dict[str, Any] = {"principal": "1:xann", "digest": b"digest", "now": 99.0}


@given(st.binary(max_size=300), st.binary(max_size=30))
def test_what_was_sealed_is_opened_and_is_not_to_be_read(text: bytes, aad: bytes) -> None:
    sealed = SEAL.wrap(text, aad)
    assert SEAL.unwrap(sealed, aad) == text
    assert sealed.replace("-", "").replace("_", "").isalnum(), "it fits a header and a JSON string as it is"
    assert len(text) < 4 or text not in base64.urlsafe_b64decode(sealed + "==")
    assert SEAL.wrap(text, aad) != sealed, "the same text looks different each time"


def test_another_key_or_purpose_does_not_open_it() -> None:
    sealed = SEAL.wrap(b"text", b"tasks")
    assert SEAL.unwrap(sealed, b"state") is None
    assert Seal().unwrap(sealed, b"tasks") is None
    assert Seal(bytes(32)).unwrap(sealed, b"tasks") == b"text", "another process with the same key does"


def test_no_bit_can_be_flipped_and_no_letter_added_or_taken() -> None:
    sealed = SEAL.wrap(b"twelve bytes", b"x")
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert SEAL.unwrap(base64.urlsafe_b64encode(flipped).rstrip(b"=").decode(), b"x") is None
    for end in range(len(sealed)):
        assert SEAL.unwrap(sealed[:end], b"x") is None
    for more in ("A", "=", "\n", " ", "é", "\ud800"):
        assert SEAL.unwrap(sealed + more, b"x") is None
        assert SEAL.unwrap(more + sealed, b"x") is None


@pytest.mark.parametrize("size", range(3))
def test_another_spelling_of_the_same_bytes_is_refused(size: int) -> None:
    sealed = SEAL.wrap(b"x" * size, b"x")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [letter for letter in letters if SEAL.unwrap(sealed[:-1] + letter, b"x") is not None] == [sealed[-1]]


@given(st.text(max_size=80))
def test_a_made_up_text_is_refused(text: str) -> None:
    assert SEAL.unwrap(text, b"x") is None
    assert redeem(SEAL, text, **MINE) is None


@pytest.mark.parametrize(
    "ticket",
    [TICKET, Ticket("b", False, "", "id", "1:xann", b"digest", 99.5), msgspec.structs.replace(TICKET, pages=True)],
)
def test_whose_it_is_brings_it_back_in_time(ticket: Ticket) -> None:
    assert redeem(SEAL, issue(SEAL, ticket), **MINE) == ticket


@pytest.mark.parametrize(
    "other",
    [{"principal": "1:xbob"}, {"principal": ""}, {"digest": b"another"}, {"digest": b""}, {"now": 100.0}, {"now": 1e9}],
)
def test_somebody_else_another_request_or_too_late_is_refused(other: dict[str, Any]) -> None:
    assert redeem(SEAL, issue(SEAL, TICKET), **{**MINE, **other}) is None


def test_what_is_sealed_for_tickets_but_is_none_is_refused() -> None:
    for plain in (b"", b"x", msgspec.msgpack.encode(["git"]), msgspec.msgpack.encode({"backend": "git"})):
        assert redeem(SEAL, SEAL.wrap(plain, b"vmcp requestState 1"), **MINE) is None


def test_a_key_has_32_bytes() -> None:
    for key in (b"", bytes(16), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            Seal(key)
