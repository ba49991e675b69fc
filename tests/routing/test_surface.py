"""What clients see of a table. Rule: what is read off is what the lists have, for everybody and for a persona."""

from dataclasses import replace

import pytest

from tests.routing.catalogs import catalog, config
from vmcp.config.overrides import Override
from vmcp.config.personas import Persona
from vmcp.routing.build import build
from vmcp.routing.catalog import Kind
from vmcp.routing.surface import Sheet, served, surface, tokens, weight

NOTES = catalog(
    "notes", tools=["add", "search"], prompts=["ask"], resources=["n://a"], templates=["n://{t}"], instructions="Hi."
)
PERSONAS = {
    "reader": Persona("reader", include=("*_search",)),
    "dressed": Persona("dressed", exclude=("n://*",), overrides={"notes_search": Override(name="find")}),
}


def sheets() -> dict[str, Sheet]:
    given = replace(config(["notes", "late"]), personas=PERSONAS)
    return surface(given, build(1, given, {"notes": NOTES}))


def names(sheet: Sheet) -> list[str]:
    return [f"{item.name}={item.backend}/{item.original}" for kind in Kind for item in sheet.items[kind].values()]


def test_every_endpoint_has_its_sheet() -> None:
    found = sheets()
    assert [(path, sheet.persona) for path, sheet in found.items()] == [
        ("/mcp", None),
        ("/g/mcp", None),
        ("/persona/reader/mcp", "reader"),
        ("/persona/dressed/mcp", "dressed"),
    ]
    assert names(found["/mcp"]) == [
        "notes_add=notes/add",
        "notes_search=notes/search",
        "notes_ask=notes/ask",
        "n://a=notes/n://a",
        "n://{t}=notes/n://{t}",
    ]
    assert found["/mcp"].missing == ("late",)
    assert found["/mcp"].instructions == "## notes\nHi."


def test_a_persona_sees_what_it_is_shown_under_the_names_that_it_has_there() -> None:
    found = sheets()
    assert names(found["/persona/reader/mcp"]) == ["notes_search=notes/search"]
    dressed = found["/persona/dressed/mcp"]
    assert names(dressed) == ["notes_add=notes/add", "find=notes/search", "notes_ask=notes/ask"]
    assert b'"name":"find"' in dressed.items[Kind.TOOL]["find"].text


def test_what_somebody_else_serves_has_no_backends() -> None:
    found = served("/mcp", NOTES)
    assert (found.path, found.instructions, names(found)[:2]) == ("/mcp", "Hi.", ["add=/", "search=/"])


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_tokens_are_bytes_by_four(size: int, expected: int) -> None:
    assert tokens(size) == expected


def test_a_list_weighs_what_all_of_it_weighs() -> None:
    items = served("/mcp", NOTES).items[Kind.TOOL]
    assert weight(items) == tokens(sum(len(item.text) for item in items.values()))
    assert weight({}) == 0
