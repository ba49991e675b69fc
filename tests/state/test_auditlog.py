"""The audit log as a file: what is put is written, in order, whatever happens; and what could not be is told.

Rule: a killed writer is a real process that is really killed; a full disk is ``/dev/full`` or a limit of the system.
"""

import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import vmcp
from vmcp.state import auditlog
from vmcp.state.auditlog import AuditLog, AuditUnavailable, Sink, rotated
from vmcp.state.chain import HEAD_BYTES, Proof, read_head

ROOT = Path(vmcp.__file__).parent.parent


@contextmanager
def writing(path: Path, **more: Any) -> Iterator[AuditLog]:
    log = AuditLog(Sink(str(path), **more), {"component": "test"})
    log.start()
    try:
        yield log
    finally:
        log.close(5.0)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def put(log: AuditLog, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        log.put(b'{"type":"mcp_tool_call","n":%d}' % number, vital=False)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in [*rotated(str(path)), path] for line in file.read_bytes().splitlines()]


def proof(path: Path, key: bytes | None = None, *, head: bool = True) -> Proof:
    text = Path(f"{path}.head").read_bytes() if head else b""
    place = read_head(text, key)
    assert place is not None or not head
    made = Proof(key, [place] if place is not None else [])
    for file in [*rotated(str(path)), path]:
        made.read(str(file), file.read_bytes().splitlines(keepends=True))
    made.end(str(path))
    return made


@pytest.mark.parametrize("fsync", [False, True])
@pytest.mark.parametrize("key", [None, b"a key of at least sixteen bytes"])
def test_what_is_put_is_written_in_order_between_a_start_and_a_stop(
    tmp_path: Path, key: bytes | None, fsync: bool
) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path, key=key, fsync=fsync) as log:
        put(log, 1500)
    told = records(path)
    assert [r["n"] for r in told if "n" in r] == list(range(1500))
    assert (told[0]["type"], told[0]["component"], told[-1]["type"]) == ("audit_start", "test", "audit_stop")
    assert sum(r["type"] == "audit_checkpoint" for r in told) == 1
    found = proof(path, key)
    assert (found.faults, found.notes) == ([], [])
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(Path(f"{path}.head").stat().st_mode) == 0o600


def test_the_next_start_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for first in (0, 10, 20):
        with writing(path) as log:
            put(log, 10, first)
    assert [r["n"] for r in records(path) if "n" in r] == list(range(30))
    assert proof(path).faults == []


def test_old_files_are_kept_under_the_number_of_their_last_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path, rotate_bytes=4000) as log:
        for first in range(0, 200, 20):
            put(log, 20, first)
            until(lambda: log.load == 0)
    old = rotated(str(path))
    assert len(old) > 2
    assert [r["n"] for r in records(path) if "n" in r] == list(range(200))
    assert proof(path).faults == []
    old[1].unlink()
    assert any("are missing" in fault.what for fault in proof(path).faults)


def test_the_oldest_files_go_when_there_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    (tmp_path / "audit.jsonl.notes").write_text("somebody else's")
    with writing(path, rotate_bytes=2000, keep=2) as log:
        for first in range(0, 200, 20):
            put(log, 20, first)
            until(lambda: log.load == 0)
    assert len(rotated(str(path))) == 2
    assert proof(path).faults == []
    assert (tmp_path / "audit.jsonl.notes").exists()


def test_a_start_after_a_rotation_finds_the_chain_in_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        put(log, 5)
    path.rename(rotated_name := tmp_path / f"audit.jsonl.{7:012d}")
    assert rotated_name.exists()
    with writing(path) as log:
        put(log, 5, 5)
    assert proof(path).faults == []


def cut_last(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def rewrite_last(path: Path) -> None:
    *first, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*first, last.replace(b"audit_stop", b"audit_spot")]))


