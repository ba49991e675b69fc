"""Streamable HTTP towards clients, both eras on one endpoint: POST, GET, DELETE.

The rule: the era of a message is read from its body (``envelope.is_modern``), and every message passes the same door.
Source: basic/transports of 2025-03-26, 2025-06-18, 2025-11-25 and 2026-07-28.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol

from vmcp.call import Peer, refine
from vmcp.config.model import Limits
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.jsonrpc import Incoming, Notification, Reply, Request
from vmcp.protocol.revisions import KNOWN, MODERN, Revision
from vmcp.server import visit
from vmcp.server.asgi import IDENTITY, ORIGIN, Header, Receive, Refused, Scope, Send, empty, failure
from vmcp.server.exchange import Doorway
from vmcp.server.expiry import Expiring, Guests
from vmcp.server.handover import Relay, named
from vmcp.server.intake import Intake
from vmcp.server.journal import Track
from vmcp.server.listener import GONE, LEAVES, TASK
from vmcp.server.pulse import Pulse
from vmcp.server.sessions import Session, Sessions
from vmcp.server.standing import Reader
from vmcp.server.stream import Stream

MAX_BATCH = 16
EXPIRED = "vmcp.expired"
"""Key of the scope: the request was cancelled because its token has ended."""
METHODS = b"GET, POST, DELETE"
TRACE: Final = ("traceparent", "tracestate")
"""Of the headers within a session these alone are about the request."""
_AT_ONCE: Final = contextlib.nullcontext()


class Ears(Protocol):
    """Who tells sessions what belongs to no request."""

    def join(self, session_id: str, ear: Session) -> None:
        """``ear`` wants to hear."""


class StreamableHttp:
    """Serves one request of a client at a face's path."""

    def __init__(
        self,
        exchange: Doorway,
        sessions: Sessions,
        limits: Limits,
        pulse: Pulse,
        ears: Ears | None = None,
        guests: Guests | None = None,
        relay: Relay | None = None,
    ) -> None:
        self._exchange = exchange
        self._relay = relay
        self._guests = guests or Guests()
        self._sessions = sessions
        self._limits = limits
        self._pulse = pulse
        self._ears = ears
        self._intake = Intake(limits)

    def serve(
        self, scope: Scope, headers: Mapping[str, str], path: str, receive: Receive, send: Send, extra: list[Header]
    ) -> Awaitable[None]:
        """Answer one HTTP request. Raises ``Refused``, at once or when it is awaited."""
        method = scope["method"]
        if method == "POST":
            return self._post(scope, headers, path, receive, send, extra)
        if method not in ("GET", "DELETE"):
            raise Refused(405, "this endpoint takes POST, GET and DELETE", [(b"allow", METHODS)])
        if headers.get("mcp-protocol-version") == MODERN:
            raise Refused(405, f"revision {MODERN} has neither sessions nor standing streams", [(b"allow", b"POST")])
        if self._relay is not None and (to := self._relay.holder(headers.get("mcp-session-id"))) is not None:
            return self._relay.hand_over(scope, b"", to)
        if method == "GET":
            return self._get(scope, headers, path, send, extra)
        self._sessions.end(self._session(scope, headers, path))
        return empty(send, 204, extra)

    # --- POST

    async def _post(
        self, scope: Scope, headers: Mapping[str, str], path: str, receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        body = await self._intake.read(headers, receive)
        try:
            incoming = jsonrpc.parse(body, self._limits.json_depth, self._limits.json_nodes)
        except McpError as error:
            stream = Stream(send, self._pulse, extra, streams=False)
            await stream.finish(400, failure(jsonrpc.NULL, error, scope))
            return
        if self._relay is not None and await self._relay.passes(scope, body, named(headers, incoming)):
            return
        if isinstance(incoming, Request):
            await self._request(scope, headers, path, incoming, send, extra)
        elif isinstance(incoming, list):
            await self._batch(scope, headers, path, incoming, send, extra)
        else:
            _note(scope, incoming)
            if not (isinstance(incoming, Notification) and envelope.is_modern(headers, incoming.tree)):
                self._take(self._session(scope, headers, path), incoming)
            await empty(send, 202, extra)

    async def _request(
        self, scope: Scope, headers: Mapping[str, str], path: str, request: Request, send: Send, extra: list[Header]
    ) -> None:
        modern = envelope.is_modern(headers, request.tree)
        session = None
        try:
            if modern:
                peer = visit.modern_peer(request, headers)
            elif request.method == "initialize":
                peer = visit.newcomer(request)
            else:
                session = self._session(scope, headers, path)
                peer = session.peer
        except McpError as error:
            self._exchange.turned_away(request.method, error, scope.get(ORIGIN), scope.get(IDENTITY))
            plain = Stream(send, self._pulse, extra, streams=False)
            await plain.finish(_status(error, modern=modern), failure(request.id, error))
            return
        # In 2026-07-28 a client that goes away has cancelled its request (basic/patterns/cancellation).
        scope[LEAVES] = modern
        stream = Stream(send, self._pulse, extra, streams=_streams(headers), level=peer.level, session=session)
        peer = _from(scope, peer)
        if not modern and "traceparent" in headers:
            peer = refine(peer, headers={key: headers[key] for key in TRACE if key in headers})
        if session is None:
            await self._answer_guest(scope, request, peer, path, stream)
            return
        # Within a session a client that goes away has not cancelled its request; one that says so has.
        task = scope.get(TASK) or _this_task()
        message = await self._within(request, session, peer, path, stream, task)
        if message is not None:
            await stream.finish(200, message)
        else:
            await stream.abandon(failure(request.id, _cancelled()))

    async def _answer_guest(self, scope: Scope, request: Request, peer: Peer, path: str, stream: Stream) -> None:
        """Answer who has no session: of 2026-07-28, or to have one."""
        more: list[Header] = []
        status = 200
        try:
            with self._lasting(scope, peer) if request.method == "subscriptions/listen" else _AT_ONCE:
                message = jsonrpc.reply(request.id, await self._exchange.result(request, peer, path, stream))
            if request.method == "initialize" and not peer.revision.modern:
                more.append((b"mcp-session-id", self._open(peer, path).id.encode()))
        except McpError as error:
            status, message = _status(error, modern=peer.revision.modern), failure(request.id, error)
        except asyncio.CancelledError:
            if EXPIRED in scope:
                _this_task().uncancel()
                await stream.finish(401, failure(request.id, _expired()))
                return
            if GONE not in scope and self._sessions.draining:
                _this_task().uncancel()
                await stream.finish(503, failure(request.id, _stopping()))
                return
            stream.leave()
            if GONE not in scope:
                raise
            # Nobody is there to be answered: the cancellation was the client's, and has done its work.
            _this_task().uncancel()
            return
        scope[LEAVES] = False
        await stream.finish(status, message, more)

    async def _within(
        self, request: Request, session: Session, peer: Peer, path: str, stream: Stream, task: "asyncio.Task[Any]"
    ) -> bytes | None:
        """The reply; None when the client has cancelled the request."""
        calls = session.calls
        calls.add(task, request.id)
        try:
            result = await self._exchange.result(request, peer, path, stream)
            if request.method == "logging/setLevel":
                visit.set_level(session, request)
            return jsonrpc.reply(request.id, result)
        except McpError as error:
            return failure(request.id, error)
        except asyncio.CancelledError:
            if calls.discard(task):
                task.uncancel()
                return None
            if self._sessions.draining:
                task.uncancel()
                return failure(request.id, _stopping())
            stream.leave()
            raise
        finally:
            calls.discard(task)

    def _lasting(self, scope: Scope, peer: Peer) -> Expiring:
        """For a request that would go on for ever: it ends when its token does. Everything else may be finished."""
        task = _this_task()

        def stop() -> None:
            scope[EXPIRED] = True
            task.cancel()

        return self._guests.stay("", lambda: peer.identity, stop)

    def _open(self, peer: Peer, path: str) -> Session:
        session = self._sessions.open(peer, path, visit.owner(peer.identity))
        if self._ears is not None:
            self._ears.join(session.id, session)
        return session

    def _session(self, scope: Scope, headers: Mapping[str, str], path: str) -> Session:
        id_ = headers.get("mcp-session-id")
        if id_ is None:
            raise Refused(400, "the Mcp-Session-Id header is missing; a session begins with 'initialize'")
        session = self._sessions.find(id_, path, visit.owner(scope.get(IDENTITY)))
        if session is None:
            raise Refused(404, "this session is not known (any more); begin again with 'initialize'")
        said = headers.get("mcp-protocol-version")
        if said is not None and said not in KNOWN:
            raise Refused(400, "the MCP-Protocol-Version header names no revision that is spoken here")
        return session

    def _take(self, session: Session, incoming: Notification | Reply) -> None:
        """What is not answered: an answer to what we asked, or word of something."""
        if isinstance(incoming, Reply):
            session.voice.take(incoming)
        elif incoming.method == "notifications/cancelled" and "requestId" in incoming.params:
            session.calls.cancel(incoming.params["requestId"])
        else:
            self._sessions.told(session, incoming.method)

    async def _batch(
        self,
        scope: Scope,
        headers: Mapping[str, str],
        path: str,
        batch: list[Incoming],
        send: Send,
        extra: list[Header],
    ) -> None:
        """A batch is unrolled before any check; only revisions before 2025-06-18 have it."""
        session = self._session(scope, headers, path)
        if session.revision >= Revision.V2025_06_18:
            raise Refused(400, f"revision {session.revision} has no batches")
        if len(batch) > MAX_BATCH:
            raise Refused(400, f"a batch of more than {MAX_BATCH} messages is not accepted")
        for message in batch:
            if not isinstance(message, Request):
                self._take(session, message)
        requests = [message for message in batch if isinstance(message, Request)]
        if not requests:
            await empty(send, 202, extra)
            return
        stream = Stream(send, self._pulse, extra, streams=_streams(headers), level=session.level, session=session)
        peer = _from(scope, session.peer)
        answers = [await self._one(request, session, peer, path, stream) for request in requests]
        replies = [answer for answer in answers if answer is not None]
        if replies:
            await stream.finish(200, b"[%b]" % b",".join(replies))
        else:
            await stream.abandon(b"[%b]" % failure(requests[0].id, _cancelled()))

    async def _one(self, request: Request, session: Session, peer: Peer, path: str, stream: Stream) -> bytes | None:
        if request.method == "initialize":
            error = McpError(Code.INVALID_REQUEST, "Invalid request: 'initialize' must not be part of a batch")
            self._exchange.turned_away(request.method, error, peer.origin, peer.identity)
            return failure(request.id, error)
        return await self._within(request, session, peer, path, stream, _this_task())

    # --- GET

    async def _get(self, scope: Scope, headers: Mapping[str, str], path: str, send: Send, extra: list[Header]) -> None:
        """A standing stream, or the rest of a stream that was cut off."""
        if not _streams(headers):
            raise Refused(406, "a GET here gives an event stream; the Accept header must have text/event-stream")
        session = self._session(scope, headers, path)
        if self._sessions.draining:
            raise Refused(503, "this server is stopping", [(b"retry-after", b"1")])
        track, place = _place(session, headers.get("last-event-id"))
        reader = Reader(track, place, session.standing if track.standing else None, send, self._pulse)
        scope[LEAVES] = True
        session.held += 1
        try:
            with self._guests.stay(path, lambda: scope.get(IDENTITY), reader.stop):
                await reader.run(extra, primed=session.revision >= Revision.V2025_11_25)
        except asyncio.CancelledError:
            if GONE not in scope:
                raise
            _this_task().uncancel()
        finally:
            self._sessions.release(session)


def _from(scope: Scope, peer: Peer) -> Peer:
    """``peer`` with who sends this very request and, if that is to be recorded, from where."""
    return visit.seen(peer, scope.get(IDENTITY), scope.get(ORIGIN))


def _note(scope: Scope, incoming: Notification | Reply) -> None:
    """Say for the record what kind of message it was."""
    if ORIGIN in scope:
        known = isinstance(incoming, Notification) and incoming.method == "notifications/roots/list_changed"
        scope[ORIGIN].kind = "mcp_roots_list_changed" if known else "mcp_notification"


def _place(session: Session, last: str | None) -> tuple[Track, int]:
    """The stream that a GET wants, and the place behind which it goes on."""
    if not last:
        return session.journal.open(standing=True), 0
    found = session.journal.find(last)
    if found is None:
        raise Refused(400, "Last-Event-ID names no place that can be gone back to")
    track, place = found
    if track.standing:
        track.done = False
    return track, place


def _expired() -> McpError:
    return McpError(Code.INVALID_REQUEST, "the token has expired", vmcp_code=Code.UNAUTHORIZED)


def _stopping() -> McpError:
    """What is still in flight at the end of the grace is told so; what has become of it, nobody knows."""
    text = "this server is stopping, and the call has taken longer than server.limits.shutdownGrace"
    return McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.SERVER_UNAVAILABLE)


def _cancelled() -> McpError:
    return McpError(Code.INTERNAL_ERROR, "the request was cancelled", vmcp_code=Code.TRANSPORT_CLOSED)


def _this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def _status(error: McpError, *, modern: bool) -> int:
    return envelope.status(error) if modern else 200


def _streams(headers: Mapping[str, str]) -> bool:
    accept = headers.get("accept", "")
    return "text/event-stream" in accept or "*/*" in accept or "text/*" in accept
