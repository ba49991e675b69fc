"""The disk under the audit log fails while the house serves, and comes back: what is served then, and what the log tells of it.

Rule: every request has one outcome and, once the disk is back, one event; the file is a real one, whose descriptor is led to
``/dev/full``, to a file that nobody may write, or to a deleted one while it is in use.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.peers import Server, echo, tool, until
from tests.server.test_audited import House, audited
from vmcp.state import auditlog
from vmcp.state.auditlog import AuditLog
from vmcp.state.chain import Proof

REFUSED = "audit unavailable: what cannot be recorded is not served; try again later"


def log_of(found: House) -> AuditLog:
    (log,) = found.running._holdings._logs.all()
    assert isinstance(log, AuditLog)
    return log


@contextlib.contextmanager
def broken(log: AuditLog, path: str, flags: int) -> Iterator[None]:
    """While the block runs, what the log writes goes to ``path``, where it cannot."""
    kept, other = os.dup(log._file._fd), os.open(path, flags)
    try:
        os.dup2(other, log._file._fd)
        yield
    finally:
        os.dup2(kept, log._file._fd)
        os.close(kept)
        os.close(other)


def outcome(answer: Any) -> str:
    """served, refused, or something that nobody expected."""
    if answer.status == 200 and answer.message.get("result") is not None:
        return "served"
    return "refused" if answer.error["message"] == REFUSED else str(answer.error)


def faults(path: Path) -> list[str]:
    proof = Proof(None)
    proof.read("log", path.read_bytes().splitlines(keepends=True))
    proof.end("log")
    return [fault.what for fault in proof.faults]


BROKEN = {"full": ("/dev/full", os.O_WRONLY), "read-only": (os.devnull, os.O_RDONLY)}


@pytest.mark.parametrize(("path", "flags"), BROKEN.values(), ids=list(BROKEN))
async def test_fail_closed_refuses_while_the_disk_fails_and_serves_again_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, flags: int
) -> None:
    server = Server(tools=[tool("echo")], script=echo)
    async with audited(monkeypatch, tmp_path, server) as found:
        door, log = found.door(), log_of(found)
        assert outcome(await door.call("echo")) == "served"
        with broken(log, path, flags):
            first = await door.call("echo")  # the writer learns it from this one
            await until(lambda: log.failing)
            refused = [outcome(await door.call("echo")) for _ in range(20)]
            assert (await door.ask("tools/list")).result["tools"], "what reads nothing of a backend is served"
        await until(lambda: log.failing is None)
        assert outcome(await door.call("echo")) == "served"
        events = await found.events(24)
    assert (outcome(first), refused) == ("served", ["refused"] * 20)
    calls = [event["outcome"] for event in events if event["type"] == "mcp_tool_call"]
    assert calls == ["success", "success", *["error"] * 20, "success"], "each has one event, refusals too"
    assert sum(asked.method == "tools/call" for asked in server.asked) == 3, "what is refused reaches nobody"
    assert faults(found.path) == []


async def test_fail_open_serves_on_and_tells_afterwards_how_many_are_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(auditlog, "MOST_RECORDS", 20)
    monkeypatch.setattr(auditlog, "_CROWD", 10)
    async with audited(monkeypatch, tmp_path, spec={"on_failure": "fail_open"}) as found:
        door, log = found.door(), log_of(found)
        with broken(log, "/dev/full", os.O_WRONLY):
            served = [outcome(await door.call("echo")) for _ in range(60)]
            await until(lambda: log.failing)
            dropped = log.dropped
        await until(lambda: log.failing is None and log.load == 0)
        assert outcome(await door.call("echo")) == "served"
        await until(lambda: log.load == 0)
    told = [json.loads(line) for line in found.path.read_bytes().splitlines()]
    gaps = [event["count"] for event in told if event["type"] == "audit_gap"]
    assert served == ["served"] * 60
    assert dropped >= 30
    assert sum(event["type"] == "mcp_tool_call" for event in told) == 61 - dropped
    assert sum(gaps) == dropped
    assert faults(found.path) == []


async def test_a_log_that_is_deleted_stops_nobody_and_the_new_one_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aside = tmp_path / "audit.jsonl"
    async with audited(monkeypatch, tmp_path) as found:
        door, log = found.door(), log_of(found)
        assert outcome(await door.call("echo")) == "served"
        await found.events(1)
        aside.unlink()
        answers = [outcome(await door.call("echo")) for _ in range(5)]
        await until(lambda: log.load == 0)
        told = faults(aside)
        assert len(found.read()) == 5
        aside.unlink()  # (``audited`` asks for a log without a fault)
    assert answers == ["served"] * 5
    assert told == ["the file before this one was deleted while it was written"]


async def test_the_loop_turns_on_while_the_disk_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pipe that nobody reads is a disk that hangs: the writer waits in it, and nobody else."""
    reading, writing = os.pipe()
    async with audited(monkeypatch, tmp_path) as found:
        door, log = found.door(), log_of(found)
        kept = os.dup(log._file._fd)
        os.dup2(writing, log._file._fd)
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(writing, False)
            while True:
                os.write(writing, bytes(4096))
        os.set_blocking(writing, True)
        assert [outcome(await door.call("echo")) for _ in range(30)] == ["served"] * 30
        assert log.load > 0
        os.dup2(kept, log._file._fd)
        os.set_blocking(reading, False)
        async with asyncio.timeout(5):
            while log.load:
                with contextlib.suppress(BlockingIOError):
                    os.read(reading, 1 << 16)
                await asyncio.sleep(0)
        found.path.unlink()  # a part of the records went into the pipe
    for each in (reading, writing, kept):
        os.close(each)
