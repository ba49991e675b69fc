"""The whole house in one process: clients of every revision, real sockets and real children behind.

Rule: nothing in here is ours but the house; a backend is reached over HTTP or over pipes, a client over a socket.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.server.child import Json, reply
from tests.server.clients import Answer, Door, Listening, listening
from tests.server.clients import Raw as Connection
from tests.server.peers import until
from vmcp.config.model import Aggregation, BackendSpec, Config, Group, ServerSpec
from vmcp.protocol.revisions import Revision
from vmcp.server.runtime import Runtime
from vmcp.upstream.stdio import StdioWire

CHILD = Path(__file__).parent / "server" / "child.py"
ALL = list(Revision)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class HttpServer:
    """An MCP server of one revision over HTTP, with a session if its revision has them."""

    revision: Revision
    port: int = 0
    seen: list[Mapping[str, str]] = field(default_factory=list)
    sessions: int = 0
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.seen.append(headers)
                writer.write(self._answer(head[0].split(" ")[0], headers, body))
        writer.close()

    def _answer(self, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
        if method == "DELETE":
            self.ended += 1
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        if method == "GET":
            return b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"
        message: Json = json.loads(body)
        answer = reply(self.revision, message)
        if answer is None:
            return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        extra = b""
        if message["method"] == "initialize" and "error" not in answer:
            self.sessions += 1
            extra = b"Mcp-Session-Id: s-%d\r\n" % self.sessions
        text = json.dumps(answer).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
            extra,
            len(text),
            text,
        )


@contextlib.asynccontextmanager
async def http_servers() -> AsyncIterator[dict[Revision, HttpServer]]:
    """One for each revision."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for revision in ALL:
            server = HttpServer(revision)
            listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
            stack.callback(listener.close)
            server.port = listener.sockets[0].getsockname()[1]
            found[revision] = server
        yield found


def config(servers: Mapping[Revision, HttpServer]) -> Config:
    backends = {}
    for number, revision in enumerate(ALL):
        url = f"http://127.0.0.1:{servers[revision].port}/mcp"
        command = (sys.executable, "-S", str(CHILD), str(revision))
        backends[f"http{number}"] = BackendSpec(f"http{number}", "all", "streamable-http", url=url)
        backends[f"pipe{number}"] = BackendSpec(f"pipe{number}", "all", "stdio", command=command)
    group = Group("all", backends)
    return Config("house", {"all": group}, "all", Aggregation(), ServerSpec(), "digest", start_deadline=30.0)


class Over(Door):
    """A client over a socket; everything else is as through ASGI."""

    def __init__(self, server: Listening, revision: Revision) -> None:
        super().__init__(None, revision)
        self._server = server
        self._connection: Connection | None = None

    async def http(self, method: str, path: str | None = None, body: bytes = b"", **headers: str | None) -> Answer:
        scope = self.scope(method, path, **headers)
        lines = b"".join(b"%b: %b\r\n" % header for header in scope["headers"])
        if self._connection is None:
            self._connection = await self._server.connect()
        self._connection.send(b"%b %b HTTP/1.1\r\n%b" % (method.encode(), scope["raw_path"], lines))
        self._connection.send(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return await self._connection.response()


async def test_every_client_reaches_every_backend_and_nothing_is_left() -> None:
    before = asyncio.all_tasks()
    async with http_servers() as servers:
        given = config(servers)
        async with Runtime(given) as running, listening(running.app, given) as server:
            async with asyncio.timeout(20):
                await running.settled.wait()
            assert {name: backend.revision for name, backend in running.backends.items()} == {
                f"{kind}{number}": revision for number, revision in enumerate(ALL) for kind in ("http", "pipe")
            }
            for client in ALL:
                await _everything(Over(server, client))
            wires = [backend.link.wire for backend in running.backends.values() if backend.link is not None]
        children = [wire for wire in wires if isinstance(wire, StdioWire)]
        assert len(children) == 5
        assert all(wire.exited for wire in children)
        assert [servers[revision].ended for revision in ALL] == [1, 1, 1, 1, 0], "sessions are given back"
        assert [servers[revision].sessions for revision in ALL] == [1, 1, 1, 1, 0]
    await until(lambda: asyncio.all_tasks() == before)


async def _everything(door: Over) -> None:
    assert (await door.initialize()).status == 200
    listed = [entry["name"] for entry in (await door.ask("tools/list")).result["tools"]]
    assert listed == [
        f"{kind}{n}_{tool}" for n in range(5) for kind in ("http", "pipe") for tool in ("echo", "pid", "hang")
    ]
    for number in range(5):
        for kind in ("http", "pipe"):
            words = {"to": f"{kind}{number}", "n": 2**53 + 1, "s": "ä\u2028"}
            answer = await door.call(f"{kind}{number}_echo", words)
            assert json.loads(answer.result["content"][0]["text"]) == words
            assert ("resultType" in answer.result) is door.revision.modern
    if not door.revision.modern:
        assert (await door.http("DELETE")).status == 204


async def test_nothing_that_a_client_sends_in_headers_reaches_a_backend() -> None:
    async with http_servers() as servers:
        given = config(servers)
        only = {name: spec for name, spec in given.groups["all"].backends.items() if name.startswith("http")}
        group = Group("all", only)
        given = Config("house", {"all": group}, "all", Aggregation(), ServerSpec(), "digest", start_deadline=30.0)
        async with Runtime(given) as running, listening(running.app, given) as server:
            async with asyncio.timeout(20):
                await running.settled.wait()
            for client in ALL:
                door = Over(server, client)
                await door.initialize()
                for number in range(5):
                    canary = {"authorization": "Bearer canary", "cookie": "canary", "x_forwarded_for": "canary"}
                    await door.call(f"http{number}_echo", {}, mcp_param_canary="canary", **canary)
            seen = [headers for one in servers.values() for headers in one.seen]
            assert len(seen) > 25
            assert not [headers for headers in seen if "canary" in str(headers)]
            sessions = {headers.get("mcp-session-id") for headers in servers[Revision.V2025_11_25].seen}
            assert sessions <= {None, "s-1"}, "the session of a client is its own"
