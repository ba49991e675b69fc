"""What would change for clients. Rule: what belongs together is told together, and what is unknown is no change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.routing.catalogs import catalog, config, entry, synthetic
from vmcp.config.load import load
from vmcp.config.model import Aggregation, Selection
from vmcp.config.overrides import Override
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.changes import Field
from vmcp.routing.plan import Change, FaceDiff, Plan, plan
from vmcp.routing.settings import BackendChange, Settings
from vmcp.routing.surface import Sheet, served, surface, tokens

PREFIX = Aggregation()


def sheets(
    catalogs: Mapping[str, Catalog], *, also: tuple[str, ...] = (), how: Aggregation = PREFIX
) -> dict[str, Sheet]:
    given = config([*catalogs, *also], how)
    return surface(given, build(1, given, catalogs))


def tool(name: str, **more: Any) -> bytes:
    return entry(Kind.TOOL, name, **more)


def compared(old: Mapping[str, Sheet], new: Mapping[str, Sheet]) -> Plan:
    return plan(("old", "new"), old, new)


def changes(old: Mapping[str, Sheet], new: Mapping[str, Sheet]) -> list[str]:
    (face,) = compared(old, new).faces
    return [told(change) for change in face.changes]


def told(change: Change) -> str:
    was = f"{change.was} -> " if change.was else ""
    fields = f": {', '.join(field.name for field in change.fields)}" if change.fields else ""
    return f"{change.what} {change.kind} {was}{change.name}{fields}"


A = {
    "a": catalog(
        "a", tools=[tool("t", description="T"), "u"], prompts=["p"], resources=["r://x"], templates=["r://{x}"]
    )
}


def test_the_same_is_the_same() -> None:
    found = compared(sheets(A), sheets(A))
    assert found.same
    assert found.silent == ()
    (face,) = found.faces
    assert (face.paths, face.same, face.changes) == (("/mcp", "/g/mcp"), True, ())
    assert face.lists[Kind.TOOL].entries == (2, 2)


def test_what_is_added_and_removed() -> None:
    b = {"a": catalog("a", tools=[tool("t", description="T"), tool("v", description="V")], resources=["r://y"])}
    assert changes(sheets(A), sheets(b)) == [
        "removed tools a_u",
        "added tools a_v",
        "removed prompts a_p",
        "removed resources r://x",
        "added resources r://y",
        "removed resourceTemplates r://{x}",
    ]


def test_what_has_other_words_is_changed() -> None:
    b = {"a": catalog("a", tools=[tool("t", description="Else", title="T"), "u"], prompts=["p"], resources=["r://x"])}
    assert changes(sheets(A), sheets(b)) == [
        "changed tools a_t: description, title",
        "removed resourceTemplates r://{x}",
    ]


def test_another_name_for_the_same_thing_of_the_same_backend_is_a_new_name() -> None:
    how = Aggregation(tools={"a": Selection(overrides={"t": Override(name="better", description="Better.")})})
    (found,) = compared(sheets(A), sheets(A, how=how)).faces[0].changes
    assert told(found) == "renamed tools a_t -> a_better: description"
    assert (found.backend, found.original, found.was) == ("a", "t", "a_t")


def test_another_prefix_renames_everything() -> None:
    assert changes(sheets(A), sheets(A, how=Aggregation(prefix_format="{workload}-"))) == [
        "renamed tools a_t -> a-t",
        "renamed tools a_u -> a-u",
        "renamed prompts a_p -> a-p",
    ]


def test_the_same_definition_at_another_backend_is_a_new_name_if_it_is_one_of_its_kind() -> None:
    one = {"a": catalog("a", tools=[tool("t", description="T")], resources=["r://x"])}
    two = {"b": catalog("b", tools=[tool("t", description="T")], resources=["r://x"])}
    found = compared(sheets(one), sheets(two)).faces[0].changes
    assert [told(change) for change in found] == [
        "renamed tools a_t -> b_t: backend",
        "changed resources r://x: backend",
    ]
    assert found[0].fields == (Field("backend", "a", "b"),)
    twins = {"b": catalog("b", tools=[tool("t", description="T"), tool("s", description="T")], resources=["r://x"])}
    assert changes(sheets(one), sheets(twins)) == [
        "removed tools a_t",
        "added tools b_s",
        "added tools b_t",
        "changed resources r://x: backend",
    ]


def test_a_name_that_goes_to_somebody_else_is_told_with_both() -> None:
    both = {"a": catalog("a", tools=["t"]), "b": catalog("b", tools=["t"])}
    first = sheets(both, how=Aggregation("priority", priority_order=("a", "b")))
    second = sheets(both, how=Aggregation("priority", priority_order=("b", "a")))
    (found,) = compared(first, second).faces[0].changes
    assert (found.what, found.name, found.fields) == ("changed", "t", (Field("backend", "a", "b"),))
    how = Aggregation(tools={"a": Selection(overrides={"t": Override(name="u"), "u": Override(name="t")})})
    assert changes(sheets(A), sheets(A, how=how)) == [
        "changed tools a_t: original name, description",
        "changed tools a_u: original name, description",
    ]


def test_what_a_silent_backend_offers_is_not_compared() -> None:
    there = {**A, "b": catalog("b", tools=["t"], instructions="Hi.")}
    for old, new in (
        (sheets(there), sheets(A, also=("b",))),
        (sheets(A, also=("b",)), sheets(there)),
    ):
        found = compared(old, new)
        assert (found.same, found.silent) == (True, ("b",))
        assert found.faces[0].lists[Kind.TOOL].entries == (2, 2)


def test_a_backend_that_leaves_the_file_takes_its_things_with_it() -> None:
    there = {**A, "b": catalog("b", tools=["t"], instructions="Hi.")}
    (face,) = compared(sheets(there), sheets(A)).faces
    assert [told(each) for each in face.changes] == ["removed tools b_t"]
    assert face.instructions == Field("instructions", "## b\nHi.", None)
    assert face.said == (tokens(len("## b\nHi.")), 0)
    assert (
        face.tokens[0] - face.tokens[1]
        == face.lists[Kind.TOOL].tokens[0] - face.lists[Kind.TOOL].tokens[1] + face.said[0]
    )


def test_endpoints_come_and_go() -> None:
    given = config(["a"], group_ref="")
    new = surface(given, build(1, given, A))
    found = compared(sheets(A), new)
    assert [(face.paths, face.there, face.same) for face in found.faces] == [
        (("/mcp",), (True, False), False),
        (("/g/mcp",), (True, True), True),
    ]
    assert {change.what for change in found.faces[0].changes} == {"removed"}
    assert not found.same
    found = compared({}, sheets(A))
    assert [(face.paths, face.there) for face in found.faces] == [(("/mcp", "/g/mcp"), (False, True))]
    assert {change.what for change in found.faces[0].changes} == {"added"}


def test_with_a_running_instance_only_names_and_definitions_are_compared() -> None:
    here = {path: sheet for path, sheet in sheets(A).items() if path == "/mcp"}
    shown = catalog(
        "running",
        tools=[tool("a_t", description="T"), "a_w"],
        prompts=["a_p"],
        resources=["r://x"],
        templates=["r://{x}"],
    )
    found = compared({"/mcp": served("/mcp", shown)}, here)
    assert [told(each) for each in found.faces[0].changes] == ["renamed tools a_w -> a_u"]
    assert found.faces[0].changes[0].fields == ()


def test_settings_alone_are_a_difference() -> None:
    more = Settings(backends=(BackendChange("a", "restarts", ("url",)),))
    assert not plan(("old", "new"), sheets(A), sheets(A), more).same


def test_changes_are_in_the_order_of_kinds_and_names() -> None:
    b = {"a": catalog("a", tools=["z", "b"], prompts=["p", "a"])}
    found = changes(sheets({"a": catalog("a")}), sheets(b))
    assert found == ["added tools a_b", "added tools a_z", "added prompts a_a", "added prompts a_p"]


@pytest.mark.parametrize(
    "example", sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")), ids=lambda each: each.stem
)
def test_an_example_is_the_same_as_itself_and_not_as_it_was_without_a_backend(example: Path) -> None:
    given, _ = load([(example.name, example.read_text("utf-8"))], {})
    offered = synthetic(given)
    whole = surface(given, build(1, given, offered))
    assert compared(whole, surface(given, build(2, given, dict(reversed(offered.items()))))).same
    first = next(iter(offered))
    other = {**offered, first: catalog(first)}
    found = compared(whole, surface(given, build(1, given, other)))
    assert not found.same
    assert {change.backend for face in found.faces for change in face.changes if change.what == "removed"} <= {first}


@pytest.mark.parametrize("side", [0, 1])
def test_the_tokens_of_an_endpoint_are_those_of_its_lists_and_words(side: int) -> None:
    (face,) = compared(sheets(A), sheets(A)).faces
    assert isinstance(face, FaceDiff)
    assert face.tokens[side] == sum(weight.tokens[side] for weight in face.lists.values()) + face.said[side]
