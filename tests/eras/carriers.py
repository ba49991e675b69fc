"""The four transports of the clients.

The rule: a carrier reads everything that comes and interprets nothing but which reply belongs to which request.
"""

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.eras.http1 import LIMIT, Head, Pool, body, dumps, events
from tests.eras.world import MODERN, Json

NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
BOTH = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
Spawn = Callable[[Any], asyncio.Task[None]]


def _ignore(message: Json) -> None:
    """Nobody listens yet."""


class Carrier(Protocol):
    """A transport. What is no reply goes to ``heard``."""

    heard: Callable[[Json], None]
    aborts: bool
    """Whether a request of 2026-07-28 is cancelled by leaving it, without a word."""

    async def open(self) -> None: ...
    async def exchange(self, message: Json) -> Json: ...
    async def tell(self, message: Json) -> None: ...
    def ready(self, revision: str) -> None: ...
    async def close(self) -> None: ...


def modern_headers(message: Json) -> dict[str, str]:
    """What 2026-07-28 repeats of a message in headers."""
    told = {"MCP-Protocol-Version": MODERN, "Mcp-Method": message["method"]}
    named = NAMED.get(message["method"])
    if named:
        value = message["params"][named]
        plain = value.isascii() and value.isprintable()
        told["Mcp-Name"] = value if plain else f"=?base64?{base64.b64encode(value.encode()).decode()}?="
    return told


class StatusError(AssertionError):
    """An HTTP answer that is no MCP message."""


