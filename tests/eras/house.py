"""vmcp as processes of its own in front of the servers of the matrix: one for all network clients, one for each client on stdio.

The rule: a process serves many cells; it must end by itself with exit code 0 and leave no child behind.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from tests.eras.carriers import Stdio
from tests.eras.cells import SIDES, Cell, Peers, Results, Tasks, carrier, parts, run_cells
from tests.eras.clients import Client
from tests.eras.http1 import Pool, body
from tests.eras.world import Json
from tests.real.processes import descendants, free_port, parents

READY = 40


def command(*arguments: str | Path) -> list[str]:
    """A vmcp of ours, whatever is on the PATH."""
    return [sys.executable, "-m", "vmcp", *map(str, arguments)]


async def ready(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    """Until /readyz says so."""
    end = time.monotonic() + READY
    while process.returncode is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            async with Pool(port).exchange("GET", "/readyz", {"Connection": "close"}) as (head, reader):
                await body(reader, head)
                if head.words[1] == "200":
                    return
        await asyncio.sleep(0.05)
    raise AssertionError(f"vmcp is not ready, exit code {process.returncode}\n{told(log)}")


def told(log: Path) -> str:
    """The end of what a process said."""
    return log.read_text("utf-8")[-6000:]


@contextlib.asynccontextmanager
async def serving(config: Json, folder: Path) -> AsyncIterator[int]:
    """``vmcp serve``, ready; its port. Afterwards it ends by SIGTERM, clean, and no child is left."""
    port, file, log = free_port(), folder / "serve.json", folder / "serve.log"
    file.write_text(json.dumps(config | {"server": {"port": port}}), "utf-8")
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command("serve", "--config", file), stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        await ready(port, process, log)
        yield port
        family = descendants(process.pid)
        process.terminate()
        async with asyncio.timeout(40):
            code = await process.wait()
        assert code == 0, f"exit code {code}\n{told(log)}"
        await gone(family)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def gone(family: set[int]) -> None:
    """Until none of these processes lives."""
    end = time.monotonic() + 10
    while left := family & parents().keys():
        assert time.monotonic() < end, f"left behind: {left}"
        await asyncio.sleep(0.02)


def one_group_each(peers: Peers) -> Json:
    """Every server in a group of its own, so that each has its endpoints."""
    groups = {side: {"backends": {side: peers.backend(side)}} for side in peers.worlds}
    return {"name": "matrix", "groups": groups, "operational": {"logLevel": "warning"}}


def one_for_all(peers: Peers) -> Json:
    """Every server in one group."""
    return {"name": "matrix", "groups": {"all": {"backends": {side: peers.backend(side) for side in peers.worlds}}}}


class House:
    """How a client of a side reaches a server through vmcp."""

    def __init__(self, peers: Peers, port: int, folder: Path) -> None:
        self.peers, self.port, self.folder = peers, port, folder
        self._opened: list[Client] = []
        self._shared: dict[str, asyncio.Task[Client]] = {}

    async def connect(self, client: str, backend: str) -> Cell:
        """A client of its own for the network transports, one client for all servers on stdio."""
        transport, revision = parts(client)
        if transport == "stdio":
            if client not in self._shared:
                self._shared[client] = self.peers.tasks.spawn(self._start(client))
            made = await asyncio.shield(self._shared[client])
        else:
            way = carrier(transport, self.port, f"/{backend}", revision, self.peers.tasks)
            made = Client(f"{client}-at-{backend}", revision, way, self.peers.tasks.spawn)
            self._opened.append(made)
            await made.open()
        return Cell(made, self.peers.worlds[backend], f"{backend}_", f"{client}-{backend}")

    async def _start(self, client: str) -> Client:
        file = self.folder / "all.json"
        if not file.exists():
            file.write_text(json.dumps(one_for_all(self.peers)), "utf-8")
        way = Stdio(command("stdio", "--config", file), self.peers.tasks.spawn, self.folder / f"{client}.log")
        made = Client(client, parts(client)[1], way, self.peers.tasks.spawn)
        self._opened.append(made)
        await made.open()
        return made

    async def close(self) -> list[str]:
        """Everybody leaves; what did not go well."""
        troubles = []
        for client in self._opened:
            closing = self.peers.tasks.spawn(client.carrier.close())
            await asyncio.wait([closing])
            if closing.exception() is not None:
                troubles.append(f"{client.name} leaves: {closing.exception()!r}")
        return troubles


async def run_through(
    cells: Iterable[tuple[str, str]], folder: Path
) -> tuple[dict[tuple[str, str], Results], list[str]]:
    """All scenarios of these cells through vmcp, and everything that was wrong beside them."""
    wanted, tasks = list(cells), Tasks()
    sides = [side for side in SIDES if side in {backend for _, backend in wanted}]
    async with Peers(tasks, sides).running() as peers, serving(one_group_each(peers), folder) as port:
        house = House(peers, port, folder)
        found = await run_cells(house.connect, wanted, tasks)
        troubles = await house.close()
    await tasks.close()
    return found, troubles + tasks.troubles + [line for world in peers.worlds.values() for line in world.complaints]
