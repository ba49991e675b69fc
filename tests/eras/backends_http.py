"""The servers of ``world.py`` over HTTP: streamable HTTP as each revision has it, and HTTP+SSE.

The rule: as strict as the specification lets a server be; what is refused is also complained of.
"""

import asyncio
import base64
import contextlib
import json
import uuid
from asyncio import StreamReaderProtocol
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.eras.http1 import LIMIT, Head, body, dumps, head_text, read_head
from tests.eras.world import HANDSHAKE, RESERVED, Json, Session, World

NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
NAMED |= dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId")
STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}


class RefusedError(Exception):
    """A status instead of an answer: with a complaint, with an ``error``, or (``{}``) with words that are no JSON."""

    def __init__(self, status: int, why: str, error: Json | None = None, id: Any = None) -> None:
        super().__init__(status, why)
        self.status, self.why, self.error, self.id = status, why, error, id


class Reader(asyncio.StreamReader):
    """A reader that says when the client has closed its end, without reading."""

    def __init__(self) -> None:
        super().__init__(limit=LIMIT)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: BaseException) -> None:
        super().set_exception(exc)
        self.ended.set()


async def drained(writer: asyncio.StreamWriter) -> None:
    """Until the client has taken what was sent, or has gone."""
    with contextlib.suppress(ConnectionError):
        await writer.drain()


