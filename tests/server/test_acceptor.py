"""Few descriptors: nobody new is accepted, who is here is served, and who waited is served as soon as there is room.

Rule: the descriptors are real ones of this process; only the number that it may have is made up.
"""

import asyncio
import contextlib
import errno
import functools
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from uvicorn.server import ServerState

from tests.server.clients import Behind, Raw
from tests.server.peers import until
from tests.server.test_listener import OK, Recorder, limited
from vmcp.server import acceptor as module
from vmcp.server import serving
from vmcp.server.acceptor import LEAST, Acceptor
from vmcp.tasks import Nest


@dataclass
class Accepting:
    """A listener that accepts with so many descriptors, and its clients."""

    acceptor: Acceptor
    port: int
    state: ServerState
    clients: list[Raw] = field(default_factory=list)

    async def connect(self, sent: bytes = b"") -> Raw:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port))
        raw.send(sent)
        self.clients.append(raw)
        return raw

    async def crowd(self) -> None:
        """Connect until nobody is accepted any more."""
        async with asyncio.timeout(5):
            while not self.acceptor.paused:
                raw = await self.connect(OK)
                await raw.response()
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def accepting(monkeypatch: pytest.MonkeyPatch, free: int = 40) -> AsyncIterator[Accepting]:
    monkeypatch.setattr(module, "LOOK", 0.01)
    settings = serving._settings(limited(), Behind(Recorder()))  # type: ignore[arg-type]
    settings.load()
    state = ServerState()
    made: Any = settings.http_protocol_class
    protocol = functools.partial(made, config=settings, server_state=state, app_state={})
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    listening.setblocking(False)
    lowest = os.dup(listening.fileno())
    os.close(lowest)
    async with Nest("test") as nest:
        acceptor = Acceptor(listening, made.vigil, protocol, nest, lowest + free + LEAST)
        acceptor.start()
        found = Accepting(acceptor, listening.getsockname()[1], state)
        try:
            yield found
        finally:
            acceptor.stop()
            listening.close()
            for raw in found.clients:
                raw.close()
            for connection in list(state.connections):
                connection.transport.abort()
            await until(lambda: not state.connections)


async def test_a_crowd_is_taken_in_a_few_turns_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []
    made = Acceptor._on_some

    def counted(self: Acceptor) -> None:
        taken.append(1)
        made(self)

    monkeypatch.setattr(Acceptor, "_on_some", counted)
    async with accepting(monkeypatch, free=500) as found:
        sockets = [socket.create_connection(("127.0.0.1", found.port)) for _ in range(module.AT_ONCE + 10)]
        await until(lambda: len(found.state.connections) == len(sockets))
        assert len(taken) <= 3
        for each in sockets:
            each.close()
        await until(lambda: not found.state.connections)


async def test_nobody_is_accepted_while_descriptors_are_short_and_then_who_waited_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with accepting(monkeypatch) as found:
        await found.crowd()
        here = found.clients[0]
        here.send(OK)
        assert (await here.response()).status == 200, "who is here is served"
        waiting = await found.connect(OK)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not waiting.reader._buffer, "nobody has said anything to who is not"  # type: ignore[attr-defined]
        for raw in found.clients[1:-1]:
            raw.close()
        assert (await waiting.response()).status == 200
        await until(lambda: not found.acceptor.paused)
        assert found.acceptor.pauses == 1
        await found.crowd()
        assert found.acceptor.pauses == 2, "and again"


async def test_who_comes_in_the_last_moment_is_a_connection_that_ends_like_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with accepting(monkeypatch) as found:
        crowd = [socket.create_connection(("127.0.0.1", found.port)) for _ in range(20)]
        found.acceptor._on_some()
        found.acceptor.stop()
        await found.acceptor.settle()
        assert len(found.state.connections) == len(crowd)
        for each in crowd:
            each.close()
        await until(lambda: not found.state.connections)


async def test_connections_that_are_not_used_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.server.timed.HURRY", 0.0)
    async with accepting(monkeypatch) as found:
        await found.crowd()
        assert (await (await found.connect(OK)).response()).status == 200


async def test_when_there_are_none_at_all_it_goes_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted:
        """A listening socket of a process that has no descriptor left."""

        def __init__(self, own: socket.socket) -> None:
            self._own = own
            self.failed = False

        def fileno(self) -> int:
            return self._own.fileno()

        def accept(self) -> Any:
            if self.failed:
                return self._own.accept()
            self.failed = True
            raise OSError(errno.EMFILE, "Too many open files")

        def close(self) -> None:
            self._own.close()

    async with accepting(monkeypatch) as found:
        found.acceptor.stop()
        found.acceptor._listening = Exhausted(found.acceptor._listening)  # type: ignore[assignment]
        found.acceptor.start()
        assert (await (await found.connect(OK)).response()).status == 200
        assert found.acceptor.pauses == 1


async def test_after_the_end_nobody_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with accepting(monkeypatch) as found:
        await found.crowd()
        found.acceptor.stop()
        for raw in found.clients:
            raw.close()
        await until(lambda: not found.state.connections)
        waiting = await found.connect(OK)
        for _ in range(20):
            await asyncio.sleep(0.002)
        assert not waiting.reader._buffer  # type: ignore[attr-defined]
        assert found.acceptor.paused
