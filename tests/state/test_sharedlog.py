"""One audit log written by several workers: one chain, whoever of them is killed, and whatever happens to the file.

The rule: whoever is killed is a process that is really killed; between two that live, each step is done by hand.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import vmcp
from vmcp.state import auditlog, sharedlog
from vmcp.state.auditlog import AuditLog, AuditUnavailable, Sink, rotated
from vmcp.state.chain import HEAD_BYTES, Proof, read_head
from vmcp.state.crew import Common, Crew
from vmcp.state.sharedlog import SharedFile

ROOT = Path(vmcp.__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def common() -> Iterator[Common]:
    made = Common.of(3)
    yield made
    made.close()


def explained(found: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": "audit_start", **found}).encode()


def opened(path: Path, common: Common, index: int = 0, **more: Any) -> SharedFile:
    return SharedFile(Sink(str(path), **more), Crew(common, index), explained)


def write(file: SharedFile, *numbers: int) -> None:
    file.add(b'{"type":"mcp_tool_call","n":%d}' % number for number in numbers)
    file.flush()


@contextmanager
def two(path: Path, common: Common, **more: Any) -> Iterator[tuple[SharedFile, SharedFile]]:
    with closing(opened(path, common, 0, **more)) as one, closing(opened(path, common, 1, **more)) as other:
        yield one, other


@contextmanager
def logs(path: Path, common: Common, **more: Any) -> Iterator[list[AuditLog]]:
    """Two workers that write."""
    with ExitStack() as stack:
        made = [AuditLog(Sink(str(path), **more), {}, Crew(common, index)) for index in range(2)]
        for each in made:
            each.start()
            stack.callback(each.close, 5.0)
        yield made


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in [*rotated(str(path)), path] for line in file.read_bytes().splitlines()]


def numbers(path: Path) -> list[int]:
    return [each["n"] for each in records(path) if "n" in each]


def head(path: Path) -> int:
    """The number of the last record; 0 when there is none yet."""
    beside = Path(f"{path}.head")
    place = read_head(beside.read_bytes()[:HEAD_BYTES], None) if beside.exists() else None
    return place.seq if place is not None else 0


def proof(path: Path, key: bytes | None = None) -> Proof:
    place = read_head(Path(f"{path}.head").read_bytes()[:HEAD_BYTES], key)
    assert place is not None
    made = Proof(key, [place])
    for file in [*rotated(str(path)), path]:
        made.read(str(file), file.read_bytes().splitlines(keepends=True))
    made.end(str(path))
    return made


def faults(path: Path) -> list[str]:
    return [fault.what for fault in proof(path).faults]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# --- one chain


def test_what_several_write_hangs_on_one_chain_in_the_order_of_each(path: Path, common: Common) -> None:
    with logs(path, common, rotate_bytes=20_000, key=b"k" * 16) as made:
        for number in range(500):
            for index, each in enumerate(made):
                each.put(b'{"type":"mcp_tool_call","by":%d,"n":%d}' % (index, number), vital=False)
            if number % 100 == 0:
                until(lambda: not any(each.load for each in made))
    told = records(path)
    for index in range(2):
        assert [each["n"] for each in told if each.get("by") == index] == list(range(500))
    assert proof(path, b"k" * 16).faults == []
    assert [each["seq"] for each in told] == list(range(1, len(told) + 1))
    assert len(rotated(str(path))) >= 3
    for file in rotated(str(path)):
        assert json.loads(file.read_bytes().splitlines()[0])["type"] == "audit_start", file
    assert sorted(each["worker"] for each in told if each["type"] == "audit_stop") == [0, 1]


def test_checkpoints_and_gaps_say_whose_they_are(path: Path, common: Common, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditlog, "CHECKPOINT_RECORDS", 5)
    log = AuditLog(Sink(str(path)), {}, Crew(common, 2))
    for _ in range(auditlog.MOST_RECORDS):
        log.put(b'{"type":"mcp_ping"}', vital=False)
    log.start()
    log.close(5.0)
    told = {each["type"]: each.get("worker") for each in records(path)}
    assert told == {"audit_start": 2, "audit_gap": 2, "mcp_ping": None, "audit_checkpoint": 2, "audit_stop": 2}


def damaged(path: Path, what: str) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if what == "edited":
        lines[3] = lines[3].replace(b'"n":', b'"m":')
    elif what == "dropped":
        del lines[3]
    elif what == "moved":
        lines[3], lines[4] = lines[4], lines[3]
    else:
        del lines[-3:]
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("what", ["edited", "dropped", "moved", "cut"])
@pytest.mark.parametrize("between", [True, False], ids=["while it is written", "afterwards"])
def test_what_is_done_to_the_log_is_found(path: Path, common: Common, what: str, between: bool) -> None:
    with two(path, common) as (one, other):
        for number in range(0, 10, 2):
            write(one, number)
            write(other, number + 1)
        if between:
            damaged(path, what)
            write(other, 10)
            write(one, 11)
    if not between:
        damaged(path, what)
    assert faults(path)


# --- who is let in


def test_relatives_are_let_in_and_nobody_else(path: Path, common: Common) -> None:
    others = Common.of(2)
    with two(path, common) as (one, _):
        write(one, 1)
        for stranger in (lambda: AuditLog(Sink(str(path)), {}), lambda: opened(path, others)):
            with pytest.raises(AuditUnavailable, match="another process writes"):
                stranger()
        write(one, 2)
    first = opened(path, common)
    with closing(opened(path, common, 1)) as other:
        first.close()
        with pytest.raises(AuditUnavailable, match="another process writes"):
            AuditLog(Sink(str(path)), {})
        write(other, 3)
    with closing(opened(path, others)) as next_:
        write(next_, 4)
        with pytest.raises(AuditUnavailable, match="another process writes"):
            opened(path, common)
    alone = AuditLog(Sink(str(path)), {})
    with pytest.raises(AuditUnavailable, match="another process writes"):
        opened(path, common)
    alone.close(1.0)
    with closing(opened(path, common)) as again:
        write(again, 5)
    assert (numbers(path), faults(path)) == ([1, 2, 3, 4, 5], [])
    others.close()


def test_who_keeps_the_turn_to_himself_keeps_out_who_comes(
    path: Path, common: Common, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharedlog, "PATIENCE", 0.01)
    with closing(opened(path, common)) as one:
        one._turn.take(1.0)
        with pytest.raises(AuditUnavailable, match="another process writes"):
            opened(path, common, 1)


def test_what_is_no_plain_file_cannot_be_shared(common: Common) -> None:
    with pytest.raises(AuditUnavailable, match="several workers cannot share"):
        opened(Path("/dev/null"), common)


# --- what one does, the other notices


def test_a_new_file_that_one_begins_is_gone_on_with_by_the_other(path: Path, common: Common) -> None:
    with two(path, common, rotate_bytes=1000, keep=1) as (one, other):
        write(one, 0)
        write(other, *range(1, 10))
        write(one, 10)
        assert one.full
        assert one.rotate()
        with pytest.raises(TimeoutError):
            other._turn.take(0.0)
        write(one, 11)
        assert other.full, "as far as it knows"
        assert not other.rotate()
        write(other, 12)
    assert len(rotated(str(path))) == 1
    assert [json.loads(line)["n"] for line in path.read_bytes().splitlines()] == [11, 12]
    assert (numbers(path), faults(path)) == (list(range(13)), [])


def test_a_file_that_was_deleted_is_told_of_once(path: Path, common: Common) -> None:
    with two(path, common) as (one, other):
        write(one, 0)
        write(other, 1)
        path.unlink()
        write(other, 2)
        write(one, 3)
        write(other, 4)
    assert [each.get("n", each.get("file")) for each in records(path)] == ["deleted", 2, 3, 4]
    assert faults(path) == ["the file before this one was deleted while it was written"]


def test_who_cannot_write_all_of_it_keeps_the_turn(path: Path, common: Common, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharedlog, "PATIENCE", 0.01)
    real = os.write

    def full(descriptor: int, text: bytes) -> int:
        if len(text) <= 100:
            raise OSError(28, "No space left on device")
        return real(descriptor, text[:100])

    with two(path, common) as (one, other):
        write(one, 0)
        write(other, 1)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(OSError, match="No space"):
                write(one, 2, 3)
        with pytest.raises(TimeoutError, match="keeps it to itself"):
            write(other, 4)
        one.flush()
        other.flush()
    assert (numbers(path), faults(path)) == ([0, 1, 2, 3, 4], [])


def test_a_rotation_that_fails_gives_the_turn_back(path: Path, common: Common) -> None:
    with two(path, common, rotate_bytes=100) as (one, other):
        write(one, 0)
        Path(f"{path}.{1:012d}").mkdir()
        with pytest.raises(OSError, match="directory"):
            one.rotate()
        write(other, 1)
    Path(f"{path}.{1:012d}").rmdir()
    assert (numbers(path), faults(path)) == ([0, 1], [])


def test_an_older_log_and_head_in_place_of_those_that_are_written_are_seen(path: Path, common: Common) -> None:
    beside = Path(f"{path}.head")
    with two(path, common, key=b"k" * 16) as (one, other):
        write(one, 0)
        write(other, 1)
        before = path.read_bytes(), beside.read_bytes()
        write(one, 2)
        path.write_bytes(before[0])
        beside.write_bytes(before[1])
        write(other, 3)
    assert numbers(path) == [0, 1, 3]
    assert any("had been cut" in fault.what for fault in proof(path, b"k" * 16).faults)


def test_a_head_that_was_spoiled_is_seen_when_it_is_needed(path: Path, common: Common) -> None:
    others = Common.of(1)
    with two(path, common) as (one, other):
        write(one, 0)
        Path(f"{path}.head").write_bytes(b"\xff" * 2 * HEAD_BYTES)
        write(other, 1)
        write(one, 2)
    assert (numbers(path), faults(path)) == ([0, 1, 2], [])
    Path(f"{path}.head").write_bytes(b"\xff" * 2 * HEAD_BYTES)
    with closing(opened(path, others)) as next_:
        write(next_, 3)
    others.close()
    assert numbers(path) == [0, 1, 2, 3]
    assert len(faults(path)) == 1
    assert "without its head" in faults(path)[0]


@pytest.mark.parametrize("copies", [sharedlog._COPIES, 1])
def test_two_logs_of_one_vmcp_each_have_their_chain(
    path: Path, common: Common, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a new configuration names another file and calls of the old one still end."""
    monkeypatch.setattr(sharedlog, "_COPIES", copies)
    new = path.with_name("new.jsonl")
    with two(path, common) as (one, other), two(new, common) as (here, there):
        for number, each in enumerate([one, here, other, there, one, there, other, here]):
            write(each, number)
    assert (numbers(path), faults(path)) == ([0, 2, 4, 6], [])
    assert (numbers(new), faults(new)) == ([1, 3, 5, 7], [])


