"""Capabilities and instructions of a face."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.routing.catalogs import OLD, catalog, config
from vmcp.config.model import Allow
from vmcp.protocol.extensions import TASKS, UI
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog
from vmcp.routing.greeting import capabilities, cut, instructions, shown

LISTS = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
}
GROUP = config(["a", "b", "slow"]).groups["g"]
NEW = Revision.V2026_07_28
V2025 = Revision.V2025_11_25
CALL: Any = {"requests": {"tools": {"call": {}}}}
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
    assert set(capabilities(GROUP, present, ())) == expected


def test_lists_are_promised_while_a_backend_is_missing() -> None:
    assert capabilities(GROUP, [], ["slow"]) == LISTS
    assert capabilities(GROUP, [catalog("a", capabilities={"logging": {}})], ["slow"]) == {**LISTS, "logging": {}}


@pytest.mark.parametrize(
    ("said", "expected"), [({}, False), ({"subscribe": False}, False), ({"subscribe": True}, True)]
)
def test_subscriptions_are_promised_when_somebody_keeps_them(said: Any, expected: bool) -> None:
    present = [catalog("a", capabilities={"resources": said}), catalog("b", capabilities={"resources": True})]
    assert capabilities(GROUP, present, ())["resources"] == {"subscribe": expected, "listChanged": True}


def test_logs_that_the_configuration_keeps_back_are_not_promised() -> None:
    quiet = replace(GROUP, backends={"a": replace(GROUP.backends["a"], allow=Allow(logging=False))})
    assert "logging" not in capabilities(quiet, [catalog("a", capabilities={"logging": {}})], ())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([(V2025, CALL)], CALL),
        ([(V2025, {**CALL, "list": {}}), (V2025, {**CALL, "cancel": {}})], {**CALL, "list": {}, "cancel": {}}),
        ([(V2025, {"list": {}, "cancel": {}})], None),
        ([(V2025, {"list": {}}), (V2025, CALL)], CALL),
        ([(V2025, {"requests": {"tools": []}})], None),
        ([(V2025, [])], None),
        ([(NEW, CALL), (V2024, CALL)], None),
    ],
)
def test_tasks_are_promised_as_far_as_those_who_make_them_go(said: Any, expected: Any) -> None:
    present = [catalog(name, revision=r, capabilities={"tasks": c}) for name, (r, c) in zip("ab", said, strict=False)]
    promised = capabilities(GROUP, present, ())
    assert promised.get("tasks") == expected
    assert "tasks" not in shown(promised, NEW)
    assert "tasks" not in shown(promised, Revision.V2025_06_18)
    assert shown(promised, V2025).get("tasks") == expected


def test_the_extension_for_tasks_is_shown_to_its_own_era() -> None:
    both = {TASKS: {}, UI: {"mimeTypes": ["text/html"]}}
    promised = capabilities(GROUP, [catalog("a", revision=NEW, capabilities={"extensions": both})], ())
    assert shown(promised, NEW)["extensions"] == both
    assert shown(promised, V2025)["extensions"] == {UI: both[UI]}
    promised = capabilities(GROUP, [catalog("a", revision=NEW, capabilities={"extensions": {TASKS: {}}})], ())
    assert "extensions" in shown(promised, NEW)
    assert "extensions" not in shown(promised, V2025)


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
