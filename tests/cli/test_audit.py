"""``vmcp audit verify``, and the log of a real ``vmcp serve`` that it is for.

Rule: what is done to the log is done to the file, as somebody with an editor would.
"""

import http.client
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import CHILD, Process, run, serving
from vmcp.state.auditlog import AuditLog, Sink

KEY = "a key of at least sixteen bytes"


def log(path: Path, key: str | None = None, **more: Any) -> Path:
    made = AuditLog(Sink(str(path), key=key.encode() if key else None, **more), {})
    made.start()
    for number in range(20):
        made.put(b'{"type":"mcp_tool_call","n":%d}' % number, vital=False)
    made.close(5.0)
    return path


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_log_that_is_whole(tmp_path: Path) -> None:
    path = log(tmp_path / "audit.jsonl")
    ended = run("audit", "verify", str(path))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("whole: 22 records in 1 files, the last is 22:")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda all_: [*all_[:5], all_[5].replace(b'"n":4', b'"n":9'), *all_[6:]],
            "audit.jsonl:6: record 6 was changed",
        ),
        (lambda all_: [*all_[:5], *all_[6:]], "audit.jsonl:6: records 6 to 6 are missing"),
        (lambda all_: [*all_[:5], all_[6], all_[5], *all_[7:]], "audit.jsonl:7: record 6 follows record 7"),
        (lambda all_: all_[:-1], "audit.jsonl: the log was cut: it ends with record 21, and there was a record 22"),
        (lambda all_: [], "audit.jsonl: the log was cut"),
        (lambda all_: [*all_, all_[-1]], "record 22 follows record 22"),
    ],
    ids=["edit", "drop", "reorder", "truncate", "empty", "append"],
)
def test_what_was_done_to_it_is_found(tmp_path: Path, damage: Any, words: str) -> None:
    path = log(tmp_path / "audit.jsonl")
    path.write_bytes(b"".join(damage(lines(path))))
    ended = run("audit", "verify", str(path))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert words in ended.stderr
    assert ended.stderr.endswith("not whole\n")


def test_without_its_head_it_is_not_whole_unless_nobody_asks(tmp_path: Path) -> None:
    path = log(tmp_path / "audit.jsonl")
    last = lines(path)[-1]
    path.write_bytes(b"".join(lines(path)[:-1]))
    Path(f"{path}.head").unlink()
    ended = run("audit", "verify", str(path))
    assert ended.returncode == 1
    assert "audit.jsonl.head is not there" in ended.stderr
    assert run("audit", "verify", "--without-head", str(path)).returncode == 0
    pin = f"22:{json.loads(last)['hash']}"
    ended = run("audit", "verify", "--without-head", "--checkpoint", pin, str(path))
    assert (ended.returncode, "was cut" in ended.stderr) == (1, True)


def test_with_a_key_nobody_else_can_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    monkeypatch.setenv("AUDIT_KEY", KEY)
    path = log(tmp_path / "audit.jsonl", KEY)
    assert run("audit", "verify", "--key-file", str(tmp_path / "key"), str(path)).returncode == 0
    assert run("audit", "verify", "--key-env", "AUDIT_KEY", str(path)).returncode == 0
    assert "needs the key" in run("audit", "verify", str(path)).stderr
    forged = log(tmp_path / "forged.jsonl")
    assert run("audit", "verify", "--key-env", "AUDIT_KEY", str(forged)).returncode == 1


def test_old_files_are_looked_at_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(4):
        log(path, rotate_bytes=2000)
    old = sorted(tmp_path.glob("audit.jsonl.0*"))
    assert len(old) >= 2
    ended = run("audit", "verify", str(path))
    assert (ended.returncode, f"in {len(old) + 1} files" in ended.stdout) == (0, True)
    assert run("audit", "verify", "--without-head", *map(str, old)).returncode == 0
    old[0].unlink()
    ended = run("audit", "verify", str(path))
    assert (ended.returncode, "is not here" in ended.stderr) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["none.jsonl"], 66),
        ([], 2),
        (["--checkpoint", "x", "none.jsonl"], 2),
        (["--key-file", "none", "none.jsonl"], 2),
        (["--key-env", "NO_SUCH_KEY", "none.jsonl"], 2),
        (["--key-env", "A", "--key-file", "B", "none.jsonl"], 2),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], code: int) -> None:
    ended = run("audit", "verify", *arguments)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr


# --- of a real process


def written(tmp_path: Path, **section: str) -> Path:
    path = tmp_path / "vmcp.yaml"
    child = json.dumps([sys.executable, str(CHILD), "2025-11-25"])
    audit = json.dumps({"logFile": str(tmp_path / "audit.jsonl"), **section})
    path.write_text(f"name: t\ngroups: {{g: {{backends: {{a: {{command: {child}}}}}}}}}\naudit: {audit}\n")
    return path


def ping(process: Process, count: int = 1) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", process.port(), timeout=5)
    for _ in range(count):
        connection.request("GET", "/nothing")
        connection.getresponse().read()
    connection.close()


def test_a_server_that_is_killed_at_any_moment_leaves_a_log_that_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path)
    dice = random.Random(11)  # noqa: S311 - a seed, not a secret
    for _ in range(3):
        with serving("-c", str(path)) as process:
            ping(process, 20)
            time.sleep(dice.uniform(0, 0.01))
            process.signal(signal.SIGKILL)
            process.end()
        ended = run("audit", "verify", str(tmp_path / "audit.jsonl"))
        assert ended.returncode == 0, ended.stderr
    with serving("-c", str(path)) as process:
        ping(process)
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    assert run("audit", "verify", str(tmp_path / "audit.jsonl")).returncode == 0
    told = [json.loads(line) for line in lines(tmp_path / "audit.jsonl")]
    assert [each["type"] for each in told].count("audit_start") == 4
    assert told[-1]["type"] == "audit_stop"


def test_a_log_that_cannot_be_opened_is_said_in_one_line(tmp_path: Path) -> None:
    ended = run("serve", "--port", "0", "-c", str(written(tmp_path, logFile=str(tmp_path / "no" / "audit.jsonl"))))
    assert ended.returncode == 73
    assert "audit.logFile" in ended.stderr
    assert "Traceback" not in ended.stderr