# --- who is killed


class Killed(BaseException):
    pass


def killed(*_: object) -> None:
    raise Killed


def test_one_killed_before_the_head_tells_of_it_loses_nothing(path: Path, common: Common) -> None:
    with closing(opened(path, common, 1)) as other:
        with closing(opened(path, common)) as one:
            write(other, 0)
            one._tell_end = killed  # type: ignore[method-assign]
            with pytest.raises(Killed):
                write(one, 1, 2)
        write(other, 3)
    assert (numbers(path), faults(path)) == ([0, 1, 2, 3], [])
    assert len(records(path)) == 4, "and there is nothing to tell"


@pytest.mark.parametrize("length", [1, 30, 200])
def test_what_one_tore_when_it_was_killed_is_told_by_the_next_that_writes(
    path: Path, common: Common, length: int
) -> None:
    with two(path, common) as (one, other):
        write(one, 0)
        with path.open("ab") as file:
            file.write((b'{"type":"mcp_tool_call","n":5,' + b"x" * 300)[:length])
        write(other, 1)
        write(one, 2)
    found = proof(path)
    assert (found.faults, found.records) == ([], 4)
    assert "killed" in found.notes[0]


@pytest.mark.parametrize("step", ["rename", "open"])
def test_one_killed_while_it_begins_a_new_file_holds_nobody_up(
    path: Path, common: Common, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opened(path, common, 1, rotate_bytes=1000)) as other:
        with closing(opened(path, common, rotate_bytes=1000)) as one:
            write(other, *range(10))
            with monkeypatch.context() as patched:
                if step == "rename":
                    patched.setattr(Path, "rename", killed)
                else:
                    one._take()
                    patched.setattr(os, "open", killed)
                with pytest.raises(Killed):
                    one.rotate()
        write(other, 10)
        if step == "rename":
            assert other.rotate()
        write(other, 11)
    assert (numbers(path), faults(path)) == (list(range(12)), [])
    assert len(rotated(str(path))) == 1


