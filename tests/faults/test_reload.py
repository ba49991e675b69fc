"""R-RELOAD, R-DRAIN and the port of R-KILL9: a gateway under load that is given other configurations, stopped, or killed.

Rule: every request is in a ledger until its one answer came, and a stream is there until it is said to end. ``VMCP_RELOADS=50``
is the figure of the reference: 50 reloads at 300 requests a second with 200 streams.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.processes import CHILD, Process, alive, gone, serving
from tests.server.clients import modern_meta
from vmcp.state.chain import Proof

Json = dict[str, Any]
RELOADS = int(os.environ.get("VMCP_RELOADS", "6"))
LONG = RELOADS >= 50
RATE, STREAMS, BACKENDS = (300.0, 200, 20) if LONG else (60.0, 12, 3)
TOO_LATE = ("ConnectError", "ReadError", "RemoteProtocolError")
"""What those see whose request comes when the port, or their idle connection, has just been closed."""
FORBIDDEN = "b0_pid"


def text(number: int, *, touched: int | None = None, audit: Path | None = None) -> str:
    """Children, of which one may be another than before, and a policy that never lets anybody have a certain tool."""
    python, child = json.dumps(sys.executable), json.dumps(str(CHILD))
    lines = ["name: house", f"# {number}", "groups:", "  g:", "    backends:"]
    for each in range(BACKENDS):
        note = number if each == touched else 0
        command = f'[{python}, -S, {child}, "2026-07-28"]'
        lines.append(f'      b{each}: {{command: {command}, metadata: {{note: "{note}"}}}}')
    policies = [
        f"permit(principal, action, resource) when {{ {number} == {number} }};",
        f'forbid(principal, action, resource == Tool::"{FORBIDDEN}");',
    ]
    lines += ["incomingAuth:", "  type: anonymous", "  authz:", "    type: cedar", "    policies:"]
    lines += [f"      - {json.dumps(policy)}" for policy in policies]
    if LONG:  # all clients have one address
        lines += ["server: {limits: {connectionsPerAddress: 5000}}"]
    if audit is not None:
        lines += ["audit:", f"  logFile: {json.dumps(str(audit))}"]
    return "\n".join(lines) + "\n"


class Crowd:
    """Clients of a gateway, and what became of everything that they asked."""

    def __init__(self, port: int, http: httpx.AsyncClient) -> None:
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.http = http
        self.sent = self.answered = 0
        self.wrong: list[str] = []
        self.denied = 0
        self.open = 0
        self.ended: Counter[str] = Counter()

    def post(self, method: str, params: Json, id: object = 1) -> Any:
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
            **({"mcp-name": params["name"]} if "name" in params else {}),
        }
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": modern_meta()}}
        return self.http.build_request("POST", self.url, content=json.dumps(body), headers=headers)

    async def ask(self, method: str, params: Json, id: object = 1) -> Json:
        answer = await self.http.send(self.post(method, params, id))
        found: Json = answer.json()
        return found

    async def call(self, number: int) -> None:
        """One call of its own words, on any of the backends."""
        self.sent += 1
        began = time.monotonic()
        try:
            params = {"name": f"b{number % BACKENDS}_echo", "arguments": {"number": number}}
            told = await self.ask("tools/call", params, number)
            if (told["id"], told["result"]["content"][0]["text"]) != (number, json.dumps({"number": number})):
                self.wrong.append(str(told))
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self.wrong.append(f"{number} after {time.monotonic() - began:.3f} s: {error!r}")
        self.answered += 1

    async def load(self, group: asyncio.TaskGroup, until: asyncio.Event) -> None:
        """So many calls a second, whether they are answered or not."""
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        while not until.is_set():
            number += 1
            group.create_task(self.call(number))
            await asyncio.sleep(max(0.0, began + number / RATE - loop.time()))

    async def probe(self, until: asyncio.Event) -> None:
        """Ask again and again for what nobody may have."""
        while not until.is_set():
            told = await self.ask("tools/call", {"name": FORBIDDEN, "arguments": {}})
            if "error" not in told:
                self.wrong.append("what is forbidden was done")
            self.denied += 1

    async def listen(self, number: int) -> None:
        """A subscription; how it has ended."""
        wanted = {"notifications": {"toolsListChanged": True}}
        answer = await self.http.send(self.post("subscriptions/listen", wanted, number), stream=True)
        last = ""
        try:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    self.open += not last
                    last = line
        except httpx.HTTPError as error:
            self.ended[repr(error)] += 1
        else:
            self.ended["in order" if '"result"' in last else f"without a word after {last}"] += 1
        finally:
            await answer.aclose()


@contextlib.asynccontextmanager
async def crowd(process: Process) -> AsyncIterator[Crowd]:
    """Clients; meanwhile the log is read, as nobody can write to a pipe that is full."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    loop, port = asyncio.get_running_loop(), process.port()
    loop.add_reader(process._stderr, process._read, 0.0)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30, limits=limits) as http:
            yield Crowd(port, http)
    finally:
        loop.remove_reader(process._stderr)


