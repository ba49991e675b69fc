"""Whoever leaves in the middle of the start of a child process leaves no process, at whatever await it is.

Rule: the process is a real one, and it is looked for in the kernel.
"""

import asyncio
import itertools
import sys
from pathlib import Path

import pytest

from tests.faults import brain
from tests.faults.brain import LATEST
from tests.faults.seams import Seams
from tests.faults.worlds import until
from tests.real.processes import descendants
from vmcp.upstream import stdio
from vmcp.upstream.places import places


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


def started() -> set[int]:
    """Who runs the child's program, below us."""
    found = set()
    for pid in descendants(_self()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if brain.__file__.encode() in words:
            found.add(pid)
    return found


def _self() -> int:
    return int(Path("/proc/self").readlink().name)


@pytest.mark.parametrize("late", [False, True])
async def test_a_start_that_is_given_up_leaves_no_process(monkeypatch: pytest.MonkeyPatch, *, late: bool) -> None:
    monkeypatch.setattr(stdio, "CLOSE_WAIT", 0.1)
    program = stdio.Program([sys.executable, "-I", "-S", brain.__file__, LATEST])
    for at in itertools.count(1):
        task: asyncio.Task[stdio.StdioWire]
        seams = Seams(at, lambda: task.cancel(), late=late)  # noqa: B023, PLW0108 - this very task
        task = asyncio.get_running_loop().create_task(seams.run(stdio.spawn("b", program)))
        await asyncio.wait([task])
        if not task.cancelled():
            await task.result().close()
        assert task.cancelled() or not seams.struck
        await until(lambda: not started(), started)
        assert places().total == 0
        if not seams.struck:
            break
    assert at > 1
