"""Places at one backend: how many, who comes next, and that each is given back once.

Rule: a call goes on when the test lets it; no time passes but the wait that is tested.
"""

import asyncio
import random
from dataclasses import replace

import pytest

from tests.middleware.calls import call
from tests.server import peers
from tests.server.clients import Door
from tests.server.peers import Asked, Notify, Server, said, tool, until
from vmcp.call import Call, Complete, Identity
from vmcp.config.limits import Concurrency
from vmcp.config.model import BackendSpec
from vmcp.errors import McpError, Throttled
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.upstream.ask import Asker, Outgoing
from vmcp.upstream.bulkhead import Bulkhead, behind

LONG = Concurrency(1, 4, 30.0)


class Stage:
    """Calls at a bulkhead: who is in, in which order they came, how each ended."""

    def __init__(self, spec: Concurrency, group: asyncio.TaskGroup) -> None:
        self.bulkhead = Bulkhead("b", spec)
        self.group = group
        self.came: list[str] = []
        self.refused: list[str] = []
        self.open: dict[str, asyncio.Event] = {}

    def call(self, name: str) -> "asyncio.Task[None]":
        """``name`` begins with the principal: ``ann1``."""
        self.open[name] = asyncio.Event()
        return self.group.create_task(self._run(name))

    async def _run(self, name: str) -> None:
        async def work() -> None:
            self.came.append(name)
            await self.open[name].wait()

        try:
            await self.bulkhead.run(name[:3], work)
        except Throttled:
            self.refused.append(name)

    async def calls(self, *names: str) -> None:
        for name in names:
            self.call(name)
            await settled()

    async def end(self, *names: str) -> None:
        for name in names:
            self.open[name].set()
            await settled()

    def empty(self) -> bool:
        return empty(self.bulkhead)


def empty(bulkhead: Bulkhead) -> bool:
    return not (bulkhead._inside or bulkhead._queued or bulkhead._held or bulkhead._waiting)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_so_many_at_a_time_and_the_others_in_their_order() -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(replace(LONG, max_in_flight=2), group)
        await stage.calls("ann1", "ann2", "ann3", "ann4")
        assert stage.came == ["ann1", "ann2"]
        await stage.end("ann2", "ann1")
        assert stage.came == ["ann1", "ann2", "ann3", "ann4"]
        await stage.end("ann3", "ann4")
    assert stage.empty()


async def test_who_asks_for_everything_waits_behind_himself_and_not_others_behind_him() -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(replace(LONG, queue=10), group)
        await stage.calls("eve1", "eve2", "eve3", "eve4", "ann1", "bob1", "ann2")
        for name in ("eve1", "eve2", "ann1", "bob1", "eve3", "ann2", "eve4"):
            assert stage.came[-1] == name
            await stage.end(name)
    assert stage.empty()


async def test_the_free_place_goes_to_who_holds_the_fewest() -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(replace(LONG, max_in_flight=3, queue=10), group)
        await stage.calls("eve1", "eve2", "bob1", "eve3", "bob2", "ann1")
        await stage.end("bob1")
        assert stage.came[3:] == ["bob2"], "he waited longest of those who hold nothing"
        await stage.end("eve1", "eve2")
        assert stage.came[4:] == ["ann1", "eve3"]
        await stage.end("ann1", "bob2", "eve3")
    assert stage.empty()


async def test_a_full_queue_puts_out_the_last_of_who_has_most_in_it() -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(LONG, group)
        await stage.calls("eve0", "eve1", "eve2", "eve3", "eve4", "eve5")
        assert stage.refused == ["eve5"], "nobody has more than he who comes"
        await stage.calls("ann1", "ann2", "ann3", "bob1")
        assert stage.refused == ["eve5", "eve4", "eve3", "ann3", "ann2"]
        await stage.end(*stage.open)
    assert stage.empty()


async def test_no_principal_holds_more_than_its_share_though_there_is_room() -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(Concurrency(4, 10, 30.0, per_user=2), group)
        await stage.calls("eve1", "eve2", "eve3", "ann1")
        assert stage.came == ["eve1", "eve2", "ann1"]
        await stage.end("ann1")
        assert stage.came == ["eve1", "eve2", "ann1"]
        await stage.end("eve2")
        assert stage.came[-1] == "eve3"
        await stage.end("eve1", "eve3")
    assert stage.empty()


@pytest.mark.parametrize("spec", [Concurrency(1, 0, 30.0), Concurrency(1, 1, 0.0), Concurrency(1, 1, 0.02)])
async def test_who_cannot_have_a_place_in_time_is_told_so(spec: Concurrency) -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(spec, group)
        await stage.calls("ann1", "bob1")
        await until(lambda: stage.refused == ["bob1"])
        assert stage.came == ["ann1"]
        await stage.end("ann1")
    assert stage.empty()


