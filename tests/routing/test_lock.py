"""What backends offer against the lock file, and what a policy keeps out.

Rule: each refusal stands beside what passes; what is kept out is neither listed nor to be called, and nobody takes its name.
"""

from dataclasses import replace
from typing import Any

import pytest

from tests.routing.catalogs import NEW, catalog, config, entry
from vmcp.config.globs import globs
from vmcp.config.lock import LockSpec, Pinned, Pins, parse, text
from vmcp.config.model import Aggregation, Config, Selection
from vmcp.config.steering import RoutingRule
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.lock import Drift, approved, drifts, gone, pinned, verdict
from vmcp.routing.table import Asked, Face, resource_route

ADD: dict[str, Any] = {
    "title": "Add",
    "description": "Add a note.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 2**60}}},
    "outputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": False},
    "icons": [{"src": "data:,"}],
    "_meta": {"a": 1},
}


def notes(instructions: str = "Be kind.", **changed: Any) -> Catalog:
    return catalog(
        "notes",
        tools=[entry(Kind.TOOL, "add", **{**ADD, **changed}), "search"],
        prompts=["ask"],
        resources=["note:///a"],
        templates=["note:///{title}"],
        instructions=instructions,
        capabilities={"tools": {}, "resources": {}},
    )


def pins(*catalogs: Catalog) -> Pins:
    return parse(text({each.backend: pinned(each) for each in catalogs}).encode())


def locked(policy: Any, approves: Pins, given: Config) -> Config:
    return replace(given, lock=LockSpec("vmcp.lock", policy, approves))


def face(policy: Any, approves: Pins, *catalogs: Catalog, given: Config | None = None) -> Face:
    made = given or config([each.backend for each in catalogs])
    return build(1, locked(policy, approves, made), {each.backend: each for each in catalogs}).faces["/mcp"]


def out(found: Face) -> list[str]:
    return [f"{q.kind} {q.backend}/{q.original}: {q.why}" for q in found.quarantined]


# --- what has changed


def test_what_is_as_it_was_has_no_drift() -> None:
    assert list(drifts(pins(notes()), notes())) == []


@pytest.mark.parametrize("key", [*ADD])
def test_each_member_of_a_definition_is_pinned(key: str) -> None:
    value = ADD[key]
    other = value + "." if isinstance(value, str) else [*value, {}] if isinstance(value, list) else {**value, "x": 1}
    (found,) = drifts(pins(notes()), notes(**{key: other}))
    assert (found.backend, found.kind, found.name, found.change, found.fields) == (
        "notes",
        "tools",
        "add",
        "changed",
        (key,),
    )
    assert found.pinned != found.now


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"description": "Add a note.\u200b"}, ("description",)),
        ({"annotations": {"readOnlyHint": True}}, ("annotations",)),
        (
            {"inputSchema": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 2**60 + 1}}}},
            ("inputSchema",),
        ),
        ({"more": 1}, ("more",)),
    ],
)
def test_a_small_change_is_a_change(changed: dict[str, Any], fields: tuple[str, ...]) -> None:
    (found,) = drifts(pins(notes()), notes(**changed))
    assert found.fields == fields
    assert found.why.startswith(f"{fields[0]} changed since it was locked (was sha256:")


def test_a_new_order_of_members_is_no_change() -> None:
    turned = catalog(
        "notes",
        tools=[entry(Kind.TOOL, "add", **dict(reversed(ADD.items()))), "search"],
        prompts=["ask"],
        templates=["note:///{title}"],
        instructions="Be kind. ",
    )
    assert list(drifts(pins(notes()), turned)) == []


def test_lists_of_resources_are_data_and_not_pinned() -> None:
    more = replace(notes(), entries={**notes().entries, Kind.RESOURCE: ()})
    assert list(drifts(pins(notes()), more)) == []


