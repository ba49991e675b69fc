"""A two-way stream of messages with one client: the loop that stdio, WebSocket and HTTP+SSE share, for both eras.

The rule: a message is one write; a request is one task, and nothing of it is said any more once it is answered or cancelled;
when the stream ends, all that belongs to it ends with it.
Source: basic/transports ("stdio"), basic/utilities/cancellation and basic/lifecycle of all revisions.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from msgspec import Raw

from vmcp.call import Identity, Origin, Peer
from vmcp.config.model import Limits
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.jsonrpc import Incoming, Notification, Reply, Request
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN, Revision
from vmcp.server import visit
from vmcp.server.asgi import failure
from vmcp.server.exchange import Doorway
from vmcp.server.inflight import InFlight
from vmcp.server.sessions import Session, Sessions, wanted
from vmcp.server.voice import Voice
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.server")

MAX_IN_FLIGHT = 256
"""Requests of one client that are worked on at a time."""
MAX_BATCH = 16
MAX_TOLD = 256
"""Notifications of a session that may wait for a client which reads slowly."""

Write = Callable[[bytes], Awaitable[None]]
"""Sends one message; waits while the client does not read, and drops what nobody is there to hear. Never raises."""

_HANDSHAKE = [str(revision) for revision in Revision if not revision.modern]


class Hub(Protocol):
    """Who tells sessions of what happens outside of their calls."""

    def join(self, session_id: str, ear: "Duplex") -> None:
        """Tell ``ear`` from now on."""


class Duplex:
    """One client on a two-way stream; it is also the ear of the client's session. ``modern``: 2026-07-28 is spoken on it too.

    Used as a block: what is in flight when it is left is cancelled, and the session ends.
    """

    def __init__(
        self,
        exchange: Doorway,
        sessions: Sessions,
        hub: Hub,
        limits: Limits,
        path: str,
        write: Write,
        *,
        modern: bool = True,
    ) -> None:
        self.path = path
        self.identity: Identity | None = None
        """Who is at the other end, set by the transport; the same principal may show a newer token."""
        self.origin: Origin | None = None
        """Where the connection comes from, if that is recorded; set by the transport too."""
        self.session: Session | None = None
        self._exchange = exchange
        self._sessions = sessions
        self._hub = hub
        self._limits = limits
        self._write = write
        self._modern = modern
        self._nest = Nest("client")
        self._calls = InFlight()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._told: dict[bytes, None] = {}
        self._telling = False
        self._greeted = False
        self._closed = False
        self.hang_up: Callable[[], None] = _nothing
        """What the transport wants done when the session ends by itself."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel what is in flight and end the session. Harmless when called twice."""
        self._closed = True
        if self.session is not None:
            self._sessions.end(self.session)
        await self._nest.close()

    async def settle(self, patience: float) -> None:
        """Wait until everything is answered, at most ``patience`` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._quiet.wait()
        except TimeoutError:
            log.info("left unanswered", extra={"calls": len(self._calls)})

    # --- what the client says

    async def take(self, text: bytes) -> None:
        """Act on what the client sent; what is no message is answered as such."""
        try:
            incoming = self.read(text)
        except McpError as error:
            await self.refuse(error)
        else:
            await self.accept(incoming)

    async def refuse(self, error: McpError) -> None:
        """Answer something that had no id to answer to."""
        self._exchange.turned_away("", error, self.origin, self.identity)
        await self._write(failure(jsonrpc.NULL, error))

    def read(self, text: bytes) -> Incoming | list[Incoming]:
        """What the client says with ``text``. Raises ``McpError`` for what is no message."""
        return jsonrpc.parse(text, self._limits.json_depth, self._limits.json_nodes)

    async def accept(self, incoming: Incoming | list[Incoming]) -> None:
        """Act on a message: a request is begun, everything else is done when this returns."""
        if isinstance(incoming, Request):
            await self._request(incoming)
        elif isinstance(incoming, list):
            await self._batch(incoming)
        else:
            self._hear(incoming)

    async def _request(self, request: Request) -> None:
        try:
            if request.method == "initialize" and not envelope.is_modern({}, request.tree):
                await self._initialize(request)
            else:
                self._begin(request, None)
        except McpError as error:
            self._exchange.turned_away(request.method, error, self.origin, self.identity)
            await self._write(failure(request.id, error))

    async def _batch(self, batch: list[Incoming]) -> None:
        """Only revision 2025-03-26 has batches; the replies come as one, when the last of them is there."""
        session = self.session
        if session is None or session.revision >= Revision.V2025_06_18:
            await self.refuse(McpError(Code.INVALID_REQUEST, "Invalid request: there are no batches in this revision"))
            return
        if len(batch) > MAX_BATCH:
            text = f"Invalid request: a batch of more than {MAX_BATCH} messages is not accepted"
            await self.refuse(McpError(Code.INVALID_REQUEST, text))
            return
        replies = _Replies(sum(isinstance(message, Request) for message in batch))
        for message in batch:
            if isinstance(message, Request):
                self._begin_one(message, replies)
            else:
                self._hear(message)
        await self._complete(replies)

    def _begin_one(self, request: Request, replies: "_Replies") -> None:
        try:
            if request.method == "initialize":
                raise McpError(Code.INVALID_REQUEST, "Invalid request: 'initialize' must not be part of a batch")
            self._begin(request, replies)
        except McpError as error:
            self._exchange.turned_away(request.method, error, self.origin, self.identity)
            replies.texts.append(failure(request.id, error))
            replies.due -= 1

    def _hear(self, message: Notification | Reply) -> None:
        if isinstance(message, Reply):
            if self.session is not None:
                self.session.voice.take(message)
        elif message.method == "notifications/cancelled":
            # An id that nothing in flight has: the answer has crossed the notification, which is nobody's fault.
            self._calls.cancel(message.params.get("requestId", Raw(b"null")))
        elif self.session is not None:
            self._sessions.told(self.session, message.method)

    # --- requests

    async def _initialize(self, request: Request) -> None:
        if self._greeted:
            raise McpError(Code.INVALID_REQUEST, "Invalid request: this connection is initialized already")
        peer = self._from(visit.newcomer(request))
        self._greeted = True
        try:
            result = await self._exchange.result(request, peer, self.path, _Line(self._write, peer, None))
            if self._closed:
                return
            self.session = session = self._sessions.open(peer, self.path, visit.owner(peer.identity))
        except McpError:
            self._greeted = False
            raise
        session.held += 1
        session.hang_up = self._on_session_end
        session.say = self._write
        await self._write(jsonrpc.reply(request.id, result))
        if not self._closed:
            self._hub.join(session.id, self)

    def _on_session_end(self) -> None:
        if not self._closed:
            self.hang_up()

    def _begin(self, request: Request, replies: "_Replies | None") -> None:
        """Start the task of a request. Raises ``McpError``."""
        if self._calls.holds(request.id):
            raise McpError(Code.INVALID_REQUEST, "Invalid request: a request with this id is in flight")
        if len(self._calls) >= MAX_IN_FLIGHT or self._closed:
            text = f"this connection has {MAX_IN_FLIGHT} requests in flight, which is its limit"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.GATEWAY_ERROR)
        line = self._line(request)
        task = self._nest.start(self._serve(request, line, replies), request.method)
        self._calls.add(task, request.id)
        self._quiet.clear()
        task.add_done_callback(functools.partial(self._on_end, line, replies))

    def _line(self, request: Request) -> "_Line":
        if envelope.is_modern({}, request.tree):
            if not self._modern:
                data = {"supported": _HANDSHAKE, "requested": str(MODERN)}
                text = f"Revision {MODERN} is not spoken over HTTP+SSE; use streamable HTTP"
                raise McpError(Code.UNSUPPORTED_VERSION, text, data, vmcp_code=Code.VERSION_NOT_SUPPORTED)
            return _Line(self._write, self._from(visit.modern_peer(request, None)), None)
        session = self.session
        if session is not None:
            return _Line(self._write, self._from(visit.peer_of(session)), session.voice)
        if request.method == "ping":  # the one request that may come before 'initialize'
            return _Line(self._write, self._from(Peer(LATEST_HANDSHAKE)), None)
        raise McpError(Code.INVALID_REQUEST, "Invalid request: a session begins with 'initialize'")

    def _from(self, peer: Peer) -> Peer:
        return visit.seen(peer, self.identity, self.origin)

    async def _serve(self, request: Request, line: "_Line", replies: "_Replies | None") -> None:
        subscribed = False
        try:
            result = await self._exchange.result(request, line.peer, self.path, line)
            if request.method == "logging/setLevel" and self.session is not None:
                visit.set_level(self.session, request)
            text = jsonrpc.reply(request.id, result)
            subscribed = request.method == "subscriptions/listen"
        except McpError as error:
            text = failure(request.id, error)
        line.over = True
        if replies is not None:
            replies.texts.append(text)
            return
        await self._write(text)
        if subscribed:
            # Where streams share one channel the server says so, besides the result (2026-07-28 basic/patterns/cancellation);
            # and after it, as clients take a subscription that is cancelled without one for lost.
            await self._write(jsonrpc.notification("notifications/cancelled", {"requestId": Raw(request.id)}))

    def _on_end(self, line: "_Line", replies: "_Replies | None", task: "asyncio.Task[None]") -> None:
        line.over = True
        self._calls.discard(task)
        if not self._calls:
            self._quiet.set()
        if replies is not None:
            replies.due -= 1
            if not self._closed:
                self._nest.start(self._complete(replies), "batch")

    async def _complete(self, replies: "_Replies") -> None:
        if not replies.due and replies.texts:
            texts, replies.texts = replies.texts, []
            await self._write(b"[%b]" % b",".join(texts))

    # --- what the client is told beside its calls

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification that belongs to no call; one that waits to be sent already says the same."""
        session = self.session
        if session is None or (method == "notifications/message" and not wanted(params, session.level)):
            return
        text = jsonrpc.notification(method, params)
        if text in self._told:
            return
        if len(self._told) >= MAX_TOLD and not method.endswith("/list_changed"):
            log.warning("a client reads too slowly; a notification is dropped", extra={"method": method})
            return
        self._told[text] = None
        if not self._telling and not self._closed:
            self._telling = True
            self._nest.start(self._tell_all(), "notifications")

    async def _tell_all(self) -> None:
        while self._told:
            text = next(iter(self._told))
            del self._told[text]
            await self._write(text)
        self._telling = False


def _nothing() -> None:
    return


class Opens(Protocol):
    """Makes a ``Duplex`` for a new client at a face's path."""

    def __call__(self, path: str, write: Write, *, modern: bool = True) -> Duplex:
        """See ``Duplex``."""


class _Line:
    """The way back to the client of one request: the ``Client`` of its call."""

    __slots__ = ("_voice", "_write", "can_ask", "over", "peer")

    def __init__(self, write: Write, peer: Peer, voice: Voice | None) -> None:
        self._write = write
        self._voice = voice
        self.peer = peer
        self.can_ask = voice is not None
        self.over = False

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """See ``Client``."""
        if not self.over and (method != "notifications/message" or wanted(params, self.peer.level)):
            await self._write(jsonrpc.notification(method, params))

    async def ask(self, question: Question) -> Raw:
        """See ``Client``."""
        if self._voice is None:
            raise McpError(Code.METHOD_NOT_FOUND, "this client cannot be asked during a call")
        return await self._voice.ask(self._write, question)


class _Replies:
    """Those of a batch: how many are still to come, and the texts of the others."""

    __slots__ = ("due", "texts")

    def __init__(self, due: int) -> None:
        self.due = due
        self.texts: list[bytes] = []
