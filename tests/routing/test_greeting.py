"""Capabilities and instructions of a face."""

from collections.abc import Sequence

import pytest

from tests.routing.catalogs import OLD, catalog, config
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog
from vmcp.routing.greeting import capabilities, cut, instructions

LISTS = {
    "tools": {"listChanged": False},
    "prompts": {"listChanged": False},
    "resources": {"subscribe": False, "listChanged": False},
}
V2024 = Revision.V2024_11_05


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ([], set()),
        ([catalog("a", capabilities={"tools": {"listChanged": True}})], {"tools"}),
        ([catalog("a", capabilities={"tools": None})], set()),
        (
            [catalog("a", capabilities={"prompts": {}}), catalog("b", capabilities={"resources": {}})],
            {"prompts", "resources"},
        ),
        (
            [catalog("a", capabilities={"completions": {}, "logging": {}, "experimental": {}})],
            {"completions", "logging"},
        ),
        ([catalog("a", tools=["t"])], {"tools"}),
        ([catalog("a", templates=["t://{x}"])], {"resources"}),
        ([catalog("a", prompts=["p"], revision=V2024)], {"prompts", "completions"}),
        ([catalog("a", templates=["t://{x}"], revision=V2024)], {"resources", "completions"}),
        ([catalog("a", tools=["t"], revision=V2024)], {"tools"}),
        ([catalog("a", prompts=["p"], revision=OLD)], {"prompts"}),
    ],
)
def test_what_some_backend_offers_is_promised(present: Sequence[Catalog], expected: set[str]) -> None:
    assert set(capabilities(present, ())) == expected


def test_lists_are_promised_while_a_backend_is_missing() -> None:
    assert capabilities([], ["slow"]) == LISTS
    assert capabilities([catalog("a", capabilities={"logging": {}})], ["slow"]) == {**LISTS, "logging": {}}


def test_instructions_stand_under_the_names_of_their_backends() -> None:
    group = config(["a"], description=" All tools. ").groups["g"]
    present = [catalog("a", instructions=" Ask a.\n"), catalog("b"), catalog("c", instructions="Ask c.")]
    assert instructions(group, present) == "All tools.\n\n## a\nAsk a.\n\n## c\nAsk c."
    assert instructions(config(["a"]).groups["g"], present) == "## a\nAsk a.\n\n## c\nAsk c."
    assert instructions(config(["a"]).groups["g"], []) == ""


def test_no_backend_can_talk_without_end() -> None:
    group = config(["a"]).groups["g"]
    one = instructions(group, [catalog("a", instructions="ä" * 10_000)])
    assert one.endswith("ä…")
    assert len(one.encode()) <= 8192 + len("## a\n")
    many = instructions(group, [catalog(f"b{number}", instructions="x" * 8192) for number in range(9)])
    assert len(many.encode()) == 32 << 10
    assert many.endswith("x…")


@pytest.mark.parametrize(
    ("text", "size", "expected"), [("abc", 3, "abc"), ("abcd", 3, "…"), ("ääää", 6, "ä…"), ("\ud800", 1, "\ud800")]
)
def test_a_text_is_cut_between_characters(text: str, size: int, expected: str) -> None:
    assert cut(text, size) == expected
