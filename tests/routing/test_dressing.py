"""What a persona shows in its own way: texts, names and arguments, and what stays as it is for all.

Rule: beside every change stands what policies and limits still see.
"""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tests.routing.catalogs import NEW, catalog, entry
from vmcp.config.globs import globs
from vmcp.config.model import Aggregation, ArgumentOverride, BackendSpec, Config, Group, Override, Selection, ServerSpec
from vmcp.config.personas import Persona
from vmcp.errors import McpError
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.dressing import wardrobe
from vmcp.routing.personas import View
from vmcp.routing.table import Face, HeaderParam, Route
from vmcp.routing.things import thing

SCHEMA: Any = {
    "type": "object",
    "properties": {
        "q": {"type": "string"},
        "n": {"type": "integer"},
        "site": {"type": "string", "x-mcp-header": "Site"},
    },
    "required": ["q", "site"],
}
SEARCH = entry(
    Kind.TOOL, "search", description="Search.", inputSchema=SCHEMA, annotations={"readOnlyHint": True}, x=1.0
)


def persona(name: str = "p", include: tuple[str, ...] | None = None, **overrides: Override) -> Persona:
    return Persona(name, include=include, overrides=overrides)


def faces(
    *personas: Persona, tools: Any = (SEARCH, "drop", "list"), said: Aggregation | None = None, **catalogs: Catalog
) -> dict[str, Face]:
    given = catalogs or {"db": catalog("db", tools=tools, prompts=["brief"])}
    groups = {"g": Group("g", {name: BackendSpec(name, "g", "stdio") for name in given})}
    known = {each.name: each for each in personas}
    config = Config("t", groups, "g", said or Aggregation(strategy="manual"), ServerSpec(), "d", personas=known)
    return dict(build(1, config, given).faces)


def dressed(*personas: Persona, **more: Any) -> Face:
    return faces(*personas, **more)["/mcp"].dressed[personas[0].name]


def tools(face: Face) -> dict[str, Any]:
    listed = {json.loads(route.modern)["name"]: route for route in face.listing[Kind.TOOL]}
    assert listed == face.routes[Kind.TOOL], "the list and what can be called are the same"
    return {name: json.loads(route.modern) for name, route in listed.items()}


def test_texts_are_the_personas_and_the_tool_is_the_same_for_policies() -> None:
    override = Override("find", "Find", "Find rows.", {"readOnlyHint": False, "title": "F"})
    face = dressed(persona(search=override))
    shown = tools(face)
    assert list(shown) == ["find", "drop", "list"]
    annotations = {"readOnlyHint": False, "title": "F"}
    assert shown["find"] == {
        **json.loads(SEARCH),
        "name": "find",
        "title": "Find",
        "description": "Find rows.",
        "annotations": annotations,
    }
    route, shared = face.routes[Kind.TOOL]["find"], faces()["/mcp"].routes[Kind.TOOL]["search"]
    assert b'"x": 1.0' in route.modern or b'"x":1.0' in route.modern
    assert thing(route) == thing(shared)
    assert thing(route).hints["readOnlyHint"] is True
    assert (route.name, route.original, route.arguments) == ("search", "search", None)
    assert route.worn is not None
    assert route.worn.effective({"q": 1}) == {"q": 1}
    assert face.routes[Kind.TOOL]["drop"] is not None
    assert face.routes[Kind.PROMPT].keys() == {"brief"}


def test_everybody_else_sees_what_he_saw() -> None:
    found = faces(persona(search=Override("find")), Persona("plain"), persona("other", missing=Override("x")))
    assert set(found) == {"/mcp", "/g/mcp", "/persona/p/mcp", "/persona/plain/mcp", "/persona/other/mcp"}
    for face in found.values():
        assert list(face.routes[Kind.TOOL]) == ["search", "drop", "list"]
        assert list(face.dressed) == ["p"]
        assert face.dressed["p"].path == face.path
    assert list(faces(Persona("plain"))["/mcp"].dressed) == []
    assert list(faces(persona(missing=Override("x")))["/mcp"].dressed) == []