@pytest.mark.parametrize("damage", [cut_last, tear, rewrite_last, empty, Path.unlink])
def test_what_was_done_while_nobody_wrote_is_still_seen_after_the_next_start(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        put(log, 10)
    damage(path)
    with writing(path) as log:
        put(log, 10)
    assert proof(path).faults


def test_a_head_that_was_taken_away_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        put(log, 10)
    cut_last(path)
    Path(f"{path}.head").unlink()
    with writing(path):
        pass
    assert "without its head" in proof(path).faults[0].what


def test_a_log_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path), pytest.raises(AuditUnavailable, match="another process writes"):
        AuditLog(Sink(str(path)), {})
    with writing(path):
        pass


def test_a_file_that_cannot_be_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditUnavailable, match="cannot be opened: No such file"):
        AuditLog(Sink(str(tmp_path / "none" / "audit.jsonl")), {})
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(AuditUnavailable, match="cannot be opened"):
        AuditLog(Sink(str(tmp_path / "link")), {})
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "plain.head").symlink_to(tmp_path / "real")
    with pytest.raises(AuditUnavailable, match=r"plain\.head cannot be opened"):
        AuditLog(Sink(str(tmp_path / "plain")), {})
    if os.geteuid() == 0:
        os.chown(tmp_path / "real", 12345, 12345)
        with pytest.raises(AuditUnavailable, match="belongs to somebody else"):
            AuditLog(Sink(str(tmp_path / "real")), {})


def test_a_full_disk_is_told_and_what_waits_is_kept_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(Sink("/dev/full"), {})
    log.start()
    until(lambda: log.failing is not None)
    put(log, auditlog.MOST_RECORDS + 100)
    assert 0.85 < log.load <= 0.95, "successes leave room"
    dropped = log.dropped
    assert dropped >= 100
    log.put(b'{"type":"auth_failure"}', vital=True)
    assert log.dropped == dropped, "for refusals"
    log.close(5.0)
    told = [record.message for record in caplog.records]
    assert told.count("the audit log cannot be written") == told.count("audit records are dropped") == 1
    assert told[-1] == "audit records are lost"


CHILD = """
import resource, signal, sys
from vmcp.state.auditlog import AuditLog, Sink
log = AuditLog(Sink(sys.argv[1]), {})
log.start()
{body}
"""


def child(path: Path, body: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = CHILD.replace("{body}", body)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_when_there_is_space_again_everything_is_written_and_the_gap_is_told(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    body = """
import time
from vmcp.state import auditlog
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
def put(n): log.put(b'{"type":"mcp_tool_call","n":%d}' % n, vital=False)
put(0)
while log.load: time.sleep(0.002)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
n = 1
while log.failing is None or not log.dropped:
    put(n); n += 1
    if log.failing is None: time.sleep(0.001)
print(n, log.failing, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
while log.load: time.sleep(0.002)
put(n)
log.close(5)
print(log.dropped, flush=True)
"""
    with child(path, body) as process:
        out, _ = process.communicate(timeout=20)
    first, dropped = out.splitlines()
    count = int(first.split()[0])
    assert "File too large" in first
    told = records(path)
    assert proof(path).faults == []
    gaps = [r for r in told if r["type"] == "audit_gap"]
    assert sum(gap["count"] for gap in gaps) == int(dropped) >= 1
    assert "File too large" in gaps[0]["reason"]
    assert len([r for r in told if "n" in r]) + int(dropped) == count + 1


def test_a_writer_that_is_killed_at_any_moment_leaves_a_log_that_can_be_proved_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    body = """
n = 0
print("up", flush=True)
while True:
    if log.load < 0.5:
        log.put(b'{"type":"mcp_tool_call","n":%d,"text":"' % n + b"x" * 300 + b'"}', vital=False); n += 1
"""
    dice = random.Random(7)  # noqa: S311 - a seed, not a secret
    for _ in range(6):
        with child(path, body) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(dice.uniform(0.0, 0.06))
            process.send_signal(signal.SIGKILL)
        assert proof(path, head=path.stat().st_size > 0).faults == []
    with writing(path) as log:
        put(log, 3)
    assert proof(path).faults == []


@pytest.mark.parametrize("length", [1, 30, 200])
def test_a_record_that_was_torn_is_told_by_the_next_start(tmp_path: Path, length: int) -> None:
    """As a kernel leaves it that was interrupted in the midst of a write: the head knows nothing of it."""
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        put(log, 5)
    with path.open("ab") as file:
        file.write((b'{"type":"mcp_tool_call","n":5,' + b"x" * 300)[:length])
    with writing(path) as log:
        put(log, 2)
    found = proof(path)
    assert found.faults == []
    assert "killed" in found.notes[0]


def test_standard_output_gets_the_chain_too() -> None:
    body = 'log.put(b\'{"type":"mcp_ping"}\', vital=False); log.close(5)'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = CHILD.replace("{body}", body).replace("sys.argv[1]", "None")
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, timeout=20)
    made = Proof(None)
    made.read("stdout", ended.stdout.splitlines(keepends=True))
    made.end("stdout")
    assert (made.faults, made.records) == ([], 3)


def test_a_rotation_that_fails_goes_on_with_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path, rotate_bytes=2000) as log:
        put(log, 3)
        until(lambda: log.load == 0)
        (tmp_path / "gone").mkdir()
        path.rename(tmp_path / "gone" / "moved")
        put(log, 20, 3)
        until(lambda: log.load == 0)
        (tmp_path / "gone" / "moved").rename(path)
    assert "the audit log cannot be rotated" in [record.message for record in caplog.records]
    assert [r["n"] for r in records(path) if "n" in r] == list(range(23))
    assert proof(path).faults == []


