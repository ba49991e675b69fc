"""One house from its beginning to its end: when it is ready, how its table changes, and that nothing stays behind.

Rule: nothing waits for a clock; a backend comes up when the test lets it.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from tests.server.clients import Door
from tests.server.peers import Asked, MemoryWire, Notify, Server, echo, house, said, tool, until
from vmcp.call import Peer
from vmcp.config.model import Aggregation, Config
from vmcp.protocol.revisions import Revision
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.table import RoutingTable
from vmcp.server import runtime
from vmcp.server.runtime import Runtime


def held(*names: str) -> Server:
    """A backend that answers nothing until ``up`` is set."""
    server = Server(tools=[tool(name) for name in names], script=echo)
    server.up.clear()
    return server


async def listed(running: Runtime) -> list[str]:
    return [entry["name"] for entry in (await Door(running.app).ask("tools/list")).result["tools"]]


def shown(running: Runtime) -> set[str]:
    """What the table has, without asking."""
    face = running.table.faces["/mcp"]
    return {route.name for routes in face.listing.values() for route in routes}


async def test_it_serves_before_a_slow_backend_is_there_and_takes_it_in_later(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = held("late")
    backends = {"fast": Server(tools=[tool("early")], script=echo), "slow": slow}
    async with house(monkeypatch, backends, settled=False) as running:
        await until(lambda: shown(running) == {"early"})
        assert not running.settled.is_set()
        assert (await Door(running.app).http("GET", "/livez")).status == 200
        assert (await Door(running.app).http("GET", "/readyz")).status == 503
        assert (await Door(running.app).http("GET", "/readyz")).json()["waiting_for"] == ["slow"]
        slow.up.set()
        await until(running.settled.is_set)
        assert await listed(running) == ["early", "late"]
        assert (await Door(running.app).http("GET", "/readyz")).json() == {
            "status": "ready",
            "backends": 2,
            "up": 2,
            "waiting_for": [],
        }


async def test_a_backend_that_fails_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Server(refusal="connection refused")
    async with house(monkeypatch, {"a": Server(tools=[tool("t")]), "dead": dead}) as running:
        ready, facts = running.readiness()
        assert ready
        assert facts["up"] == 1
        assert await listed(running) == ["t"]


@pytest.mark.parametrize(
    ("required", "partial_failure", "ready"),
    [((), "best_effort", True), (("dead",), "best_effort", False), ((), "fail", False), (("a",), "best_effort", True)],
)
async def test_readiness_is_what_the_configuration_demands(
    monkeypatch: pytest.MonkeyPatch, required: tuple[str, ...], partial_failure: str, ready: bool
) -> None:
    dead = Server(tools=[tool("d")], refusal="connection refused")
    monkeypatch.setattr("vmcp.upstream.control.backoff", lambda attempt, jitter: 0.01)
    backends = {"a": Server(tools=[tool("t")]), "dead": dead}
    async with house(monkeypatch, backends, required=required, partial_failure=partial_failure) as running:
        door = Door(running.app)
        answer = await door.http("GET", "/readyz")
        assert (answer.status == 200) is ready
        assert answer.json()["waiting_for"] == ([] if ready else ["dead"])
        dead.refusal = ""
        await until(lambda: running.readiness()[0] and running.readiness()[1]["up"] == 2)
        await until(lambda: shown(running) == {"t", "d"})
        assert (await door.http("GET", "/readyz")).status == 200


async def test_a_house_without_backends_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch) as running:
        assert running.readiness() == (True, {"status": "ready", "backends": 0, "up": 0, "waiting_for": []})
        assert await listed(running) == []


async def test_a_house_that_stops_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("t")])}) as running:
        running.draining = True
        answer = await Door(running.app).http("GET", "/readyz")
        assert (answer.status, answer.json()["status"]) == (503, "stopping")
        assert (await Door(running.app).http("GET", "/livez")).status == 200
        assert await listed(running) == ["t"], "but it answers who still asks"


async def test_settling_is_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    never = held("t")
    async with house(monkeypatch, {"a": never}, settled=False, start_deadline=0.02) as running:
        await until(running.settled.is_set)
        assert running.readiness()[0], "who had his chance is not waited for"
        never.up.set()
        await until(lambda: shown(running) == {"t"})


async def test_a_call_keeps_the_table_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    go = asyncio.Event()

    async def script(asked: Asked, notify: Notify) -> bytes:
        await go.wait()
        return said("old")

    slow = held("late")
    async with house(monkeypatch, {"a": Server(tools=[tool("t")], script=script), "b": slow}, settled=False) as running:
        await until(lambda: shown(running) == {"t"})
        running.current.settle()
        before = running.table
        door = Door(running.app)
        raw, headers = door.message("tools/call", {"name": "t"})
        exchanged = door.begin("POST", None, raw, **headers)
        async with asyncio.TaskGroup() as group:
            group.create_task(exchanged.run())
            slow.up.set()
            await until(lambda: running.table is not before)
            go.set()
        assert exchanged.answer.result["content"][0]["text"] == "old"
        assert [route.name for route in before.faces["/mcp"].listing[Kind.TOOL]] == ["t"], "and it is as it was"
        assert running.table.number > before.number
        assert running.table.faces.keys() == before.faces.keys()


async def test_what_comes_while_a_table_is_built_is_in_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first build is slow, as with ten thousand routes; the second backend answers meanwhile."""
    begun = {1: threading.Event(), 2: threading.Event()}
    go = {1: threading.Event(), 2: threading.Event()}

    def slowly(number: int, config: Config, found: Mapping[str, Catalog]) -> RoutingTable:
        table = build(number, config, found)
        if found:
            begun[len(found)].set()
            assert go[len(found)].wait(5)
        return table

    second = held("b")
    monkeypatch.setattr(runtime, "build", slowly)
    async with house(monkeypatch, {"a": Server(tools=[tool("a")]), "b": second}, settled=False) as running:
        await until(begun[1].is_set)
        second.up.set()
        await until(begun[2].is_set)
        go[1].set()
        await until(lambda: shown(running) == {"a"})
        go[2].set()
        await until(lambda: shown(running) == {"a", "b"})