class Reply:
    """The answer to one HTTP request: JSON when nothing comes before it, else a stream."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer, self.streaming, self.over = writer, False, False

    def _write(self, data: bytes) -> None:
        if not self.writer.is_closing():  # else the client has gone, and hears nothing
            self.writer.write(data)

    def whole(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"} if content else {}
        told = {"Content-Length": str(len(content)), **kind, **(headers or {})}
        self._write(head_text(f"HTTP/1.1 {status} x", told) + content)
        self.over = True

    def open(self, headers: Mapping[str, str] | None = None) -> None:
        told = {**STREAM, "Transfer-Encoding": "chunked", **(headers or {})}
        self._write(head_text("HTTP/1.1 200 OK", told))
        self.streaming = True

    def event(self, data: bytes, kind: str = "message", id: str = "", retry: int = 0) -> None:
        head = f"id: {id}\nretry: {retry}\n" if id else f"event: {kind}\n"
        text = b"%bdata: %b\n\n" % (head.encode(), data)
        self._write(b"%x\r\n%b\r\n" % (len(text), text))

    def end(self) -> None:
        if self.streaming and not self.over:
            self._write(b"0\r\n\r\n")
        elif not self.over:
            self.whole(202)
        self.over = True

    async def message(self, message: Json, headers: Mapping[str, str] | None = None) -> None:
        """One message: the reply itself as JSON if it is the first."""
        if "method" not in message and not self.streaming:
            error = message.get("error", {}).get("code")
            status = {-32601: 404, -32020: 400, -32021: 400, -32022: 400}.get(error, 200) if headers is None else 200
            self.whole(status, dumps(message), headers)
            return
        if not self.streaming:
            self.open(headers)
        self.event(dumps(message))
        if "method" not in message:
            self.end()
        await drained(self.writer)


class HttpBackends:
    """All worlds that are reached by HTTP, on one port: ``/<world>/mcp``, ``/<world>/sse``."""

    def __init__(self, worlds: Mapping[str, World]) -> None:
        self.worlds = worlds
        self.sessions: dict[str, Session] = {}
        self.port = 0
        self.kept: dict[str, Json] = {}
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[int]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: StreamReaderProtocol(Reader(), self._connection), "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self.port
        finally:
            server.close()
            for writer in list(self._open):
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def _connection(self, reader: Reader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while (head := await read_head(reader)) is not None:
                content = await body(reader, head)
                await self._one(head, content, reader, Reply(writer))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()
            self._open.discard(writer)

    async def _one(self, head: Head, content: bytes, reader: Reader, reply: Reply) -> None:
        """One request; the connection is at its end when the client leaves meanwhile."""
        verb, path, _ = head.words
        name, _, place = path.removeprefix("/").partition("/")
        world = self.worlds.get(name)
        try:
            if world is None or place.partition("?")[0] not in ("mcp", "sse", "message"):
                raise RefusedError(404, f"no such place {path}")
            answer = self._place(world, verb, place, head, content, reply)
            gone = reader.ended.wait() if verb == "GET" or world.modern else None
            await _until(answer, gone)
        except RefusedError as refused:
            if world is not None and refused.error is None:
                world.complain(f"{verb} {path}: {refused.status} {refused.why}")
            error = refused.error or {"code": -32600, "message": refused.why}
            told, kind = dumps({"jsonrpc": "2.0", "id": refused.id, "error": error}), "application/json"
            if refused.error == {}:
                told, kind = refused.why.encode(), "text/plain"
            reply.whole(refused.status, told, {"Content-Type": kind})
        reply.end()

    async def _place(self, world: World, verb: str, place: str, head: Head, content: bytes, reply: Reply) -> None:
        if place == "sse" and verb == "GET":
            await self._sse_stream(world, reply)
        elif place.startswith("message"):
            await self._sse_message(world, place, content, reply)
        elif place == "sse":
            raise RefusedError(405, "GET only", {})
        elif world.modern:
            await self._modern(world, verb, head, content, reply)
        elif verb == "POST":
            await self._post(world, head, content, reply)
        elif verb == "GET":
            session = self._session(head)
            reply.open()
            if "last-event-id" in head.headers:
                reply.event(dumps(self.kept.pop(head.headers["last-event-id"])))
            else:
                await _standing(session, reply)
        else:
            world.leaves(self._session(head))
            del self.sessions[head.headers["mcp-session-id"]]
            reply.whole(200)

    # -- streamable HTTP of the handshake revisions ---------------------------------------------------------------------

    def _session(self, head: Head) -> Session:
        said = head.headers.get("mcp-session-id")
        if said is None:
            raise RefusedError(400, "no session id")
        if said not in self.sessions:
            raise RefusedError(404, "no such session", {"code": -32600, "message": "Session not found"})
        return self.sessions[said]

    async def _post(self, world: World, head: Head, content: bytes, reply: Reply) -> None:
        accept = head.headers.get("accept", "")
        if "application/json" not in accept or "text/event-stream" not in accept:
            raise RefusedError(406, f"Accept: {accept}")
        if head.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise RefusedError(415, "Content-Type")
        message = json.loads(content)
        if message.get("method") == "server/discover":
            raise RefusedError(400, "no session", {"code": -32600, "message": "Bad Request: Missing session ID"})
        headers: dict[str, str] = {}
        if message.get("method") == "initialize":
            session, name = Session(), uuid.uuid4().hex
            self.sessions[name] = session
            headers["Mcp-Session-Id"] = name
        else:
            session = self._session(head)
            said = head.headers.get("mcp-protocol-version")
            if world.revision not in HANDSHAKE[:2] and said != world.revision:
                raise RefusedError(400, f"MCP-Protocol-Version: {said}")
        if message.get("params", {}).get("name") == "drop":
            await self._drop(world, session, message, reply)
        else:
            await world.take(session, message, lambda told: reply.message(told, headers))

    async def _drop(self, world: World, session: Session, message: Json, reply: Reply) -> None:
        """Answer, but end the stream before the answer is on it: it is kept for whoever asks with the id of the last event."""
        name = uuid.uuid4().hex

        async def keep(told: Json) -> None:
            self.kept[name] = told

        await world.take(session, message, keep)
        reply.open()
        reply.event(b"", id=name, retry=20)

    # -- 2026-07-28 -----------------------------------------------------------------------------------------------------

    async def _modern(self, world: World, verb: str, head: Head, content: bytes, reply: Reply) -> None:
        if verb != "POST":
            raise RefusedError(405, "POST only", {"code": -32600, "message": "POST only"})
        message = json.loads(content)
        if "id" in message and RESERVED + "protocolVersion" in message.get("params", {}).get("_meta", {}):
            self._check_headers(world, head, message)
        await world.take(Session(), message, reply.message)

    def _check_headers(self, world: World, head: Head, message: Json) -> None:
        params = message["params"]
        wanted: dict[str, Any] = {"mcp-method": message["method"], "mcp-protocol-version": world.revision}
        if message["method"] in NAMED:
            wanted["mcp-name"] = params.get(NAMED[message["method"]])
        for name, value in wanted.items():
            if _plain(head.headers.get(name)) != value:
                error = {"code": -32020, "message": f"{name} is {head.headers.get(name)}, not {value}"}
                world.complain(error["message"])
                raise RefusedError(400, "headers", error, message["id"])

    # -- HTTP+SSE -------------------------------------------------------------------------------------------------------

    async def _sse_stream(self, world: World, reply: Reply) -> None:
        name, session = uuid.uuid4().hex, Session()
        self.sessions[name] = session
        reply.open()
        reply.event(f"/{world.name}/message?session={name}".encode(), "endpoint")
        try:
            await _standing(session, reply)
        finally:
            del self.sessions[name]
            world.leaves(session)
            for task in list(session.running.values()):
                task.cancel()

    async def _sse_message(self, world: World, place: str, content: bytes, reply: Reply) -> None:
        session = self.sessions.get(place.partition("=")[2])
        if session is None:
            raise RefusedError(404, "no such session", {"code": -32600, "message": "Session not found"})
        reply.whole(202)
        for send in session.standing:
            world.spawn(world.take(session, json.loads(content), send))


def _plain(value: str | None) -> str | None:
    """A header value, taken out of its envelope."""
    if value is not None and value.startswith("=?base64?"):
        return base64.b64decode(value[9:-2]).decode()
    return value


async def _standing(session: Session, reply: Reply) -> None:
    """Send what belongs to no request until the client leaves."""

    async def send(message: Json) -> None:
        reply.event(dumps(message))
        await drained(reply.writer)

    session.standing.append(send)
    try:
        await asyncio.Event().wait()
    finally:
        session.standing.remove(send)


async def _until(answer: Any, gone: Any) -> None:
    """Run ``answer`` to its end, but no longer than the client stays."""
    if gone is None:
        await answer
        return
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(answer), loop.create_task(gone)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not tasks[0].cancelled() and tasks[0].exception() is not None:
        raise tasks[0].exception()  # type: ignore[misc]