def test_what_was_never_approved_is_added_and_what_is_no_more_is_removed() -> None:
    found = list(drifts(Pins(), notes()))
    assert [(each.kind, each.name, each.change) for each in found] == [
        ("instructions", "", "added"),
        ("tools", "add", "added"),
        ("tools", "search", "added"),
        ("prompts", "ask", "added"),
        ("resourceTemplates", "note:///{title}", "added"),
    ]
    assert found[1].why.startswith("it is not in the lock file (now sha256:")
    empty = {"notes": catalog("notes")}
    removed = list(gone(pins(notes()), empty, ["notes"]))
    assert [(each.kind, each.name, each.change) for each in removed] == [
        (each.kind, each.name, "removed") for each in found
    ]


def test_a_backend_that_is_no_more_is_removed_and_one_that_did_not_answer_is_unknown() -> None:
    assert list(gone(pins(notes()), {}, ["notes"])) == []
    assert len(list(gone(pins(notes()), {}, []))) == 5
    assert list(gone(pins(notes()), {"notes": notes()}, ["notes"])) == []
    silent = pins(catalog("notes", tools=["a"]))
    assert len(list(gone(silent, {}, []))) == 1


def test_changed_instructions_are_a_drift_and_none_are_not() -> None:
    (found,) = drifts(pins(notes()), notes("Be cruel."))
    assert (found.kind, found.change, found.why.partition(" (")[0]) == (
        "instructions",
        "changed",
        "its definition changed since it was locked",
    )
    assert list(drifts(pins(notes()), notes(""))) == []


def test_a_definition_that_cannot_be_read_is_pinned_by_its_bytes() -> None:
    deep = b'{"name":"deep","x":' + b"[" * 60_000 + b"]" * 60_000 + b"}"
    found = replace(
        notes(), entries={**notes().entries, Kind.TOOL: (replace(notes().entries[Kind.TOOL][0], raw=deep),)}
    )
    assert pinned(found).tools["add"].fields == {}
    assert list(drifts(pins(found), found)) == []
    assert [each.fields for each in drifts(pins(notes()), found)] == [tuple(sorted(["name", *ADD]))]


# --- what a policy makes of it


def test_off_does_not_even_look() -> None:
    assert verdict(LockSpec(), [notes()]).drifts == ()
    assert out(face("off", Pins(), notes())) == []


def test_warn_serves_and_tells() -> None:
    found = build(1, locked("warn", pins(notes()), config(["notes"])), {"notes": notes(title="New")})
    assert [(each.name, each.fields) for each in found.drifts] == [("add", ("title",))]
    assert out(found.faces["/mcp"]) == []
    assert "notes_add" in found.faces["/mcp"].routes[Kind.TOOL]


def test_quarantine_keeps_out_what_has_changed_and_nothing_else() -> None:
    found = face("quarantine", pins(notes()), notes(title="New"))
    (line,) = out(found)
    assert line.startswith("tools notes/add: title changed since it was locked (was sha256:")
    assert [*found.routes[Kind.TOOL]] == ["notes_search"]
    assert [route.name for route in found.listing[Kind.TOOL]] == ["notes_search"]
    assert found.instructions == "## notes\nBe kind."
    assert resource_route(found, "note:///other") is not None


def test_quarantine_keeps_out_what_nobody_has_approved() -> None:
    found = face("quarantine", Pins(), notes(), catalog("other", tools=["t"]))
    assert found.routes[Kind.TOOL] == found.routes[Kind.PROMPT] == found.routes[Kind.TEMPLATE] == {}
    assert found.instructions == ""
    assert resource_route(found, "note:///other") is None, "its template is kept out too"
    assert resource_route(found, "note:///a") is not None, "a resource is data"


def test_changed_instructions_are_not_passed_on() -> None:
    found = face("quarantine", pins(notes()), notes("Be cruel."))
    assert (found.instructions, out(found)) == ("", [])
    assert "notes_add" in found.routes[Kind.TOOL]