@contextlib.contextmanager
def gateway(config: Path, *arguments: str) -> Iterator[Process]:
    with serving("--config", str(config), "--log-format", "json", *arguments) as process:
        process.until('"msg":"ready"')
        yield process


async def until(condition: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - whatever a test can see
            await asyncio.sleep(0.005)


async def counted(found: Crowd) -> Counter[str]:
    told = await found.ask("vmcp/metrics", {})
    assert "result" in told, told
    metrics = told["result"]["metrics"]
    names = ("applied", "rejected", "unchanged", "failed")
    return Counter({name: metrics.get(f"vmcp_config_reloads_{name}_total", 0) for name in names})


def write(path: Path, content: str) -> None:
    path.write_text(content)


async def reloads(found: Crowd, process: Process, config: Path) -> Counter[str]:
    """All kinds of them, one after the other: what nothing can be made of, one backend, the policies alone."""
    expected: Counter[str] = Counter()
    for number in range(1, RELOADS + 1):
        bad = number % 5 == 2
        write(config, "name: [" if bad else text(number, touched=1 if number % 2 else None))
        expected["rejected" if bad else "applied"] += 1
        process.signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while (await counted(found)).total() < number:  # noqa: ASYNC110 - it is asked over the wire
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5 if LONG else 0.0)
    assert await counted(found) == expected
    return expected


@pytest.mark.timeout(600 if LONG else 60)
async def test_nothing_is_lost_and_nothing_is_allowed_while_configurations_change(tmp_path: Path) -> None:
    config = tmp_path / "vmcp.yaml"
    config.write_text(text(0))
    with gateway(config, "--no-watch") as process:
        over = asyncio.Event()
        async with crowd(process) as found, asyncio.TaskGroup() as group:
            untouched = (await found.ask("tools/call", {"name": "b2_pid", "arguments": {}}))["result"]
            for number in range(STREAMS):
                group.create_task(found.listen(number))
            await until(lambda: found.open == STREAMS)
            load, probe = group.create_task(found.load(group, over)), group.create_task(found.probe(over))
            expected = await reloads(found, process, config)
            assert expected["applied"]
            assert expected["rejected"]
            assert not found.ended, "no stream was cut"
            assert (await found.ask("tools/call", {"name": "b2_pid", "arguments": {}}))["result"] == untouched
            over.set()
            await asyncio.wait([load, probe])
            await until(lambda: found.answered == found.sent)
            process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert found.wrong == []
        assert found.sent > RELOADS
        assert found.denied > RELOADS
        assert found.ended == {"in order": STREAMS}
        closed = [line for line in process.lines() if line["msg"] == "old configuration closed"]
        assert len(closed) <= expected["applied"]
        assert "unexpected failure" not in process.text


