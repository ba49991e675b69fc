"""Children, their nurses and the nursery: what a child gets of the kernel, and that nothing of it is left whatever happens.

Rule: every scenario ends with no process of the child alive, none waiting to be reaped, and no descriptor more than before.
"""

import asyncio
import errno
import functools
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.badserver import until
from tests.upstream.child import result
from tests.upstream.fakes import alive, command, journal_of, soon, spawned
from vmcp.config.processes import ProcessSpec
from vmcp.errors import Code, Unavailable
from vmcp.protocol import jsonrpc
from vmcp.upstream import child as module
from vmcp.upstream import spawn, stdio
from vmcp.upstream.child import Child, Refused
from vmcp.upstream.spawn import NURSERY
from vmcp.upstream.stdio import Program, StdioWire
from vmcp.upstream.wire import Outgoing

CYCLES = int(os.environ.get("VMCP_SPAWN_CYCLES", "60"))
CAT = Program(["cat"])
PONG = ["say", result({})]
READY = ["write", 2, "ready\n"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture(autouse=True)
async def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(stdio, "CLOSE_WAIT", 0.05)
    monkeypatch.setattr(stdio, "TERM_WAIT", 0.1)
    await (await stdio.spawn("time", CAT)).close()  # the nursery is there now
    await until(lambda: not children(NURSERY.pid))
    before = files()
    yield
    await until(lambda: not children(NURSERY.pid))
    await until(lambda: len(files()) <= len(before))


def files() -> list[str]:
    return [place.name for place in Path("/proc/self/fd").iterdir()]


def children(pid: int) -> list[int]:
    """All that have this parent, zombies too."""
    return [int(place.name) for place in Path("/proc").glob("[0-9]*") if parent(place) == pid]


def parent(place: Path) -> int:
    try:
        return int((place / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def ping(wire: StdioWire) -> Any:
    return wire.exchange(Outgoing(1, jsonrpc.request(1, "ping", {})), None, soon())


def ignored(status: dict[str, str]) -> set[int]:
    return {number for number in range(1, 32) if int(status["SigIgn"], 16) & 1 << number - 1}


# --- what a child gets


async def confession(journal: Path, spec: ProcessSpec | None = None) -> dict[str, Any]:
    async with spawned(journal, {"start": [["confess"]]}, spec=spec) as wire:
        await until(lambda: bool(journal_of(journal, "limits")))
        assert wire._child is not None
        assert journal_of(journal, "session") == journal_of(journal, "pid") == [wire._child.pid]
    return {key: journal_of(journal, key)[0] for key in ("status", "limits", "files")}


async def test_a_child_has_three_descriptors_no_ignored_signal_and_no_way_to_more_privileges(journal: Path) -> None:
    kept = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(kept, True)
    NURSERY.close()  # the next one is started while there is something to inherit
    try:
        told = await confession(journal)
    finally:
        os.close(kept)
    assert told["files"] == [0, 1, 2]
    status = told["status"]
    assert status["NoNewPrivs"] == "1"
    assert status["Umask"] == "0077"
    assert int(status["SigBlk"], 16) == 0
    assert ignored(status) == {signal.SIGPIPE, signal.SIGXFSZ}, "which Python ignores of itself"
    assert told["limits"]["CORE"] == [0, 0]
    assert told["limits"]["NOFILE"] == [1024, 1024]
    assert told["limits"]["DATA"] == list(resource.getrlimit(resource.RLIMIT_DATA))


async def test_the_limits_of_a_child_are_those_of_its_config(journal: Path) -> None:
    spec = ProcessSpec(memory=1 << 28, files=32, processes=5000, new_privileges=True)
    told = await confession(journal, spec)
    assert told["limits"] == {"DATA": [1 << 28] * 2, "NOFILE": [32] * 2, "NPROC": [5000] * 2, "CORE": [0, 0]}
    assert told["status"]["NoNewPrivs"] == "0"


async def test_a_limit_is_never_above_our_own(journal: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    told = await confession(journal, ProcessSpec(files=hard + 1000))
    assert told["limits"]["NOFILE"] == [hard, hard]


async def test_a_child_gets_no_more_memory_than_it_may_have(journal: Path) -> None:
    async with spawned(journal, {"ping": [["gorge", 1 << 28], PONG]}, spec=ProcessSpec(memory=1 << 27)) as wire:
        await ping(wire)
    assert journal_of(journal, "hungry") == [True]


async def test_a_program_is_looked_for_on_the_path_that_it_is_given(journal: Path) -> None:
    folder = journal.parent / "bin"
    folder.mkdir()
    script = folder / "greet"
    script.write_text("#!/bin/sh\necho found >&2\nread line\n")
    script.chmod(0o700)
    wire = await stdio.spawn("time", Program(["greet"], {"PATH": str(folder)}))
    await until(lambda: wire.stderr == ["found"])
    await wire.close()
    script.write_text("#!/no/such/interpreter\n")
    with pytest.raises(Unavailable, match="'greet' was not found"):
        await stdio.spawn("time", Program(["greet"], {"PATH": str(folder)}))


# --- T-STD-07: whatever happens, nothing is left

KEEPS: dict[str, list[Any]] = {
    "nothing": [],
    "no ear for anything": [["stubborn"], READY, ["deaf"]],
    "a grandchild in its group": [["offspring"]],
    "a grandchild in a session of its own": [["escapee"]],
    "a grandchild that holds its streams": [["escapee", True]],
    "a daemon": [["orphan"]],
    "two of them, and no ear for anything": [["orphan"], ["escapee"], ["stubborn"], READY, ["deaf"]],
}


async def _close(wire: StdioWire) -> None:
    await wire.close()


async def _stop_then_close(wire: StdioWire) -> None:
    os.kill(_pid(wire), signal.SIGSTOP)
    await wire.close()


async def _crash(wire: StdioWire) -> None:
    os.kill(_pid(wire), signal.SIGKILL)
    await until(lambda: wire.exited)
    assert "SIGKILL" in wire.obituary()


async def _lose_nurse(wire: StdioWire) -> None:
    os.kill(parent(Path(f"/proc/{_pid(wire)}")), signal.SIGKILL)
    await until(lambda: wire.exited)


async def _lose_nursery(wire: StdioWire) -> None:
    os.kill(NURSERY.pid, signal.SIGKILL)
    assert alive(_pid(wire))


async def _lose_both(wire: StdioWire) -> None:
    nurse = parent(Path(f"/proc/{_pid(wire)}"))
    NURSERY.close()
    os.kill(nurse, signal.SIGKILL)
    await until(lambda: wire.exited)


async def _give_up_closing(wire: StdioWire) -> None:
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(wire.close())
        await asyncio.sleep(0)
        closing.cancel()


async def _garbage(wire: StdioWire) -> None:
    wire._cutter._limit = 8
    wire.pipe_data_received(1, b"x" * 100)
    await until(lambda: wire.exited)


def _pid(wire: StdioWire) -> int:
    assert wire._child is not None
    return wire._child.pid


WAYS: list[Callable[[StdioWire], Any]] = [_stop_then_close, _crash, _lose_nurse, _lose_nursery]
WAYS += [_give_up_closing, _garbage]


SCENARIOS: list[tuple[str, Callable[[StdioWire], Any]]] = [(keeps, _close) for keeps in KEEPS]
SCENARIOS += [("no ear for anything", _lose_both)]
SCENARIOS += [(keeps, way) for way in WAYS for keeps in list(KEEPS)[-2:]]


@pytest.mark.parametrize(("keeps", "way"), SCENARIOS, ids=lambda part: str(getattr(part, "__name__", part)).strip("_"))
async def test_nothing_of_a_child_is_left(keeps: str, way: Callable[[StdioWire], Any], journal: Path) -> None:
    steps = KEEPS[keeps]
    async with spawned(journal, {"start": steps if READY in steps else [*steps, READY]}) as wire:
        await until(lambda: "ready" in wire.stderr)
        expected = sum(name in ("offspring", "escapee", "orphan") for name, *_ in steps)
        await until(lambda: len(journal_of(journal, "grandchild")) == expected)
        pids = [*journal_of(journal, "pid"), *journal_of(journal, "grandchild")]
        assert all(map(alive, pids))
        await way(wire)
    await until(lambda: not any(map(alive, pids)))


async def test_a_nurse_that_hangs_holds_up_nobody_and_does_its_work_when_it_goes_on(
    journal: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stdio, "SWEEP", -1.0)
    async with spawned(journal, {"start": [["stubborn"], READY, ["deaf"]]}) as wire:
        await until(lambda: "ready" in wire.stderr)
        pid = _pid(wire)
        nurse = parent(Path(f"/proc/{pid}"))
        os.kill(nurse, signal.SIGSTOP)
        await wire.close()
        assert "a child process cannot be ended" in caplog.text
        assert alive(pid)
        os.kill(nurse, signal.SIGCONT)
        await until(lambda: not alive(pid))


# --- starting


async def test_a_start_that_is_given_up_leaves_nothing_at_whatever_moment(journal: Path) -> None:
    for turns in range(24):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(stdio.spawn("time", Program(command(journal, {}))))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
        if not task.cancelled():
            await task.result().close()
    await until(lambda: not any(map(alive, journal_of(journal, "pid"))))


async def test_a_nursery_that_was_killed_is_replaced_with_the_next_start(journal: Path) -> None:
    old = NURSERY.pid
    os.kill(old, signal.SIGKILL)
    await until(lambda: parent(Path(f"/proc/{old}")) == 0 or b"Z" in Path(f"/proc/{old}/stat").read_bytes())
    async with spawned(journal, {"ping": [PONG]}) as wire:
        await ping(wire)
        assert NURSERY.pid != old
    assert not alive(old)


async def test_a_nursery_that_does_not_answer_is_waited_for_only_so_long(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START", 0.05)
    os.kill(NURSERY.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="Connection timed out") as refused:
            await stdio.spawn("time", Program(command(journal, {})))
    finally:
        os.kill(NURSERY.pid, signal.SIGCONT)
    assert refused.value.vmcp_code == Code.CONNECTION_FAILED


async def test_a_nursery_that_cannot_be_started_is_our_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    NURSERY.close()
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(Refused) as refused:
        await Child(StdioWire("time")).start(Program(["x"]).order())
    assert (refused.value.stage, refused.value.errno) == ("nursery", errno.ENOENT)


@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_a_nursery_that_dies_before_it_answers_is_told(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    NURSERY.close()
    monkeypatch.setattr(type(NURSERY), "_open", functools.partialmethod(_dead_end, seconds))
    with pytest.raises(Unavailable, match="cannot start 'x': Connection reset by peer"):
        await stdio.spawn("time", Program(["x"]))
    NURSERY.close()


async def test_a_nursery_that_dies_before_it_is_asked_is_told() -> None:
    class Lost(Child):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            asyncio.get_running_loop().call_soon(transport.abort)

    with pytest.raises(Refused) as refused:
        await Lost(StdioWire("time")).start(CAT.order())
    assert (refused.value.stage, refused.value.errno) == ("nursery", errno.ECONNRESET)


def _dead_end(nursery: Any, seconds: float) -> Any:
    """A nursery which closes what it is handed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    nursery.pid = os.posix_spawn("/bin/true", ["true"], {})
    nursery._theirs = theirs
    asyncio.get_running_loop().call_later(seconds, theirs.close)
    return ours


async def test_many_children_come_and_go_and_leave_no_descriptor_and_no_zombie() -> None:
    before = len(files())
    for number in range(CYCLES):
        await (await stdio.spawn("time", Program(["true"]) if number % 2 else CAT)).close()
    assert len(files()) == before
    await until(lambda: not children(NURSERY.pid))


async def test_the_nursery_of_a_frozen_vmcp_is_vmcp_itself(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert spawn.command() == [sys.executable, "--nursery"]
    monkeypatch.setattr(spawn, "command", lambda: [sys.executable, "-m", "vmcp", "--nursery"])
    NURSERY.close()
    async with spawned(journal, {"ping": [PONG]}) as wire:
        await ping(wire)
    NURSERY.close()