class Streamable:
    """Streamable HTTP: a POST for each message; a session and its GET stream before 2026-07-28."""

    aborts = True

    def __init__(self, port: int, path: str, revision: str, spawn: Spawn) -> None:
        self.heard: Callable[[Json], None] = _ignore
        self.revision, self.modern = revision, revision == MODERN
        self.session: str | None = None
        self._pool, self._path, self._spawn = Pool(port), path, spawn
        self._greeted = False
        self._standing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Nothing: the first POST opens."""

    def ready(self, revision: str) -> None:
        self._greeted = True
        self._standing = self._spawn(self._stand())

    def _headers(self, message: Json | None) -> dict[str, str]:
        if self.modern:
            return modern_headers(message) if message else {}
        told = {"Mcp-Session-Id": self.session} if self.session else {}
        younger = self._greeted and self.revision not in ("2024-11-05", "2025-03-26")
        return told | ({"MCP-Protocol-Version": self.revision} if younger else {})

    async def exchange(self, message: Json) -> Json:
        headers = BOTH | self._headers(message)
        async with self._pool.exchange("POST", self._path, headers, dumps(message)) as (head, reader):
            self.session = head.headers.get("mcp-session-id", self.session)
            if head.headers.get("content-type", "").startswith("text/event-stream"):
                return await self._stream(message["id"], head, reader)
            text = await body(reader, head)
        if not text.startswith(b"{"):
            raise StatusError(f"{head.words} {text[:300]!r}")
        return dict(json.loads(text))

    async def _stream(self, number: Any, head: Head, reader: asyncio.StreamReader) -> Json:
        reply: Json | None = None
        async for event in events(reader, head):
            if not event.data:
                continue
            message = json.loads(event.data)
            if "method" in message:
                assert reply is None, f"after the reply: {message}"
                self.heard(message)
            else:
                reply = message
        assert reply is not None, f"the stream of request {number} ended without a reply"
        return reply

    async def tell(self, message: Json) -> None:
        headers = BOTH | self._headers(message if "method" in message else None)
        async with self._pool.exchange("POST", self._path, headers, dumps(message)) as (head, reader):
            text = await body(reader, head)
        if head.words[1] != "202":
            raise StatusError(f"{head.words} {text[:300]!r} to {message}")

    async def _stand(self) -> None:
        """Hold the GET stream."""
        headers = {"Accept": "text/event-stream"} | self._headers(None)
        async with self._pool.exchange("GET", self._path, headers) as (head, reader):
            if head.words[1] == "405":
                return
            if head.words[1] != "200":
                raise StatusError(f"GET: {head.words}")
            async for event in events(reader, head):
                if event.data:
                    self.heard(json.loads(event.data))

    async def close(self) -> None:
        if self._standing is not None:
            self._standing.cancel()
            await asyncio.wait([self._standing])
        if self.session is not None:
            with contextlib.suppress(ConnectionError):
                async with self._pool.exchange("DELETE", self._path, self._headers(None)) as (head, reader):
                    await body(reader, head)
        self._pool.close()


class TwoWay:
    """What the two-way transports share: replies are found by their id."""

    aborts = False

    def __init__(self, spawn: Spawn) -> None:
        self.heard: Callable[[Json], None] = _ignore
        self._spawn = spawn
        self.waiting: dict[Any, asyncio.Future[Json]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.write: Callable[[bytes], Awaitable[None]]

    def ready(self, revision: str) -> None:
        """Nothing more is needed."""

    def took(self, text: str | bytes) -> None:
        """One message came."""
        message = json.loads(text)
        if "method" in message:
            self.heard(message)
            return
        waiting = self.waiting.pop(message["id"], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def exchange(self, message: Json) -> Json:
        waiting: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self.waiting[message["id"]] = waiting
        await self.write(dumps(message))
        try:
            return await waiting
        finally:
            self.waiting.pop(message["id"], None)

    async def tell(self, message: Json) -> None:
        await self.write(dumps(message))

    def ended(self, why: str) -> None:
        """Nothing comes any more."""
        for waiting in self.waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError(why))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class LegacySse(TwoWay):
    """HTTP+SSE of 2024-11-05."""

    def __init__(self, port: int, path: str, spawn: Spawn) -> None:
        super().__init__(spawn)
        self._pool, self._path = Pool(port), path
        self._endpoint: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.write = self._post

    async def open(self) -> None:
        self._tasks.append(self._spawn(self._read()))
        async with asyncio.timeout(20):
            await self._endpoint

    @property
    def endpoint(self) -> str:
        """Where messages are to be posted."""
        return self._endpoint.result()

    async def _read(self) -> None:
        async with self._pool.exchange("GET", self._path, {"Accept": "text/event-stream"}) as (head, reader):
            if head.words[1] != "200":
                self._endpoint.set_exception(StatusError(f"GET {self._path}: {head.words}"))
                return
            async for event in events(reader, head):
                if event.kind == "endpoint":
                    self._endpoint.set_result(event.data)
                elif event.data:
                    self.took(event.data)
        self.ended("the stream ended")

    async def _post(self, text: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        async with self._pool.exchange("POST", self.endpoint, headers, text) as (head, reader):
            said = await body(reader, head)
        if head.words[1] != "202":
            raise StatusError(f"POST {self.endpoint}: {head.words} {said[:300]!r}")

    async def close(self) -> None:
        await super().close()
        self._pool.close()


class WebSocket(TwoWay):
    """One text frame a message."""

    def __init__(self, port: int, path: str, spawn: Spawn) -> None:
        super().__init__(spawn)
        self._url = f"ws://127.0.0.1:{port}{path}"
        self._connection: ClientConnection | None = None

    async def open(self) -> None:
        self._connection = await connect(
            self._url, subprotocols=[Subprotocol("mcp")], compression=None, max_size=LIMIT, proxy=None
        )
        self.write = self._send
        self._tasks.append(self._spawn(self._read(self._connection)))

    async def _read(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                assert isinstance(text, str), "a binary frame"
                self.took(text)
        self.ended(f"closed: {connection.close_code} {connection.close_reason}")

    async def _send(self, text: bytes) -> None:
        assert self._connection is not None
        await self._connection.send(text.decode())

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        await super().close()


class Stdio(TwoWay):
    """A process and its standard streams."""

    def __init__(self, command: Sequence[str], spawn: Spawn, log: Path | None = None) -> None:
        super().__init__(spawn)
        self._command, self._log = command, log
        self.process: asyncio.subprocess.Process | None = None

    async def open(self) -> None:
        pipe = asyncio.subprocess.PIPE
        with (self._log or Path(os.devnull)).open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, stderr=errors, limit=LIMIT
            )
        self.write = self._send
        self._tasks.append(self._spawn(self._read(self.process)))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self.took(line)
        self.ended("the process closed its standard output")

    async def _send(self, text: bytes) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(text + b"\n")
        await self.process.stdin.drain()

    async def close(self) -> None:
        """End of input; the process must go by itself, within seconds."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(10):
                code = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            raise AssertionError("the process did not end with its input") from None
        finally:
            await super().close()
        said = self._log.read_text("utf-8")[-3000:] if self._log is not None else ""
        assert code == 0, f"exit code {code}\n{said}"
