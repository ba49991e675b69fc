"""Building the table: faces, conflicts, and the invariants that hold for every input."""

import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.routing.catalogs import NEW, OLD, catalog, config
from vmcp.config.model import Aggregation, BackendSpec, Config, Group, Override, Selection, ServerSpec
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.table import Face, RoutingTable

MANUAL = Aggregation("manual")


def face(given: Config, *catalogs: Catalog) -> Face:
    return build(7, given, {catalog.backend: catalog for catalog in catalogs}).faces["/g/mcp"]


def names(where: Face, kind: Kind = Kind.TOOL) -> list[tuple[str, str]]:
    return [(route.name, route.backend) for route in where.listing[kind]]


def test_a_table_has_a_face_for_each_group_and_the_root() -> None:
    groups = {
        "dev": Group("dev", {"a": BackendSpec("a", "dev", "stdio")}),
        "ops": Group("ops", {"b": BackendSpec("b", "ops", "stdio"), "c": BackendSpec("c", "ops", "stdio")}),
    }
    made = Config("all", groups, "ops", Aggregation(), ServerSpec(), "digest")
    table = build(3, made, {"a": catalog("a", tools=["x"]), "c": catalog("c", tools=["z"], instructions="Ask c.")})
    assert (table.number, table.config_digest) == (3, "digest")
    assert list(table.faces) == ["/dev/mcp", "/mcp", "/ops/mcp"]
    assert {path: one.path for path, one in table.faces.items()} == {path: path for path in table.faces}
    root, ops, dev = table.faces["/mcp"], table.faces["/ops/mcp"], table.faces["/dev/mcp"]
    assert replace(root, path="/ops/mcp") == ops
    assert (ops.group, ops.name, ops.missing, ops.instructions) == ("ops", "all", ("b",), "## c\nAsk c.")
    assert set(ops.capabilities) == {"tools", "prompts", "resources"}
    assert (names(ops), names(dev), dev.missing) == ([("c_z", "c")], [("a_x", "a")], ())
    assert set(dev.capabilities) == {"tools"}


def test_there_is_no_root_without_a_group_for_it() -> None:
    assert list(build(1, config(["a"], group_ref=None), {}).faces) == ["/g/mcp"]


def test_a_list_is_in_the_order_of_the_file_and_then_of_the_backend() -> None:
    where = face(config(["b", "a"]), catalog("a", tools=["z", "y"]), catalog("b", tools=["x", "w"]))
    assert [name for name, _ in names(where)] == ["b_x", "b_w", "a_z", "a_y"]
    assert list(where.routes[Kind.TOOL]) == ["b_x", "b_w", "a_z", "a_y"]


@pytest.mark.parametrize(
    ("aggregation", "expected", "lost"),
    [
        (Aggregation(), [("a_x", "a"), ("b_x", "b"), ("c_x", "c")], []),
        (MANUAL, [("x", "a")], [("b", "a"), ("c", "a")]),
        (Aggregation("priority", priority_order=("c", "b")), [("a_x", "a"), ("x", "c")], [("b", "c")]),
        (Aggregation("priority", priority_order=("nobody",)), [("a_x", "a"), ("b_x", "b"), ("c_x", "c")], []),
        (Aggregation(prefix_format="all_"), [("all_x", "a")], [("b", "a"), ("c", "a")]),
        (
            Aggregation("manual", tools={"a": Selection(overrides={"x": Override(name="y")})}),
            [("y", "a"), ("x", "b")],
            [("c", "b")],
        ),
        (Aggregation("manual", tools={"a": Selection(exclude=("x",))}), [("x", "b")], [("c", "b")]),
    ],
)
def test_a_conflict_costs_only_the_loser(
    aggregation: Aggregation, expected: list[tuple[str, str]], lost: list[tuple[str, str]]
) -> None:
    where = face(config(["a", "b", "c"], aggregation), *(catalog(name, tools=["x"]) for name in "abc"))
    assert names(where) == expected
    assert [(entry.backend, entry.winner) for entry in where.quarantined] == lost


def test_prefixes_can_collide_and_both_owners_are_named() -> None:
    where = face(config(["a", "a_b"]), catalog("a", tools=["b_c"]), catalog("a_b", tools=["c"]))
    assert names(where) == [("a_b_c", "a")]
    (lost,) = where.quarantined
    assert (lost.name, lost.backend, lost.original, lost.winner) == ("a_b_c", "a_b", "c", "a")
    assert lost.why == "'c' of 'a_b' has the same name as 'b_c' of 'a'"


def test_within_a_backend_the_smaller_original_name_wins_whatever_the_order() -> None:
    renamed = Aggregation(
        "manual", tools={"a": Selection(overrides={"z": Override(name="x"), "b": Override(name="x")})}
    )
    for tools in (["x", "z", "b"], ["b", "z", "x"]):
        where = face(config(["a"], renamed), catalog("a", tools=tools))
        assert [route.original for route in where.listing[Kind.TOOL]] == ["b"]
        assert {entry.original for entry in where.quarantined} == {"x", "z"}


def test_prompts_are_named_like_tools_and_uris_stay() -> None:
    ours = catalog("a", prompts=["p"], resources=["doc://r"], templates=["doc://{t}"])
    theirs = catalog("b", prompts=["p"], resources=["doc://r"], templates=["doc://{t}"])
    where = face(config(["a", "b"]), ours, theirs)
    assert names(where, Kind.PROMPT) == [("a_p", "a"), ("b_p", "b")]
    assert names(where, Kind.RESOURCE) == [("doc://r", "a")]
    assert names(where, Kind.TEMPLATE) == [("doc://{t}", "a")]
    assert [(entry.kind, entry.backend) for entry in where.quarantined] == [(Kind.RESOURCE, "b"), (Kind.TEMPLATE, "b")]
    assert names(face(config(["a", "b"], MANUAL), ours, theirs), Kind.PROMPT) == [("p", "a")]