async def test_who_goes_away_while_he_waits_leaves_no_gap() -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(LONG, group)
        await stage.calls("ann1")
        waiting = stage.call("bob1")
        await settled()
        await stage.calls("cid1")
        waiting.cancel()
        # The place comes free in the same turn of the loop in which its next holder goes away.
        await stage.end("ann1")
        assert stage.came == ["ann1", "cid1"]
        last = stage.call("dan1")
        await settled()
        stage.open["cid1"].set()
        await asyncio.sleep(0)
        last.cancel()
        await settled()
        assert stage.came[:2] == ["ann1", "cid1"]
    assert stage.empty()


async def test_a_newcomer_may_have_the_place_of_one_who_goes_away_in_the_same_moment() -> None:
    async with asyncio.TaskGroup() as group:
        stage = Stage(replace(LONG, queue=2), group)
        await stage.calls("eve1", "eve2")
        leaving = stage.call("eve3")
        await settled()
        stage.call("ann1")
        leaving.cancel()
        await settled()
        await stage.end("eve1", "ann1", "eve2")
        assert stage.came == ["eve1", "eve2", "ann1"]
        assert not stage.refused
    assert stage.empty()


async def test_whatever_ends_calls_no_place_is_lost_or_made() -> None:
    """Calls that end well, fail, are cancelled while they wait and while they run, in any order."""
    dice = random.Random(7)  # noqa: S311 - a repeatable storm
    bulkhead = Bulkhead("b", Concurrency(3, 5, 0.005, per_user=2))
    inside, most = 0, 0

    async def work() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            await asyncio.sleep(dice.random() * 0.004)
            if dice.random() < 0.3:
                raise McpError(-32000, "no")
        finally:
            inside -= 1

    async def one(principal: str) -> None:
        try:
            async with asyncio.timeout(dice.random() * 0.01):
                await bulkhead.run(principal, work)
        except (McpError, TimeoutError):
            return

    async with asyncio.TaskGroup() as group:
        for number in range(2000):
            group.create_task(one(f"p{dice.randrange(4)}"))
            if number % 7 == 0:
                await asyncio.sleep(0.001)
    assert most == 3
    assert empty(bulkhead)


class Slow:
    """A backend whose answer the test gives."""

    def __init__(self, concurrency: Concurrency | None) -> None:
        self.spec = BackendSpec("b", "g", "stdio", concurrency=concurrency)
        self.go = asyncio.Event()

    def speaks(self, call: Call) -> Revision | None:
        return MODERN

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        await self.go.wait()
        return Complete(b"{}", MODERN)


async def test_a_backend_without_limits_is_as_it_was() -> None:
    plain, bounded = Slow(None), Slow(Concurrency(1, 0, 1.0))
    assert behind(plain) is plain
    front = behind(bounded)
    assert (front.spec, front.speaks(call())) == (bounded.spec, MODERN)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(front.send(call(identity=Identity("i", "ann")), Outgoing({})))
        await settled()
        refused = call(identity=Identity("i", "bob"))
        with pytest.raises(Throttled) as told:
            await front.send(refused, Outgoing({}))
        bounded.go.set()
    assert first.result() == Complete(b"{}", MODERN)
    assert told.value.message == "backend 'b' has too much to do; try again in 1 s"
    assert refused.trail.limited == "b.concurrency"


async def test_through_the_house(monkeypatch: pytest.MonkeyPatch) -> None:
    go = asyncio.Event()

    async def slow(asked: Asked, notify: Notify) -> bytes:
        await go.wait()
        return said("done")

    given = peers.config({"a": Server(tools=[tool("t")])})
    group = given.groups["g"]
    spec = replace(group.backends["a"], concurrency=Concurrency(1, 0, 1.0))
    bounded = replace(given, groups={"g": replace(group, backends={"a": spec})})
    monkeypatch.setattr(peers, "config", lambda *_, **__: bounded)
    backend = Server(tools=[tool("t")], script=slow)
    async with peers.house(monkeypatch, {"a": backend}) as running, asyncio.TaskGroup() as tasks:
        first = tasks.create_task(Door(running.app).ask("tools/call", {"name": "t"}))
        await until(lambda: any(asked.method == "tools/call" for asked in backend.asked))
        second = await Door(running.app).ask("tools/call", {"name": "t"})
        assert second.error["data"].items() >= {"retryAfter": 1, "vmcpCode": 5000}.items()
        go.set()
    assert first.result().result["content"]
