"""A private connection at whose other end nobody is any more, though it stands: a process that hangs, a peer that is unplugged.

Rule: one call pays with its own time limit; what is only slow is left alone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.faults.brain import LATEST, MODERN, Brain
from tests.faults.chaos import between
from tests.faults.scenes import Client, visiting
from tests.faults.stages import SseStage
from tests.faults.worlds import Puppet, StdioStage, World, until, world
from tests.server.clients import Door
from tests.upstream.badserver import serving
from vmcp.config.load import load
from vmcp.protocol.revisions import LATEST_HANDSHAKE
from vmcp.server.runtime import Runtime

SOON, LATER = (
    f"operational: {{failureHandling: {{healthCheckInterval: 60s, healthCheckTimeout: {patience}}}}}"
    for patience in ("30ms", "2s")
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


@contextlib.asynccontextmanager
async def at_home(
    monkeypatch: pytest.MonkeyPatch, client: str, patience: str = SOON
) -> AsyncIterator[tuple[World, StdioStage, Client, Puppet]]:
    """A house with a child of its own for a client, which has served him once."""
    async with world(monkeypatch, "stdio", LATEST, more=patience) as found, visiting(found, client) as visitor:
        stage = found.stage
        assert isinstance(stage, StdioStage)
        assert "result" in (await visitor.call("probe") or {})
        assert len(stage.living) == 2, "the one that all share, and his own"
        yield found, stage, visitor, stage.living[1]


@pytest.mark.parametrize("client", [LATEST, MODERN])
async def test_a_child_that_hangs_costs_one_call_and_is_replaced(monkeypatch: pytest.MonkeyPatch, client: str) -> None:
    async with at_home(monkeypatch, client) as (_, stage, visitor, own):
        own.hangs = True
        told = await visitor.call("work")
        assert told is not None
        assert "timeouts.tools" in told["error"]["message"]
        await until(lambda: own not in stage.living, lambda: stage.living)
        assert "result" in (await visitor.call("probe") or {})


async def test_a_child_that_still_says_anything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_home(monkeypatch, LATEST, LATER) as (found, stage, visitor, own):
        told = await visitor.call("stuck")
        assert told is not None
        assert "timeouts.tools" in told["error"]["message"]
        await until(lambda: "ping" in found.brain.log)
        room = next(iter(found.backend._links._rooms.values()))
        await until(lambda: not room.doubted)
        assert own in stage.living


async def test_a_child_that_answers_no_ping_and_says_something_else_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with at_home(monkeypatch, LATEST) as (found, stage, visitor, own):
        own.hangs = True
        room = next(iter(found.backend._links._rooms.values()))
        async with asyncio.TaskGroup() as group:
            call = group.create_task(visitor.call("work"))
            await until(lambda: room.doubted)
            while room.doubted:
                own._listener.pipe_data_received(1, b'{"jsonrpc":"2.0","method":"notifications/odd"}\n')
                await asyncio.sleep(0.001)
            await call
        assert own in stage.living


async def test_a_stream_whose_peer_is_unplugged_is_opened_anew() -> None:
    async with contextlib.AsyncExitStack() as stack:
        behind = await stack.enter_async_context(serving(SseStage(Brain(LATEST))))
        proxy = await stack.enter_async_context(between(behind.port, 1, 1.0, ("blackhole",)))
        text = (
            f'name: n\ngroups: {{g: {{backends: {{b: {{url: "http://127.0.0.1:{proxy.port}/sse", transport: sse, '
            f"timeouts: {{total: 200ms}}}}}}}}}}\n{SOON}\n"
        )
        config, _ = load([("vmcp.yaml", text)], {})
        running = await stack.enter_async_context(Runtime(config))
        await running.settled.wait()
        door = Door(running.app, LATEST_HANDSHAKE)
        await door.initialize()
        assert "result" in (await door.call("b_probe")).message
        proxy.calm = False
        assert "timeouts" in (await door.call("b_probe")).error["message"]
        room = next(iter(running.backends["b"]._links._rooms.values()))  # type: ignore[union-attr]
        await until(lambda: room.link is None)
        proxy.calm = True
        assert "result" in (await door.call("b_probe")).message
