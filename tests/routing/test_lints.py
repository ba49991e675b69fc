"""What clients, models and people will have trouble with. Rule: each finding stands beside what is none."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.routing.catalogs import catalog, config, entry
from vmcp.config.lock import LockSpec
from vmcp.config.model import Aggregation, Config
from vmcp.config.personas import Persona
from vmcp.config.rules import Rule
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.lints import Lint, lints

MANUAL = Aggregation("manual")


def found(*catalogs: Catalog, given: Config | None = None, budget: int = 25_000) -> list[Lint]:
    offered: Mapping[str, Catalog] = {each.backend: each for each in catalogs}
    made = given or config([*offered], MANUAL)
    return list(lints(made, build(1, made, offered), offered, budget))


def told(*catalogs: Catalog, given: Config | None = None, budget: int = 25_000) -> list[tuple[str, str | None, str]]:
    return [
        (str(each.rule), each.backend or each.group, each.what) for each in found(*catalogs, given=given, budget=budget)
    ]


def tool(name: str, description: str = "", **more: object) -> bytes:
    return entry(Kind.TOOL, name, description=description, **more)


def test_what_is_well_is_told_as_nothing() -> None:
    assert (
        found(catalog("a", tools=["x" * 53, tool("get", "Gets."), tool("put", "Puts.")], instructions="Words.")) == []
    )


def test_a_backend_that_did_not_answer_is_told() -> None:
    assert told(catalog("a"), given=config(["a", "b"])) == [
        ("unanswered", "b", "did not answer, so nothing of it is checked")
    ]


def test_names_are_measured_as_clients_show_them() -> None:
    long = told(catalog("a", tools=["x" * 54]))
    assert long == [
        (
            "name-length",
            "a",
            f"Claude Code shows 'mcp__vmcp__<name>' in at most 64 characters, so 53 are left for: '{'x' * 54}'",
        )
    ]
    both = found(catalog("a", tools=["x" * 55]))
    assert [each.what.partition(" shows")[0] for each in both] == ["Claude Code", "Gemini CLI"]
    assert both[1].hint == "set aggregation.maxNameLength: 54, or rename them with overrides"


@pytest.mark.parametrize(("count", "clients"), [(100, []), (101, ["Windsurf"]), (129, ["Windsurf", "VS Code"])])
def test_tools_are_counted_for_each_client(count: int, clients: list[str]) -> None:
    lines = told(catalog("a", tools=[f"t{number}" for number in range(count)]))
    assert [(rule, where) for rule, where, _ in lines] == [("tool-count", "g")] * len(clients)
    assert [f"{count} tools; {client} uses" in line[2] for client, line in zip(clients, lines, strict=True)] == [
        True
    ] * len(clients)


def test_the_tokens_of_the_tools_have_a_budget() -> None:
    heavy = catalog("a", tools=[tool("big", "x" * 4000)]), catalog("b", tools=["small"])
    assert told(*heavy) == []
    ((rule, where, what),) = told(*heavy, budget=1000)
    assert (rule, where) == ("token-budget", "g")
    assert what.startswith("its tools cost about 10")
    assert what.partition("(")[2].startswith("a 10")


def test_reserved_names_and_names_of_others_are_told() -> None:
    lines = told(
        catalog("a", tools=["vmcp_status", "get"], resources=["r://x"]),
        catalog("b", tools=["get", "VMCP_x"], resources=["r://x"]),
    )
    assert lines == [
        ("reserved-name", "a", "names that begin with 'vmcp_' are for vmcp itself: 'vmcp_status'"),
        ("reserved-name", "b", "names that begin with 'vmcp_' are for vmcp itself: 'VMCP_x'"),
        ("shadowed-name", "b", "not served, as others have the same names: 'get of a', 'r://x of a'"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("get_file", "getFile", True),
        ("get-file", "get_file", True),
        ("pay1", "payl", True),
        ("O0", "oo", True),
        ("get_file", "put_file", False),
    ],
)
def test_names_that_look_alike_are_told(one: str, other: str, alike: bool) -> None:
    lines = told(catalog("a", tools=[one]), catalog("b", tools=[other]))
    expected = [("alike", "b", f"'{one} and {other}' are easily taken for one another")]
    assert lines == (expected if alike else [])
    assert told(catalog("a", tools=[one, other])) == [], "within one backend it is its own affair"


def test_the_same_description_at_two_backends_is_told() -> None:
    lines = told(catalog("a", tools=[tool("x", "Search.")]), catalog("b", tools=[tool("y", " Search. ")]))
    assert lines == [("alike", "b", "'x and y' have the same description")]


def test_a_backend_that_speaks_of_tools_of_others_is_told() -> None:
    mine = catalog("a", tools=["send_mail", "list"])
    lines = told(mine, catalog("b", tools=[tool("add", "Before send_mail or list, call add_more and add.")]))
    assert lines == [("shadowed-name", "b", "its descriptions speak of tools of other backends: 'send_mail in add'")]
    own = catalog("b", tools=["add_more", tool("add", "Like add_more.")])
    assert told(mine, own) == []
    assert told(mine, catalog("b", tools=[entry(Kind.TOOL, "add", description=5)])) == []
    assert told(mine, catalog("b", tools=[b'{"name":"add","description":"send_mail \xff"}'])) == []


def test_hidden_characters_are_told_with_their_places() -> None:
    bad = catalog(
        "a",
        tools=[tool("t", "a\u200bb", inputSchema={"properties": {"x": {"description": "\u202e"}}})],
        resources=[entry(Kind.RESOURCE, "r://x", title="\u200b")],
        instructions="Do\U000e0041",
    )
    assert told(bad) == [
        ("hidden-characters", "a", "tag characters in 'instructions'"),
        ("hidden-characters", "a", "bidirectional controls in 't: inputSchema.properties.x.description'"),
        ("hidden-characters", "a", "zero-width characters in 't: description', 'r://x: title'"),
    ]


def test_what_is_not_as_it_was_locked_is_told() -> None:
    given = replace(config(["a"], MANUAL), lock=LockSpec(policy="warn"))
    (line,) = told(catalog("a", tools=["t"], templates=["r://{x}"], instructions="Hi."), given=given)
    assert line == ("lock-drift", "a", "not as it was locked: 'instructions', 'tool t', 'resource template r://{x}'")


def test_many_are_told_by_a_few() -> None:
    ((_, _, what),) = told(catalog("a", tools=[f"vmcp_{number}" for number in range(8)]))
    assert what.endswith("'vmcp_0', 'vmcp_1', 'vmcp_2', 'vmcp_3', 'vmcp_4' and 3 more")


def test_each_group_is_looked_at_once_and_personas_are_not() -> None:
    given = replace(config(["a"], MANUAL), personas={"p": Persona("p")})
    assert len(found(catalog("a", tools=["vmcp_x"]), given=given)) == 1


def test_every_finding_says_what_to_do() -> None:
    both = (
        catalog("a", tools=["vmcp_x", "x" * 60, tool("t", "a\u200b")]),
        catalog("b", tools=[tool("T", "a\u200b of vmcp_x")]),
    )
    lines = found(*both, given=config(["a", "b", "c"], MANUAL), budget=1)
    assert {each.rule for each in lines} == {
        Rule.UNANSWERED,
        Rule.RESERVED_NAME,
        Rule.NAME_LENGTH,
        Rule.HIDDEN_CHARACTERS,
        Rule.TOKEN_BUDGET,
        Rule.ALIKE,
    }
    assert all(each.hint for each in lines)
