"""R-CANCEL-1 on every transport, in both eras: most of many calls are given up at random moments, and nothing is left of them.

Rule: the ledger is the backend's own: what it began it has answered, or it was told that nobody waits. ``VMCP_CANCEL_CALLS``
makes it longer (20000 for the figure of the reference).
"""

import asyncio
import contextlib
import json
import os
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.faults.slow import MODERN, Slow
from tests.upstream.badserver import Peer, serving, until
from tests.upstream.fakes import FAST, heard, response
from tests.upstream.fakes_backend import Kept, kept
from tests.upstream.fakes_sse import SseServer
from vmcp.config.model import BackendSpec, PoolSpec
from vmcp.upstream.ask import Outgoing

CALLS = int(os.environ.get("VMCP_CANCEL_CALLS", "400"))
AT_ONCE, SHARE, LONGEST = 40, 0.7, 0.02
ENDLESS, FOR_EVER = 0.8, 3600.0
"""Most of what is given up would never end by itself."""
PROBES = 100
POOL = PoolSpec(max_size=10)
HANDSHAKE = "2025-11-25"
JSON = b"Content-Type: application/json"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


# --- the backend on each transport


class Web:
    """Streamable HTTP: a caller that closes its connection has left."""

    def __init__(self, slow: Slow) -> None:
        self.slow = slow

    async def __call__(self, peer: Peer) -> None:
        while True:
            told = heard(await peer.request()).message
            seconds = self.slow.slow(told)
            answer: Any = None
            if seconds is None:
                answer = self.slow.at_once(told)
            elif await _stays(peer, seconds):
                self.slow.answered.add(told["id"])
                answer = self.slow.result(told["id"], str(told["id"]))
            else:
                self.slow.left.add(told["id"])
                return
            body = b"" if answer is None else json.dumps(answer).encode()
            await peer.send(response(200 if body else 202, body, JSON))


async def _stays(peer: Peer, seconds: float) -> bool:
    """Whether the other side is still there after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await peer._reader.read(1)
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    return False


@dataclass
class Old(SseServer):
    """HTTP+SSE."""

    slow: Slow = field(default_factory=lambda: Slow(HANDSHAKE))
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def _post(self, peer: Peer, told: Any) -> None:
        await peer.send(response(202, b"Accepted"))
        task = asyncio.get_running_loop().create_task(self.slow.converse(told.message, self.say))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def socket_handler(slow: Slow) -> Any:
    async def handler(peer: ServerConnection) -> None:
        async with asyncio.TaskGroup() as group:
            async for text in peer:
                group.create_task(slow.converse(json.loads(text), lambda said: peer.send(json.dumps(said))))
            slow.close()

    return handler


@contextlib.asynccontextmanager
async def standing(transport: str, slow: Slow) -> AsyncIterator[BackendSpec]:
    """The spec of a backend that stands there while the block runs."""
    spec = BackendSpec("slow", "g", "stdio", timeouts=FAST, pool=POOL)
    if transport == "stdio":
        child = Path(__file__).with_name("slow.py")
        yield replace(spec, command=(sys.executable, "-I", "-S", str(child), slow.revision))
    elif transport == "http":
        async with serving(Web(slow)) as web:
            yield replace(spec, transport="streamable-http", url=f"http://127.0.0.1:{web.port}/mcp")
    elif transport == "sse":
        old = Old(slow=slow)
        async with serving(old) as state:
            old.port = state.port
            yield replace(spec, transport="sse", url=old.url)
    else:
        async with serve(socket_handler(slow), "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            yield replace(spec, transport="websocket", url=f"ws://127.0.0.1:{port}/ws")


# --- the storm


async def call(backend: Kept, name: str, **arguments: Any) -> str:
    """The text of the result."""
    outgoing = Outgoing({"name": name, "arguments": arguments}, name)
    made = await backend.backend.send(backend.call(name=name), outgoing)
    told: dict[str, Any] = msgspec.json.decode(made.result)
    return str(told["content"][0]["text"])


async def storm(backend: Kept, chance: random.Random) -> None:
    """Many calls, of which most are given up."""
    left = iter(range(CALLS))

    async def worker() -> None:
        for _ in left:
            given_up, endless = chance.random() < SHARE, chance.random() < ENDLESS
            seconds = FOR_EVER if given_up and endless else chance.uniform(0, LONGEST)
            task = group.create_task(call(backend, "slow", seconds=seconds))
            if given_up:
                await asyncio.sleep(chance.uniform(0, LONGEST))
                task.cancel()
            await asyncio.wait([task])

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


@pytest.mark.parametrize(
    ("transport", "revision"),
    [
        ("http", MODERN),
        ("http", HANDSHAKE),
        ("sse", HANDSHAKE),
        ("websocket", MODERN),
        ("websocket", HANDSHAKE),
        ("stdio", MODERN),
        ("stdio", HANDSHAKE),
    ],
)
async def test_calls_that_are_given_up_cost_nothing_and_the_backend_learns_of_each(
    transport: str, revision: str, caplog: pytest.LogCaptureFixture
) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    slow = Slow(revision)
    async with standing(transport, slow) as spec, kept(spec) as backend:
        await backend.up()
        await storm(backend, random.Random(5))  # noqa: S311 - a seed, no secret
        assert [await call(backend, "slow", seconds=0) for _ in range(PROBES)], "every probe is answered"

        async def forgotten() -> int:
            return len(json.loads(await call(backend, "ledger")))

        async with asyncio.timeout(5):
            while await forgotten():  # noqa: ASYNC110 - the backend alone knows
                await asyncio.sleep(0.01)
        if transport == "http":
            (pool,) = [each for name, each in _pools(backend).items() if name == "calls"]
            await until(lambda: pool.active == 0)
            assert (pool.waiting, pool.idle <= POOL.max_size) == (0, True)
    assert complaints == []
    assert "never retrieved" not in caplog.text


def _pools(backend: Kept) -> dict[str, Any]:
    return backend.backend._connector._pools
