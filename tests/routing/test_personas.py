"""Who gets which persona, and what it shows.

Rule: beside every choice that is allowed stands the one that would be a way out.
"""

from dataclasses import replace
from typing import Any

import pytest

from tests.routing.catalogs import catalog
from vmcp.config.model import Aggregation, BackendSpec, Config, Group, ServerSpec
from vmcp.config.personas import Persona
from vmcp.errors import McpError
from vmcp.routing.build import build
from vmcp.routing.catalog import Kind
from vmcp.routing.personas import Personas
from vmcp.routing.table import Route

ANALYST = Persona("analyst", groups=("data",), include=("read_*",), exclude=("read_salaries",))
CLAIMED = replace(ANALYST, claims={"groups": frozenset({"analysts", "readers"}), "site": frozenset({"oslo"})})
ADMIN = Persona("admin", claims={"groups": frozenset({"admins"})})
OPEN = Persona("open", exclude=("drop_*",))
MINE: Any = {"groups": ["x", "analysts"], "site": "oslo"}


def config(*personas: Persona) -> Config:
    groups = {
        "data": Group("data", {name: BackendSpec(name, "data", "stdio") for name in ("db", "lake")}),
        "ops": Group("ops", {"ci": BackendSpec("ci", "ops", "stdio")}),
    }
    manual = Aggregation(strategy="manual")
    return Config("t", groups, "data", manual, ServerSpec(), "d", personas={each.name: each for each in personas})


def chosen(given: Config, path: str, asked: str | None, claims: Any) -> str | int | None:
    """The name of the persona, or the code of the error."""
    try:
        view = Personas(given).choose(build(0, given, {}).faces[path], asked, claims)
    except McpError as error:
        return error.code
    return None if view is None else view.persona.name


@pytest.mark.parametrize(
    ("path", "asked", "claims", "expected"),
    [
        # By claims, wherever he comes.
        ("/mcp", None, MINE, "analyst"),
        ("/data/mcp", None, MINE, "analyst"),
        ("/persona/analyst/mcp", None, MINE, "analyst"),
        ("/mcp", "analyst", MINE, "analyst"),
        ("/ops/mcp", None, MINE, 3002),
        ("/ops/mcp", "analyst", MINE, 3002),
        # Not another, though anybody else may choose it.
        ("/mcp", "open", MINE, 3001),
        ("/persona/open/mcp", None, MINE, 3001),
        ("/mcp", "admin", MINE, 3001),
        ("/persona/admin/mcp", None, MINE, 3001),
        ("/mcp", "nothing", MINE, 3001),
        ("/mcp", "", MINE, 3001),
        # Whoever fits several has the first, or the one that he asks for.
        ("/mcp", None, {**MINE, "groups": ["admins", "readers"]}, "analyst"),
        ("/mcp", "admin", {**MINE, "groups": ["admins", "readers"]}, "admin"),
        ("/ops/mcp", "admin", {**MINE, "groups": ["admins", "readers"]}, "admin"),
        ("/persona/admin/mcp", None, {**MINE, "groups": ["admins", "readers"]}, "admin"),
        # Whoever fits none has none, or one that is for everybody.
        ("/mcp", None, {}, None),
        ("/ops/mcp", None, {}, None),
        ("/mcp", "open", {}, "open"),
        ("/persona/open/mcp", None, {}, "open"),
        ("/persona/open/mcp", "open", {}, "open"),
        ("/mcp", "analyst", {}, 3001),
        ("/persona/analyst/mcp", None, {}, 3001),
        ("/persona/analyst/mcp", "open", {}, 3001),
        ("/persona/open/mcp", "analyst", MINE, 3001),
        ("/persona/open/mcp", "nothing", {}, 3001),
        ("/persona/analyst/mcp", "admin", {**MINE, "groups": ["admins", "readers"]}, 3001),
        # Every claim counts, and nothing is taken for text that is none.
        ("/mcp", None, {"groups": ["analysts"]}, None),
        ("/mcp", None, {"groups": "analysts", "site": ["oslo"]}, "analyst"),
        ("/mcp", None, {"groups": {"analysts": 1}, "site": "oslo"}, None),
        ("/mcp", None, {"groups": [["analysts"], None, 5, True], "site": "oslo"}, None),
        ("/mcp", None, {"groups": "analysts readers", "site": "oslo"}, None),
        ("/mcp", None, {"groups": "Analysts", "site": "oslo"}, None),
        ("/mcp", None, {"groups": None, "site": None}, None),
    ],
)
def test_who_gets_which(path: str, asked: str | None, claims: Any, expected: str | int | None) -> None:
    assert chosen(config(CLAIMED, ADMIN, OPEN), path, asked, claims) == expected


