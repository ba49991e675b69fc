"""What is read from a backend's lists, and what is refused."""

import pytest

from tests.routing.catalogs import NEW, OLD, entry
from vmcp.routing.catalog import Kind, of


def test_entries_keep_their_bytes_and_their_order() -> None:
    raws = [b'{"title":"x", "name":"b"}', b'{"name":"a","big":12345678901234567890123}']
    made = of("fs", OLD, {}, "", {Kind.TOOL: raws})
    assert [(one.name, one.raw) for one in made.entries[Kind.TOOL]] == [("b", raws[0]), ("a", raws[1])]
    assert made.entries[Kind.TOOL][0].raw is raws[0]
    assert made.refused == ()


@pytest.mark.parametrize(
    "raw", [b"[]", b"{}", b'{"name":1}', b'{"name":""}', b"{", b'{"name":null}', b'{"x":' * 100_000]
)
def test_an_entry_without_a_name_is_left_out_and_told(raw: bytes) -> None:
    made = of("fs", OLD, {}, "", {Kind.PROMPT: [raw, b'{"name":"p"}']})
    assert [one.name for one in made.entries[Kind.PROMPT]] == ["p"]
    assert made.refused == ("prompts[0] has no name",)


def test_a_name_said_twice_counts_once() -> None:
    made = of(
        "fs",
        OLD,
        {},
        "",
        {Kind.RESOURCE: [entry(Kind.RESOURCE, "a://b"), entry(Kind.RESOURCE, "a://b", title="other")]},
    )
    assert len(made.entries[Kind.RESOURCE]) == 1
    assert made.refused == ("resources[1] repeats 'a://b'",)


def test_the_digest_names_the_content() -> None:
    lists = {Kind.TOOL: [entry(Kind.TOOL, "a")]}
    same = of("fs", OLD, {"tools": {}}, "hi", lists).digest
    assert of("other", OLD, {"tools": {}}, "hi", lists).digest == same
    others = [
        of("fs", NEW, {"tools": {}}, "hi", lists),
        of("fs", OLD, {}, "hi", lists),
        of("fs", OLD, {"tools": {}}, "ho", lists),
        of("fs", OLD, {"tools": {}}, "hi", {Kind.PROMPT: lists[Kind.TOOL]}),
    ]
    assert same not in {other.digest for other in others}