def test_a_log_that_is_deleted_goes_on_in_a_new_file_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        put(log, 5)
        until(lambda: log.load == 0)
        path.unlink()
        put(log, 5, 5)
        until(lambda: log.load == 0)
        put(log, 5, 10)
    assert "the audit log was deleted while it was written" in [record.message for record in caplog.records]
    assert [r["n"] for r in records(path) if "n" in r] == list(range(5, 15))
    assert [fault.what for fault in proof(path).faults] == ["the file before this one was deleted while it was written"]


def test_while_something_else_is_in_the_place_of_a_deleted_log_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        put(log, 5)
        until(lambda: log.load == 0)
        path.unlink()
        os.mkfifo(path)
        put(log, 5, 5)
        until(lambda: log.failing is not None)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        until(lambda: log.failing == "another file is in the place of the log")
        os.close(reader)
        path.unlink()
        until(lambda: log.load == 0 and log.failing is None)
    assert [r["n"] for r in records(path) if "n" in r] == list(range(5, 10)), "what waited is not lost"


def test_the_head_has_one_length() -> None:
    assert len(b'{"seq":%d,"hash":"%b","seal":"%b"}' % (10**17, b"0" * 64, b"0" * 64)) <= HEAD_BYTES
    assert resource.getpagesize() % HEAD_BYTES == 0


class Drafted:
    """A record that becomes text when it is written."""

    def __init__(self, number: int) -> None:
        self._number = number

    def text(self) -> bytes:
        return b'{"type":"mcp_tool_call","n":%d}' % self._number


def test_drafts_and_texts_are_written_in_the_order_in_which_they_came_and_at_the_latest_at_the_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit.jsonl"
    with writing(path) as log:
        for number in range(0, 1200, 3):
            log.note(Drafted(number))
            put(log, 1, number + 1)
            log.put(Drafted(number + 2), vital=True)
    assert [r["n"] for r in records(path) if "n" in r] == list(range(1200))
    assert log.load == 0
    assert proof(path).faults == []


def test_where_there_is_no_room_drafts_are_counted_and_dropped_too(tmp_path: Path) -> None:
    log = AuditLog(Sink(str(tmp_path / "audit.jsonl")), {})
    for number in range(auditlog.MOST_RECORDS + 100):
        log.note(Drafted(number))
    assert (log.crowded, log.load >= auditlog.RESERVE) == (True, True)
    assert log.dropped == 100 + round(auditlog.MOST_RECORDS * (1 - auditlog.RESERVE))
    log.start()
    log.close(5.0)