def test_an_unknown_persona_and_one_of_others_look_the_same() -> None:
    given = config(CLAIMED)
    face = build(0, given, {}).faces["/mcp"]
    told = []
    for asked in ("analyst", "nothing"):
        with pytest.raises(McpError) as refused:
            Personas(given).choose(face, asked, {})
        told.append((refused.value.code, refused.value.message.replace(asked, "…"), refused.value.data))
    assert told[0] == told[1]


def route(name: str, backend: str = "db", kind: Kind = Kind.TOOL, original: str = "") -> Route:
    return Route(kind, name, backend, original or name, b"", b"")


@pytest.mark.parametrize(
    ("persona", "shown", "expected"),
    [
        (ANALYST, route("read_rows"), True),
        (ANALYST, route("read_rows", "lake"), True),
        (ANALYST, route("read_rows", "ci"), False),
        (ANALYST, route("read_salaries"), False),
        (ANALYST, route("write_rows", original="read_rows"), False),
        (ANALYST, route("read_rows", original="write_rows"), True),
        (ANALYST, route("x://read_", kind=Kind.RESOURCE), False),
        (Persona("nothing", include=()), route("read_rows"), False),
        (Persona("all"), route("read_rows", "ci"), True),
        # A template has two names, and a read through it is judged by both.
        (Persona("p", include=("x://a/*",)), route("x://a/1", kind=Kind.TEMPLATE, original="x://{+p}"), True),
        (Persona("p", include=("x://a/*",)), route("x://b/1", kind=Kind.TEMPLATE, original="x://{+p}"), False),
        (Persona("p", include=("x://{+p}",)), route("x://b/1", kind=Kind.TEMPLATE, original="x://{+p}"), True),
        (Persona("p", exclude=("x://b/*",)), route("x://b/1", kind=Kind.TEMPLATE, original="x://{+p}"), False),
        (Persona("p", exclude=("x://{+p}",)), route("x://b/1", kind=Kind.TEMPLATE, original="x://{+p}"), False),
    ],
)
def test_what_it_shows(persona: Persona, shown: Route, expected: bool) -> None:
    given = config(persona)
    view = Personas(given).choose(build(0, given, {}).faces["/mcp"], persona.name, {})
    assert view is not None
    assert view.admits(shown) is expected


def test_its_own_path_serves_its_groups_together() -> None:
    given = config(replace(ANALYST, description="Reads."), Persona("both", groups=("ops", "data")), Persona("all"))
    catalogs = {name: catalog(name, tools=[f"{name}_t"]) for name in ("db", "lake", "ci")}
    table = build(1, given, catalogs)
    assert list(table.faces) == [
        "/mcp",
        "/data/mcp",
        "/ops/mcp",
        "/persona/analyst/mcp",
        "/persona/both/mcp",
        "/persona/all/mcp",
    ]

    def tools(path: str) -> list[str]:
        return [each.name for each in table.faces[path].listing[Kind.TOOL]]

    assert tools("/persona/analyst/mcp") == ["db_t", "lake_t"]
    assert tools("/persona/both/mcp") == ["ci_t", "db_t", "lake_t"]
    assert tools("/persona/all/mcp") == ["db_t", "lake_t", "ci_t"]
    face = table.faces["/persona/analyst/mcp"]
    assert face.instructions == "Reads."
    assert face.backends == table.faces["/mcp"].backends == {"db", "lake"}
    assert face.listing[Kind.TOOL] is table.faces["/data/mcp"].listing[Kind.TOOL], "what is the same is made once"