def test_hidden_entries_are_kept_apart_and_claim_no_name() -> None:
    aggregation = Aggregation("manual", tools={"a": Selection(exclude_all=True)})
    where = face(config(["a", "b"], aggregation), catalog("a", tools=["x"]), catalog("b", tools=["x"]))
    assert names(where) == [("x", "b")]
    assert where.quarantined == ()
    assert {key: route.listed for key, route in where.hidden[Kind.TOOL].items()} == {("a", "x"): False}
    assert where.hidden[Kind.PROMPT] == {}


def test_templates_are_asked_longest_beginning_first_and_ties_in_the_order_of_the_list() -> None:
    where = face(
        config(["a", "b"]), catalog("a", templates=["d://{x}", "d://k/{x}"]), catalog("b", templates=["d://{y}"])
    )
    assert [one.route.original for one in where.templates] == ["d://k/{x}", "d://{x}", "d://{y}"]


def test_a_loser_has_the_name_until_the_winner_answers_for_the_first_time() -> None:
    made = config(["a", "b"], MANUAL)
    assert names(face(made, catalog("b", tools=["x"]))) == [("x", "b")]
    assert names(face(made, catalog("a", tools=["x"]), catalog("b", tools=["x"]))) == [("x", "a")]


def test_the_mappings_of_a_table_cannot_be_changed() -> None:
    table = build(1, config(["a"]), {"a": catalog("a", tools=["x"])})
    one = table.faces["/mcp"]
    for mapping in (
        table.faces,
        one.routes,
        one.routes[Kind.TOOL],
        one.listing,
        one.hidden,
        one.hidden[Kind.TOOL],
        one.capabilities,
    ):
        assert not hasattr(mapping, "__setitem__")


BACKENDS = ("a", "a_b", "b.c", "vmcp", "d")
NAMES = st.lists(
    st.sampled_from(["x", "b_x", "x.y", "vmcp_x", "ä", "n" * 70, "n" * 71, "a://{b}"]) | st.text(min_size=1), max_size=6
)
AGGREGATIONS = st.builds(
    Aggregation,
    strategy=st.sampled_from(["prefix", "priority", "manual"]),
    prefix_format=st.sampled_from(["{workload}_", "{workload}", "all."]),
    priority_order=st.lists(st.sampled_from(BACKENDS), max_size=3).map(tuple),
    max_name_length=st.sampled_from([16, 64]),
)
CATALOGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            lambda tools, prompts, resources, revision, name=name: catalog(
                name, tools=tools, prompts=prompts, resources=resources, templates=resources, revision=revision
            ),
            NAMES,
            NAMES,
            NAMES,
            st.sampled_from([OLD, NEW]),
        )
        for name in BACKENDS
    },
)


def _named(table: RoutingTable) -> dict[tuple[Kind, str, str], str]:
    one = table.faces["/mcp"]
    found = [*one.quarantined, *(route for kind in Kind for route in one.listing[kind])]
    assert len(found) == len({(entry.kind, entry.backend, entry.original) for entry in found})
    return {(entry.kind, entry.backend, entry.original): entry.name for entry in found}


@given(AGGREGATIONS, CATALOGS, st.randoms())
def test_the_table_does_not_depend_on_the_order_of_the_catalogs(
    aggregation: Aggregation, catalogs: dict[str, Catalog], random: Random
) -> None:
    made = config(BACKENDS, aggregation)
    shuffled = list(catalogs)
    random.shuffle(shuffled)
    assert build(1, made, {name: catalogs[name] for name in shuffled}) == build(1, made, catalogs)


@given(AGGREGATIONS, CATALOGS)
def test_nothing_is_lost_and_every_name_fits(aggregation: Aggregation, catalogs: dict[str, Catalog]) -> None:
    table = build(1, config(BACKENDS, aggregation), catalogs)
    offered = {(kind, c.backend, e.name) for c in catalogs.values() for kind in Kind for e in c.entries[kind]}
    assert set(_named(table)) == offered
    for kind in (Kind.TOOL, Kind.PROMPT):
        for name in table.faces["/mcp"].routes[kind]:
            assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
            assert len(name) <= aggregation.max_name_length
            assert not name.startswith("vmcp_")


@given(AGGREGATIONS, CATALOGS, st.sets(st.sampled_from(BACKENDS)))
def test_a_name_does_not_move_when_other_backends_come_and_go(
    aggregation: Aggregation, catalogs: dict[str, Catalog], gone: set[str]
) -> None:
    made = config(BACKENDS, aggregation)
    everybody = _named(build(1, made, catalogs))
    some = _named(build(2, made, {name: one for name, one in catalogs.items() if name not in gone}))
    assert some.items() <= everybody.items()


LEGAL = st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True), max_size=8, unique=True)


@given(st.fixed_dictionaries(dict.fromkeys(("github", "jira", "files"), LEGAL)))
def test_distinct_prefixes_lose_no_tool(tools: dict[str, list[str]]) -> None:
    where = face(config(list(tools)), *(catalog(name, tools=names) for name, names in tools.items()))
    assert where.quarantined == ()
    assert set(where.routes[Kind.TOOL]) == {f"{backend}_{name}" for backend, names in tools.items() for name in names}
