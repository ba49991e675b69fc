"""Small MCP servers for tests of what talks to them, over stdio and over HTTP, in every revision.

Rule: a server says what its table of answers says; what it was told is kept in order, and a test reads it there.
"""

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.upstream.badserver import Peer, serving
from tests.upstream.child import answers, failure, fill
from vmcp.config.model import PoolSpec, Timeouts
from vmcp.config.processes import ProcessSpec
from vmcp.tasks import Nest
from vmcp.upstream import stdio
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.handshake import Greeter
from vmcp.upstream.http import HttpWire
from vmcp.upstream.link import Link
from vmcp.upstream.pool import Pool
from vmcp.upstream.stdio import StdioWire
from vmcp.upstream.wire import Wire

Json = dict[str, Any]
Script = Mapping[str, Any]
CHILD = str(Path(__file__).with_name("child.py"))
FAST = Timeouts(connect=5, first_byte=5, total=5, idle_stream=5)
JSON = b"Content-Type: application/json"


def soon(seconds: float = 5.0) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + seconds


# --- over stdio


def command(journal: Path, script: Script) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", CHILD, str(journal), json.dumps(script))


def scripted(table: Mapping[str, Sequence[Json]]) -> dict[str, list[list[Any]]]:
    """A table of answers as a child's script."""
    return {method: [["say", message] for message in messages] for method, messages in table.items()}


def journal_of(journal: Path, key: str) -> list[Any]:
    """What the child wrote down under ``key``."""
    text = journal.read_text() if journal.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line[key] for line in lines if key in line]


