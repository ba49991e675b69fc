"""What a selection lets pass, and what it takes away."""

from typing import Any

import pytest
from msgspec import Raw

from vmcp.config.model import Aggregation, Override, Selection
from vmcp.routing.catalog import Kind
from vmcp.routing.selection import chooser, selection

READ_ONLY = Raw(b'{"readOnlyHint":true}')


def admits(
    chosen: Selection,
    original: str = "read",
    advertised: str = "fs_read",
    annotations: Raw | None = None,
    override: Override | None = None,
) -> bool:
    made = chooser(Aggregation(tools={"fs": chosen}), Kind.TOOL, "fs")
    return made.admits(original, advertised, annotations, override or Override())


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Selection(), True),
        (Selection(filter=("re*",)), True),
        (Selection(filter=("write",)), False),
        (Selection(filter=()), False),
        (Selection(filter=("fs_read",)), False),
        (Selection(filter=("fs_read",), match_on="advertised"), True),
        (Selection(filter=("read",), match_on="advertised"), False),
        (Selection(exclude=("rea?",)), False),
        (Selection(exclude=("fs_*",)), True),
        (Selection(exclude=("fs_*",), match_on="advertised"), False),
        (Selection(filter=("read",), exclude=("read",)), False),
        (Selection(filter=("read",), exclude_all=True), False),
    ],
)
def test_filter_and_exclude_decide_and_exclude_wins(chosen: Selection, expected: bool) -> None:
    assert admits(chosen) is expected


@pytest.mark.parametrize(
    ("annotations", "override", "expected"),
    [
        (READ_ONLY, {}, True),
        (READ_ONLY, {"annotations": {"title": "x"}}, True),
        (READ_ONLY, {"annotations": {"readOnlyHint": False}}, False),
        (None, {}, False),
        (None, {"annotations": {"readOnlyHint": True}}, False),
        (Raw(b'{"readOnlyHint":false}'), {}, False),
        (Raw(b'{"readOnlyHint":"true"}'), {}, False),
        (Raw(b'{"readOnlyHint":1}'), {}, False),
        (Raw(b"{}"), {}, False),
        (Raw(b"[]"), {}, False),
    ],
)
def test_read_only_is_what_the_backend_says_and_an_override_can_only_deny(
    annotations: Raw | None, override: dict[str, Any], expected: bool
) -> None:
    assert admits(Selection(read_only_only=True), annotations=annotations, override=Override(**override)) is expected


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Aggregation(), True),
        (Aggregation(default_tool_visibility="deny"), False),
        (Aggregation(default_tool_visibility="deny", tools={"fs": Selection()}), True),
        (Aggregation(default_tool_visibility="deny", tools={"fs": Selection(exclude_all=True)}), False),
        (Aggregation(exclude_all_tools=True, tools={"fs": Selection(filter=("read",))}), False),
    ],
)
def test_the_visibility_of_tools_in_its_order(aggregation: Aggregation, expected: bool) -> None:
    assert chooser(aggregation, Kind.TOOL, "fs").open is expected


def test_the_switches_for_tools_do_not_hide_prompts_and_resources() -> None:
    aggregation = Aggregation(exclude_all_tools=True, default_tool_visibility="deny")
    assert all(chooser(aggregation, kind, "fs").open for kind in (Kind.PROMPT, Kind.RESOURCE, Kind.TEMPLATE))


def test_resources_and_templates_share_a_selection() -> None:
    tools, prompts, resources = Selection(filter=("t",)), Selection(filter=("p",)), Selection(filter=("r",))
    aggregation = Aggregation(tools={"fs": tools}, prompts={"fs": prompts}, resources={"fs": resources})
    assert [selection(aggregation, kind, "fs") for kind in Kind] == [tools, prompts, resources, resources]
    assert [selection(aggregation, kind, "git") for kind in Kind] == [None] * 4
