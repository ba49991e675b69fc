"""MCP servers of every revision, in memory, and a house around them: what the tests of the client side stand on.

Rule: a server answers with exactly the bytes that a test gave it, and remembers everything that it was asked.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from vmcp.config.model import Aggregation, BackendSpec, Config, Group, Limits, ServerSpec
from vmcp.errors import McpError, Unavailable
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.server import runtime
from vmcp.server.runtime import Runtime
from vmcp.upstream.backend import Backend
from vmcp.upstream.connector import Connector
from vmcp.upstream.wire import Answer, Headers, OnMessage, OnStray, Outgoing, Wire

Json = dict[str, Any]
Notify = Callable[[str, Json], Awaitable[None]]
Script = Callable[["Asked", Notify], Awaitable[bytes]]
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


@dataclass
class Asked:
    """One request as a server got it."""

    method: str
    params: Json
    raw: bytes
    headers: dict[str, str]
    wire: "MemoryWire"
    on_message: OnMessage | None = None

    async def ask(self, method: str, params: Json | None = None) -> Any:
        """Ask the client something meanwhile, as servers before 2026-07-28 do. Raises ``McpError`` if that is the answer."""
        return await self.wire.ask(method, params, self.on_message)

    @property
    def name(self) -> str:
        return str(self.params.get("name", self.params.get("uri", "")))


@dataclass
class Server:
    """A scripted MCP server. ``script`` answers everything but greetings and lists, with the JSON text of a result.

    ``older``: it knows the handshake of that revision too. ``two_way``: its transport is one stream, as stdio is.
    """

    revision: Revision = MODERN
    older: Revision | None = None
    two_way: bool = False
    tools: Sequence[Json | bytes] = ()
    prompts: Sequence[Json | bytes] = ()
    resources: Sequence[Json | bytes] = ()
    templates: Sequence[Json | bytes] = ()
    capabilities: Json | None = None
    instructions: str = ""
    script: Script | None = None
    asked: list[Asked] = field(default_factory=list)
    told: list[Json] = field(default_factory=list)
    cancelled: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: str = ""
    wires: list["MemoryWire"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.up.set()

    def calls(self) -> list[Asked]:
        """What was asked besides greetings and lists."""
        greetings = {"initialize", "server/discover", "ping", *LISTS}
        return [asked for asked in self.asked if asked.method not in greetings]

    def declared(self) -> list[Json]:
        """The client capabilities of every handshake, in order."""
        return [asked.params["capabilities"] for asked in self.asked if asked.method == "initialize"]

    def say(self, method: str, params: Json | None = None, wire: int = 0) -> None:
        """Tell something that belongs to no request, on one of the connections."""
        on_stray = self.wires[wire].on_stray
        assert on_stray is not None
        on_stray(jsonrpc.read(jsonrpc.notification(method, params)))

    async def answer(self, asked: Asked, notify: Notify) -> bytes:
        """The result as JSON text. Raises ``McpError``."""
        self.asked.append(asked)
        await self.up.wait()
        if asked.method in ("initialize", "server/discover"):
            return self._greeting(asked)
        if asked.method in LISTS:
            return self._list(asked.method)
        assert self.script is not None, f"nobody wrote what {asked.method} answers"
        try:
            return await self.script(asked, notify)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def _greeting(self, asked: Asked) -> bytes:
        modern = asked.method == "server/discover"
        revision = self.revision if self.older is None or modern else self.older
        if modern != revision.modern:
            raise McpError(-32601, "Method not found")
        offers = {"tools": self.tools, "prompts": self.prompts, "resources": [*self.resources, *self.templates]}
        capabilities = self.capabilities
        if capabilities is None:
            capabilities = {key: {} for key, entries in offers.items() if entries}
        told: Json = {"capabilities": capabilities, "instructions": self.instructions}
        if modern:
            return text({"resultType": "complete", "supportedVersions": [str(MODERN)], **told})
        return text({"protocolVersion": str(revision), "serverInfo": {"name": "fake", "version": "1"}, **told})

    def _list(self, method: str) -> bytes:
        key = LISTS[method]
        entries = getattr(self, "templates" if key == "resourceTemplates" else key)
        body = b",".join(entry if isinstance(entry, bytes) else text(entry) for entry in entries)
        head = b'"resultType":"complete","ttlMs":0,"cacheScope":"private",' if self.revision.modern else b""
        return b'{%b"%b":[%b]}' % (head, key.encode(), body)


def text(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def tool(name: str, **more: Any) -> Json:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def said(words: str, revision: Revision = MODERN) -> bytes:
    """A tool's result of one text."""
    first: Json = {"resultType": "complete"} if revision.modern else {}
    return text({**first, "content": [{"type": "text", "text": words}]})


