"""Starting and stopping what others wrote, and vmcp as a process of its own.

Rule: who starts a process ends it, waits are bounded and on a condition, and what a process said on stderr is shown when
it did not do as expected.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent
MODULES = PEERS / "node_modules"
SDK1_PYTHON = ROOT / ".venv-mcp1" / "bin" / "python"
WORKERS = int(os.environ.get("VMCP_TEST_WORKERS", "1"))
"""Processes of each vmcp that says nothing of it: what works with one shall work with several."""

Command = Sequence[str | Path]


def node() -> Path:
    """Node 22: the conformance suites need it, whatever version the machine has."""
    return MODULES / ".bin" / "node"


def script(package: str, path: str = "dist/index.js") -> list[str | Path]:
    """The command that runs a file of an npm package."""
    return [node(), MODULES / package / path]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    """Look until it holds; ``what`` tells what went wrong when it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what()}")
        time.sleep(0.02)  # another process: there is nothing to wait on but the clock


def connects(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(command: Command, log: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, its output in ``log``; the whole group is gone afterwards."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextlib.contextmanager
def http_server(command: Command, port: int, log: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A server that is up; the URL of its endpoint."""
    with running(command, log, env) as child:
        wait_for(
            lambda: connects(port) or child.poll() is not None,
            20,
            lambda: f"{command}\n{log.read_text(errors='replace')}",
        )
        assert child.poll() is None, log.read_text(errors="replace")
        yield f"http://localhost:{port}/mcp"


def parents() -> dict[int, int]:
    """Process → its parent, of all that live (zombies do not)."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def descendants(pid: int) -> set[int]:
    """Every process below this one."""
    family, everybody = {pid}, parents()
    while more := {child for child, parent in everybody.items() if parent in family} - family:
        family |= more
    return family - {pid}


def ready(url: str) -> bool:
    """Whether /readyz says so."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def gateway(config: dict[str, Any], folder: Path) -> Iterator[str]:
    """``vmcp serve`` on this configuration, ready; stopped by SIGTERM, which must leave exit code 0 and no process."""
    port, file, log = free_port(), folder / "vmcp.yaml", folder / "vmcp.log"
    server = {"workers": WORKERS, **config.get("server", {}), "port": port}
    file.write_text(json.dumps(config | {"server": server}, indent=1), "utf-8")  # JSON is YAML

    def told() -> str:
        return f"vmcp, exit code {child.poll()}:\n{log.read_text(errors='replace')}"

    with running([sys.executable, "-m", "vmcp", "serve", "--config", file], log) as child:
        wait_for(lambda: child.poll() is not None or ready(f"http://127.0.0.1:{port}/readyz"), 40, told)
        assert child.poll() is None, told()
        yield f"http://localhost:{port}/mcp"
        family = descendants(child.pid)
        child.terminate()
        assert child.wait(30) == 0, told()
        wait_for(
            lambda: not family & parents().keys(), 10, lambda: f"left behind: {family & parents().keys()}\n{told()}"
        )


def backend(command: Command | None = None, **more: Any) -> dict[str, Any]:
    """A backend that gates readiness: by command, or by ``url=``."""
    told = {} if command is None else {"command": [str(part) for part in command]}
    return {**told, "required": True, **more}
