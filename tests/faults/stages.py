"""The same small server over HTTP+SSE and over WebSocket. (Over HTTP it is in ``worlds``, as a child process in ``brain``.)

Rule: a stage passes on, and says nothing of its own.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.faults.brain import Brain, Json
from tests.upstream.badserver import Peer
from tests.upstream.fakes import heard, response


class SseStage:
    """HTTP+SSE: each stream has an address of its own for what is told to it."""

    def __init__(self, brain: Brain) -> None:
        self.brain = brain
        self._streams: dict[str, Any] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            verb, path = request.split(b" ", 2)[:2]
            if verb == b"GET":
                await self._stream(peer)
            number = path.partition(b"=")[2].decode()
            if number not in self._streams:
                await peer.send(response(404, b""))
                continue
            await peer.send(response(202, b"Accepted"))
            stream, group = self._streams[number]

            async def say(message: Json, stream: Any = stream) -> None:
                await stream.send(b"event: message\ndata: %b\n\n" % json.dumps(message).encode())

            self._tasks.setdefault(number, []).append(group.create_task(self._hear(heard(request).message, say)))

    async def _hear(self, told: Json, say: Any) -> None:
        with contextlib.suppress(ConnectionError):
            await self.brain.hear(told, say)

    async def _stream(self, peer: Peer) -> None:
        number = str(peer.number)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        async with asyncio.TaskGroup() as group:
            self._streams[number] = peer, group
            await peer.send(head + f"event: endpoint\ndata: /messages?session={number}\n\n".encode())
            await peer.gone()
            del self._streams[number]
            for task in self._tasks.pop(number, ()):
                task.cancel()
        raise ConnectionError


@contextlib.asynccontextmanager
async def websocket(brain: Brain) -> AsyncIterator[int]:
    """A server over WebSocket; its port."""

    async def handler(peer: ServerConnection) -> None:
        async def hear(text: str) -> None:
            with contextlib.suppress(ConnectionClosed, ValueError):
                await brain.hear(json.loads(text), lambda said: peer.send(json.dumps(said)))

        async with asyncio.TaskGroup() as group:
            with contextlib.suppress(ConnectionClosed):
                async for text in peer:
                    group.create_task(hear(str(text)))

    async with serve(handler, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")]) as server:
        yield next(iter(server.sockets)).getsockname()[1]
