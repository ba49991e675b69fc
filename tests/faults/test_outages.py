"""Backends that are killed, stopped, dead from the first or come and go, and a clock that jumps: R-BE-KILL, R-STDIO-2, R-DEAD30,
R-FLAP, R-CLOCK.

Rule: what is asserted is what clients see and what is left; no test asks how long something took. ``VMCP_LONG=1`` has the numbers
of the reference.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import brain
from tests.faults.brain import LATEST, MODERN, Brain
from tests.faults.scenes import visiting
from tests.faults.worlds import HttpStage, Scissors, until, world
from tests.real.processes import connects, free_port
from tests.server.clients import Door
from tests.server.peers import Server, echo, house, tool
from tests.upstream.badserver import Peer, serving
from tests.upstream.fakes import alive
from vmcp.config.load import load
from vmcp.protocol.revisions import LATEST_HANDSHAKE
from vmcp.protocol.revisions import MODERN as NOW
from vmcp.server.runtime import Runtime

LONG = bool(os.environ.get("VMCP_LONG"))
pytestmark = pytest.mark.timeout(600 if LONG else 60)
DEGRADED = "dev.vmcp/degraded"
Json = dict[str, Any]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


@contextlib.asynccontextmanager
async def running(backends: Json, **more: Any) -> AsyncIterator[Runtime]:
    """A house from a config file."""
    text = json.dumps({"name": "n", "groups": {"g": {"backends": backends}}, **more})
    config, _ = load([("vmcp.yaml", text)], {})
    async with Runtime(config) as found:
        await found.settled.wait()
        yield found


# --- R-BE-KILL


@contextlib.asynccontextmanager
async def process(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """An evil server as a process; it has been killed afterwards."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.faults.evil", str(port))
    try:
        await until(lambda: connects(port))
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def test_a_backend_that_is_killed_fails_its_calls_at_once_and_is_served_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vmcp.upstream.control.backoff", lambda *_: 0.01)
    port = free_port()
    async with serving(HttpStage(Brain(MODERN), Scissors())) as good, contextlib.AsyncExitStack() as stack:
        child = await stack.enter_async_context(process(port))
        urls = {name: {"url": f"http://127.0.0.1:{each}/mcp"} for name, each in (("evil", port), ("good", good.port))}
        house = await stack.enter_async_context(running(urls))
        door = Door(house.app, NOW)
        for _ in range(100 if LONG else 4):
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(door.call("evil_hang", id=f"c{n}")) for n in range(10)]
                pools = house.backends["evil"]._connector._pools  # type: ignore[union-attr]
                await until(lambda: pools["calls"].active == 10)  # noqa: B023 - this very turn
                assert (await door.call("good_probe")).message["result"]
                child.kill()
            for call in calls:
                assert "the connection" in call.result().error["message"] or "closed" in call.result().error["message"]
            child = await stack.enter_async_context(process(port))
            async with asyncio.timeout(5):
                while "error" in (await door.call("evil_well")).message:  # noqa: ASYNC110 - who is asked tells it
                    await asyncio.sleep(0.01)
        assert pools["calls"].active == 0


# --- R-STDIO-2


async def test_children_that_are_stopped_keep_nobody_and_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.upstream.control.backoff", lambda *_: 0.01)
    monkeypatch.setattr("vmcp.upstream.stdio.CLOSE_WAIT", 0.05)
    monkeypatch.setattr("vmcp.upstream.stdio.TERM_WAIT", 0.05)
    count = 64 if LONG else 6
    command = [sys.executable, "-I", "-S", str(Path(brain.__file__)), LATEST]
    limits = {"total": "10s", "tools": {"work": {"total": "100ms"}}}
    backends = {f"c{number}": {"command": command, "timeouts": limits} for number in range(count)}
    probes = {"healthCheckInterval": "100ms", "healthCheckTimeout": "90ms", "unhealthyThreshold": 3}
    async with running(backends, operational={"failureHandling": probes}) as found:
        door = Door(found.app, NOW)
        async with asyncio.timeout(60):
            while any(each.status.state != "up" for each in found.backends.values()):  # noqa: ASYNC110 - a few start at once
                await asyncio.sleep(0.01)
        wires = {name: found.backends[name].link.wire for name in backends}  # type: ignore[union-attr]
        pids = {name: wire._child.pid for name, wire in wires.items()}  # type: ignore[attr-defined]
        stopped, others = list(backends)[::2], list(backends)[1::2]
        for name in stopped:
            os.kill(pids[name], signal.SIGSTOP)
        async with asyncio.TaskGroup() as group:
            stuck = [group.create_task(door.call(f"{name}_work", id=name)) for name in stopped]
            for name in others:
                assert (await door.call(f"{name}_probe")).message["result"]
        for call in stuck:
            assert "error" in call.result().message
        await until(lambda: not any(alive(pids[name]) for name in stopped))
        for name in backends:
            async with asyncio.timeout(10):
                while "error" in (await door.call(f"{name}_probe")).message:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.01)
        assert all(alive(pids[name]) for name in others), "who was well was left alone"


# --- R-DEAD30


async def blackhole(peer: Peer) -> None:
    await peer.gone()


async def broken(peer: Peer) -> None:
    while True:
        await peer.answer(b"HTTP/1.1 500 Ouch\r\nContent-Length: 0\r\n\r\n")