async def echo(asked: Asked, notify: Notify) -> bytes:
    """Answers a tool call with its own arguments, in a shape that every revision knows."""
    return said(json.dumps(asked.params.get("arguments"), ensure_ascii=False))


class MemoryWire:
    """A way to a ``Server`` without a socket. ``number`` says which of its connections it is."""

    def __init__(self, server: Server, name: str) -> None:
        self.on_stray: OnStray | None = None
        self.on_gone: Callable[[], None] | None = None
        self.server = server
        self.name = name
        self.number = len(server.wires)
        self.closed = False
        self.closing_cancels = self.private_streams = not server.two_way
        self._ids = itertools.count(1)
        self._open: dict[bytes, asyncio.Future[Message]] = {}
        server.wires.append(self)

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        asked = self._asked(request.body, request.headers, on_message)

        async def notify(method: str, params: Json) -> None:
            message = jsonrpc.read(jsonrpc.notification(method, params))
            if on_message is not None:
                await on_message(message)

        if self.server.refusal:
            raise Unavailable(self.name, self.server.refusal)
        try:
            result = await self.server.answer(asked, notify)
        except McpError as error:
            return Answer(jsonrpc.read(jsonrpc.failure(b"%d" % request.id, error)))
        return Answer(jsonrpc.read(jsonrpc.reply(b"%d" % request.id, result)))

    def _asked(self, body: bytes, headers: Headers, on_message: OnMessage | None) -> Asked:
        message: Message = jsonrpc.read(body)
        return Asked(
            message.method,
            json.loads(bytes(message.params) or b"{}"),
            bytes(message.params),
            {key.decode().lower(): value.decode() for key, value in headers},
            self,
            on_message,
        )

    async def ask(self, method: str, params: Json | None, on_message: OnMessage | None) -> Any:
        """Put a question, on the stream of a request where there is one, and wait for the answer."""
        id_ = b'"q-%d"' % next(self._ids)
        self._open[id_] = asyncio.get_running_loop().create_future()
        members = b"" if params is None else b',"params":%b' % text(params)
        message = jsonrpc.read(b'{"jsonrpc":"2.0","id":%b,"method":%b%b}' % (id_, text(method), members))
        if self.private_streams and on_message is not None:
            await on_message(message)
        elif self.on_stray is not None:
            self.on_stray(message)
        async with asyncio.timeout(5):
            return json.loads(bytes(jsonrpc.result_of(await self._open[id_])))

    async def tell(self, body: bytes, headers: Headers) -> None:
        message = jsonrpc.read(body)
        waiting = self._open.pop(bytes(message.id), None) if not message.method else None
        if waiting is not None:
            waiting.set_result(message)
        else:
            self.server.told.append(json.loads(body))

    async def hear(self, headers: Headers) -> bool:
        return False

    def obituary(self) -> str:
        return "it is gone"

    async def close(self) -> None:
        self.closed = True


class MemoryConnector(Connector):
    """Opens ways to the ``Server`` in memory."""

    server: Server

    async def open(self, whose: str = "") -> Wire:
        return MemoryWire(self.server, self._spec.name)


def in_memory(servers: Mapping[str, Server]) -> type[Backend]:
    """A ``Backend`` that finds its server here, by its name."""

    class Wired(Backend):
        def _connects(self, environ: Mapping[str, str]) -> Connector:
            connector = MemoryConnector(self.spec, self._limits, environ, self._nest)
            connector.server = servers[self.spec.name]
            return connector

    return Wired


def config(backends: Mapping[str, Server], **more: Any) -> Config:
    """One group ``g``, also at ``/mcp``, without prefixes unless said otherwise."""
    required = more.pop("required", ())
    spec = {key: more.pop(key) for key in ("isolation", "allow") if key in more}
    specs = {
        name: BackendSpec(name, "g", "streamable-http", url="http://x/", required=name in required, **spec)
        for name in backends
    }
    server = more.pop("server", ServerSpec())
    limits = more.pop("limits", None)
    if limits is not None:
        server = replace(server, limits=limits)
    aggregation = more.pop("aggregation", Aggregation(strategy="manual"))
    return Config("test", {"g": Group("g", specs)}, "g", aggregation, server, "digest", **more)


@contextlib.asynccontextmanager
async def house(
    monkeypatch: pytest.MonkeyPatch, backends: Mapping[str, Server] | None = None, *, settled: bool = True, **more: Any
) -> AsyncIterator[Runtime]:
    """A running house over ``backends``; it is left when nothing of it is left. ``more`` is for ``config``."""
    monkeypatch.setattr(runtime, "Backend", in_memory(backends or {}))
    async with Runtime(config(backends or {}, **more)) as running:
        if settled:
            async with asyncio.timeout(5):
                await running.settled.wait()
        yield running


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds, at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - whatever a test can see, not only events
            await asyncio.sleep(0.001)


TINY = Limits(sessions=2, session_idle=60.0, page_size=2)
