"""``vmcp`` as a process: its lines as they come, its end, and what it leaves behind.

Rule: whatever a test does, the process group is gone when its block ends.
"""

import contextlib
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import vmcp

ROOT = Path(vmcp.__file__).parent.parent
CHILD = Path(__file__).parent.parent / "server" / "child.py"
PATIENCE = 15.0
PROGRAM = shlex.split(os.environ.get("VMCP_TEST_PROGRAM", "")) or [sys.executable, "-m", "vmcp"]
"""What is tested: this tree, or something that was built of it (tests/binary)."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def run(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a verb to its end."""
    command = [*PROGRAM, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=environment(), cwd=cwd, check=False
    )


class Process:
    """A running ``vmcp``. ``text`` is all that came out of its stderr so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", stderr: int) -> None:
        self.process = process
        self.text = ""
        self._stderr = stderr

    def until(self, pattern: str) -> "re.Match[str]":
        """Read stderr until ``pattern`` is in it."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.text)) is None:
            assert self._read(deadline), f"no {pattern!r} in:\n{self.text}"
        return found

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._stderr], [], [], max(0.0, deadline - time.monotonic()))
        piece = b""
        if ready:
            with contextlib.suppress(OSError):  # a terminal whose other end is closed
                piece = os.read(self._stderr, 65536)
        self.text += piece.decode()
        return bool(piece)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, after all that it still says."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def lines(self) -> list[dict[str, Any]]:
        """The log, if it is JSON."""
        return [json.loads(line) for line in self.text.splitlines()]

    def port(self) -> int:
        return int(self.until(r"http://127\.0\.0\.1:(\d+)")[1])


@contextlib.contextmanager
def heard(process: subprocess.Popen[bytes], reading: int) -> Iterator[Process]:
    """A process of a session of its own, whose stderr is read from ``reading``; in the end nothing of that session is left."""
    try:
        yield Process(process, reading)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(reading)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def serving(*arguments: str, terminal: bool = False, verb: str = "serve") -> Iterator[Process]:
    """``vmcp serve`` (or another verb) on a free port, its stderr a pipe or a terminal."""
    reading, writing = os.openpty() if terminal else os.pipe()
    command = [*PROGRAM, verb, "--port", "0", *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=writing,
        env=environment(),
        start_new_session=True,
    )
    os.close(writing)
    with heard(process, reading) as found:
        yield found


def alive(pid: int) -> bool:
    """Whether a process is still there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: Sequence[int]) -> bool:
    """Whether all of them end within the patience of a test."""
    deadline = time.monotonic() + 5
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True
