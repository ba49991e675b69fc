"""The servers of ``world.py`` over two-way wires: WebSocket, and stdio by way of ``relay.py``.

The rule: a connection is a session; requests run side by side, one message is one line or one text frame.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.eras.http1 import LIMIT, dumps
from tests.eras.world import Json, Session, World


async def conversation(
    world: World, texts: AsyncIterator[str | bytes], write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Serve one connection until it ends."""
    session = Session()

    async def send(message: Json) -> None:
        with contextlib.suppress(ConnectionError, ConnectionClosed):
            await write(dumps(message))

    session.standing.append(send)
    try:
        async for text in texts:
            if isinstance(text, bytes):
                world.complain("a binary frame")
            message = json.loads(text)
            if world.modern and message.get("id") is not None and json.dumps(message["id"]) in session.running:
                world.complain(f"id {message['id']} is used twice at a time")
            world.spawn(world.take(session, message, send))
    finally:
        session.standing.clear()
        world.leaves(session)
        for task in list(session.running.values()):
            task.cancel()


class WireBackends:
    """All worlds that are reached by WebSocket (``/<world>/ws``) or stdio, each on one port."""

    def __init__(self, worlds: Mapping[str, World]) -> None:
        self.worlds = worlds
        self.ws_port = 0
        self.stdio_port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        stdio = await asyncio.start_server(self._stdio, "127.0.0.1", 0, limit=LIMIT)
        self.stdio_port = stdio.sockets[0].getsockname()[1]
        async with serve(
            self._websocket, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")], compression=None, max_size=LIMIT
        ) as server:
            self.ws_port = next(iter(server.sockets)).getsockname()[1]
            try:
                yield
            finally:
                stdio.close()

    async def _websocket(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        world = self.worlds[connection.request.path.strip("/").partition("/")[0]]
        if connection.subprotocol != "mcp":
            world.complain("the WebSocket subprotocol mcp was not offered")

        async def write(text: bytes) -> None:
            await connection.send(text.decode())

        with contextlib.suppress(ConnectionClosed):
            await conversation(world, aiter(connection), write)

    async def _stdio(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def lines() -> AsyncIterator[str]:
            while line := await reader.readline():
                yield line.decode()

        async def write(text: bytes) -> None:
            writer.write(text + b"\n")
            await writer.drain()

        try:
            world = self.worlds[(await reader.readline()).decode().strip()]
            await conversation(world, lines(), write)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the child has gone, or the test is over
        finally:
            writer.close()