def test_block_keeps_the_whole_backend_out() -> None:
    other = catalog("other", tools=["t"])
    found = face("block", pins(notes(), other), notes(title="New"), other)
    assert [*found.routes[Kind.TOOL]] == ["other_t"]
    assert all(not found.routes[kind] for kind in (Kind.PROMPT, Kind.RESOURCE, Kind.TEMPLATE))
    assert found.instructions == ""
    assert {line.partition(": ")[2].partition(" (")[0] for line in out(found)} == {
        "title changed since it was locked",
        "its backend is kept out: 1 definition is not as locked",
    }
    assert out(face("block", pins(notes(), other), notes(), other)) == []
    many = face("block", pins(notes()), notes("x", title="New"))
    assert "2 definitions are not as locked" in out(many)[-1]


def test_nobody_takes_the_name_of_what_is_kept_out() -> None:
    order = Aggregation("priority", priority_order=("notes", "other"))
    other = catalog("other", tools=["add", "mine"])
    given = config(["notes", "other"], order)
    found = face("quarantine", pins(notes(), other), notes(title="New"), other, given=given)
    assert "add" not in found.routes[Kind.TOOL]
    assert any(line.startswith("tools other/add: 'add' of 'other' has the same name") for line in out(found))
    found = face("quarantine", pins(notes(), other), notes(), other, given=given)
    assert found.routes[Kind.TOOL]["add"].backend == "notes"


def test_what_is_hidden_by_the_configuration_is_kept_out_as_well() -> None:
    given = config(["notes"], Aggregation(tools={"notes": Selection(exclude=("*",))}))
    hidden = face("quarantine", pins(notes()), notes(), given=given).hidden[Kind.TOOL]
    assert [*hidden] == [("notes", "add"), ("notes", "search")]
    found = face("quarantine", pins(notes()), notes(title="New"), given=given)
    assert [*found.hidden[Kind.TOOL]] == [("notes", "search")]
    assert len(out(found)) == 1


def test_no_rule_leads_to_what_is_kept_out() -> None:
    rules = (RoutingRule(tool=globs(["*"]), backend="notes"), RoutingRule(uri=globs(["*"]), backend="notes"))
    given = replace(
        config(["notes", "other"], Aggregation("priority", priority_order=("other", "notes"))), routing=rules
    )
    other = catalog("other", tools=["add"], resources=["o://r"])
    ask, read = Asked("tools/call", "add", dict), Asked("resources/read", "note:///x", dict)
    good = face("block", pins(notes(), other), notes(), other, given=given)
    assert good.rules is not None
    assert good.rules.aim(ask, good.routes[Kind.TOOL]["add"]).backend == "notes"
    assert good.rules.reach(read) is not None
    for policy in ("quarantine", "block"):
        bad = face(policy, pins(notes(), other), notes(title="New"), other, given=given)
        assert bad.rules is not None
        assert bad.rules.aim(ask, bad.routes[Kind.TOOL]["add"]).backend == "other"
    assert bad.rules.reach(read) is None


# --- approval


def test_what_is_approved_is_as_it_is_now_and_the_rest_stays() -> None:
    before, now = pins(notes()), catalog("notes", tools=[entry(Kind.TOOL, "add", **ADD, more=1), "new"], revision=NEW)
    found = [*drifts(before, now), *gone(before, {"notes": now}, ["notes"])]
    assert parse(text(approved(before, {"notes": now}, found)).encode()).backends == {"notes": pinned(now)}
    (added,) = [drift for drift in found if drift.name == "new"]
    only = approved(before, {"notes": now}, [added])
    assert only == {"notes": replace_tools(before.backends["notes"], new=pinned(now).tools["new"])}


def replace_tools(held: Pinned, **more: Any) -> Pinned:
    return Pinned(held.instructions, {**held.tools, **more}, held.prompts, held.resource_templates)


def test_a_new_backend_and_its_instructions_can_be_approved_and_a_lost_one_leaves_the_file() -> None:
    new = catalog("new", tools=["t"], instructions="Hello.")
    found = list(drifts(Pins(), new))
    assert approved(Pins(), {"new": new}, found) == {"new": pinned(new)}
    lost = pins(new)
    assert approved(lost, {}, list(gone(lost, {}, []))) == {}


def test_a_drift_is_told_in_one_word() -> None:
    assert Drift("b", "tools", "t", "x", None).change == "removed"
