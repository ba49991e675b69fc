"""``vmcp serve`` as a process under observation, and what a scenario reports.

The one rule: a figure says what was asked for and what was reached, and nobody rounds in his own favour.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import account
from actor import Client, Json

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0
ROOMY = {"sessions": 50_000, "sessionsPerPrincipal": 50_000, "connections": 50_000, "connectionsPerAddress": 50_000}
"""Limits out of the way of scenarios in which one machine plays thousands."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``most`` is the limit for ``reached``, in ``unit``; None: the number is told and not judged."""

    scenario: str
    what: str
    reached: float
    most: float | None
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it is good enough."""
        return self.most is None or self.reached <= self.most


@dataclass
class House:
    """One vmcp that runs."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    config: Json
    began: float

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "vmcp.log").read_text("utf-8", "replace")

    def memory(self) -> int:
        """Bytes of it alone."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def handles(self) -> int:
        """Open file descriptors."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def cpu(self) -> float:
        """Seconds of processor time since it began."""
        return account.cpu_seconds(self.pid)

    def write(self, config: Json) -> None:
        """Put another configuration in place, at once and whole."""
        fresh = self.folder / "vmcp.yaml.new"
        fresh.write_text(json.dumps(config), "utf-8")
        fresh.replace(self.folder / "vmcp.yaml")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def config_of(backends: dict[str, Any], port: int, **more: Any) -> Json:
    """One group of these backends; ``limits`` are added to the roomy ones."""
    server = {"port": port, "limits": ROOMY | more.pop("limits", {})}
    return {"name": "reliable", "groups": {"all": {"backends": backends}}, "server": server, **more}


async def ready(port: int) -> bool:
    """Whether /readyz says so."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port)
        answer = await reader.read()
        writer.close()
    except ConnectionError:
        return False
    return answer.startswith(b"HTTP/1.1 200")


@contextlib.asynccontextmanager
async def serving(backends: dict[str, Any], **more: Any) -> AsyncIterator[House]:
    """A vmcp that is ready; killed at the end if it still runs."""
    port = free_port()
    config = config_of(backends, port, **more)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "vmcp.yaml").write_text(json.dumps(config), "utf-8")
        command = [sys.executable, "-m", "vmcp", "serve", "--config", str(folder / "vmcp.yaml")]
        house = _started(command, port, folder, config)
        try:
            await until_ready(house)
            yield house
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(house.pid, signal.SIGKILL)
            house.process.wait()


def _started(command: Sequence[str], port: int, folder: Path, config: Json) -> House:
    with (folder / "vmcp.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    return House(port, process, folder, config, began)


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until ``condition`` holds, which another process decides. Raises ``TimeoutError``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until_ready(house: House) -> None:
    """Wait for it. Raises ``RuntimeError`` with what it said."""
    end = time.monotonic() + PATIENCE
    while not await ready(house.port):
        if house.process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"vmcp did not become ready:\n{house.log[-3000:]}")
        await asyncio.sleep(0.02)


async def clients(house: House, count: int, at_once: int = 200) -> list[Client]:
    """So many sessions, each with a connection of its own."""
    gate = asyncio.Semaphore(at_once)

    async def one() -> Client:
        async with gate:
            return await Client(house.port).open()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(count)]
    return [task.result() for task in tasks]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of ``values`` does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
