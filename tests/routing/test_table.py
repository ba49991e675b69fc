"""Asking the table: who answers for a URI, and what is different from the table before."""

import pytest

from tests.routing.catalogs import NEW, catalog, config
from vmcp.config.model import Aggregation, Selection
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.table import Face, RoutingTable, diff, resource_route


def face(aggregation: Aggregation | None = None, *catalogs: Catalog) -> Face:
    made = config([catalog.backend for catalog in catalogs], aggregation)
    return build(1, made, {catalog.backend: catalog for catalog in catalogs}).faces["/mcp"]


def owner(where: Face, uri: str) -> tuple[str, str] | None:
    found = resource_route(where, uri)
    return None if found is None else (found.backend, found.original)


SEVERAL = face(
    None,
    catalog("a", resources=["doc://a/1"], templates=["doc://{+x}", "doc://{x}/first", "doc://b/{x}"]),
    catalog("b", resources=["doc://b/2"], templates=["doc://b/{y}", "doc://{y}/other", "doc://b/long/{+y}"]),
)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("doc://a/1", ("a", "doc://a/1")),
        ("doc://b/2", ("b", "doc://b/2")),
        ("doc://b/3", ("a", "doc://b/{x}")),
        ("doc://b/long/3", ("b", "doc://b/long/{+y}")),
        ("doc://c/3", ("a", "doc://{+x}")),
        ("doc://c/other", ("a", "doc://{+x}")),
        ("doc:/c", None),
        ("file:///etc/passwd", None),
    ],
)
def test_the_exact_uri_answers_then_the_template_with_the_longest_beginning(
    uri: str, expected: tuple[str, str] | None
) -> None:
    assert owner(SEVERAL, uri) == expected


def test_a_template_is_no_way_to_what_is_excluded_or_hidden() -> None:
    chosen = Selection(filter=("doc://{+x}", "doc://open"), exclude=("doc://secret/*",))
    one = catalog("a", resources=["doc://open", "doc://unlisted"], templates=["doc://{+x}"])
    where = face(Aggregation(resources={"a": chosen}), one)
    assert owner(where, "doc://open") == ("a", "doc://open")
    assert owner(where, "doc://else") == ("a", "doc://{+x}")
    assert owner(where, "doc://secret/1") is None
    assert owner(where, "doc://unlisted") is None


def test_a_hidden_template_does_not_answer() -> None:
    where = face(Aggregation(resources={"a": Selection(exclude_all=True)}), catalog("a", templates=["doc://{x}"]))
    assert owner(where, "doc://1") is None


def test_a_face_made_by_hand_has_nothing_hidden() -> None:
    empty = Face("/mcp", "g", "x", "", {}, {kind: {} for kind in Kind}, dict.fromkeys(Kind, ()), (), ())
    assert resource_route(empty, "a://b") is None


CONFIG = config(["a", "b"])
OLD = build(1, CONFIG, {"a": catalog("a", tools=["x"], prompts=["p"])})


def test_the_first_table_differs_in_all_that_it_lists() -> None:
    both = frozenset({Kind.TOOL, Kind.PROMPT})
    assert diff(None, OLD) == {"/mcp": both, "/g/mcp": both}


def test_a_table_built_again_does_not_differ() -> None:
    assert diff(OLD, build(2, CONFIG, {"a": catalog("a", tools=["x"], prompts=["p"])})) == {}


@pytest.mark.parametrize(
    ("later", "kinds"),
    [
        (catalog("a", tools=["x", "y"], prompts=["p"]), {Kind.TOOL}),
        (catalog("a", tools=["x"]), {Kind.PROMPT}),
        (
            catalog("a", tools=["x"], prompts=[b'{"name":"p","title":"P"}'], templates=["a://{b}"]),
            {Kind.PROMPT, Kind.TEMPLATE},
        ),
    ],
)
def test_only_the_kinds_that_look_different_are_told(later: Catalog, kinds: set[Kind]) -> None:
    assert diff(OLD, build(2, CONFIG, {"a": later})) == {"/mcp": kinds, "/g/mcp": kinds}


def test_a_face_that_is_gone_differs_in_what_it_listed() -> None:
    without_root = build(2, config(["a", "b"], group_ref=None), {"a": catalog("a", tools=["x"], prompts=["p"])})
    assert diff(OLD, without_root) == {"/mcp": {Kind.TOOL, Kind.PROMPT}}


def test_each_era_may_ask_for_what_is_different_in_its_own_eyes() -> None:
    def table(of: str) -> RoutingTable:
        schema = b'{"type":"array","items":{"type":"%b"}}' % of.encode()
        tool = b'{"name":"x","inputSchema":{"type":"object"},"outputSchema":%b}' % schema
        return build(1, CONFIG, {"a": catalog("a", tools=[tool], revision=NEW)})

    old, new = table("string"), table("number")
    assert diff(old, new) == diff(old, new, modern=True) == {"/mcp": {Kind.TOOL}, "/g/mcp": {Kind.TOOL}}
    assert diff(old, new, modern=False) == {}
    assert diff(None, new, modern=False) == {"/mcp": {Kind.TOOL}, "/g/mcp": {Kind.TOOL}}
