"""HTTP+SSE of 2024-11-05 towards clients: a GET opens the stream, POSTs beside it say what the client has to say.

The rule: a message gets 202 or is refused, and whatever answers it comes on the stream; the address of the POSTs is as hard to
guess as a session id, and is looked up together with its path.
Source: basic/transports "HTTP with SSE" of 2024-11-05.
"""

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, urlsplit

from vmcp.call import Origin, refine
from vmcp.config.model import Limits, ServerSpec
from vmcp.errors import McpError
from vmcp.protocol import jsonrpc, sse
from vmcp.server import visit
from vmcp.server.asgi import AS_EVENTS, AS_JSON, IDENTITY, ORIGIN, Header, Receive, Refused, Scope, Send, failure
from vmcp.server.duplex import Duplex, Opens
from vmcp.server.expiry import Guests
from vmcp.server.flow import PATIENCE
from vmcp.server.handover import Relay
from vmcp.server.intake import Intake
from vmcp.server.listener import GONE, LEAVES
from vmcp.server.pulse import Pulse
from vmcp.tasks import Nest

_MESSAGES = "text/event-stream", "text/*", "*/*"


def beside(faces: Iterable[str], place: str) -> dict[bytes, str]:
    """The path of every face by the path at which another transport serves it: ``/mcp`` by ``/sse``, ``/a/mcp`` by ``/a/sse``."""
    return {f"{face.removesuffix('/mcp')}{place}".encode(): face for face in faces}