async def test_dead_backends_are_missing_are_named_and_keep_nobody_waiting() -> None:
    """Nine of thirty, three ways."""
    living, dead = (70, 10) if LONG else (21, 3)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        ports = {f"good{n}": (await enter(serving(HttpStage(Brain(MODERN), Scissors())))).port for n in range(living)}
        holes = [await enter(serving(blackhole)) for _ in range(dead)]
        ports |= {f"hole{n}": each.port for n, each in enumerate(holes)}
        ports |= {f"broken{n}": (await enter(serving(broken))).port for n in range(dead)}
        ports |= {f"refused{n}": free_port() for n in range(dead)}
        urls = {name: {"url": f"http://127.0.0.1:{port}/mcp"} for name, port in ports.items()}
        text = json.dumps({"name": "n", "groups": {"g": {"backends": urls}}})
        config, _ = load([("vmcp.yaml", text)], {})
        found = await enter(Runtime(config))
        await until(lambda: len(found.table.faces["/mcp"].missing) <= 3 * dead)
        found.current.settle()  # what the start deadline does
        door = Door(found.app, NOW)
        result = (await door.ask("tools/list")).result
        names = {name.partition("_")[0] for name in (each["name"] for each in result["tools"])}
        while "nextCursor" in result:
            result = (await door.ask("tools/list", {"cursor": result["nextCursor"]})).result
            names |= {each["name"].partition("_")[0] for each in result["tools"]}
        assert names == {name for name in ports if name.startswith("good")}
        missing = json.dumps(result["_meta"][DEGRADED])
        assert all(f'"{name}"' in missing for name in ports if not name.startswith("good"))
        assert not any(f'"{name}"' in missing for name in names)
        assert "127.0.0.1" not in missing
        knocked = [each.accepted for each in holes]
        for _ in range(50):
            await door.ask("tools/list")
        assert [each.accepted for each in holes] == knocked, "no list asks the dead"
        for name in ("hole0", "broken0", "refused0"):
            assert "error" in (await door.call(f"{name}_probe")).message
        assert (await door.call("good0_probe")).message["result"]


# --- R-FLAP


async def test_backends_that_come_and_go_disturb_no_list_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.upstream.control.backoff", lambda *_: 0.001)
    servers = {f"s{n}": Server(tools=[tool(f"t{n}")], script=echo, two_way=True) for n in range(20)}
    async with house(monkeypatch, servers) as found:
        client = Door(found.app, LATEST_HANDSHAKE)
        await client.initialize()
        async with client.listen().running() as stream:
            await until(lambda: stream.answer.status)
            tasks = len(asyncio.all_tasks())
            for turn in range(200 if LONG else 20):
                await _flap(list(servers.values())[turn % 2 :: 2])
                listed = (await client.ask("tools/list")).result
                assert len(listed["tools"]) == len(servers)
                steady = "t1" if turn % 2 == 0 else "t0"
                assert (await client.call(steady)).result["content"], "who is there is served"
                await until(lambda: all(backend.status.state == "up" for backend in found.backends.values()))
            assert [message for message in stream.heard() if "method" in message] == [], "no list has changed"
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert all(len([wire for wire in server.wires if not wire.closed]) <= 2 for server in servers.values())


async def _flap(servers: list[Server]) -> None:
    """They go, and nobody lets vmcp in for a moment."""
    for server in servers:
        server.refusal = "it is away"
        for wire in server.wires:
            if not wire.closed and wire.on_gone is not None:
                wire.on_gone()
    await asyncio.sleep(0.005)
    for server in servers:
        server.refusal = ""


# --- R-CLOCK


@pytest.mark.parametrize("client", [LATEST, MODERN])
@pytest.mark.parametrize("jump", [120.0, -120.0, 86_400.0, -86_400.0])
async def test_a_clock_that_jumps_moves_no_limit_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, jump: float, client: str
) -> None:
    real, offset = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    async with world(monkeypatch, "http", LATEST) as found, visiting(found, client) as visitor:
        for offset in (jump, 0.0, jump):  # noqa: B007 - the clock reads it
            told = await visitor.call("stuck")
            assert told is not None
            assert "timeouts.tools[stuck].total is 0.04 s" in told["error"]["message"]
            assert "result" in (await visitor.call("probe") or {}), "neither its session nor its link has ended"
            found.running._sessions.sweep()
            assert len(found.running._sessions) == (client == LATEST)
        await until(lambda: not any(found.in_flight().values()), found.in_flight)


@pytest.mark.parametrize("jump", [120.0, -120.0, -86_400.0, 86_400.0])
async def test_a_question_survives_a_small_jump_and_is_refused_in_words_after_a_large_one(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real, offset = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    async with world(monkeypatch, "http", LATEST, "5s") as found, visiting(found, MODERN) as visitor:
        found.running._fixtures.parking.patience = 5.0
        params: Json = {"name": "ask", "arguments": {"n": 1}}
        asked = await visitor.ask("tools/call", params)
        assert asked is not None
        offset = jump
        answers = {key: {"action": "accept", "content": {}} for key in asked["result"]["inputRequests"]}
        more = {"inputResponses": answers, "requestState": asked["result"]["requestState"]}
        told = await visitor.ask("tools/call", params | more)
        assert told is not None
        if jump < 600:
            assert told["result"]["said"]["action"] == "accept"
        else:
            assert "requestState" in told["error"]["message"]
            found.running._fixtures.parking._expire(next(iter(found.running._fixtures.parking._calls.values())))
        await until(lambda: not any(found.in_flight().values()), found.in_flight)
