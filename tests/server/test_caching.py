"""Kept results through the whole house: who is given them, what makes vmcp forget them, and what is told of them.

Rule: it is the backend that counts how often it was asked.
"""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.config.samples import config
from tests.server.clients import Door
from tests.server.peers import Asked, Json, Notify, Server, house, said, text, tool, until
from tests.server.test_personas import Dressed
from vmcp.config.cache import CacheSpec, DiskSpec
from vmcp.config.globs import globs
from vmcp.config.limits import Bucket, RateLimits
from vmcp.config.personas import Persona
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN, Revision
from vmcp.server.holdings import Holdings
from vmcp.state.crew import Common, Crew
from vmcp.state.disk import NoRoom
from vmcp.tasks import Nest

KEPT = CacheSpec(tools=((globs(["look*"]), False, 60.0),))
READ = {"uri": "r://1"}


def server() -> Server:
    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.method == "resources/read":
            told: Json = {"resultType": "complete", "contents": [], "ttlMs": 60_000, "cacheScope": "private"}
            return text({**told, "n": sum(each.method == asked.method for each in backend.asked)})
        return said(str(len(backend.calls())))

    tools = [tool("look", annotations={"readOnlyHint": True}), tool("touch")]
    backend = Server(tools=tools, resources=[{"uri": "r://1", "name": "r"}], script=script)
    return backend


async def words(door: Door, name: str = "look") -> str:
    answer = await door.ask("tools/call", {"name": name})
    return str(answer.result["content"][0]["text"])


@pytest.mark.parametrize("revision", [LATEST_HANDSHAKE, MODERN])
async def test_a_tool_that_reads_is_asked_once(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    backend = server()
    async with house(monkeypatch, {"b": backend}, cache=KEPT) as running:
        door = Door(running.app, revision)
        await door.initialize()
        assert [await words(door) for _ in range(3)] == ["1", "1", "1"]
        assert [await words(door, "touch") for _ in range(2)] == ["2", "3"]
        metrics = (await door.ask("vmcp/metrics")).result["metrics"]
        assert (metrics["vmcp_requests_cached_total"], metrics["vmcp_cache_size"]) == (2, 1)
        assert (await door.ask("vmcp/cache/clear", {"pattern": "b/none"})).result["cleared"] == 0
        assert (await door.ask("vmcp/cache/clear", {"pattern": "b/look"})).result["cleared"] == 1
        assert await words(door) == "4"
        assert (await door.ask("vmcp/cache/clear", {"pattern": 5})).error["code"] == -32602


async def test_without_a_cache_everything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"b": server()}) as running:
        door = Door(running.app)
        assert [await words(door), await words(door)] == ["1", "2"]
        assert (await door.ask("vmcp/cache/clear")).result["cleared"] == 0
        assert (await door.ask("vmcp/metrics")).result["metrics"]["vmcp_cache_size"] == 0


async def test_what_a_persona_hides_is_not_given_either(monkeypatch: pytest.MonkeyPatch) -> None:
    personas = {"blind": Persona("blind", exclude=("look",))}
    async with house(monkeypatch, {"b": server()}, cache=KEPT, personas=personas) as running:
        assert await words(Dressed(running.app)) == "1"
        hidden = await Dressed(running.app, persona="blind").ask("tools/call", {"name": "look"})
        assert hidden.error["message"] == "Unknown tool: look"


async def test_a_kept_result_spares_the_limits_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RateLimits(shared=Bucket(1, 3600.0))
    async with house(monkeypatch, {"b": server()}, cache=KEPT, rate_limits=limits) as running:
        door = Door(running.app)
        assert [await words(door), await words(door)] == ["1", "1"]
        assert (await door.ask("tools/call", {"name": "touch"})).error["data"]["retryAfter"]


async def test_it_is_forgotten_when_the_backend_says_that_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = server()

    async def times(door: Door) -> Any:
        return (await door.ask("resources/read", READ)).result["n"]

    async with house(monkeypatch, {"b": backend}, cache=KEPT) as running:
        door = Door(running.app)
        assert [await times(door), await times(door)] == [1, 1]
        backend.say("notifications/resources/updated", READ)
        assert await times(door) == 2
        number = running.table.number
        backend.tools = [tool("new")]
        backend.say("notifications/tools/list_changed")
        await until(lambda: running.table.number > number)
        assert await times(door) == 3


async def test_a_disk_that_cannot_be_used_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoRoom, match=r"cache\.disk\.path"):
        async with house(monkeypatch, {"b": server()}, cache=CacheSpec(disk=DiskSpec("/proc/nowhere"))):
            raise AssertionError


async def test_of_several_workers_each_has_its_part_of_the_disk(tmp_path: Path) -> None:
    common, spec = Common.of(4), CacheSpec(disk=DiskSpec(str(tmp_path), 4000))
    made = replace(config("name: x\nbackends: [{name: b, url: 'https://a.example.com/mcp'}]\n"), cache=spec)
    async with Nest("test") as nest, AsyncExitStack() as stack:
        for crew, most in ((None, 4000), (Crew(common, 1), 1000)):
            shelf = Holdings(None, nest, {}, None, crew).shelf(made, stack)  # type: ignore[arg-type]
            assert shelf is not None
            assert shelf._disk is not None
            assert shelf._disk._most == most
    common.close()
