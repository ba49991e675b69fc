"""The audit log of a ``vmcp serve`` with several workers, as real processes: one log, whoever of them is killed.

Rule: what the log is worth ``vmcp audit verify`` says, as an operator would ask it.
"""

import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import CHILD, PATIENCE, run, serving
from tests.cli.test_serve import ask
from tests.server.test_supervisor import below, ready, waited
from vmcp.config.audit import AuditSpec
from vmcp.server.recording import auditor
from vmcp.state.auditlog import AuditLog, Sink, rotated
from vmcp.state.chain import Proof
from vmcp.state.crew import Common, Crew

CONFIG = """\
name: house
server: {{workers: 3}}
groups: {{g: {{backends: {{b: {{command: [{python}, -S, {child}, "2026-07-28"]}}}}}}}}
audit: {{{audit}}}
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir(0o700)
    monkeypatch.setenv("VMCP_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "audit.jsonl"


def config(log: Path, audit: str) -> str:
    path = log.with_name("vmcp.yaml")
    path.write_text(CONFIG.format(audit=audit, python=json.dumps(sys.executable), child=json.dumps(str(CHILD))))
    return str(path)


def records(lines: bytes) -> list[dict[str, Any]]:
    """All but what a killed one tore."""
    found = []
    for line in lines.splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def written(log: Path) -> list[dict[str, Any]]:
    return records(b"".join(each.read_bytes() for each in [*rotated(str(log)), log]))


def of(told: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in told if each["type"] == kind]


@contextmanager
def asking(port: int) -> Iterator[list[bool]]:
    """Requests all the time, on connections of their own. Those that were answered."""
    over = threading.Event()
    answered: list[bool] = []

    def one() -> None:
        while not over.is_set():
            try:
                answered.append("result" in ask(port, "tools/list"))
            except (OSError, http.client.HTTPException, ValueError):
                continue

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)


def test_killed_workers_leave_one_log_that_is_whole_and_that_nobody_else_may_write(log: Path) -> None:
    dice = random.Random(5)  # noqa: S311 - a seed, not a secret
    path = config(log, f"logFile: {json.dumps(str(log))}, rotation: {{maxBytes: 40000, keep: 0}}")
    with serving("--config", path) as process:
        ready(process, 3)
        port = process.port()
        for _ in range(60):
            ask(port, "tools/list")
        waited(lambda: len(of(written(log), "mcp_tools_list")) == 60)
        other = run("serve", "--port", "0", "--config", path)
        assert (other.returncode, other.stderr.count("another process writes")) == (73, 1)
        killed: list[int] = []
        with asking(port) as answered:
            for _ in range(4):
                answered.clear()
                waited(lambda: len(answered) >= 20)
                time.sleep(dice.uniform(0.0, 0.06))
                killed.append(dice.choice(below(process.process.pid)))
                os.kill(killed[-1], signal.SIGKILL)
                waited(lambda: len(set(below(process.process.pid)) - set(killed)) == 3)
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    told = run("audit", "verify", str(log))
    assert told.returncode == 0, told.stderr
    assert "whole" in told.stdout
    found = written(log)
    calls = of(found, "mcp_tools_list")
    assert len(calls) > 100
    assert len({each["audit_id"] for each in calls}) == len(calls), "each is told once"
    assert {each["worker"] for each in of(found, "audit_start")} == {0, 1, 2}
    assert {each["worker"] for each in of(found, "audit_stop")} == {0, 1, 2}


def test_on_standard_output_the_records_of_all_hang_on_one_chain(log: Path) -> None:
    with serving("--config", config(log, "component: c")) as process:
        ready(process, 3)
        for _ in range(30):
            ask(process.port(), "tools/list")
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert process.process.stdout is not None
        lines = process.process.stdout.readlines()
    proof = Proof(None)
    proof.read("standard output", lines)
    proof.end("standard output")
    assert proof.faults == []
    assert len(of(records(b"".join(lines)), "mcp_tools_list")) == 30


def test_digests_of_the_same_are_the_same_at_all_workers(log: Path) -> None:
    common, spec = Common.of(2), AuditSpec()
    book = AuditLog(Sink(str(log)), {})
    made = [auditor(spec, book, {}, each)._begun.hexdigest() for each in (Crew(common, 0), Crew(common, 1), None)]
    assert made[0] == made[1] != made[2]
    book.close(1.0)
    common.close()
