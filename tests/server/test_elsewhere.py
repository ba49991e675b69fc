"""What clients are told and may do, whichever worker they have come to. Rule: two whole houses of one crew in one process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.server import mated
from tests.server.clients import Door
from tests.server.peers import config, in_memory
from tests.server.test_caching import KEPT, server, words
from vmcp.server import elsewhere, runtime
from vmcp.server.elsewhere import Elsewhere, answering
from vmcp.server.post import Post
from vmcp.server.runtime import Runtime
from vmcp.state.crew import AWAY, Common, Crew
from vmcp.tasks import Nest


@contextlib.asynccontextmanager
async def worker(monkeypatch: pytest.MonkeyPatch, crew: Crew, nest: Nest) -> AsyncIterator[Runtime]:
    backends = {"b": server()}
    monkeypatch.setattr(runtime, "Backend", in_memory(backends))
    post = Post(crew)
    async with Runtime(config(backends, cache=KEPT), crew=crew) as running:
        await running.settled.wait()
        assert running.mates is not None
        running.mates.start(post, nest)
        answering(running.mates, running)
        post.start()
        crew.seated(0)
        yield running
        post.stop()


async def test_one_of_two_counts_for_both_and_clears_both_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    common = Common.of(2)
    try:
        async with (
            Nest("mates") as nest,
            worker(monkeypatch, Crew(common, 0), nest) as one,
            worker(monkeypatch, Crew(common, 1), nest) as other,
        ):
            here, there = Door(one.app), Door(other.app)
            assert [await words(door) for door in (here, there, here, there)] == ["1", "1", "1", "1"]
            metrics = (await here.ask("vmcp/metrics")).result["metrics"]
            assert (metrics["vmcp_requests_total"], metrics["vmcp_cache_size"], metrics["vmcp_servers_total"]) == (
                4,
                2,
                1,
            )
            assert (await here.ask("vmcp/cache/clear", {"pattern": "b/look"})).result["cleared"] == 2
            assert [await words(door) for door in (here, there)] == ["2", "2"]
            common.counts[1] = AWAY
            assert (await here.ask("vmcp/metrics")).result["metrics"]["vmcp_requests_total"] >= 4, "not asked yet again"
            monkeypatch.setattr(elsewhere, "FRESH", 0.0)
            assert (await here.ask("vmcp/metrics")).result["metrics"]["vmcp_cache_size"] == 1
            assert (await here.ask("vmcp/cache/clear")).result["cleared"] == 1
            assert [await words(door) for door in (here, there)] == ["3", "2"]
    finally:
        common.close()


async def test_before_it_has_begun_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    common = Common.of(2)
    common.counts[1] = 0
    try:
        backends = {"b": server()}
        monkeypatch.setattr(runtime, "Backend", in_memory(backends))
        async with Runtime(config(backends), crew=Crew(common, 0)) as running:
            await running.settled.wait()
            assert (await Door(running.app).ask("vmcp/metrics")).result["metrics"]["vmcp_requests_total"] == 0
    finally:
        common.close()


async def test_however_many_ask_the_others_are_asked_once() -> None:
    async with mated.crew(2) as (one, two):
        asked: list[bytes] = []

        async def counted(body: bytes) -> bytes:
            asked.append(body)
            return msgspec.msgpack.encode({"vmcp_requests_total": 5})

        two.answers["counted"] = counted
        here = Elsewhere(one)
        async with asyncio.TaskGroup() as group:
            told = [group.create_task(here.numbers({"vmcp_requests_total": 1})) for _ in range(20)]
        assert {each.result()["vmcp_requests_total"] for each in told} == {6}
        assert len(asked) == 1
