"""A whole house before one small server, over a wire that can be cut at any byte; and a count of all that is still alive in it.

Rule: what is vmcp's is the real thing down to its sockets or, for a child process, to the bytes in its pipes; the server and its
end of the wire are ours.
"""

import asyncio
import contextlib
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pytest

from tests.faults.brain import Brain, Json
from tests.upstream.badserver import Peer, serving
from tests.upstream.fakes import heard
from vmcp.config.load import load
from vmcp.server.runtime import Runtime
from vmcp.upstream import stdio
from vmcp.upstream.backend import Backend
from vmcp.upstream.child import Listener, Order
from vmcp.upstream.pool import Pool

GARBAGE = b"\xff\xfe\x00{garbage\r\n"
JSON, EVENTS = b"application/json", b"text/event-stream"
KEPT = ("Connection", "Framer", "Lasting", "Response")
"""Types of which there may be now more, now fewer: connections that wait for the next call."""
FILE = """\
name: acme
groups:
  g:
    backends:
      b:
        {place}
        isolation: session
        timeouts:
          total: 300ms
          tools: {{probe: {{total: 5s}}, work: {brief}, talk: {brief}, ask: {brief}, stuck: {brief}}}
aggregation: {{conflictResolution: priority, conflictResolutionConfig: {{priorityOrder: [b]}}}}
{more}
"""
"""``probe`` alone has time: that the next call is served must not depend on how busy this machine is."""


class Scissors:
    """Lets bytes through to vmcp, but for one place, where it does something else. ``passed`` counts them since ``arm``."""

    def __init__(self) -> None:
        self.passed = 0
        self.struck = False
        self._at: int | None = None
        self._how = ""

    def arm(self, at: int | None, how: str = "") -> None:
        """Strike when ``at`` bytes have passed; None: never."""
        self.passed, self.struck, self._at, self._how = 0, False, at, how

    def take(self, data: bytes) -> tuple[bytes, str]:
        """What passes, and what happens then (empty: nothing)."""
        before, self.passed = self.passed, self.passed + len(data)
        if self._at is None or self._at >= self.passed:
            return data, ""
        cut, how, self._at = self._at - before, self._how, None
        self.struck = True
        if how == "garbage":
            return data[:cut] + GARBAGE + data[cut:], ""
        return data[:cut], how


# --- over HTTP


