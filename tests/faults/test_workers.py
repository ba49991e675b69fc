"""What somebody could try with several workers that he cannot with one: limits many times over, requests that break on the way.

Rule: real processes and raw sockets; beside what is refused stands what is given.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cli.processes import CHILD, Process, run, serving
from tests.server.peers import until
from vmcp.server.attempts import BURST

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="workers are a matter of Linux"),
]
WORKERS = 3
CONFIG = """\
name: crew
server: {{workers: {workers}}}
audit: {{enabled: true, logFile: {audit}}}
groups:
  g:
    backends:
      old: {{command: [{python}, -S, {child}, "2025-06-18"]}}
"""
GREETING = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


class Crew:
    """A vmcp of three workers. ``path`` is its configuration."""

    def __init__(self, process: Process, path: Path) -> None:
        self.process = process
        self.path = path
        self.port = process.port()

    def workers(self) -> list[int]:
        """Their processes, in the order in which they began."""
        root = self.process.process.pid
        return [int(each) for each in Path(f"/proc/{root}/task/{root}/children").read_text().split()]

    def descriptors(self) -> list[int]:
        """How many each worker has open."""
        return [sum(1 for _ in Path(f"/proc/{each}/fd").iterdir()) for each in self.workers()]

    def rewritten(self, addition: str) -> None:
        """Have all of them reload."""
        self.path.write_text(text(self.path.parent) + addition)
        self.process.text = ""
        self.process.signal(signal.SIGHUP)
        for index in range(WORKERS):
            self.process.until(rf'"configuration reloaded".*"worker":{index}\b')

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A new connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def ask(
        self, method: str, params: object, *, id_: int | None = 1, **headers: str
    ) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer, on a connection of its own."""
        async with self.line() as (reader, writer), asyncio.timeout(10):
            writer.write(request(method, params, id_=id_, **headers))
            return await answer(reader)

    async def session(self) -> str:
        _, head, _ = await self.ask("initialize", GREETING)
        found = re.search(rb"(?i)mcp-session-id: (\S+)", head)
        assert found is not None
        await self.ask("notifications/initialized", {}, id_=None, mcp_session_id=found[1].decode())
        return found[1].decode()

    async def calls(self, count: int) -> int:
        """How many of so many calls are let through, each on its own connection and in a session of some worker."""
        sessions = [await self.session() for _ in range(WORKERS)]
        asked = (self.call(sessions[n % WORKERS]) for n in range(count))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in asked]
        return sum(b'"result"' in task.result()[2] for task in tasks)

    async def call(self, session: str, **arguments: object) -> tuple[int, bytes, bytes]:
        params = {"name": "old_echo", "arguments": arguments}
        return await self.ask("tools/call", params, mcp_session_id=session)