async def test_an_older_table_never_replaces_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, left = threading.Event(), threading.Event(), threading.Event()

    def slowly(number: int, config: Config, found: Mapping[str, Catalog]) -> RoutingTable:
        table = build(number, config, found)
        if set(found) == {"a"}:
            begun.set()
            assert go.wait(5)
            left.set()
        return table

    second = held("b")
    monkeypatch.setattr(runtime, "build", slowly)
    async with house(monkeypatch, {"a": Server(tools=[tool("a")]), "b": second}, settled=False) as running:
        await until(begun.is_set)
        second.up.set()
        await until(lambda: shown(running) == {"a", "b"})
        newest = running.table
        go.set()
        await until(left.is_set)
        for _ in range(50):
            await asyncio.sleep(0)
        assert running.table is newest


async def test_what_is_kept_out_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    slow = held("third")
    backends = {"a": Server(tools=[tool("same")]), "b": Server(tools=[tool("same")]), "c": slow}
    with caplog.at_level(logging.INFO, "vmcp"):
        async with house(monkeypatch, backends, settled=False, aggregation=Aggregation(strategy="manual")) as running:
            await until(lambda: shown(running) == {"same"} and running.table.faces["/mcp"].quarantined)
            slow.up.set()
            await until(lambda: shown(running) == {"same", "third"})
    told = [record.__dict__ for record in caplog.records if record.message == "quarantined"]
    assert [(one["target"], one["backend"], one["winner"]) for one in told] == [("same", "b", "a")]


async def test_it_says_that_it_is_ready_once_with_what_it_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vmcp"):
        async with house(monkeypatch, {"a": Server(tools=[tool("t")], prompts=[{"name": "p"}])}) as running:
            running.current.settle()
    (record,) = [record.__dict__ for record in caplog.records if record.message in ("ready", "not ready")]
    assert record["message"] == "ready"
    assert record["faces"]["/mcp"] == {"tools": 1, "prompts": 1}
    assert (record["up"], record["backends"]) == (1, 1)


async def test_nothing_is_left_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    wires: list[MemoryWire] = []
    made = MemoryWire.__init__

    def remembered(self: MemoryWire, *arguments: Any) -> None:
        made(self, *arguments)
        wires.append(self)

    monkeypatch.setattr(MemoryWire, "__init__", remembered)
    backends = {"a": Server(tools=[tool("t")]), "never": held("n"), "dead": Server(refusal="no")}
    async with house(monkeypatch, backends, settled=False) as running:
        await until(lambda: shown(running) == {"t"})
        assert asyncio.all_tasks() - before
    assert asyncio.all_tasks() == before
    assert len(wires) == 3
    assert all(wire.closed for wire in wires)


async def test_a_house_that_ends_at_once_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    async with house(monkeypatch, {"a": Server(tools=[tool("t")])}, settled=False) as running:
        running.current.on_catalog()
    assert asyncio.all_tasks() == before


async def test_the_sweep_forgets_idle_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "SWEEP", 0.01)
    async with house(monkeypatch) as running:
        session = running._sessions.open(Peer(Revision.V2025_11_25), "/mcp", "anonymous")
        session.seen -= 1e6
        await until(lambda: len(running._sessions) == 0)
