"""R-BE-KILL, R-FLAP and R-DEAD30 through the whole house, in short: backends that die, flap, or never lived.

Rule: backends are processes or sockets, the file is a real one; every call has one outcome, and what is said of it is counted.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.slow import MODERN
from tests.server.clients import Answer, Door
from tests.upstream.badserver import Peer, serving, until
from tests.upstream.child import result
from tests.upstream.fakes import heard, served, silence, single, text, web
from tests.upstream.replicating import Process, started
from vmcp.config.load import load
from vmcp.server.runtime import Runtime
from vmcp.upstream import control

KILLS = int(os.environ.get("VMCP_KILLS", "4"))
FLAPS = int(os.environ.get("VMCP_FLAPS", "4"))
START = 1.0
"""Seconds that a house waits for those that say nothing."""
DEAD = int(os.environ.get("VMCP_DEAD", "3"))
HEAD = """\
name: acme
operational:
  failureHandling:
    healthCheckInterval: 160ms
    healthCheckTimeout: 150ms
    unhealthyThreshold: 2
    circuitBreaker: {enabled: true, failureThreshold: 3, timeout: 200ms, halfOpenMaxCalls: 1}
groups:
  g:
    backends:
"""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "backoff", lambda attempt, jitter: 0.05)


@contextlib.asynccontextmanager
async def house(**backends: str) -> AsyncIterator[Runtime]:
    lines = [f'      {name}: {{url: "{url}", pool: {{retryAttempts: 0}}}}\n' for name, url in backends.items()]
    config = load([("vmcp.yaml", HEAD + "".join(lines))], {})[0]
    async with Runtime(replace(config, start_deadline=START)) as running:
        async with asyncio.timeout(10):
            await running.settled.wait()
        yield running


def outcome(answer: Answer) -> str:
    """What became of a call: who answered it, or the code of the failure."""
    told = answer.json()
    if "error" in told:
        return str(told["error"]["data"]["vmcpCode"])
    return str(json.loads(told["result"]["content"][0]["text"])["name"])


async def calls(running: Runtime, tool: str, count: int, seconds: float = 0.0) -> Counter[str]:
    """So many calls one after another; each has an outcome."""
    door = Door(running.app)
    return Counter([outcome(await door.call(tool, {"seconds": seconds})) for _ in range(count)])


async def test_a_backend_that_is_killed_in_the_middle_of_calls_again_and_again() -> None:
    async with started("ab", MODERN) as (mortal, other), house(mortal=mortal.url, other=other.url) as running:
        for _ in range(KILLS):
            async with asyncio.TaskGroup() as group:
                beside = group.create_task(calls(running, "other_who", 50))
                hanging = [group.create_task(calls(running, "mortal_who", 1, 3600.0)) for _ in range(4)]
                await until(lambda: running.backends["mortal"].facts()["active"] == 4)
                await mortal.kill()
            assert sum((task.result() for task in hanging), Counter[str]()) == {"1003": 4}
            assert beside.result() == {"b": 50}, "nobody else notices"
            told = await calls(running, "mortal_who", 20)
            assert set(told) <= {"1001", "2001"}
            assert told["1001"] <= 1, "it is left alone after three failures in a row"
            await mortal.start()
            door = Door(running.app)
            async with asyncio.timeout(10):
                while outcome(await door.call("mortal_who")) != "a":  # noqa: ASYNC110 - only a call can tell
                    await asyncio.sleep(0.01)
            await until(lambda: running.backends["mortal"].facts()["breaker"]["state"] == "closed")
            assert await calls(running, "mortal_who", 20) == {"a": 20}


async def test_backends_that_flap_do_not_make_clients_wait_nor_tasks_grow() -> None:
    """Each goes and comes; lists are answered throughout, and in the end nothing is left over."""
    async with started("abc", MODERN) as replicas:
        urls = {f"f{each.name}": each.url for each in replicas}
        async with house(**urls) as running, asyncio.TaskGroup() as group:
            before = len(asyncio.all_tasks())
            over = asyncio.Event()

            async def flap(each: Process, at: int) -> None:
                for _ in range(FLAPS):
                    await asyncio.sleep(0.01 * at)
                    await each.kill()
                    await asyncio.sleep(0.02)
                    await each.start()

            async def lists() -> int:
                door, told = Door(running.app), 0
                while not over.is_set():
                    async with asyncio.timeout(1):
                        tools = (await door.ask("tools/list")).result["tools"]
                    assert {tool["name"] for tool in tools} == {"fa_who", "fb_who", "fc_who"}
                    told += 1
                    await asyncio.sleep(0.005)
                return told

            listing = group.create_task(lists())
            async with asyncio.TaskGroup() as flapping:
                for at, each in enumerate(replicas):
                    flapping.create_task(flap(each, at))
            await until(lambda: all(each.status.health == "healthy" for each in running.backends.values()))
            over.set()
            await asyncio.wait([listing])
            assert listing.result() > FLAPS
            await until(lambda: len(asyncio.all_tasks()) <= before)


@contextlib.asynccontextmanager
async def dead(kind: str) -> AsyncIterator[str]:
    """Somewhere where nothing comes of it: nobody listens, nobody answers, or only with errors."""
    if kind == "refused":
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{reserved.getsockname()[1]}/mcp"
        return

    async def answers(peer: Peer) -> None:
        while True:
            told = heard(await peer.request())
            await (silence(peer, told) if kind == "blackhole" else text(503)(peer, told))

    async with serving(answers) as state:
        yield f"http://127.0.0.1:{state.port}/mcp"


async def test_with_a_third_of_the_backends_dead_the_rest_is_served_at_once() -> None:
    tool: dict[str, Any] = {"tools": [{"name": "t", "inputSchema": {"type": "object"}}], "ttlMs": 0}
    listed = single(result({**tool, "cacheScope": "private", "resultType": "complete"}))
    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        for number in range(2 * DEAD):
            server = await stack.enter_async_context(served(web(MODERN, **{"tools/list": listed})))
            urls[f"live{number}"] = server.url
        for number in range(DEAD):
            urls[f"dead{number}"] = await stack.enter_async_context(
                dead(("refused", "blackhole", "errors")[number % 3])
            )
        running = await stack.enter_async_context(house(**urls))
        assert running.readiness()[0], "none of the dead is required, and all have had their chance"
        door = Door(running.app)
        async with asyncio.timeout(2):
            told = (await door.ask("tools/list")).result
        assert {each["name"] for each in told["tools"]} == {f"live{number}_t" for number in range(2 * DEAD)}
        health = (await door.ask("vmcp/servers/health")).result
        found = Counter(each["health"] for each in health["servers"] if each["name"].startswith("dead"))
        assert health["status"] == "degraded"
        assert set(found) <= {"unhealthy", "unknown"}
        assert found["unhealthy"] >= DEAD - (DEAD + 1) // 3, "but those that say nothing"
