"""``/metrics`` of several workers. Rule: whole houses in one process, scraped over sockets; sums never go down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.server.clients import Door
from tests.server.mated import crew
from tests.server.peers import Server, echo, house, tool
from tests.server.test_scraping import OPEN, SCRAPED, Samples, samples, scraped, value
from vmcp.protocol.revisions import LATEST_HANDSHAKE
from vmcp.server.crewed import QUESTION
from vmcp.server.mates import Mates
from vmcp.server.runtime import Runtime
from vmcp.state.crew import AWAY

BACKENDS = {"b": Server(tools=[tool("t")], script=echo)}
CALLS = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "t"}
COUNT = "mcp_server_operation_duration_seconds_count"


@contextlib.asynccontextmanager
async def worker(monkeypatch: pytest.MonkeyPatch, mates: Mates) -> AsyncIterator[Runtime]:
    async with house(monkeypatch, BACKENDS, telemetry=SCRAPED) as running:
        running.mates = mates
        mates.answers[QUESTION] = running.page.answer
        yield running


async def seen(running: Runtime, accept: str = "text/plain") -> Samples:
    running.page._shown.clear()
    return samples(await scraped(running, accept))


async def called(running: Runtime, times: int) -> None:
    door = Door(running.app, LATEST_HANDSHAKE)
    await door.initialize()
    for _ in range(times):
        await door.call("t")


async def test_any_worker_shows_what_all_have_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crew(2) as (one, two), worker(monkeypatch, one) as here, worker(monkeypatch, two) as there:
        await called(here, 2)
        await called(there, 3)
        for running in (here, there):
            for accept in ("text/plain", OPEN):
                found = await seen(running, accept)
                assert value(found, COUNT, **CALLS) == 5
                assert value(found, "vmcp_requests_total") == 7
                assert value(found, "vmcp_sessions_active", vmcp_group="g") == 2
                assert value(found, "vmcp_servers_total") == value(found, "vmcp_backend_up", vmcp_backend="b") == 1
                assert value(found, "vmcp_workers") == value(found, "vmcp_workers_answering") == 2
                assert value(found, "process_resident_memory_bytes") > 1e6


async def test_what_a_worker_has_counted_stays_when_it_is_gone_and_when_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with crew(2) as (one, two), worker(monkeypatch, one) as here:
        async with worker(monkeypatch, two) as there:
            await called(there, 3)
            assert value(await seen(here), COUNT, **CALLS) == 3
        two.answers.clear()
        one.crew.common.counts[1] = AWAY
        gone = await seen(here)
        assert (value(gone, COUNT, **CALLS), value(gone, "vmcp_workers_answering")) == (3, 1)
        assert value(gone, "vmcp_sessions_active", vmcp_group="g") == 0, "of what is the case now nothing is left"
        one.crew.common.counts[1] = 0
        async with worker(monkeypatch, two) as again:
            await called(again, 2)
            assert value(await seen(again), COUNT, **CALLS) == 5
            back = await seen(here)
            assert (value(back, COUNT, **CALLS), value(back, "vmcp_workers_answering")) == (5, 2)
            assert value(back, "vmcp_requests_total") == 4 + 3
        await called(here, 1)
        one.crew.common.counts[1] = AWAY
        assert value(await seen(here), COUNT, **CALLS) == 6, "and so is that of those before it"


async def test_a_worker_that_hangs_is_left_out_but_for_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with crew(2) as (one, two), worker(monkeypatch, one) as here, worker(monkeypatch, two) as there:
        await called(there, 1)
        assert value(await seen(here), COUNT, **CALLS) == 1
        one.patience = 0.05
        two.answers[QUESTION] = _never
        await called(there, 1)
        found = await seen(here)
        assert (value(found, COUNT, **CALLS), value(found, "vmcp_workers_answering")) == (1, 1)


async def _never(_: bytes) -> Any:
    await asyncio.Event().wait()


async def test_one_process_alone_says_nothing_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, BACKENDS, telemetry=SCRAPED) as running:
        assert not [name for name, _ in await seen(running) if "workers" in name]