def test_both_eras_see_it() -> None:
    schema = {"type": "object", "properties": {"q": True, "r": {"type": "string"}}}
    modern = catalog("db", tools=[entry(Kind.TOOL, "search", inputSchema=schema)], revision=NEW)
    override = Override("find", arguments={"r": ArgumentOverride("row")})
    route = dressed(persona(search=override), db=modern).routes[Kind.TOOL]["find"]
    assert json.loads(route.modern)["inputSchema"]["properties"] == {"q": True, "row": {"type": "string"}}
    assert json.loads(route.handshake)["inputSchema"]["properties"] == {"q": {}, "row": {"type": "string"}}
    assert json.loads(route.handshake)["name"] == "find"


ARGUMENTS = {
    "q": ArgumentOverride("words", "What to look for."),
    "n": ArgumentOverride(default=b"5"),
    "site": ArgumentOverride(fixed=b'"oslo"'),
}


def test_arguments_are_the_personas_and_mean_the_same() -> None:
    face = dressed(persona(search=Override(arguments=ARGUMENTS)))
    schema = tools(face)["search"]["inputSchema"]
    assert schema["properties"] == {
        "words": {"type": "string", "description": "What to look for."},
        "n": {"type": "integer", "default": 5},
    }
    assert schema["required"] == ["words"]
    route = face.routes[Kind.TOOL]["search"]
    assert route.shown_header_params == ()
    assert route.header_params == (HeaderParam("Site", ("site",)),)
    assert _applied(route, {"words": "a"}) == {"q": "a", "n": 5, "site": "oslo"}
    assert _applied(route, {"words": "a", "n": None, "more": 1}) == {"q": "a", "n": None, "site": "oslo", "more": 1}
    for unknown in ("q", "site"):
        with pytest.raises(McpError, match=f"unknown argument '{unknown}'"):
            _applied(route, {unknown: "x"})


@pytest.mark.parametrize(
    ("given", "effective"),
    [
        (None, {"n": 5, "site": "oslo"}),
        ({}, {"n": 5, "site": "oslo"}),
        ({"words": "a", "n": 7}, {"q": "a", "n": 7, "site": "oslo"}),
        ({"q": "a", "site": "bergen", "more": [1]}, {"n": 5, "site": "oslo", "more": [1]}),
        ([], []),
        ("x", "x"),
    ],
)
def test_policies_judge_arguments_as_they_are_meant(given: Any, effective: Any) -> None:
    route = dressed(persona(search=Override(arguments=ARGUMENTS))).routes[Kind.TOOL]["search"]
    assert route.worn is not None
    assert route.worn.effective(given) == effective
    plain = dressed(persona(search=Override("find"))).routes[Kind.TOOL]["find"]
    assert plain.worn is not None
    assert plain.worn.effective(None) is None
    assert plain.worn.effective({}) == {}


def _applied(route: Route, given: dict[str, Any]) -> Any:
    assert route.arguments is not None
    return msgspec.json.decode(
        msgspec.json.encode(route.arguments.apply({k: Raw(msgspec.json.encode(v)) for k, v in given.items()}))
    )


SHARED = Aggregation(
    strategy="manual",
    tools={
        "db": Selection(
            overrides={
                "search": Override("look", arguments={"q": ArgumentOverride("text"), "n": ArgumentOverride(fixed=b"9")})
            }
        )
    },
)


def test_what_is_changed_for_all_comes_after_what_is_changed_for_one() -> None:
    override = Override("find", arguments={"text": ArgumentOverride("words"), "site": ArgumentOverride("place")})
    face = dressed(persona(look=override), said=SHARED)
    route = face.routes[Kind.TOOL]["find"]
    assert list(tools(face)["find"]["inputSchema"]["properties"]) == ["words", "place"]
    assert route.shown_header_params == (HeaderParam("Site", ("place",)),)
    assert _applied(route, {"words": "a", "place": "oslo"}) == {"q": "a", "n": 9, "site": "oslo"}
    assert route.worn is not None
    assert route.worn.effective({"words": "a"}) == {"text": "a"}
    for unknown in ("text", "q", "n", "site"):
        with pytest.raises(McpError, match="unknown argument"):
            _applied(route, {unknown: 1})
    plain = dressed(persona(look=Override(description="x")), said=SHARED).routes[Kind.TOOL]["look"]
    assert plain.arguments == faces(said=SHARED)["/mcp"].routes[Kind.TOOL]["look"].arguments