class LegacySse:
    """Serves both endpoints of every face. Mutable: it has the open streams."""

    def __init__(
        self, limits: Limits, opens: Opens, pulse: Pulse, nest: Nest, guests: Guests, relay: Relay | None = None
    ) -> None:
        self._relay = relay
        self._streams: Mapping[bytes, str] = {}
        self._messages: Mapping[bytes, str] = {}
        self._posts: Mapping[str, str] = {}
        self._limits = limits
        self._intake = Intake(limits)
        self._opens = opens
        self._pulse = pulse
        self._nest = nest
        self._guests = guests
        self._open: dict[str, tuple[Duplex, Outlet]] = {}
        self._draining = False

    def place(self, faces: Iterable[str], spec: ServerSpec) -> None:
        """From now on these faces are served, where the configuration says."""
        self._streams = beside(faces, spec.paths.sse)
        self._messages = beside(self._streams.values(), spec.paths.message)
        self._posts = {face: self._public(spec.public_url, raw) for raw, face in self._messages.items()}

    def _public(self, url: str | None, raw: bytes) -> str:
        """The path under which clients reach ``raw``, also behind a proxy that serves us below a path of its own."""
        return (urlsplit(url).path.rstrip("/") if url else "") + raw.decode()

    def serves(self, raw_path: bytes) -> bool:
        """Whether a path is one of ours."""
        return raw_path in self._streams or raw_path in self._messages

    async def serve(
        self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        """Answer one HTTP request. Raises ``Refused``."""
        raw = scope["raw_path"]
        face, said_to = self._streams.get(raw), self._messages.get(raw)
        if said_to is not None:
            await self._post(scope, headers, said_to, receive, send, extra)
        elif face is None:
            raise Refused(404, "this endpoint is not served any more")
        elif scope["method"] == "GET":
            await self._get(scope, headers, face, send, extra)
        else:
            # Clients that try streamable HTTP first go on to GET at this very answer.
            raise Refused(405, "this endpoint is HTTP+SSE of 2024-11-05 and takes GET", [(b"allow", b"GET")])

    def drain(self) -> None:
        """The server is stopping: open no more streams, and end each once its calls are answered."""
        self._draining = True
        for line, outlet in list(self._open.values()):
            self._nest.start(self._part(line, outlet), "farewell")

    async def _part(self, line: Duplex, outlet: "Outlet") -> None:
        await line.settle(self._limits.shutdown_grace)
        outlet.over.set()

    # --- the stream

    async def _get(self, scope: Scope, headers: Mapping[str, str], face: str, send: Send, extra: list[Header]) -> None:
        accept = headers.get("accept", "*/*")
        if not any(media in accept for media in _MESSAGES):
            raise Refused(406, "a GET here gives an event stream; the Accept header must have text/event-stream")
        if self._draining or len(self._open) >= self._limits.sessions:
            raise Refused(503, "no connection can be opened now; try again later", [(b"retry-after", b"5")])
        scope[LEAVES] = True
        place = self._posts[face]
        outlet = Outlet(send, self._pulse, self._limits.write_stall)
        id_ = secrets.token_urlsafe(32)
        if self._relay is not None:
            id_ = self._relay.mark(id_)
        try:
            async with self._opens(face, outlet.write, modern=False) as line:
                line.origin = _origin(scope)
                line.identity = scope.get(IDENTITY)
                line.hang_up = outlet.over.set
                self._open[id_] = line, outlet
                with self._guests.stay(face, lambda: line.identity, outlet.over.set):
                    await outlet.begin(f"{place}?sessionId={id_}".encode(), extra)
                    await outlet.over.wait()
        except asyncio.CancelledError:
            if GONE not in scope:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        finally:
            self._open.pop(id_, None)
            outlet.leave()
        await outlet.end()

    # --- what the client says

    async def _post(
        self, scope: Scope, headers: Mapping[str, str], face: str, receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        if scope["method"] != "POST":
            raise Refused(405, "messages are sent here with POST", [(b"allow", b"POST")])
        body = await self._intake.read(headers, receive)
        id_ = _said(scope)
        if self._relay is not None and await self._relay.passes(scope, body, id_):
            return
        line = self._find(scope, face, id_)
        try:
            incoming = line.read(body)
        except McpError as error:
            await _answer(send, 400, [*AS_JSON, *extra], failure(jsonrpc.NULL, error, scope))
            return
        await line.accept(incoming)
        await _answer(send, 202, [(b"content-type", b"text/plain"), *extra], b"Accepted")

    def _find(self, scope: Scope, face: str, id_: str) -> Duplex:
        line, _ = self._open.get(id_, (None, None))
        identity = scope.get(IDENTITY)
        if line is None or line.path != face or visit.owner(line.identity) != visit.owner(identity):
            raise Refused(404, "this session is not known (any more); begin again with a GET")
        line.identity = identity
        return line


def _said(scope: Scope) -> str:
    """The id of the stream that a message is for; empty when there is none, or several."""
    said = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8).get("sessionId", [""])
    return said[0] if len(said) == 1 else ""


def _origin(scope: Scope) -> Origin | None:
    """Where the calls on a stream come from: from where the stream was asked for."""
    origin: Origin | None = scope.get(ORIGIN)
    return refine(origin, transport="sse") if origin is not None else None


class Outlet:
    """The event stream of one client. ``over`` is set when there is nothing more to say, or nobody who reads it."""

    def __init__(self, send: Send, pulse: Pulse, patience: float = PATIENCE) -> None:
        self._patience = patience
        self.over = asyncio.Event()
        self.spoke = 0.0
        self._send = send
        self._pulse = pulse
        self._turn = asyncio.Lock()
        self._stuck = False

    async def begin(self, endpoint: bytes, extra: list[Header]) -> None:
        """Say where messages go."""
        await self._send({"type": "http.response.start", "status": 200, "headers": [*AS_EVENTS, *extra]})
        await self._say(sse.encode(endpoint, event=b"endpoint"))
        self._pulse.streams.add(self)

    async def write(self, text: bytes) -> None:
        """See ``duplex.Write``."""
        await self._say(sse.encode(text))

    async def breathe(self) -> None:
        """See ``Breathing``."""
        await self._say(sse.comment(b""))

    async def _say(self, text: bytes) -> None:
        self.spoke = asyncio.get_running_loop().time()
        try:
            # One at a time: all who wait for a slow client would write at once as soon as it reads.
            async with self._turn, asyncio.timeout(self._patience):
                if not self.over.is_set():
                    await self._send({"type": "http.response.body", "body": text, "more_body": True})
        except TimeoutError:
            self._stuck = True
            self.over.set()

    def leave(self) -> None:
        """Nothing more will be said."""
        self.over.set()
        self._pulse.streams.discard(self)

    async def end(self) -> None:
        """End the response; one that the client does not read is left without an end, so that its connection is closed."""
        if not self._stuck:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


async def _answer(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
