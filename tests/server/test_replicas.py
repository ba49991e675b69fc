"""A house over a backend with replicas: what its clients, its operator and its balancer's probes see of one that dies.

The rule: replicas are processes, and the file is the one that an operator would write.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.server.clients import Door
from tests.server.peers import until
from tests.upstream.replicating import Process, started
from vmcp.config.load import load
from vmcp.protocol.revisions import Revision
from vmcp.server.runtime import Runtime
from vmcp.upstream import control

FILE = """\
name: acme
groups:
  code:
    backends:
      who:
        endpoints: [{url: "%s"}, {url: "%s"}]
        loadBalancing: {strategy: roundRobin}
        pool: {retryAttempts: 0}
      gone: {url: "http://127.0.0.1:1/mcp"}
operational:
  failureHandling:
    healthCheckInterval: 160ms
    healthCheckTimeout: 150ms
    unhealthyThreshold: 2
    readiness: %s
    circuitBreaker: {enabled: true, failureThreshold: 2, timeout: 1s}
aggregation: {conflictResolution: priority, conflictResolutionConfig: {priorityOrder: [who, gone]}}
"""


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "backoff", lambda attempt, jitter: 0.02)


@asynccontextmanager
async def house(revision: str, readiness: str = "required") -> AsyncIterator[tuple[list[Process], Runtime]]:
    async with started("ab", revision) as replicas:
        text = FILE % (*(each.url for each in replicas), readiness)
        async with Runtime(load([("vmcp.yaml", text)], {})[0]) as running:
            async with asyncio.timeout(5):
                await running.settled.wait()
            await until(lambda: running.backends["who"].status.health == "healthy")
            yield replicas, running


def said(answer: Any) -> dict[str, Any]:
    return dict(json.loads(answer.result["content"][0]["text"]))


async def told_of(door: Door) -> dict[str, Any]:
    return dict((await door.ask("vmcp/servers/health", {"name": "who"})).result["servers"][0])


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_one_replica_dies_and_clients_go_on(revision: str) -> None:
    async with house(revision) as (replicas, running):
        door = Door(running.app)
        names = Counter([said(await door.call("who"))["name"] for _ in range(10)])
        assert sum(names.values()) == 10
        await until(lambda: running.backends["who"].status.health == "healthy")  # slow answers make it degraded
        health = await told_of(door)
        assert [each["health"] for each in health["replicas"]] == ["healthy"] * 2
        assert "127.0.0.1" not in json.dumps(health), "nobody is told where they are"
        await replicas[0].kill()
        answers = [await door.call("who") for _ in range(20)]
        failed = [answer.error for answer in answers if "error" in answer.json()]
        assert len(failed) <= 2, "no more than it had connections that it was still thought to be on"
        assert {said(answer)["name"] for answer in answers[2:]} == {"b"}
        await until(lambda: running.backends["who"].status.health == "degraded")
        health = await told_of(door)
        assert (health["health"], health["reason"]) == ("degraded", "1 of 2 replicas are not healthy")
        await replicas[0].start()
        await until(lambda: running.backends["who"].status.health == "healthy")


async def test_a_session_of_a_client_is_begun_anew_where_there_is_somebody() -> None:
    async with house("2025-11-25") as (replicas, running):
        door = Door(running.app, Revision.V2025_11_25)
        await door.initialize()
        first = [said(await door.call("who")) for _ in range(3)]
        assert [each["calls"] for each in first] == [1, 2, 3]
        (name,) = {each["name"] for each in first}
        await replicas["ab".index(name)].kill()
        answers = [await door.call("who") for _ in range(4)]
        going = [said(answer) for answer in answers if "error" not in answer.json()]
        assert len(going) >= 3
        assert {each["name"] for each in going} == {"ba"["ab".index(name)]}
        assert len({each["session"] for each in going}) == 1


async def test_readiness_means_what_the_file_says() -> None:
    async with house("2026-07-28", "any") as (replicas, running):
        door = Door(running.app)
        assert running.readiness()[0]
        for each in replicas:
            await each.kill()
        await until(lambda: running.backends["who"].status.state == "down")
        assert not running.readiness()[0]
        answer = await door.call("who")
        assert answer.error["data"]["vmcpCode"] == 2001
