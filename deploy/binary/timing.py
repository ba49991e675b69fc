"""How long a form of vmcp takes to begin, and what it takes of memory.

The rule: whoever is measured is started as users start him, and nothing of him is left.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONFIG = """\
name: timing
server: {port: PORT}
groups:
  none:
    backends:
      nobody: {url: "http://127.0.0.1:9/mcp"}
"""
PATIENCE = 30.0
_NEEDED = ("PATH", "HOME", "TMPDIR", "VMCP_CACHE_DIR")


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds until it lives, bytes of memory of all its processes that is theirs alone or their share, and how many they are."""

    seconds: float
    memory: int
    processes: int


def version(words: Sequence[str | Path], times: int = 5) -> float:
    """Seconds for ``vmcp version``, the best of a few."""
    return min(_took(words) for _ in range(times))


def _took(words: Sequence[str | Path]) -> float:
    began = time.perf_counter()
    subprocess.run([*words, "version"], stdout=subprocess.DEVNULL, env=_environment(), check=True)
    return time.perf_counter() - began


def livez(words: Sequence[str | Path], times: int = 3) -> Start:
    """From the start of ``vmcp serve`` until ``/livez`` answers, the best of a few."""
    return min((_served(words) for _ in range(times)), key=lambda each: each.seconds)


def _served(words: Sequence[str | Path]) -> Start:
    with tempfile.TemporaryDirectory(prefix="vmcp-timing-") as folder:
        port = _free_port()
        config = Path(folder) / "vmcp.yaml"
        config.write_text(CONFIG.replace("PORT", str(port)), "utf-8")
        environment = {**_environment(), "VMCP_RUN_DIR": folder}
        command = [*words, "serve", "--no-watch", "--log-level", "error", "--config", config]
        began = time.perf_counter()
        with _ended(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)) as process:
            while not _lives(port):
                if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                    raise SystemExit(f"build.py: {words[-1]} does not serve")
                time.sleep(0.002)
            seconds = time.perf_counter() - began
            family = [process.pid, *below(process.pid)]
            return Start(seconds, sum(map(_memory, family)), len(family))


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _lives(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def below(pid: int) -> list[int]:
    """The processes that descend from one."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text("utf-8").split():
            found += [int(child), *below(int(child))]
    return found


def _memory(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def _environment() -> Mapping[str, str]:
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}
