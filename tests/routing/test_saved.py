"""Catalogs in a file. Rule: what comes back is what was put in, byte for byte."""

import pytest

from tests.routing.catalogs import NEW, catalog
from vmcp.routing.saved import parse, text

ODD = b'{"name":"odd",  "n":123456789012345678901234567890, "x":1.0}'


def test_what_was_saved_comes_back_byte_for_byte() -> None:
    found = {
        "b": catalog(
            "b", tools=[ODD, "t"], prompts=["p"], resources=["r://x"], templates=["r://{x}"], instructions="Hi."
        ),
        "a": catalog("a", revision=NEW, capabilities={"tools": {"listChanged": True}}),
    }
    again = parse(text(found))
    assert [*again] == ["a", "b"]
    assert again == found
    assert again["b"].entries[next(iter(again["b"].entries))][0].raw == ODD


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff",
        b'{"version":2,"backends":{}}',
        b'{"version":1,"backends":{"a":{}}}',
        b'{"version":1,"backends":{"a":{"revision":"1999-01-01"}}}',
        b'{"version":1,"backends":{"a":{"revision":"2025-06-18","tool":[]}}}',
        b'{"version":1,"backends":' + b"[" * 100_000,
    ],
)
def test_another_file_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(wrong)
