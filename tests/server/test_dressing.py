"""Tools as a persona shows them, through the whole house: what is listed can be called, and no policy is talked around.

Rule: the backend is asked what it heard.
"""

import json
from typing import Any

import pytest

from tests.server.clients import Door
from tests.server.peers import Server, echo, house, tool
from tests.server.test_personas import Dressed
from vmcp.config.authz import Authz
from vmcp.config.conditions import compiled
from vmcp.config.model import Aggregation, ArgumentOverride, Override
from vmcp.config.personas import Persona
from vmcp.config.steering import ROOTS, RoutingRule
from vmcp.protocol.revisions import MODERN, Revision

OLD = Revision.V2025_11_25
SCHEMA: Any = {
    "type": "object",
    "properties": {"path": {"type": "string", "x-mcp-header": "Path"}, "n": {"type": "integer"}},
    "required": ["path"],
}
FILES = Override(
    "open_file",
    "Open",
    "Open one of our files.",
    {"readOnlyHint": True},
    {"path": ArgumentOverride("file"), "n": ArgumentOverride(fixed=b"1")},
)
READER = Persona("reader", overrides={"read": FILES})
PINNED = Persona("pinned", overrides={"read": Override(arguments={"path": ArgumentOverride(fixed=b'"/srv/a"')})})
MASKED = Persona("masked", overrides={"drop": Override("read_safely", annotations={"readOnlyHint": True})})
ALL = {each.name: each for each in (READER, PINNED, MASKED)}


def backend() -> Server:
    return Server(tools=[tool("read", inputSchema=SCHEMA), tool("drop")], script=echo)


def heard(server: Server) -> list[tuple[str, Any]]:
    return [
        (asked.params["name"], asked.params.get("arguments")) for asked in server.asked if asked.method == "tools/call"
    ]


async def listed(door: Door) -> dict[str, Any]:
    return {each["name"]: each for each in (await door.ask("tools/list")).result["tools"]}


async def called(door: Door, name: str, arguments: Any = None, **headers: str) -> Any:
    params = {"name": name} | ({} if arguments is None else {"arguments": arguments})
    return (await door.ask("tools/call", params, **headers)).message


@pytest.mark.parametrize("revision", [OLD, MODERN])
@pytest.mark.parametrize(("path", "persona"), [("/mcp", "reader"), ("/g/mcp", "reader"), ("/persona/reader/mcp", None)])
async def test_what_is_listed_in_its_words_is_called_in_its_words(
    monkeypatch: pytest.MonkeyPatch, revision: Revision, path: str, persona: str | None
) -> None:
    server = backend()
    async with house(monkeypatch, {"a": server}, personas=ALL) as running:
        door = Dressed(running.app, revision, path, persona)
        await door.initialize()
        shown = await listed(door)
        assert list(shown) == ["open_file", "drop"]
        assert (shown["open_file"]["title"], shown["open_file"]["description"]) == ("Open", "Open one of our files.")
        assert list(shown["open_file"]["inputSchema"]["properties"]) == ["file"]
        assert (await door.ask("vmcp/servers/info", {"name": "a"})).result["tools"] == ["open_file", "drop"]
        header = {"mcp_param_path": "x"} if revision.modern else {}
        assert "result" in await called(door, "open_file", {"file": "x"}, **header)
        assert "result" in await called(door, "drop")
        for name, arguments in (
            ("read", {"path": "x"}),
            ("open_file", {"path": "x"}),
            ("open_file", {"file": "x", "n": 2}),
        ):
            assert "error" in await called(door, name, arguments, **header)
    assert heard(server) == [("read", {"path": "x", "n": 1}), ("drop", None)]


async def test_everybody_else_has_what_he_had(monkeypatch: pytest.MonkeyPatch) -> None:
    server = backend()
    async with house(monkeypatch, {"a": server}, personas=ALL) as running:
        door = Door(running.app, OLD)
        await door.initialize()
        assert list(await listed(door)) == ["read", "drop"]
        assert "result" in await called(door, "read", {"path": "x"})
        assert (await called(door, "open_file", {"file": "x"}))["error"]["message"] == "Unknown tool: open_file"


