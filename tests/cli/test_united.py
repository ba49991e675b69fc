"""One view of a real vmcp of two processes, by the commands and by ``/metrics``. Rule: one instance, which is left ended."""

import http.client
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.instances import PYTHON
from tests.cli.processes import CHILD, Process, serving
from vmcp.cli import main

TEXT = f"""
name: pair
server: {{workers: 2, allowedHosts: ["*"]}}
telemetry: {{enablePrometheusMetricsPath: true}}
groupRef: g
groups:
  g: {{backends: {{b: {{command: [{PYTHON}, -S, {json.dumps(str(CHILD))}, "2025-11-25"]}}}}}}
"""
HEAD = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json", "Connection": "close"}


class Pair:
    def __init__(self, process: Process, folder: Path) -> None:
        self.process, self.file, self.socket = process, folder / "vmcp.yaml", folder / "a.sock"
        process.until(r'"msg":"admin"')
        process.until(r'"msg":"ready"(.|\n)*"msg":"ready"')
        self.port = process.port()

    def command(self, *words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, [*words, "--admin", str(self.socket)])
        assert done.exit_code == code, done.output
        return done.stdout

    def status(self) -> Any:
        return json.loads(self.command("status", "-o", "json"))

    def ask(self, method: str, path: str, body: Any = None, **more: str) -> tuple[http.client.HTTPResponse, bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        line.request(method, path, None if body is None else json.dumps(body), {**HEAD, **more})
        answer = line.getresponse()
        text = answer.read()
        line.close()
        return answer, text

    def begin(self) -> str:
        """A session with one call in it; what it is called."""
        told = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer, _ = self.ask("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": told})
        session = answer.headers["Mcp-Session-Id"]
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "b_pid"}}
        answer, text = self.ask("POST", "/mcp", call, **{"Mcp-Session-Id": session})
        assert b'"result"' in text, text
        return str(session)

    def metric(self, name: str) -> float:
        _, text = self.ask("GET", "/metrics")
        return sum(float(each) for each in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.M))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    (tmp_path / "vmcp.yaml").write_text(f"{TEXT}admin: {{socket: {json.dumps(str(tmp_path / 'a.sock'))}}}\n")
    with serving("-c", str(tmp_path / "vmcp.yaml"), "--log-format", "json") as process:
        yield Pair(process, tmp_path)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def whole(told: Any) -> bool:
    return [each["status"] for each in told["workers"]] == ["ready", "ready"]


def test_two_workers_look_like_one_and_the_first_may_die(pair: Pair) -> None:
    begun = [pair.begin() for _ in range(12)]
    while len({name.partition(".")[0] for name in begun}) < 2:
        begun.append(pair.begin())
        assert len(begun) < 200, "both get some of them"
    count = len(begun)
    told = pair.status()
    assert (told["pid"], told["sessions"], len(told["workers"])) == (pair.process.process.pid, count, 2)
    assert all(each["rssBytes"] > 1e6 and each["sessions"] for each in told["workers"])
    assert "WORKER" in pair.command("status")
    rows = json.loads(pair.command("sessions", "-o", "json"))
    assert {each["worker"] for each in rows} == {0, 1}
    for worker in (0, 1):
        pair.command("sessions", "end", next(each["id"] for each in rows if each["worker"] == worker))
    assert pair.status()["sessions"] == count - 2
    assert json.loads(pair.command("metrics", "-o", "json"))["vmcp_requests_total"] == 2 * count
    assert {each["worker"] for each in map(json.loads, pair.command("logs", "--json").splitlines())} == {0, 1}
    calls = "mcp_server_operation_duration_seconds_count"
    eventually(lambda: pair.metric(calls) == 2 * count)
    assert (pair.metric("vmcp_workers"), pair.metric("vmcp_sessions_active")) == (2, count - 2)

    os.kill(told["workers"][0]["pid"], signal.SIGKILL)
    eventually(lambda: pair.socket.exists() and whole(_if_there(pair)))
    again = pair.status()
    assert (again["pid"], again["workers"][1]["pid"]) == (told["pid"], told["workers"][1]["pid"])
    assert again["uptimeSeconds"] >= told["uptimeSeconds"]
    assert [each["restarts"] for each in again["workers"]] == [1, 0]
    eventually(lambda: pair.metric("vmcp_workers_answering") == 2)
    eventually(lambda: pair.metric("vmcp_worker_restarts_total") == 1)  # a page is shown for a second
    assert pair.metric(calls) == 2 * count, "what was counted is counted"
    assert '"msg":"a worker has died"' in pair.command("logs", "--json"), "the supervisor's lines are there too"


def _if_there(pair: Pair) -> Any:
    done = CliRunner().invoke(main, ["status", "-o", "json", "--admin", str(pair.socket)])
    return json.loads(done.stdout) if done.exit_code == 0 else {"workers": []}


def test_what_an_operator_does_reaches_both(pair: Pair) -> None:
    before = {each["config"] for each in pair.status()["workers"]}
    pair.file.write_text(pair.file.read_text().replace("name: pair", "name: two"))
    pair.command("reload")
    eventually(lambda: {each["config"] for each in pair.status()["workers"]}.isdisjoint(before))
    assert len({each["config"] for each in pair.status()["workers"]}) == 1
    pair.command("reset", "b")
    done = CliRunner().invoke(main, ["logs", "--admin", str(pair.socket), "level", "debug"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(each) for each in pair.command("logs", "--json", "-n", "1000").splitlines()]
    for message in ("configuration reloaded", "breaker reset", "log level changed"):
        assert {each["worker"] for each in lines if each["msg"] == message} == {0, 1}, message
    assert "stopped two" in pair.command("stop")
    assert pair.process.end() == 0
    assert not pair.socket.exists()
