"""Which cells the matrix has, which it cannot have and why, and the running of many at a time.

The rule: a cell is a side of a client and a side of a backend, each ``<transport>-<revision>``; all scenarios of all cells run in
one event loop, in turn within a cell, side by side between cells.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.eras.backends_http import HttpBackends
from tests.eras.backends_wires import WireBackends
from tests.eras.carriers import Carrier, LegacySse, Stdio, Streamable, WebSocket
from tests.eras.clients import Client
from tests.eras.scenarios import SCENARIOS, Cell
from tests.eras.tools import METHODS
from tests.eras.world import MODERN, REVISIONS, SECONDS, Json, World

TRANSPORTS = ("http", "sse", "ws", "stdio")
RELAY = Path(__file__).with_name("relay.py")
AT_ONCE = 24
QUIET = ("log",)
"""A log message names no request: on a wire that several clients share it can be given to a caller only while there is one."""

IMPOSSIBLE = {
    f"sse-{MODERN}": "HTTP+SSE has a session on its stream; 2026-07-28 has one POST for each request and no sessions",
}
BEYOND = {
    "http-2024-11-05": "streamable HTTP came with 2025-03-26, but SDKs negotiate the older revision over it all the same",
}
"""What the protocol does not have and the world does."""
SIDES = tuple(side for t in TRANSPORTS for r in REVISIONS if (side := f"{t}-{r}") not in IMPOSSIBLE)

Results = dict[str, str]
Connect = Callable[[str, str], Awaitable[Cell]]


class Tasks:
    """Tasks that end with the test; what went wrong in one of them is kept."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self.troubles: list[str] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.troubles.append(repr(task.exception()))

    async def close(self) -> None:
        """End them all."""
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)


def parts(side: str) -> tuple[str, str]:
    """Transport and revision of a side."""
    transport, _, revision = side.partition("-")
    return transport, revision


class Peers:
    """Every server of the matrix, running in this event loop, and how each is reached."""

    def __init__(self, tasks: Tasks, sides: Iterable[str] = SIDES) -> None:
        self.tasks = tasks
        self.worlds = {side: World(side, parts(side)[1], METHODS, tasks.spawn) for side in sides}
        self.http, self.wires = HttpBackends(self.worlds), WireBackends(self.worlds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Peers"]:
        async with self.http.serving(), self.wires.serving():
            yield self

    def relay(self, side: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(RELAY), str(self.wires.stdio_port), side]

    def backend(self, side: str) -> Json:
        """The entry of a configuration."""
        transport = parts(side)[0]
        allow = {"sampling": True, "elicitation": True, "roots": True}
        told: Json = {"required": True, "isolation": "session", "allow": allow}
        if transport == "stdio":
            return told | {"command": self.relay(side)}
        if transport == "ws":
            return told | {"url": f"ws://127.0.0.1:{self.wires.ws_port}/{side}/ws"}
        named = {"http": ("mcp", "streamable-http"), "sse": ("sse", "sse")}[transport]
        return told | {"url": f"http://127.0.0.1:{self.http.port}/{side}/{named[0]}", "transport": named[1]}

    def direct(self, side: str) -> Carrier:
        """The way of a client of the same side straight to its server."""
        transport, revision = parts(side)
        if transport == "stdio":
            return Stdio(self.relay(side), self.tasks.spawn)
        port = self.wires.ws_port if transport == "ws" else self.http.port
        return carrier(transport, port, f"/{side}", revision, self.tasks)


def carrier(transport: str, port: int, base: str, revision: str, tasks: Tasks) -> Carrier:
    """A carrier to a server with the usual paths under ``base``."""
    if transport == "http":
        return Streamable(port, f"{base}/mcp", revision, tasks.spawn)
    if transport == "sse":
        return LegacySse(port, f"{base}/sse", tasks.spawn)
    return WebSocket(port, f"{base}/ws", tasks.spawn)


async def run_cell(connect: Connect, client: str, backend: str, tasks: Tasks) -> tuple[Results, Cell | None]:
    """Every scenario of one cell but the ones that need quiet: what went wrong, empty when nothing did; and the open cell."""
    connecting = tasks.spawn(_connected(connect, client, backend))
    await asyncio.wait([connecting])
    if connecting.exception() is not None:
        return dict.fromkeys(SCENARIOS, f"no connection: {connecting.exception()!r}"), None
    cell = connecting.result()
    return {name: await run_one(name, cell, tasks) for name in SCENARIOS if name not in QUIET}, cell


async def run_one(name: str, cell: Cell, tasks: Tasks) -> str:
    """What went wrong in a scenario."""
    task = tasks.spawn(SCENARIOS[name](cell))
    await asyncio.wait([task])
    return "" if task.exception() is None else repr(task.exception())


async def _connected(connect: Connect, client: str, backend: str) -> Cell:
    async with asyncio.timeout(SECONDS):
        return await connect(client, backend)


async def run_cells(connect: Connect, cells: Iterable[tuple[str, str]], tasks: Tasks) -> dict[tuple[str, str], Results]:
    """Every cell, ``AT_ONCE`` of them at a time; then what needs quiet, one cell at a time for each server."""
    found: dict[tuple[str, str], Results] = {}
    waiting, opened = list(cells), dict[str, list[tuple[tuple[str, str], Cell]]]()

    async def work() -> None:
        while waiting:
            sides = waiting.pop()
            found[sides], cell = await run_cell(connect, *sides, tasks)
            if cell is not None:
                opened.setdefault(sides[1], []).append((sides, cell))

    async def quiet(side: str) -> None:
        for sides, cell in opened[side]:
            found[sides] |= {name: await run_one(name, cell, tasks) for name in QUIET}

    workers = [tasks.spawn(work()) for _ in range(min(AT_ONCE, len(waiting)))]
    await asyncio.wait(workers)
    if opened:
        await asyncio.wait([tasks.spawn(quiet(side)) for side in opened])
    return found


async def run_direct(sides: Iterable[str]) -> dict[str, Results]:
    """Clients straight at the servers: the proof that scenarios, clients and servers agree with each other."""
    tasks = Tasks()
    clients: list[Client] = []

    async with Peers(tasks, sides).running() as peers:

        async def connect(client: str, backend: str) -> Cell:
            made = Client(f"direct-{client}", parts(client)[1], peers.direct(backend), tasks.spawn)
            clients.append(made)
            await made.open()
            return Cell(made, peers.worlds[backend], "", f"direct-{backend}")

        found = await run_cells(connect, [(side, side) for side in sides], tasks)
        for client in clients:
            await client.carrier.close()
        await tasks.close()
    complaints = [line for world in peers.worlds.values() for line in world.complaints]
    assert not complaints, complaints
    return {side: results for (side, _), results in found.items()}


def wrong(results: Mapping[str, str]) -> Json:
    """What went wrong in a cell."""
    return {name: why for name, why in results.items() if why}
