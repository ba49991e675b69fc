"""The identity storm: many clients, every request with the id 1, random delays and clients that go away.

The rule: an answer names its caller and its call, so that one which reaches anybody else is seen; nothing hangs, nothing grows.
"""

import asyncio
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from tests.eras.carriers import Streamable
from tests.eras.cells import Peers, Tasks
from tests.eras.clients import Client
from tests.eras.house import one_for_all, serving
from tests.eras.world import MODERN, Json
from tests.real.processes import descendants

CLIENTS, CALLS, AT_ONCE = 50, int(os.environ.get("VMCP_STORM_CALLS", "400")), 8
BACKENDS = ("http-2025-11-25", f"http-{MODERN}", "stdio-2025-06-18", f"ws-{MODERN}")
REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25", MODERN)
GROWTH = 48 << 20
LEAVES = 0.04

pytestmark = pytest.mark.timeout(120 + CLIENTS * CALLS // 200)


@dataclass
class Tally:
    """What became of the calls."""

    answered: int = 0
    left: int = 0
    wrong: list[str] = field(default_factory=list)


def message(client: Client, backend: str, nonce: str, delay: float) -> Json:
    """A call with the id 1."""
    arguments = {"caller": client.name, "nonce": nonce, "delay": delay}
    params = {"name": f"{backend}_later", "arguments": arguments}
    meta = client.meta()
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params | ({"_meta": meta} if meta else {})}


async def one_call(client: Client, chance: random.Random, tally: Tally) -> None:
    """A call to its answer, or to where the client has had enough of it."""
    backend, nonce = chance.choice(BACKENDS), f"{chance.getrandbits(64):x}"
    delay, leaves = chance.random() * 0.02, chance.random() < LEAVES
    request = message(client, backend, nonce, delay + leaves)
    try:
        async with asyncio.timeout(delay if leaves else 60):
            reply = await client.carrier.exchange(request)
    except TimeoutError:
        tally.left += leaves
        if not leaves:
            tally.wrong.append(f"{client.name} {nonce} at {backend}: no answer")
        return
    tally.answered += 1
    text = reply.get("result", {}).get("content", [{}])[0].get("text")
    if reply["id"] != 1 or text != f"{client.name} {nonce}":
        tally.wrong.append(f"{client.name} {nonce} at {backend}: {json.dumps(reply)[:300]}")


async def one_client(number: int, port: int, tasks: Tasks, tally: Tally) -> None:
    """All calls of one client, ``AT_ONCE`` at a time, in one session."""
    revision, chance = REVISIONS[number % len(REVISIONS)], random.Random(number)  # noqa: S311 -- a storm, no secret
    carrier = Streamable(port, "/mcp", revision, tasks.spawn)
    client = Client(f"client-{number}", revision, carrier, tasks.spawn)
    await client.open()
    left = iter(range(CALLS))

    async def worker() -> None:
        for _ in left:
            await one_call(client, chance, tally)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    await carrier.close()


def memory() -> int:
    """Bytes in use by our vmcp process: the only child that runs it."""
    found = 0
    for child in descendants(os.getpid()):
        if b"vmcp\0serve" in Path(f"/proc/{child}/cmdline").read_bytes():
            found += int(Path(f"/proc/{child}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return found


async def storm(folder: Path) -> tuple[Tally, int, list[str]]:
    """Two tenths of the clients to warm up, then all; the tally, the growth in between, and complaints."""
    tasks, tally = Tasks(), Tally()
    async with Peers(tasks, BACKENDS).running() as peers:
        config = one_for_all(peers)
        for backend in config["groups"]["all"]["backends"].values():
            del backend["isolation"], backend["allow"]
        async with serving(config, folder) as port:
            await all_of(range(CLIENTS // 5), port, tasks, tally)
            before = await asyncio.to_thread(memory)
            await all_of(range(CLIENTS // 5, CLIENTS), port, tasks, tally)
            growth = await asyncio.to_thread(memory) - before
        await tasks.close()
        return tally, growth, [line for world in peers.worlds.values() for line in world.complaints]


async def all_of(numbers: range, port: int, tasks: Tasks, tally: Tally) -> None:
    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one_client(number, port, tasks, tally))


def test_every_answer_reaches_the_call_it_belongs_to(tmp_path: Path) -> None:
    tally, growth, complaints = uvloop.run(storm(tmp_path))
    assert tally.wrong[:10] == []
    assert tally.answered + tally.left == CLIENTS * CALLS
    assert tally.left > CLIENTS * CALLS * LEAVES / 2
    assert complaints == []
    assert growth < GROWTH, f"{growth >> 20} MiB more after the storm"