def request(method: str, params: object, *, id_: int | None = 1, **headers: str) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if id_ is None else {"id": id_})
    body = json.dumps(message).encode()
    told = {"Host": "127.0.0.1", "Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    told |= {"Content-Length": str(len(body))} | {key.replace("_", "-"): value for key, value in headers.items()}
    return (
        "".join(["POST /mcp HTTP/1.1\r\n", *(f"{key}: {value}\r\n" for key, value in told.items()), "\r\n"]).encode()
        + body
    )


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    body = await reader.readexactly(int(length[1])) if length is not None else await reader.readuntil(b"\r\n0\r\n\r\n")
    return int(head.split()[1]), head, body


def text(folder: Path) -> str:
    python, child, audit = (json.dumps(str(each)) for each in (sys.executable, CHILD, folder / "audit.log"))
    return CONFIG.format(workers=WORKERS, python=python, child=child, audit=audit)


@contextlib.contextmanager
def crew(folder: Path, addition: str = "") -> Iterator[Crew]:
    path = folder / "vmcp.yaml"
    path.write_text(text(folder) + addition)
    with serving("--config", str(path)) as process:
        for index in range(WORKERS):
            process.until(rf'"msg":"ready".*"worker":{index}\b')
        yield Crew(process, path)


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(0o700)
    monkeypatch.setenv("VMCP_RUN_DIR", str(tmp_path / "run"))


async def test_a_rate_limit_is_one_for_all_workers_also_after_they_have_been_told_of_another(tmp_path: Path) -> None:
    with crew(tmp_path, "rateLimiting: {shared: {maxTokens: 7, refillPeriod: 24h}}\n") as made:
        assert await made.calls(30) == 7
        made.rewritten("rateLimiting: {shared: {maxTokens: 9, refillPeriod: 24h}}\n")
        assert await made.calls(30) == 9
        made.rewritten("rateLimiting: {shared: {maxTokens: 7, refillPeriod: 24h}}\n")
        assert await made.calls(10) == 0, "to and fro wins nobody a token"


async def test_who_guesses_at_all_workers_may_guess_as_often_as_at_one(tmp_path: Path) -> None:
    keys = [{"subject": who, "sha256": hashlib.sha256(who.encode()).hexdigest()} for who in ("ada", "bob")]
    with crew(tmp_path, f"incomingAuth: {{type: local, local: {{keys: {json.dumps(keys)}}}}}\n") as made:

        async def shown(key: str) -> int:
            return (await made.ask("initialize", GREETING, authorization=f"Bearer {key}"))[0]

        assert await shown("ada") == 200
        async with made.line(), made.line(), made.line(), made.line():  # so that each worker gets some of them
            guesses = Counter([await shown(f"wrong-{n}") for n in range(BURST + 10)])
            assert set(guesses) == {401, 429}
            assert BURST <= guesses[401] < BURST + 5, "one is forgotten every three seconds"
            assert 429 in {await shown("bob") for _ in range(2)}
            assert {await shown("ada") for _ in range(2 * WORKERS)} == {200}


async def rude(made: Crew, session: str, number: int) -> object:
    """One request of somebody who cuts it off, or sends another half behind it, or goes away."""
    whole = request(
        "tools/call", {"name": "old_echo", "arguments": {"x": "x" * (number * 7919 % 200_000)}}, mcp_session_id=session
    )
    ways = [whole, whole[: number * 31 % len(whole)], whole + whole[: number * 17 % 900], whole * 3]
    async with made.line() as (reader, writer):
        writer.write(ways[number % len(ways)])
        if number % 3:
            writer.transport.abort()
            return None
        with contextlib.suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            async with asyncio.timeout(0.3):
                return (await answer(reader))[0]
    return None


async def test_rude_clients_leave_nothing_behind_whichever_worker_they_are_sent_to(tmp_path: Path) -> None:
    with crew(tmp_path) as made:
        before = made.descriptors()
        sessions = [await made.session() for _ in range(WORKERS)]
        for begin in range(0, 100, 50):
            async with asyncio.TaskGroup() as group:
                for number in range(begin, begin + 50):
                    group.create_task(rude(made, sessions[number % WORKERS], number))
        assert {(await made.call(each))[0] for each in sessions for _ in range(4)} == {200}
        await until(lambda: made.descriptors() == before)
        made.process.signal(signal.SIGTERM)
        assert made.process.end() == 0
        assert not [line for line in made.process.lines() if line["level"] == "error"]
    verified = run("audit", "verify", str(tmp_path / "audit.log"))
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def test_nobody_waits_for_a_worker_that_begins_anew_while_others_serve(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    slow = f"until [ -e {gate} ]; do sleep 0.02; done; exec {sys.executable} -S {CHILD} 2025-06-18"
    path = tmp_path / "vmcp.yaml"
    backends = {"old": {"command": ["sh", "-c", slow]}}
    path.write_text(json.dumps({"name": "crew", "server": {"workers": 2}, "groups": {"g": {"backends": backends}}}))
    with serving("--config", str(path)) as process:
        for index in range(2):
            process.until(rf'"msg":"ready".*"worker":{index}\b')
        made = Crew(process, path)
        gate.unlink()
        os.kill(made.workers()[1], signal.SIGKILL)
        process.until(r'("msg":"listening".*"worker":1\b(.|\n)*){2}')
        lines = contextlib.AsyncExitStack()
        async with lines:
            for _ in range(4):
                await lines.enter_async_context(made.line())  # the one that serves has more of them
                assert b'"result"' in (await made.call(await made.session()))[2]
            gate.touch()
            process.until(r'("msg":"ready".*"worker":1\b(.|\n)*){2}')
            assert "1" in {(await made.session())[0] for _ in range(6)}


@pytest.mark.parametrize("mark", ["", "0.", "1.", "2.", "7.", "1.1.", "001.", "-1.", "256."])
async def test_nobody_is_found_by_a_forged_mark(one: Crew, mark: str) -> None:
    session = await one.session()
    here, _, inner = session.partition(".")
    for forged in {f"{mark}{inner}", f"{mark}x", f"{mark}{session}"} - {session}:
        assert (await one.call(forged))[0] == 404, forged
    assert (await one.call(session))[0] == 200
    assert here in {"0", "1", "2"}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew(tmp_path_factory.mktemp("one")) as made:
        yield made
