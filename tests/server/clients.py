"""Clients: one that speaks ASGI to the application, one of raw bytes on a socket.

Rule: what comes back is kept as the bytes that came back; only a test interprets them.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from uvicorn.server import ServerState

from tests.server.peers import config, until
from vmcp.call import Call, Complete, Handler, Outcome
from vmcp.config.model import Config, Limits
from vmcp.protocol import envelope, sse
from vmcp.protocol.revisions import MODERN, REQUESTS, Revision
from vmcp.routing.build import build
from vmcp.server import serving
from vmcp.server.app import App
from vmcp.server.asgi import Scope
from vmcp.server.exchange import Exchange
from vmcp.server.gate import Gate
from vmcp.server.http import StreamableHttp
from vmcp.server.listener import GONE, LEAVES
from vmcp.server.load import Load
from vmcp.server.pulse import Pulse
from vmcp.server.sessions import Session, Sessions
from vmcp.tasks import Nest

Json = dict[str, Any]
_NAME = re.compile(rb',?"requestId":"[0-9a-f]{16}"')


def unnamed(body: bytes) -> bytes:
    """An answer without what is different in each that failed."""
    return _NAME.sub(b"", body)


def plain(error: Json) -> Json:
    """An error without the same."""
    return {**error, "data": {key: value for key, value in error["data"].items() if key != "requestId"}}


@dataclass
class Answer:
    """One HTTP response."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Json:
        told: Json = self.json()["error"]
        return told

    @property
    def result(self) -> Json:
        told: Json = self.message["result"]
        return told

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    def events(self) -> list[Json]:
        """The messages of an event stream."""
        parser = sse.Parser()
        return [json.loads(event.data) for event in parser.feed(self.body) if event.data]

    @property
    def message(self) -> Json:
        """The reply, however it came."""
        told: Json = self.events()[-1] if self.streamed else self.json()
        return told


class Exchanged:
    """One request through ASGI while it runs: what was sent so far, and a way to go away."""

    def __init__(self, app: Any, scope: Scope, body: bytes) -> None:
        self.answer = Answer()
        self._app = app
        self._scope = scope
        self._incoming = [{"type": "http.request", "body": body, "more_body": False}]
        self.gone = False

    async def _receive(self) -> Json:
        return self._incoming.pop(0) if self._incoming else {"type": "http.disconnect"}

    async def _send(self, message: Json) -> None:
        if self.gone:
            return
        if message["type"] == "http.response.start":
            assert not self.answer.status, "two answers to one request"
            self.answer.status = message["status"]
            self.answer.headers = {key.decode(): value.decode("latin-1") for key, value in message["headers"]}
        else:
            assert self.answer.status, "a body without a head"
            self.answer.body += message["body"]
            self.answer.chunks.append(message["body"])

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Exchanged"]:
        """While the block runs, so does the request; then its client goes away, as the listener would tell."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.run())
            try:
                yield self
            finally:
                if self._scope.get(LEAVES):
                    self._scope[GONE] = True
                    task.cancel()

    def heard(self) -> list[Json]:
        """The messages so far."""
        return self.answer.events()

    def ids(self) -> list[str]:
        """The event ids so far."""
        return [event.id.decode() for event in sse.Parser().feed(self.answer.body)]


class Door:
    """An MCP client of one revision through ASGI, as SDKs behave."""

    def __init__(self, app: Any, revision: Revision = MODERN, path: str = "/mcp") -> None:
        self.app = app
        self.revision = revision
        self.path = path
        self.session: str | None = None
        self.accept = "application/json, text/event-stream"

    async def http(self, method: str, path: str | None = None, body: bytes = b"", **headers: str | None) -> Answer:
        exchanged = self.begin(method, path, body, **headers)
        async with asyncio.timeout(5):
            await exchanged.run()
        return exchanged.answer

    def begin(self, method: str, path: str | None = None, body: bytes = b"", **headers: str | None) -> Exchanged:
        return Exchanged(self.app, self.scope(method, path, **headers), body)

    def scope(self, method: str, path: str | None = None, **headers: str | None) -> Scope:
        usual: dict[str, str | None] = {"host": "localhost"}
        if method == "POST":
            usual |= {"content_type": "application/json", "accept": self.accept}
        if self.session is not None:
            usual |= {"mcp_session_id": self.session, "mcp_protocol_version": str(self.revision)}
        given = {**usual, **headers}
        return {
            "type": "http",
            "method": method,
            "raw_path": (path or self.path).encode(),
            "headers": tuple(
                (key.replace("_", "-").encode(), value.encode("latin-1"))
                for key, value in given.items()
                if value is not None
            ),
        }

    async def post(self, body: bytes | object, **headers: str | None) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        return await self.http("POST", None, raw, **headers)

    def message(self, method: str, params: Json | None = None, id: object = 1) -> tuple[bytes, dict[str, str | None]]:
        """A request in the words of the revision, and its headers."""
        given = dict(params or {})
        headers: dict[str, str | None] = {}
        if self.revision.modern:
            given["_meta"] = {**modern_meta(), **given.get("_meta", {})}
            headers = {"mcp_protocol_version": str(MODERN), "mcp_method": method}
            key = REQUESTS[method].name_key if method in REQUESTS else None
            if key and isinstance(given.get(key), str):
                headers["mcp_name"] = envelope.encode_value(given[key])
        raw = json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": given}, ensure_ascii=False).encode()
        return raw, headers

    async def ask(self, method: str, params: Json | None = None, id: object = 1, **headers: str | None) -> Answer:
        raw, own = self.message(method, params, id)
        return await self.post(raw, **{**own, **headers})

    async def call(self, name: str, arguments: Json | None = None, **headers: str | None) -> Answer:
        return await self.ask("tools/call", {"name": name, "arguments": arguments or {}}, **headers)

    def listen(self, last: str | None = None, **headers: str | None) -> Exchanged:
        """A GET for a standing stream, or for what followed the event ``last``."""
        return self.begin("GET", None, accept="text/event-stream", last_event_id=last, **headers)

    def calling(self, id: object = 1, **arguments: Any) -> Exchanged:
        """A tools/call that has not begun."""
        raw, own = self.message("tools/call", {"name": "t", "arguments": arguments}, id)
        return self.begin("POST", None, raw, **own)

    async def tell(self, method: str, params: Json | None = None) -> Answer:
        """Send a notification within the session."""
        return await self.post({"jsonrpc": "2.0", "method": method, "params": params or {}})

    async def reply(self, id: object, result: Json | None = None, error: Json | None = None) -> Answer:
        """Answer a question."""
        told = {"result": result} if error is None else {"error": error}
        return await self.post({"jsonrpc": "2.0", "id": id, **told})

    async def initialize(self, version: str | None = None, **params: Any) -> Answer:
        """Begin a session, if the revision has them."""
        if self.revision.modern:
            return await self.ask("server/discover")
        asked = {"protocolVersion": version or str(self.revision), "capabilities": {}, **params}
        answer = await self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": asked})
        self.session = answer.headers.get("mcp-session-id")
        return answer


def modern_meta() -> Json:
    return {
        envelope.VERSION: str(MODERN),
        envelope.CLIENT_INFO: {"name": "test", "version": "1"},
        envelope.CAPABILITIES: {},
    }


class Raw:
    """A client of raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    async def response(self, *, head: bool = False) -> Answer:
        """The next response, whole."""
        async with asyncio.timeout(5):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            answer = Answer(int(lines[0].split(" ")[1]))
            answer.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:-2])}
            if head or answer.status in (204, 100):
                return answer
            if answer.headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    answer.body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
            else:
                answer.body = await self.reader.readexactly(int(answer.headers.get("content-length", "0")))
            return answer

    async def rest(self) -> bytes:
        """All that still comes until the server closes."""
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(-1)
            return b""

    def close(self) -> None:
        self.writer.transport.abort()