FAMILY = """
import os, signal, sys, threading, time
from vmcp.state.auditlog import AuditLog, Sink
from vmcp.state.crew import Common, Crew
path, count = (None if sys.argv[1] == "-" else sys.argv[1]), int(sys.argv[2])
common = Common.of(count)
def work(index):
    log = AuditLog(Sink(path, rotate_bytes=40_000), {}, Crew(common, index))
    log.start()
    n = 0
    def put(n): log.put(b'{"type":"mcp_tool_call","by":%d,"n":%d,"text":"%b"}' % (index, n, b"x" * 300), vital=False)
    {body}
    log.close(5)
def fork(index):
    pid = os.fork()
    if pid == 0:
        try: work(index)
        finally: os._exit(0)
    return pid
working = {fork(index): index for index in range(count)}
{told}
while working:
    pid, status = os.wait()
    index = working.pop(pid)
    if os.WIFSIGNALED(status):
        working[fork(index)] = index
        {told}
"""


def family(path: Path | None, count: int, body: str, told: str = "pass") -> list[str]:
    code = FAMILY.replace("{body}", body).replace("{told}", told)
    return [sys.executable, "-c", code, str(path or "-"), str(count)]


ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def running(code: list[str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(code, env=ENV, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


def test_workers_that_are_killed_at_any_moment_leave_one_whole_log(path: Path, common: Common) -> None:
    body = """
    while True:
        if log.load < 0.3:
            put(n); n += 1
"""
    dice = random.Random(7)  # noqa: S311 - a seed, not a secret
    with running(family(path, 2, body, told="print(*working, flush=True)")) as process:
        assert process.stdout is not None
        seen = [0]
        for _ in range(12):
            working = [int(pid) for pid in process.stdout.readline().split()]
            assert len(working) == 2
            until(lambda: head(path) > seen[-1])
            seen.append(head(path))
            time.sleep(dice.uniform(0.0, 0.06))
            os.kill(dice.choice(working), signal.SIGKILL)
    whole = proof(path)
    assert whole.faults == []
    assert whole.records > 12
    texts = b"".join(file.read_bytes() for file in [*rotated(str(path)), path])
    for index in range(2):
        counted = [int(each) for each in re.findall(rb'"by":%d,"n":([0-9]+)' % index, texts)]
        assert all(now in (before + 1, 0) for before, now in pairwise(counted)), "none is missing in between"
    with closing(opened(path, common)) as again:
        write(again, 1)
    assert proof(path).faults == []


def test_on_standard_output_there_is_one_chain_too() -> None:
    body = "\n    for n in range(300): put(n)\n"
    ended = subprocess.run(family(None, 3, body), env=ENV, capture_output=True, check=True, timeout=20)
    made = Proof(None)
    made.read("stdout", ended.stdout.splitlines(keepends=True))
    made.end("stdout")
    assert (made.faults, made.records) == ([], 3 * 302)


def test_on_standard_output_no_number_comes_twice_when_one_is_killed() -> None:
    body = """
    if index == 0 and not os.pread(common.ledger, 1, 99999):
        os.pwrite(common.ledger, b"x", 99999)
        real = os.write
        os.write = lambda fd, text: (real(fd, text), os.kill(os.getpid(), signal.SIGKILL))
    for n in range(200): put(n)
"""
    ended = subprocess.run(family(None, 2, body), env=ENV, capture_output=True, check=True, timeout=20)
    told = [json.loads(line)["seq"] for line in ended.stdout.splitlines()]
    assert told == list(range(1, len(told) + 1))
    assert len(told) > 2 * 202
