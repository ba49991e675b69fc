"""Connections in advance, and the look after those that nobody uses at the moment.

Rule: a real server counts what was opened; time is a condition that is waited for, never a number that is asserted.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.upstream.badserver import BadServer, Peer, Script, ok, serving, until
from tests.upstream.fakes import FAST
from vmcp.config.model import PoolSpec
from vmcp.tasks import Nest
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.pool import Pool


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@contextlib.asynccontextmanager
async def against(script: Script, spec: PoolSpec) -> AsyncIterator[tuple[Pool, BadServer, Nest]]:
    async with serving(script) as server, Nest("test") as nest:
        pool = Pool(endpoint(f"http://127.0.0.1:{server.port}/"), spec, FAST, max_response=99, name="time")
        try:
            yield pool, server, nest
        finally:
            await pool.close()


async def polite(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(ok(b"x"))


async def brief(peer: Peer) -> None:
    """Closes as soon as it was opened."""
    peer.close()


async def post(pool: Pool) -> None:
    await (await pool.request(b"POST", [], b"{}")).read()


async def test_connections_are_there_before_anybody_asks() -> None:
    async with against(polite, PoolSpec(min_size=3)) as (pool, server, nest):
        pool.keep(nest)
        await until(lambda: pool.idle == 3)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(post(pool))
        assert (server.accepted, pool.idle) == (3, 3)
        pool.keep(nest)  # it does already


async def test_without_a_word_nothing_is_opened_in_advance() -> None:
    async with against(polite, PoolSpec()) as (pool, server, nest):
        pool.keep(nest)
        await post(pool)
        assert server.accepted == 1


async def test_those_to_keep_outlive_the_others() -> None:
    spec = PoolSpec(min_size=1, idle_timeout=0.05)
    async with against(polite, spec) as (pool, server, nest):
        pool.keep(nest)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(post(pool))
        opened = server.accepted
        assert pool.idle == opened > 1
        await until(lambda: pool.idle == 1)
        await until(lambda: server.open == 1)
        await post(pool)
        assert server.accepted == opened, "it is one of them, and not a new one"


async def test_what_the_server_closed_is_opened_anew() -> None:
    async def twice(peer: Peer) -> None:
        await (brief if peer.number <= 2 else polite)(peer)

    async with against(twice, PoolSpec(min_size=2, validation_interval=0.02)) as (pool, server, nest):
        pool.keep(nest)
        await until(lambda: server.accepted >= 4 and pool.idle == 2)


async def test_a_server_that_is_away_is_tried_again_at_the_next_look() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    spec = PoolSpec(min_size=1, validation_interval=0.02, retry_delay=0.001)
    async with Nest("test") as nest:
        pool = Pool(endpoint(f"http://127.0.0.1:{port}/"), spec, FAST, max_response=99, name="time")
        pool.keep(nest)
        await until(lambda: pool.active == 1)
        await until(lambda: pool.active == 0)
        left = asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.transport.abort()
            left.set()

        assert pool.budget.taken == 0, "the retries are for those who ask"
        server = await asyncio.start_server(hold, "127.0.0.1", port)
        await until(lambda: pool.idle == 1)
        await pool.close()
        server.close()
        await left.wait()


async def test_a_connection_that_its_server_will_not_keep_is_not_kept_either() -> None:
    async def hasty(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"x", b"Keep-Alive: timeout=1"))
        await peer.gone()

    async with against(hasty, PoolSpec(validation_interval=0.02)) as (pool, _, _):
        await post(pool)
        assert pool.idle == 1
        await until(lambda: pool.idle == 0)


@pytest.mark.parametrize(("interval", "asks"), [(0.0, False), (0.2, True), (90.0, True)])
async def test_the_kernel_asks_whether_the_other_end_is_there(interval: float, asks: bool) -> None:
    async with against(polite, PoolSpec(validation_interval=interval)) as (pool, _, _):
        await post(pool)
        (connection,) = pool._idle
        assert connection.transport is not None
        raw = connection.transport.get_extra_info("socket")
        assert bool(raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is asks
        if asks and hasattr(socket, "TCP_KEEPIDLE"):
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == max(1, round(interval))
