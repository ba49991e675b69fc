"""A bad network on both sides of vmcp, by a seed: each request has one outcome, its own, and afterwards all is as before.

Rule: vmcp is a process of its own; what is judged is the ledger of the clients, its log, its descriptors and its children.
``VMCP_LONG=1`` lasts longer; ``VMCP_SEED`` is another storm.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.auth.house import META, House, serving
from tests.faults import brain
from tests.faults.brain import LATEST, MODERN, Brain
from tests.faults.chaos import Chaos, between
from tests.faults.stages import SseStage, websocket
from tests.faults.worlds import HttpStage, Scissors
from tests.real.processes import descendants
from tests.upstream import badserver

LONG = bool(os.environ.get("VMCP_LONG"))
SEED = int(os.environ.get("VMCP_SEED", "7"))
pytestmark = pytest.mark.timeout(300 if LONG else 60)
REQUESTS, AT_ONCE, PROBES = (20_000, 16, 100) if LONG else (300, 12, 100)
LIMITS = {"connect": "500ms", "firstByte": "300ms", "total": "600ms", "idleStream": "300ms"}
PATIENT = {"firstByte": "10s", "total": "10s", "idleStream": "10s"}
"""Of the probes: whether they are served must not depend on how busy this machine is."""
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/call",
}
NAMES = ("http", "modern", "sse", "ws")
Json = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Ledger:
    """What became of each request: exactly one thing."""

    def __init__(self, house: House, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.house = house
        self.outcomes: dict[str, str] = {}
        self.wrong: list[object] = []

    async def ask(self, http: httpx.AsyncClient, name: str, number: int) -> str:
        """One call, and its outcome."""
        id_ = f"{name}-{number}"
        meta = {**META, "progressToken": id_}
        params = {"name": name, "arguments": {"id": id_}, "_meta": meta}
        message = {"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}
        try:
            answer = await http.post(self.url, json=message, headers={**HEADERS, "Mcp-Name": name, "Host": "localhost"})
            found = self._read(answer, id_)
        except (httpx.HTTPError, UnicodeDecodeError):
            found = "broken off"
        assert id_ not in self.outcomes
        self.outcomes[id_] = found
        return found

    def _read(self, answer: httpx.Response, id_: str) -> str:
        try:
            replies = _replies(answer)
        except ValueError:
            return "garbage"
        if len(replies) != 1 or replies[0].get("id") not in (id_, None):
            self.wrong.append((id_, answer.status_code, replies))
            return "wrong"
        if "error" in replies[0]:
            return "refused"
        if replies[0]["result"]["content"][0]["text"] != json.dumps({"id": id_}):
            self.wrong.append((id_, replies))
        return "served"


def _replies(answer: httpx.Response) -> list[Json]:
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        lines = [line[5:] for line in answer.content.split(b"\n") if line.startswith(b"data:")]
        told = [json.loads(line) for line in lines if line.strip()]
    else:
        told = [json.loads(answer.content)]
    return [message for message in told if "method" not in message]


def bearing(stage: badserver.Script) -> badserver.Script:
    """The same server; what it cannot read ends the connection, and is no failure of ours."""

    async def serve(peer: badserver.Peer) -> None:
        try:
            await stage(peer)
        except (ValueError, KeyError, IndexError, ExceptionGroup):
            raise ConnectionError from None

    return serve


@contextlib.asynccontextmanager
async def far_side(seed: int, limits: Json) -> AsyncIterator[tuple[dict[str, Json], list[Chaos]]]:
    """Backends of every transport behind proxies, and a child process behind none."""
    child = [sys.executable, "-S", str(Path(brain.__file__)), LATEST]
    backends: dict[str, Json] = {"child": {"command": child}}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        http: Any = [HttpStage(Brain(revision), Scissors()) for revision in (LATEST, MODERN)]
        ports = [(await enter(badserver.serving(bearing(stage)))).port for stage in http]
        ports.append((await enter(badserver.serving(bearing(SseStage(Brain(LATEST)))))).port)
        ports.append(await enter(websocket(Brain(LATEST))))
        proxies = [await enter(between(port, seed + number)) for number, port in enumerate(ports)]
        for name, proxy in zip(NAMES, proxies, strict=True):
            scheme, path = ("ws", "ws") if name == "ws" else ("http", "sse" if name == "sse" else "mcp")
            backends[name] = {
                "url": f"{scheme}://127.0.0.1:{proxy.port}/{path}",
                "timeouts": limits | {"tools": {"probe": PATIENT}},
            }
        backends["sse"]["transport"] = "sse"
        backends["ws"]["transport"] = "websocket"
        for name in ("http", "modern"):
            backends[name] |= {"transport": "streamable-http", "pool": {"idleTimeout": "1s"}}
        yield backends, proxies


@contextlib.asynccontextmanager
async def house(backends: dict[str, Json], folder: Path) -> AsyncIterator[House]:
    """vmcp; its start and its end block, so they are in a thread."""
    config = {
        "groups": {"all": {"backends": backends}},
        "operational": {"failureHandling": {"healthCheckInterval": "500ms"}},
        "server": {"limits": {"shutdownGrace": "2s"}},
    }
    running = serving(config, folder)
    found = await asyncio.to_thread(running.__enter__)
    try:
        yield found
    finally:
        await asyncio.to_thread(running.__exit__, *sys.exc_info())


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=2, limits=httpx.Limits(max_keepalive_connections=4))


async def storm(ledger: Ledger, names: list[str], requests: int) -> Counter[str]:
    """Many calls at once; how they came out."""
    dice, numbers = random.Random(SEED), iter(range(len(ledger.outcomes), len(ledger.outcomes) + requests))  # noqa: S311
    found: Counter[str] = Counter()

    async def caller() -> None:
        async with client() as http:
            for number in numbers:
                tool = dice.choice(("work", "talk"))
                found[await ledger.ask(http, f"{dice.choice(names)}_{tool}", number)] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(caller())
    return found


async def served(ledger: Ledger, http: httpx.AsyncClient, name: str, number: int) -> None:
    """Ask until it is."""
    try:
        async with asyncio.timeout(10):
            while await ledger.ask(http, f"{name}_probe", number) != "served":
                number += 1
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{name} does not come back:\n{ledger.house.log[-3000:]}") from None


async def calm_again(ledger: Ledger, names: list[str], before: tuple[int, int]) -> None:
    """Every backend serves every probe, and nothing is open that was not."""
    house = ledger.house
    async with client() as http:
        for name in names:
            await served(ledger, http, name, 0)
        found = Counter(
            [await ledger.ask(http, f"{names[n % len(names)]}_probe", 1_000_000 + n) for n in range(PROBES)]
        )
        assert found == {"served": PROBES}
    async with asyncio.timeout(10):
        while descriptors(house) > before[0] or len(descendants(house.pid)) != before[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert ledger.wrong == []
    assert "Traceback" not in house.log
    assert "never retrieved" not in house.log


def descriptors(house: House) -> int:
    """How many it has open."""
    return len(list(Path(f"/proc/{house.pid}/fd").iterdir()))


async def at_first(ledger: Ledger, names: list[str]) -> tuple[int, int]:
    """Descriptors and children of a house that has served everybody, and has no client now."""
    async with client() as http:
        for name in names:
            await served(ledger, http, name, -10_000)
        async with asyncio.TaskGroup() as group:
            for number in range(4 * len(names)):
                group.create_task(ledger.ask(http, f"{names[number % len(names)]}_talk", -1000 - number))
    await asyncio.sleep(0.1)
    return descriptors(ledger.house), len(descendants(ledger.house.pid))


async def test_a_bad_network_to_the_backends_costs_what_it_hits_and_nothing_after(tmp_path: Path) -> None:
    async with far_side(SEED, LIMITS) as (backends, proxies), house(backends, tmp_path) as running:
        ledger = Ledger(running, running.port)
        before = await at_first(ledger, [*NAMES, "child"])
        for proxy in proxies:
            proxy.calm = False
        async with asyncio.TaskGroup() as group:
            hit = group.create_task(storm(ledger, list(NAMES), REQUESTS))
            beside = group.create_task(storm(Ledger(running, running.port), ["child"], REQUESTS // 3))
        for proxy in proxies:
            proxy.calm = True
        assert beside.result() == {"served": REQUESTS // 3}, "a neighbour on another wire noticed nothing"
        assert hit.result().keys() <= {"served", "refused"}
        assert hit.result()["served"] > REQUESTS / 4
        assert all(sum(proxy.done.values()) for proxy in proxies)
        await calm_again(ledger, [*NAMES, "child"], before)


async def test_a_bad_network_to_the_clients_costs_what_it_hits_and_nothing_after(tmp_path: Path) -> None:
    async with far_side(SEED, {}) as (backends, _), house(backends, tmp_path) as running:
        straight = Ledger(running, running.port)
        before = await at_first(straight, [*NAMES, "child"])
        async with between(running.port, SEED, rate=0.03) as proxy:
            ledger = Ledger(running, proxy.port)
            proxy.calm = False
            async with asyncio.TaskGroup() as group:
                hit = group.create_task(storm(ledger, [*NAMES, "child"], REQUESTS // 3))
                beside = group.create_task(storm(straight, ["child", "http"], REQUESTS // 3))
            assert beside.result() == {"served": REQUESTS // 3}
            assert hit.result()["served"] > REQUESTS / 12
            assert sum(proxy.done.values())
            assert ledger.wrong == []
        await calm_again(straight, [*NAMES, "child"], before)