def alive(pid: int) -> bool:
    """Whether a process still runs; one of ours that waits to be reaped counts too."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or int(parent) == os.getpid()


@contextlib.asynccontextmanager
async def spawned(
    journal: Path, script: Script, env: Mapping[str, str] | None = None, spec: ProcessSpec | None = None
) -> AsyncIterator[StdioWire]:
    program = stdio.Program(command(journal, script), env or {}, spec=spec or ProcessSpec())
    wire = await stdio.spawn("time", program)
    try:
        yield wire
    finally:
        await wire.close()


# --- over HTTP


@dataclass(frozen=True)
class Heard:
    """A request as an HTTP server hears it."""

    verb: str
    headers: Mapping[str, str]
    message: Json

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))


Answer = Callable[[Peer, Heard], Awaitable[None]]


def heard(request: bytes) -> Heard:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in fields)}
    return Heard(first.split()[0], headers, json.loads(body) if body else {})


def response(status: int, body: bytes, *fields: bytes) -> bytes:
    lines = [b"HTTP/1.1 %d Status" % status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def single(message: Any, status: int = 200, *fields: bytes) -> Answer:
    """One JSON body; bytes are sent as they are."""

    async def answer(peer: Peer, told: Heard) -> None:
        body = message if isinstance(message, bytes) else json.dumps(fill(message, told.message)).encode()
        await peer.send(response(status, body, JSON, *fields))

    return answer


def text(status: int, body: bytes = b"no", kind: bytes = b"text/plain") -> Answer:
    async def answer(peer: Peer, told: Heard) -> None:
        await peer.send(response(status, body, b"Content-Type: " + kind))

    return answer


def stream(*messages: Any, ends: bool = True) -> Answer:
    """An event stream, one chunk per message; bytes are sent as they are. One that does not end is left open."""

    async def answer(peer: Peer, told: Heard) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for message in messages:
            data = message
            if not isinstance(message, bytes):
                data = b"event: message\ndata: %b\n\n" % json.dumps(fill(message, told.message)).encode()
            await peer.send(b"%x\r\n%b\r\n" % (len(data), data))
        await (peer.send(b"0\r\n\r\n") if ends else silence(peer, told))

    return answer


async def silence(peer: Peer, told: Heard) -> None:
    """No answer at all, until the client leaves."""
    await peer.gone()
    peer.close()


async def drop(peer: Peer, told: Heard) -> None:
    """The connection closes instead of an answer."""
    peer.close()


@dataclass
class WebServer:
    """An MCP server over streamable HTTP. ``sessions`` None: it gives none; else those that it knows."""

    on: dict[str, Answer]
    sessions: set[str] | None = None
    forgotten: Answer = field(default_factory=lambda: single(failure(-32600, "Session not found"), 404))
    heard: list[Heard] = field(default_factory=list)
    port: int = 0
    left: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def __call__(self, peer: Peer) -> None:
        try:
            while True:
                told = heard(await peer.request())
                self.heard.append(told)
                await self._answer(told)(peer, told)
        finally:
            self.left += 1

    def _answer(self, told: Heard) -> Answer:
        if told.method == "initialize" and self.sessions is not None and "initialize" in self.on:
            self.sessions.add(session := f"s{next(self._numbers)}")
            return self._with_session(self.on["initialize"], session)
        if told.method not in ("initialize", "server/discover") and not self._knows(told):
            return self.forgotten
        known = self.on.get(told.method)
        return known or single(b"", 202 if told.verb == "POST" else 200)

    def _knows(self, told: Heard) -> bool:
        return self.sessions is None or told.headers.get("mcp-session-id") in self.sessions

    def _with_session(self, answer: Answer, session: str) -> Answer:
        async def wrapped(peer: Peer, told: Heard) -> None:
            await answer(_Marked(peer, b"Mcp-Session-Id: " + session.encode()), told)

        return wrapped

    @property
    def methods(self) -> list[str]:
        return [told.method for told in self.heard]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


class _Marked(Peer):
    """A peer whose next response has one header more."""

    def __init__(self, peer: Peer, line: bytes) -> None:
        super().__init__(peer._reader, peer._writer, peer.number)
        self._line = line

    async def send(self, *pieces: bytes) -> None:
        head, *rest = pieces
        await super().send(head.replace(b"\r\n", b"\r\n" + self._line + b"\r\n", 1), *rest)


def web(revision: str, **more: Answer) -> WebServer:
    """A server of ``revision`` that answers as ``answers`` says; the handshake ones keep sessions."""
    table: dict[str, Answer] = {}
    for method, messages in answers(revision).items():
        table[method] = single(messages[0]) if len(messages) == 1 else stream(*messages)
    return WebServer(table | more, None if revision == "2026-07-28" else set())


@contextlib.asynccontextmanager
async def served(server: WebServer) -> AsyncIterator[WebServer]:
    async with serving(server) as state:
        server.port = state.port
        yield server


@contextlib.asynccontextmanager
async def wired(
    server: WebServer, *fixed: tuple[bytes, bytes], spec: PoolSpec | None = None
) -> AsyncIterator[tuple[HttpWire, Pool]]:
    async with served(server):
        pool = Pool(endpoint(server.url), spec or PoolSpec(), FAST, max_response=4 << 20, name="time")
        wire = HttpWire("time", pool, fixed)
        try:
            yield wire, pool
        finally:
            await wire.close()


# --- links over either


@dataclass
class Rig:
    """A greeted link, and what the server at its other end was told."""

    wire: Wire
    link: Link
    nest: Nest
    told: Callable[[], list[Json]]
    events: list[str]
    server: WebServer | None = None

    @property
    def methods(self) -> list[str]:
        return [str(message.get("method", "reply")) for message in self.told()]


@contextlib.asynccontextmanager
async def linked(
    transport: str, revision: str, journal: Path, more: Mapping[str, Sequence[Json]] | None = None
) -> AsyncIterator[Rig]:
    """A link to a server of ``revision`` which answers ``more``; an empty answer is silence."""
    table = answers(revision) | {method: list(messages) for method, messages in (more or {}).items()}
    if transport == "stdio":
        async with (
            spawned(journal, scripted(table)) as wire,
            _greeted(wire, lambda: journal_of(journal, "told")) as rig,
        ):
            yield rig
        return
    server = web(revision)
    for method, messages in table.items():
        server.on[method] = stream(*messages) if len(messages) > 1 else single(messages[0]) if messages else silence
    async with wired(server) as (http, _), _greeted(http, lambda: [told.message for told in server.heard]) as rig:
        rig.server = server
        yield rig


@contextlib.asynccontextmanager
async def _greeted(wire: Wire, told: Callable[[], list[Json]]) -> AsyncIterator[Rig]:
    ids, events = itertools.count(1), list[str]()
    facts = await Greeter("time", wire, "auto", ids).greet(soon())
    async with Nest("test") as nest:
        link = Link(wire, facts, nest, lambda method, params: events.append(method), ids)
        yield Rig(wire, link, nest, told, events)