@pytest.mark.parametrize(
    "override", [ArgumentOverride(fixed=b"1"), ArgumentOverride(default=b"1"), ArgumentOverride("m")]
)
def test_what_was_hidden_from_all_is_given_to_nobody(override: ArgumentOverride) -> None:
    made = faces(persona(look=Override(arguments={"n": override})), said=SHARED)["/mcp"]
    assert list(made.dressed["p"].routes[Kind.TOOL]) == ["drop", "list"]
    assert [each.why for each in made.quarantined] == [
        "persona 'p': its argument 'n' is not there any more for anybody"
    ]


def test_only_what_the_persona_shows_is_there_and_names_that_it_hides_are_free() -> None:
    shown = persona(include=("search", "list"), search=Override("drop"))
    assert list(tools(dressed(shown))) == ["drop", "list"]
    face = dressed(shown)
    assert face.routes[Kind.TOOL]["drop"].original == "search"
    swapped = dressed(persona(search=Override("list"), list=Override("search")))
    assert {name: route.original for name, route in swapped.routes[Kind.TOOL].items()} == {
        "list": "search",
        "drop": "drop",
        "search": "list",
    }


@pytest.mark.parametrize(("old", "new"), [("search", "list"), ("list", "search")])
def test_no_name_is_taken_away_from_another_tool(old: str, new: str) -> None:
    found = faces(Persona("p", overrides={old: Override(new)}))["/mcp"]
    (lost,) = found.quarantined
    assert (lost.name, lost.original) == (new, old)
    assert lost.why == f"persona 'p': it would be called '{new}', which is the name of another tool there"
    assert {name: route.original for name, route in found.dressed["p"].routes[Kind.TOOL].items()} == {
        new: new,
        "drop": "drop",
    }


def test_two_of_one_new_name_are_told_apart_by_their_order() -> None:
    long = "l" * 70
    said = Aggregation(strategy="manual", max_name_length=16)
    found = faces(persona(search=Override(long), drop=Override("x"), list=Override("x")), said=said)["/mcp"]
    names = list(tools(found.dressed["p"]))
    assert names[1:] == ["x"]
    assert len(names[0]) == 16
    assert found.dressed["p"].routes[Kind.TOOL]["x"].original == "drop"
    assert [each.original for each in found.quarantined] == ["list"]


@pytest.mark.parametrize(
    ("override", "schema", "why"),
    [
        (Override("vmcp_x"), SCHEMA, "are for vmcp itself"),
        (Override(arguments={"q": ArgumentOverride("n")}), SCHEMA, "two of its arguments would be called 'n'"),
        (Override(arguments={"q": ArgumentOverride("n")}), {"properties": 5}, "its inputSchema is not understood"),
    ],
)
def test_what_cannot_be_shown_so_is_not_shown_to_the_persona(override: Override, schema: Any, why: str) -> None:
    tool = entry(Kind.TOOL, "search", inputSchema=schema)
    found = faces(persona(search=override), tools=[tool, "list"])["/mcp"]
    assert list(found.routes[Kind.TOOL]) == ["search", "list"]
    assert list(tools(found.dressed["p"])) == ["list"]
    (lost,) = found.quarantined
    assert why in lost.why
    assert lost.why.startswith("persona 'p': ")


def test_a_schema_that_only_one_era_could_not_show() -> None:
    """The text for older clients is made from another one, so it can fail by itself."""
    route = faces()["/mcp"].routes[Kind.TOOL]["search"]
    assert route.handshake is route.modern
    broken = msgspec.structs.replace(route, handshake=b'{"name":"search","inputSchema":{"properties":5}}')
    face = faces()["/mcp"]
    spoilt = replace(
        face, listing={**face.listing, Kind.TOOL: (broken,)}, routes={**face.routes, Kind.TOOL: {"search": broken}}
    )
    view = View(persona(search=Override(arguments=ARGUMENTS)), frozenset(["db"]), None, globs(()))
    made = wardrobe(spoilt, [view], 64)
    assert made.dressed["p"].listing[Kind.TOOL] == ()
    assert "not understood" in made.quarantined[0].why