async def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    """R-DRAIN: whoever was let in is answered, streams end in their own words, and the log has them all."""
    config, audit = tmp_path / "vmcp.yaml", tmp_path / "audit.jsonl"
    config.write_text(text(0, audit=audit))
    with gateway(config) as process:
        over = asyncio.Event()
        async with crowd(process) as found, asyncio.TaskGroup() as group:
            pids = await children(found)
            for number in range(STREAMS):
                group.create_task(found.listen(number))
            await until(lambda: found.open == STREAMS)
            group.create_task(found.load(group, over))
            await until(lambda: found.sent > 30)
            process.signal(signal.SIGTERM)
            await until(lambda: found.ended.total() == STREAMS)
            over.set()
        assert process.end() == 0
        assert found.ended == {"in order": STREAMS}
        refused = [one for one in found.wrong if any(error in one for error in TOO_LATE)]
        assert found.wrong == refused
        assert gone(pids)
    answered = found.sent - len(refused)  # from who came too late nothing was taken
    calls = [one for one in events(audit) if one["type"] == "mcp_tool_call" and one["target"]["name"].endswith("_echo")]
    assert len(calls) == answered
    assert {one["outcome"] for one in calls} == {"success"}


async def test_what_is_not_answered_in_time_is_told_so(tmp_path: Path) -> None:
    config = tmp_path / "vmcp.yaml"
    config.write_text(text(0) + "server: {limits: {shutdownGrace: 1s}}\n")
    with gateway(config) as process:
        async with crowd(process) as found, asyncio.TaskGroup() as group:
            hanging = group.create_task(found.ask("tools/call", {"name": "b1_hang", "arguments": {}}, 7))
            await found.ask("tools/call", {"name": "b1_pid", "arguments": {}})
            process.signal(signal.SIGTERM)
            told = await hanging
        assert process.end() == 0
        assert (told["id"], told["error"]["data"]["vmcpCode"]) == (7, 2001)
        assert "stopping" in told["error"]["message"]


async def test_a_reload_in_the_midst_of_a_stop_leaves_nothing(tmp_path: Path) -> None:
    config = tmp_path / "vmcp.yaml"
    config.write_text(text(0))
    with gateway(config) as process:
        async with crowd(process) as found:
            pids = await children(found)
        config.write_text(text(1, touched=1))
        process.signal(signal.SIGHUP)
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert gone(pids)
        assert "Traceback" not in process.text


async def test_who_is_killed_leaves_the_port_and_a_log_that_can_be_continued(tmp_path: Path) -> None:
    """R-KILL9, in the midst of a reload under load."""
    config, audit = tmp_path / "vmcp.yaml", tmp_path / "audit.jsonl"
    config.write_text(text(0, audit=audit))
    with gateway(config) as process:
        port = process.port()
        over = asyncio.Event()
        async with crowd(process) as found:
            pids = await children(found)
            with contextlib.suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(found.load(group, over))
                    await until(lambda: found.sent > 30)
                    config.write_text(text(1, touched=1, audit=audit))
                    process.signal(signal.SIGHUP)
                    process.signal(signal.SIGKILL)
                    over.set()
        process.process.wait()
        assert gone(pids)
    with gateway(config, "--port", str(port)) as process:
        async with crowd(process) as found:
            assert (await found.ask("tools/call", {"name": "b1_echo", "arguments": {}}))["result"]
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    assert events(audit)[-1]["target"]["name"] == "b1_echo"


async def children(found: Crowd) -> list[int]:
    """The processes of the backends, by their own word."""
    names = [f"b{number}_pid" for number in range(1, BACKENDS)]
    told = [await found.ask("tools/call", {"name": name, "arguments": {}}) for name in names]
    pids = [int(each["result"]["content"][0]["text"]) for each in told]
    assert all(map(alive, pids))
    return pids


def events(audit: Path) -> list[Json]:
    """What was recorded; the chain is whole."""
    proof = Proof(None)
    lines = audit.read_bytes().splitlines(keepends=True)
    proof.read("log", lines)
    proof.end("log")
    assert proof.faults == []
    return [each for each in map(json.loads, lines) if not each["type"].startswith("audit_")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
