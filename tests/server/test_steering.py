"""Routing rules through the whole house: who is really asked, and that a rule is no way around a persona.

Rule: the backends are asked what they heard of a call, and not the client alone.
"""

import pytest

from tests.server.clients import Door
from tests.server.peers import Json, Server, echo, house, tool
from tests.server.test_personas import Dressed
from vmcp.config.authz import Authz
from vmcp.config.conditions import compiled
from vmcp.config.globs import globs
from vmcp.config.model import Aggregation
from vmcp.config.personas import Persona
from vmcp.config.steering import ROOTS, RoutingRule
from vmcp.protocol.revisions import MODERN, Revision

FIRST = Aggregation(strategy="priority", priority_order=("eu", "us"))
OLD = Revision.V2025_11_25
REGION = RoutingRule(tool=globs(["search"]), when=compiled("params.arguments.region == 'us'", ROOTS), backend="us")
LOGS = RoutingRule(method=globs(["resources/*"]), uri=globs(["log://*"]), backend="us")


def pair() -> dict[str, Server]:
    offers: Json = {
        "tools": [tool("search")],
        "prompts": [{"name": "brief"}],
        "resources": [{"uri": "r://1", "name": "r"}],
    }
    return {name: Server(script=echo, **offers) for name in ("eu", "us")}


@pytest.mark.parametrize("revision", [OLD, MODERN])
async def test_a_call_goes_where_its_arguments_say(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    servers = pair()
    async with house(monkeypatch, servers, aggregation=FIRST, routing=(REGION, LOGS)) as running:
        door = Door(running.app, revision)
        await door.initialize()
        for region in ("us", "eu", "us"):
            await door.ask("tools/call", {"name": "search", "arguments": {"region": region}})
        await door.ask("resources/read", {"uri": "r://1"})
        await door.ask("resources/read", {"uri": "log://today"})
        assert (await door.ask("resources/read", {"uri": "other://x"})).message["error"]
        assert [entry["name"] for entry in (await door.ask("tools/list")).result["tools"]] == ["search"]
    assert [(asked.method, asked.name) for asked in servers["us"].calls()] == [
        ("tools/call", "search"),
        ("tools/call", "search"),
        ("resources/read", "log://today"),
    ]
    assert [asked.name for asked in servers["eu"].calls()] == ["search", "r://1"]


async def test_a_rule_may_ask_who_is_calling(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = pair()
    mine = RoutingRule(when=compiled("persona == 'american' && principal.subject == 'anonymous'", ROOTS), backend="us")
    personas = {name: Persona(name) for name in ("american", "european")}
    async with house(monkeypatch, servers, aggregation=FIRST, routing=(mine,), personas=personas) as running:
        for persona in personas:
            door = Dressed(running.app, persona=persona)
            await door.ask("tools/call", {"name": "search"})
            await door.ask("prompts/get", {"name": "brief"})
    for server in servers.values():
        assert [asked.name for asked in server.calls()] == ["search", "brief"]


ASKED: list[tuple[str, Json, str]] = [
    ("tools/call", {"name": "search", "arguments": {"region": "us"}}, "Unknown tool: search"),
    ("resources/read", {"uri": "log://today"}, "Resource not found"),
]


@pytest.mark.parametrize(("method", "params", "refusal"), ASKED)
async def test_a_rule_is_no_way_to_a_backend_that_the_caller_may_not_have(
    monkeypatch: pytest.MonkeyPatch, method: str, params: Json, refusal: str
) -> None:
    permit, servers = "permit(principal, action, resource);", pair()
    only_eu = Authz((permit, 'forbid(principal, action, resource in Backend::"us");'))
    for authz in (Authz((permit,)), only_eu):
        async with house(monkeypatch, servers, aggregation=FIRST, routing=(REGION, LOGS), authz=authz) as running:
            answer = (await Door(running.app).ask(method, params)).message
            assert ("result" in answer) is (authz is not only_eu)
    assert answer["error"]["message"] == refusal
    assert len(servers["us"].calls()) == 1
    assert not servers["eu"].calls()