async def test_the_header_of_an_argument_is_compared_under_the_personas_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server = backend()
    server.revision = MODERN
    async with house(monkeypatch, {"a": server}, personas=ALL) as running:
        door = Dressed(running.app, MODERN, persona="reader")
        assert "result" in await called(door, "open_file", {"file": "x"}, mcp_param_path="x")
        assert (await called(door, "open_file", {"file": "x"}, mcp_param_path="y"))["error"]["code"] == -32020
        pinned = Dressed(running.app, MODERN, persona="pinned")
        assert "result" in await called(pinned, "read", {})
    sent = [asked.headers["mcp-param-path"] for asked in server.asked if asked.method == "tools/call"]
    assert sent == ["x", "/srv/a"], "the backend has it under its own"


NO_ETC = (
    "permit(principal, action, resource);",
    """forbid(principal, action == Action::"call_tool", resource == Tool::"read")
    when { context has arg_path && context.arg_path like "/etc/*" };""",
)


async def test_a_policy_sees_the_name_and_the_arguments_that_all_know(monkeypatch: pytest.MonkeyPatch) -> None:
    server = backend()
    async with house(monkeypatch, {"a": server}, personas=ALL, authz=Authz(NO_ETC)) as running:
        door = Dressed(running.app, OLD, persona="reader")
        await door.initialize()
        assert "result" in await called(door, "open_file", {"file": "/srv/x"})
        denied = await called(door, "open_file", {"file": "/etc/passwd"})
        assert denied["error"]["message"] == "Unknown tool: open_file"
        assert "error" in await called(door, "open_file", {"file": "/etc/passwd", "path": "/srv/x"})
        assert "error" in await called(door, "open_file", {"file": ["/etc/passwd"]})
    assert heard(server) == [("read", {"path": "/srv/x", "n": 1})]


@pytest.mark.parametrize("pin", ["/etc/x", "/srv/x"])
async def test_a_pinned_argument_is_judged_though_the_client_never_says_it(
    monkeypatch: pytest.MonkeyPatch, pin: str
) -> None:
    server = backend()
    fixed = ArgumentOverride(fixed=json.dumps(pin).encode())
    pinned = Persona("pinned", overrides={"read": Override(arguments={"path": fixed})})
    async with house(monkeypatch, {"a": server}, personas={"pinned": pinned}, authz=Authz(NO_ETC)) as running:
        door = Dressed(running.app, OLD, persona="pinned")
        await door.initialize()
        assert ("result" in await called(door, "read")) is (pin == "/srv/x")
        assert ("result" in await called(door, "read", {})) is (pin == "/srv/x")
        assert "error" in await called(door, "read", {"path": "/srv/x"})


@pytest.mark.parametrize(
    "policy",
    [
        'permit(principal, action, resource == Tool::"read_safely");',
        "permit(principal, action, resource) when { resource.readOnlyHint };",
        'permit(principal, action, resource) when { resource.name like "read*" };',
    ],
)
async def test_a_new_name_or_hint_opens_nothing(monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    server = backend()
    async with house(monkeypatch, {"a": server}, personas=ALL, authz=Authz((policy,))) as running:
        door = Dressed(running.app, OLD, persona="masked")
        await door.initialize()
        assert "read_safely" not in await listed(door)
        assert (await called(door, "read_safely"))["error"]["message"] == "Unknown tool: read_safely"
    assert ("drop", None) not in heard(server)


async def test_what_does_not_fit_is_told_to_the_operator_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clash = Persona("clash", overrides={"drop": Override("read")})
    async with house(monkeypatch, {"a": backend()}, personas={"clash": clash}) as running:
        door = Dressed(running.app, OLD, persona="clash")
        await door.initialize()
        assert list(await listed(door)) == ["read"]
        (lost,) = running.table.faces["/mcp"].quarantined
        assert lost.why.startswith("persona 'clash': it would be called 'read'")


async def test_a_routing_rule_sees_arguments_as_they_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = {name: Server(tools=[tool("search")], script=echo) for name in ("eu", "us")}
    american = RoutingRule(when=compiled("params.arguments.region == 'us'", ROOTS), backend="us")
    override = Override(arguments={"region": ArgumentOverride(fixed=b'"us"')})
    personas = {"american": Persona("american", overrides={"search": override})}
    first = Aggregation(strategy="priority", priority_order=("eu", "us"))
    async with house(monkeypatch, servers, aggregation=first, routing=(american,), personas=personas) as running:
        assert "result" in await called(Dressed(running.app, persona="american"), "search")
        assert "result" in await called(Dressed(running.app), "search")
    assert heard(servers["us"]) == [("search", {"region": "us"})]
    assert heard(servers["eu"]) == [("search", None)]
