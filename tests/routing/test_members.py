"""Taking a JSON object apart and putting it together keeps every byte of a value."""

import pytest
from msgspec import Raw

from vmcp.routing import members


def test_values_keep_their_bytes_and_their_order() -> None:
    text = b'{"z":1.0,"a":12345678901234567890123,"m":{"k" : [ 1e2 ]},"u":"\\u0041"}'
    parts = members.split(text)
    assert parts is not None
    assert list(parts) == ["z", "a", "m", "u"]
    assert members.join(parts) == text


@pytest.mark.parametrize("text", [b"[]", b"1", b"true", b"{", b"", b'{"a":}', b'{"a":' * 100_000])
def test_what_is_no_object_has_no_members(text: bytes) -> None:
    assert members.split(text) is None


def test_a_raw_text_is_taken_as_well_as_bytes() -> None:
    assert members.split(Raw(b'{"a":1}')) == {"a": Raw(b"1")}
    assert members.raw("ä\n") == Raw('"ä\\n"'.encode())
