"""MCP servers of every revision, in memory, and a house around them: what the tests of the client side stand on.

Rule: a server answers with exactly the bytes that a test gave it, and remembers everything that it was asked.
"""

import asyncio
import contextlib
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

    @property
    def name(self) -> str:
        return str(self.params.get("name", self.params.get("uri", "")))


@dataclass
class Server:
    """A scripted MCP server. ``script`` answers everything but greetings and lists, with the JSON text of a result."""

    revision: Revision = MODERN
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

    def __post_init__(self) -> None:
        self.up.set()

    def calls(self) -> list[Asked]:
        """What was asked besides greetings and lists."""
        greetings = {"initialize", "server/discover", "ping", *LISTS}
        return [asked for asked in self.asked if asked.method not in greetings]

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
        if (asked.method == "server/discover") != self.revision.modern:
            raise McpError(-32601, "Method not found")
        offers = {"tools": self.tools, "prompts": self.prompts, "resources": [*self.resources, *self.templates]}
        capabilities = self.capabilities
        if capabilities is None:
            capabilities = {key: {} for key, entries in offers.items() if entries}
        told: Json = {"capabilities": capabilities, "instructions": self.instructions}
        if self.revision.modern:
            return text({"resultType": "complete", "supportedVersions": [str(MODERN)], **told})
        return text({"protocolVersion": str(self.revision), "serverInfo": {"name": "fake", "version": "1"}, **told})

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
    """A way to a ``Server`` without a socket."""

    closing_cancels = True

    def __init__(self, server: Server, name: str) -> None:
        self.on_stray: OnStray | None = None
        self.server = server
        self.name = name
        self.closed = False

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        asked = self._asked(request.body, request.headers)

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

    def _asked(self, body: bytes, headers: Headers) -> Asked:
        message: Message = jsonrpc.read(body)
        return Asked(
            message.method,
            json.loads(bytes(message.params) or b"{}"),
            bytes(message.params),
            {key.decode().lower(): value.decode() for key, value in headers},
        )

    async def tell(self, body: bytes, headers: Headers) -> None:
        self.server.told.append(json.loads(body))

    async def close(self) -> None:
        self.closed = True


def config(backends: Mapping[str, Server], **more: Any) -> Config:
    """One group ``g``, also at ``/mcp``, without prefixes unless said otherwise."""
    required = more.pop("required", ())
    specs = {
        name: BackendSpec(name, "g", "streamable-http", url="http://x/", required=name in required) for name in backends
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
    """A running house over ``backends``; it is left when nothing of it is left."""
    servers = backends or {}

    class Wired(Backend):
        async def _open(self) -> Wire:
            return MemoryWire(servers[self.spec.name], self.spec.name)

    monkeypatch.setattr(runtime, "Backend", Wired)
    async with Runtime(config(servers, **more)) as running:
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