class HttpStage:
    """Streamable HTTP: a POST is answered with JSON, or with events where there is more than one thing to say."""

    def __init__(self, brain: Brain, scissors: Scissors) -> None:
        self.brain = brain
        self.scissors = scissors
        self.sessions: set[str] = set()
        self._count = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            told = heard(await peer.request())
            if told.verb == "GET":
                await self._send(peer, _head(405, b"text/plain", 0))
            elif told.verb == "DELETE":
                self.sessions.discard(told.headers.get("mcp-session-id", ""))
                await self._send(peer, _head(200, b"text/plain", 0))
            elif not self._knows(told.method, told.headers):
                await self._send(peer, _head(404, b"text/plain", 0))
            elif "id" not in told.message or not told.method:
                await self.brain.hear(told.message, self._nobody)
                await self._send(peer, _head(202, b"text/plain", 0))
            else:
                await self._post(peer, told.message)

    def _knows(self, method: str, headers: Mapping[str, str]) -> bool:
        greets = self.brain.modern or method in ("initialize", "server/discover")
        return greets or headers.get("mcp-session-id") in self.sessions

    async def _nobody(self, message: Json) -> None:
        raise AssertionError(message)

    async def _post(self, peer: Peer, told: Json) -> None:
        """Whoever leaves while he is answered has cancelled, in the one era at least; he waits for nothing in the other."""
        streams, wants = False, told["method"] == "subscriptions/listen" or _talks(told)

        async def say(message: Json) -> None:
            nonlocal streams
            body = json.dumps(message).encode()
            if not wants:
                await self._send(peer, _head(200, JSON, len(body), self._session(told)) + body)
                return
            if not streams:
                streams = True
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                await self._send(peer, head)
            event = b"data: %b\n\n" % body
            end = b"0\r\n\r\n" if "method" not in message else b""
            await self._send(peer, b"%x\r\n%b\r\n%b" % (len(event), event, end))

        loop = asyncio.get_running_loop()
        work, gone = loop.create_task(self.brain.hear(told, say)), loop.create_task(_left(peer))
        try:
            await asyncio.wait({work, gone} if wants or _hangs(told) else {work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() or work.cancelled():
                raise ConnectionError
            work.result()
        finally:
            for task in (work, gone):
                task.cancel()
                await asyncio.wait([task])

    def _session(self, told: Json) -> bytes:
        if self.brain.modern or told["method"] != "initialize":
            return b""
        self._count += 1
        self.sessions.add(f"s{self._count}")
        return b"Mcp-Session-Id: s%d\r\n" % self._count

    async def _send(self, peer: Peer, data: bytes) -> None:
        passes, how = self.scissors.take(data)
        await peer.send(passes)
        if not how:
            return
        if how == "rst":
            peer.reset()
        elif how == "fin":
            peer.close()
        else:
            await peer.gone()
        raise ConnectionError

    def lose(self) -> None:
        """Forget every session."""
        self.sessions.clear()


async def _left(peer: Peer) -> None:
    """Until the client has gone; what it says meanwhile is kept for whoever reads next."""
    while not peer._reader.at_eof():  # noqa: ASYNC110 - to read would be to take
        await asyncio.sleep(0.001)


def _talks(told: Json) -> bool:
    return told["method"] == "tools/call" and told["params"]["name"] in ("talk", "ask")


def _hangs(told: Json) -> bool:
    return told["method"] == "tools/call" and told["params"]["name"] == "stuck"


def _head(status: int, kind: bytes, length: int, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Status\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (status, kind, length, more)


# --- as a child process


class Puppet:
    """A child without a process. It has the face of ``vmcp.upstream.child.Child``."""

    stage: "StdioStage"

    def __init__(self, listener: Listener) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.mute = self.hangs = False
        self._listener = listener
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, order: Order) -> None:
        """It runs."""
        self.pid = 1
        self.stage.living.append(self)

    @property
    def deaf(self) -> bool:
        """Whether it hears nothing any more."""
        return self.returncode is not None

    def write(self, data: bytes) -> None:
        """A message for it."""
        task = asyncio.get_running_loop().create_task(self.stage.brain.hear(json.loads(data), self._say))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _say(self, message: Json) -> None:
        await asyncio.sleep(0)
        if self.returncode is not None or self.mute or self.hangs:
            return
        line = json.dumps(message).encode() + b"\n"
        passes, how = self.stage.scissors.take(line)
        if how == "short":
            passes += b"\n"
        if passes:
            self._listener.pipe_data_received(1, passes)
        if how == "mute":
            self.mute = True
            self._listener.pipe_connection_lost(1)
        elif how == "die":
            self.end(-9)

    def end(self, code: int) -> None:
        """It is gone, and its streams with it."""
        if self.returncode is None:
            self.returncode = code
            self.stage.living.remove(self)
            for task in self._tasks:
                task.cancel()
            if not self.mute:
                self.mute = True
                self._listener.pipe_connection_lost(1)
            self._listener.process_exited()
            self._over.set()

    def kill(self) -> None:
        """End it."""
        asyncio.get_running_loop().call_soon(self.end, -9)

    def leave(self) -> None:
        """Its input is closed: it goes by itself."""
        asyncio.get_running_loop().call_soon(self.end, 0)

    async def gone(self, seconds: float) -> bool:
        """Wait until it is."""
        async with asyncio.timeout(seconds):
            await self._over.wait()
        return True

    def drop(self) -> None:
        """Nothing is open."""


@dataclass
class StdioStage:
    """Where puppets play."""

    brain: Brain
    scissors: Scissors
    living: list[Puppet] = field(default_factory=list)

    def lose(self) -> None:
        """All of them die."""
        for child in list(self.living):
            child.end(-9)


# --- the house


class World:
    """A house whose one backend is ``b``."""

    def __init__(self, running: Runtime, brain: Brain, scissors: Scissors, stage: "HttpStage | StdioStage") -> None:
        self.running = running
        self.brain = brain
        self.scissors = scissors
        self.stage = stage

    @property
    def backend(self) -> Backend:
        """The backend."""
        found = self.running.backends["b"]
        assert isinstance(found, Backend)
        return found

    def pools(self) -> list[Pool]:
        """Of the backend."""
        return list(self.backend._connector._pools.values())

    def in_flight(self) -> dict[str, int]:
        """What is underway, by where it is counted; nothing but zeros when nobody asks anything."""
        sessions = self.running._sessions._sessions.values()
        lasting = {id_ for link in self._links() for id_, ask in link._asks.items() if ask.lasting}
        return {
            "calls of sessions": sum(len(session.calls) for session in sessions),
            "questions to clients": sum(len(session.voice._pending) for session in sessions),
            "uses": self.running.current.uses.count,
            "parked": len(self.running._fixtures.parking),
            "asks": sum(len(link._asks) for link in self._links()) - len(lasting),
            "questions": sum(len(link._answering.open) for link in self._links()),
            "pending": sum(
                len(wire._pending) for wire in self.backend._connector._wires if isinstance(wire, stdio.Inbox)
            )
            - (len(lasting) if isinstance(self.stage, StdioStage) else 0),
            "used rooms": sum(room.uses for room in self.backend._links._rooms.values()),
            "connections": sum(pool.active for pool in self.pools() if pool._spec.max_size < 1024),
            "waiting": sum(pool.waiting for pool in self.pools()),
        }

    def _links(self) -> list[Any]:
        private = [room.link for room in self.backend._links._rooms.values() if room.link is not None]
        return [*private, *([self.backend.link] if self.backend.link is not None else [])]

    async def up(self) -> None:
        """Wait until the backend is there and listed."""
        await until(self._up, lambda: self.backend.status)

    def _up(self) -> bool:
        dead = isinstance(self.stage, StdioStage) and any(child.mute for child in self.stage.living)
        return not dead and self.backend.status.state == "up" and not self.running.table.faces["/mcp"].missing


@contextlib.asynccontextmanager
async def world(
    monkeypatch: pytest.MonkeyPatch, transport: str, revision: str, limit: str = "40ms", more: str = "", pool: int = 64
) -> AsyncIterator[World]:
    """A house that is up. ``limit``: of every tool but ``probe``; ``more``: lines of the file; ``pool``: connections."""
    for module in ("control", "keeper", "links"):
        monkeypatch.setattr(f"vmcp.upstream.{module}.backoff", lambda attempt, jitter: 0.001)
    monkeypatch.setattr("vmcp.upstream.parking.FAREWELL", 0.01)
    monkeypatch.setattr("vmcp.upstream.connector.GREETING", 0.3)
    monkeypatch.setattr("vmcp.upstream.keeper.ANSWER", 0.1)
    monkeypatch.setattr(stdio, "LINGER", 0.005)
    monkeypatch.setattr("vmcp.upstream.control.LISTING", 0.3)
    brain, scissors = Brain(revision), Scissors()
    async with contextlib.AsyncExitStack() as stack:
        if transport == "http":
            stage: HttpStage | StdioStage = HttpStage(brain, scissors)
            port = (await stack.enter_async_context(serving(stage))).port  # type: ignore[arg-type]
            place = f'url: "http://127.0.0.1:{port}/mcp"\n        pool: {{maxSize: {pool}}}'
        else:
            stage = StdioStage(brain, scissors)
            monkeypatch.setattr(stdio, "Child", type("Puppet", (Puppet,), {"stage": stage}))
            place = "command: [puppet]"
        config, _ = load([("vmcp.yaml", FILE.format(place=place, brief=f"{{total: {limit}}}", more=more))], {})
        running = await stack.enter_async_context(Runtime(config))
        running._fixtures.parking.patience = 0.05
        found = World(running, brain, scissors, stage)
        await found.up()
        yield found


async def until(condition: Callable[[], object], told: Callable[[], object] = str) -> None:
    """Wait until it holds, at most five seconds."""
    try:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - whatever a test can see
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"not within 5 s: {told()}") from None


# --- what lives


class Census:
    """Counts the living objects of vmcp's own types that were made since it began, and the tasks."""

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.unfreeze()

    @staticmethod
    def count() -> Counter[str]:
        """By type."""
        gc.collect()
        kinds = Counter(map(type, gc.get_objects()))
        found = Counter(
            {
                f"{kind.__module__}.{kind.__name__}": count
                for kind, count in kinds.items()
                if kind.__module__.startswith("vmcp.") and kind.__name__ not in KEPT
            }
        )
        for task in asyncio.all_tasks():
            code = getattr(task.get_coro(), "cr_code", None)
            if code is not None and "/vmcp/" in code.co_filename and not task.done():
                found[f"task {task.get_name()}" if "/" in task.get_name() else f"task {code.co_qualname}"] += 1
        return found
