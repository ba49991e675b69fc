"""An MCP server over HTTP+SSE as of 2024-11-05, in raw bytes: one stream, and POSTs that belong to it.

Rule: what it says to a method stands in its table; what it was told is kept in order, and a test reads it there.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.upstream.badserver import Peer, serving
from tests.upstream.child import fill
from tests.upstream.fakes import FAST, Heard, heard, response
from vmcp.config.model import PoolSpec
from vmcp.upstream import sse
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.pool import Pool
from vmcp.upstream.sse import LegacySse

Json = dict[str, Any]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@dataclass
class SseServer:
    """``address`` is the data of its first event; ``status`` answers POSTs, ``late``: only once they were dealt with."""

    on: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    address: str = "/messages?session=1"
    status: int = 202
    late: bool = False
    opening: bytes | None = None
    heard: list[Heard] = field(default_factory=list)
    streams: list[Peer] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            told = heard(request)
            self.heard.append(told)
            self.paths.append(request.split(b" ", 2)[1].decode())
            await (self._stream(peer) if told.verb == "GET" else self._post(peer, told))

    async def _stream(self, peer: Peer) -> None:
        self.streams.append(peer)
        opening = self.opening
        if opening is None:
            opening = HEAD + f"event: endpoint\r\ndata: {self.address}\r\n\r\n".encode()
        await peer.send(opening)
        await peer.gone()
        peer.close()

    async def _post(self, peer: Peer, told: Heard) -> None:
        if not self.late:
            await peer.send(response(self.status, b"Accepted"))
        for message in self.on.get(told.method, ()):
            await self.say(fill(message, told.message))
        if self.late:
            await peer.send(response(self.status, b"Accepted"))

    async def say(self, message: Any) -> None:
        await self.streams[-1].send(b"event: message\r\ndata: %b\r\n\r\n" % json.dumps(message).encode())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/sse"

    @property
    def messages(self) -> list[Json]:
        return [told.message for told in self.heard if told.verb == "POST"]


def pool_to(url: str) -> Pool:
    return Pool(endpoint(url), PoolSpec(), FAST, max_response=4 << 20, name="old")


@contextlib.asynccontextmanager
async def listening(server: SseServer, *fixed: tuple[bytes, bytes]) -> AsyncIterator[LegacySse]:
    async with serving(server) as state:
        server.port = state.port
        wire = await sse.connect("old", endpoint(server.url), pool_to(server.url), fixed)
        try:
            yield wire
        finally:
            async with asyncio.timeout(5):
                await wire.close()
