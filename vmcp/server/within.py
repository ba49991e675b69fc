"""A client in this very process: it speaks with a house as clients do over stdio, so that a command can try what they would get.

The rule: it gets nothing that another client would not get, and when the block ends no backend is left running.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp import __version__
from vmcp.call import Origin
from vmcp.config.model import Config
from vmcp.errors import McpError
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.protocol.revisions import LATEST_HANDSHAKE
from vmcp.routing.catalog import Kind
from vmcp.server.duplex import Duplex
from vmcp.server.gate import system_user
from vmcp.server.runtime import Runtime
from vmcp.tasks import Nest

PAGES: Final = 1000
"""Pages of a list that are read."""
Json = dict[str, Any]
Ask = Callable[[str, Json], Awaitable[Json]]
"""Answers what a server asks: its method and parameters. Raises ``McpError``."""
Tell = Callable[[str, Json], None]
"""Hears of progress and log messages."""


class Insider:
    """The client. ``house`` is what it speaks with, ``ask`` and ``tell`` are told what it hears."""

    def __init__(self, house: Runtime, nest: Nest, ask: Ask, tell: Tell) -> None:
        self.house = house
        self.line: Duplex | None = None
        self._nest = nest
        self._ask = ask
        self._tell = tell
        self._waiting: dict[int, asyncio.Future[Message]] = {}

    async def hear(self, text: bytes) -> None:
        """Take what the house says."""
        message = jsonrpc.read(text)
        if message.method:
            params = msgspec.json.decode(message.params) if message.params else {}
            if message.id:
                self._nest.start(self._answer(bytes(message.id), message.method, params), "question")
            else:
                self._tell(message.method, params)
            return
        waiting = self._waiting.get(int(bytes(message.id)))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def _answer(self, id_: bytes, method: str, params: Json) -> None:
        try:
            text = jsonrpc.reply(id_, jsonrpc.encode(await self._ask(method, params)))
        except McpError as error:
            text = jsonrpc.failure(id_, error)
        await self._said(text)

    async def _said(self, text: bytes) -> None:
        assert self.line is not None
        await self.line.take(text)

    async def request(self, method: str, params: Mapping[str, Any]) -> Raw:
        """The result, which every request has in the time that the configuration gives it. Raises ``McpError``."""
        number = len(self._waiting) + 1
        self._waiting[number] = asyncio.get_running_loop().create_future()
        token = {"_meta": {"progressToken": number}} if method in _LONG else {}
        await self._said(jsonrpc.request(number, method, {**params, **token}))
        return jsonrpc.result_of(await self._waiting[number])

    async def greet(self, capabilities: Json) -> Json:
        """Begin the session; what the house says of itself."""
        told = await self.request(
            "initialize",
            {
                "protocolVersion": str(LATEST_HANDSHAKE),
                "capabilities": capabilities,
                "clientInfo": {"name": "vmcp", "version": __version__},
            },
        )
        await self._said(jsonrpc.notification("notifications/initialized"))
        found: Json = msgspec.json.decode(told)
        return found

    async def listed(self, method: str, key: str) -> list[Json]:
        """All pages of a list."""
        found: list[Json] = []
        params: Json = {}
        for _ in range(PAGES):
            page = msgspec.json.decode(await self.request(method, params))
            found += page[key]
            if "nextCursor" not in page:
                break
            params = {"cursor": page["nextCursor"]}
        return found


_LONG: Final = frozenset({"tools/call", "prompts/get", "resources/read"})


@contextlib.asynccontextmanager
async def within(config: Config, path: str, environ: Mapping[str, str], ask: Ask, tell: Tell) -> AsyncIterator[Insider]:
    """A client of the face at ``path`` of a house of its own, once every backend has answered or had its chance."""
    async with Runtime(config, environ) as house, Nest("insider") as nest:
        client = Insider(house, nest, ask, tell)
        async with house.opens(path, client.hear) as line:
            client.line = line
            line.origin = Origin("stdio")
            line.identity = system_user()
            await house.settled.wait()
            yield client


async def surveyed(config: Config, environ: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """How each backend of a configuration is, once it has answered or had its chance."""
    async with Runtime(config, environ) as house:
        await house.settled.wait()
        tools = {
            name: held.catalog.entries[Kind.TOOL] if held.catalog else () for name, held in house.current.held.items()
        }
        return [
            {"name": name, "state": each.status.state, "why": each.status.why, "tools": len(tools[name])}
            for name, each in house.backends.items()
        ]