class Listening:
    """A listener on a free port with an application behind it."""

    def __init__(self, port: int, state: ServerState, settings: Any) -> None:
        self.port = port
        self.settings = settings
        self.protocol = settings.http_protocol_class
        self.state = state
        self._raws: list[Raw] = []

    async def connect(self) -> Raw:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port))
        self._raws.append(raw)
        return raw

    async def say(self, *pieces: bytes) -> Raw:
        """Connect and send."""
        raw = await self.connect()
        raw.send(*pieces)
        return raw

    def leave(self) -> None:
        for raw in self._raws:
            raw.close()


class Front:
    """The door of a house with nothing behind it but a function. It is also the hub and the runtime that the door asks."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self.config = config({}, limits=limits)
        self.table = build(0, self.config, {})
        self.settled = asyncio.Event()
        self.settled.set()
        self.nest = Nest("front")
        self.pulse = Pulse(self.nest)
        self.ended: list[Session] = []
        self.ears: dict[str, Session] = {}
        self.sessions = Sessions(limits or Limits(), asyncio.get_running_loop().time, self.ended.append)
        http = StreamableHttp(
            Exchange(_greeted(handler), self, 5.0), self.sessions, limits or Limits(), self.pulse, self
        )
        self.app = App(self.config, self, http, Gate())

    def join(self, session_id: str, ear: Session) -> None:
        self.ears[session_id] = ear

    def readiness(self) -> tuple[bool, Json]:
        return True, {}

    async def door(self, revision: Revision = Revision.V2025_11_25, **capabilities: Json) -> "Door":
        """A client with a session, if its revision has them."""
        door = Door(self.app, revision)
        await door.initialize(capabilities=capabilities)
        return door


def _greeted(handler: Handler) -> Handler:
    async def handle(call: Call) -> Outcome:
        if call.method in ("initialize", "server/discover", "ping", "logging/setLevel"):
            return Complete(b"{}", call.peer.revision)
        return await handler(call)

    return handle


@dataclass
class Behind:
    """What the settings of the listener ask of a runtime: the application."""

    app: Any
    load: Load | None = None


@contextlib.asynccontextmanager
async def listening(app: Any, config: Config) -> AsyncIterator[Listening]:
    """The product's listener in this process, as uvicorn makes it, but without uvicorn's ticking."""
    settings = serving._settings(config, Behind(app))  # type: ignore[arg-type]
    settings.load()
    state = ServerState()
    protocol: Any = settings.http_protocol_class
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=settings, server_state=state, app_state={}, _loop=loop), "127.0.0.1", 0
    )
    found = Listening(server.sockets[0].getsockname()[1], state, settings)
    try:
        yield found
    finally:
        server.close()
        found.leave()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await until(lambda: not (state.tasks or state.connections))
