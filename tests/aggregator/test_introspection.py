"""vmcp's own methods. Rule: every secret of the configuration is looked for in every answer."""

from dataclasses import replace

import pytest

from tests.aggregator.speaking import ERAS
from tests.server.clients import Door, plain
from tests.server.peers import Server, config, echo, house, in_memory, tool, until
from vmcp.config.model import Group, ServerSpec
from vmcp.protocol.revisions import MODERN, OWN, Revision
from vmcp.server import runtime
from vmcp.server.runtime import Runtime


@pytest.mark.parametrize("revision", ERAS)
async def test_the_servers_behind_a_group_are_told_in_every_era(
    monkeypatch: pytest.MonkeyPatch, revision: Revision
) -> None:
    servers = {"a": Server(MODERN, tools=[tool("t")], script=echo), "b": Server(revision, prompts=[{"name": "p"}])}
    async with house(monkeypatch, servers) as running:
        door = Door(running.app, revision)
        await door.initialize()
        listed = (await door.ask("vmcp/servers/list")).result
        assert ("resultType" in listed) is revision.modern
        assert listed["servers"] == [
            {
                "name": name,
                "group": "g",
                "transport": "streamable-http",
                "protocolVersion": str(servers[name].revision),
                "status": "up",
            }
            for name in ("a", "b")
        ]
        info = (await door.ask("vmcp/servers/info", {"name": "a"})).result
        assert (info["name"], info["required"], info["isolation"], info["tools"]) == ("a", False, "shared", ["t"])
        assert info["prompts"] == []
        health = (await door.ask("vmcp/servers/health")).result
        assert health["status"] == "healthy"
        unused = {"active": 0, "probes": 0, "changes": 1}
        assert health["servers"] == [{"name": name, "health": "healthy", **unused} for name in ("a", "b")]
        assert (await door.ask("vmcp/cache/clear")).result["cleared"] == 0
        for method in OWN:
            assert b"http://x/" not in (await door.ask(method, {"name": "a"})).body


async def test_a_server_that_is_down_is_unhealthy_and_says_why_without_saying_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = {"a": Server(tools=[tool("t")]), "b": Server(refusal="nobody listens at 10.0.0.7:80")}
    async with house(monkeypatch, servers) as running:
        await until(lambda: running.backends["b"].status.state == "down")
        door = Door(running.app)
        health = (await door.ask("vmcp/servers/health")).result
        assert health["status"] == "degraded"
        told = {"name": "b", "health": "unhealthy", "reason": "nobody listens at [host]"}
        assert health["servers"][1] == {**told, "active": 0, "probes": 0, "changes": 1}
        one = (await door.ask("vmcp/servers/health", {"name": "b"})).result
        assert one["status"] == "unhealthy"
        assert "protocolVersion" not in (await door.ask("vmcp/servers/info", {"name": "b"})).result


@pytest.mark.parametrize("method", ["vmcp/servers/info", "vmcp/servers/health"])
async def test_a_server_of_another_group_is_as_unknown_as_none(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    servers = {"a": Server(tools=[tool("t")]), "b": Server(tools=[tool("u")])}
    given = config(servers)
    specs = given.groups["g"].backends
    groups = {
        "g": Group("g", {"a": specs["a"]}),
        "h": Group("h", {"b": replace(specs["b"], group="h")}),
    }
    monkeypatch.setattr(runtime, "Backend", in_memory(servers))
    async with Runtime(replace(given, groups=groups)) as running:
        await running.settled.wait()
        door = Door(running.app)
        for name in ("b", "nobody"):
            answer = await door.ask(method, {"name": name})
            assert plain(answer.error) == {"code": 2000, "message": f"No server found: {name}", "data": {"name": name}}
        assert (await door.ask("vmcp/servers/info")).error["code"] == -32602
        assert (await Door(running.app, path="/h/mcp").ask(method, {"name": "b"})).result


@pytest.mark.parametrize("method", OWN)
async def test_nobody_from_the_network_may_look_behind_the_house(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    open_ = ServerSpec(host="0.0.0.0", allow_anonymous_network=True)
    async with house(monkeypatch, {"a": Server(tools=[tool("t")])}, server=open_) as running:
        answer = await Door(running.app).ask(method, {"name": "a"}, host="localhost")
        assert plain(answer.error) == {"code": 3003, "message": "Insufficient permissions", "data": {"method": method}}


async def test_what_passed_through_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("t")], script=echo)}) as running:
        door = Door(running.app)
        await door.call("t")
        await door.call("nope")
        await door.ask("made/up")
        old = Door(running.app, Revision.V2025_06_18)
        await old.initialize()
        metrics = (await door.ask("vmcp/metrics")).result["metrics"]
        assert metrics["vmcp_requests_total"] == 4
        assert metrics["vmcp_requests_failed_total"] == 2
        assert metrics["vmcp_requests_success_total"] == 2
        assert metrics["vmcp_requests_cached_total"] == metrics["vmcp_cache_size"] == 0
        assert metrics["vmcp_connections_active"] == metrics["vmcp_connections_total"] == 1
        assert metrics["vmcp_servers_total"] == metrics["vmcp_servers_healthy"] == 1
        assert metrics["vmcp_memory_used"] > 1 << 20
        durations = metrics["vmcp_request_duration_seconds"]
        assert {method: told["count"] for method, told in durations.items()} == {
            "tools/call": 2,
            "other": 1,
            "initialize": 1,
        }
