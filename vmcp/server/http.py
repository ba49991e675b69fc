"""Streamable HTTP towards clients, both eras on one endpoint: POST, DELETE; what GET would give comes on the POST's stream.

The rule: the era of a message is read from its body (``envelope.is_modern``), and every message passes the same door.
Source: basic/transports of 2025-03-26, 2025-06-18, 2025-11-25 and 2026-07-28.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from vmcp.call import Peer
from vmcp.config.model import Limits
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.jsonrpc import Incoming, Notification, Request
from vmcp.protocol.revisions import KNOWN, MODERN, Revision, negotiate
from vmcp.server.exchange import Exchange
from vmcp.server.listener import GONE, LEAVES
from vmcp.server.sessions import Session, Sessions
from vmcp.server.stream import Header, Pulse, Send, Stream

Receive = Callable[[], Awaitable[dict[str, Any]]]
Scope = dict[str, Any]

OWNER = "anonymous"
MAX_BATCH = 16
_TYPE = "application/json"


class Refused(Exception):
    """A request that is refused before it is a message: an HTTP status and one sentence."""

    def __init__(self, status: int, why: str, headers: list[Header] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.headers = headers or []


class StreamableHttp:
    """Serves one request of a client at a face's path."""

    def __init__(self, exchange: Exchange, sessions: Sessions, limits: Limits, pulse: Pulse) -> None:
        self._exchange = exchange
        self._sessions = sessions
        self._limits = limits
        self._pulse = pulse
        self._held = 0

    async def serve(
        self, scope: Scope, headers: Mapping[str, str], path: str, receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        """Answer one HTTP request. Raises ``Refused``."""
        if scope["method"] == "POST":
            await self._post(scope, headers, path, receive, send, extra)
        elif scope["method"] == "DELETE":
            await self._delete(headers, path, send, extra)
        else:
            raise Refused(405, "this endpoint takes POST and DELETE", [(b"allow", b"POST, DELETE")])

    async def _post(
        self, scope: Scope, headers: Mapping[str, str], path: str, receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        _check_type(headers)
        body = await self._body(receive)
        try:
            incoming = jsonrpc.parse(body, self._limits.json_depth, self._limits.json_nodes)
        except McpError as error:
            stream = Stream(send, self._pulse, extra, streams=False)
            await stream.finish(400, jsonrpc.failure(jsonrpc.NULL, error))
            return
        if isinstance(incoming, Request):
            await self._request(scope, headers, path, incoming, send, extra)
        elif isinstance(incoming, list):
            await self._batch(headers, path, incoming, send, extra)
        else:
            if not (isinstance(incoming, Notification) and envelope.is_modern(headers, incoming.tree)):
                self._session(headers, path)
            await _empty(send, 202, extra)

    async def _request(
        self, scope: Scope, headers: Mapping[str, str], path: str, request: Request, send: Send, extra: list[Header]
    ) -> None:
        modern = envelope.is_modern(headers, request.tree)
        try:
            peer = self._modern(headers, request) if modern else self._handshake(headers, request, path)
        except McpError as error:
            plain = Stream(send, self._pulse, extra, streams=False)
            await plain.finish(_status(error, modern=modern), jsonrpc.failure(request.id, error))
            return
        # In 2026-07-28 a client that goes away has cancelled its request (basic/patterns/cancellation).
        scope[LEAVES] = modern
        stream = Stream(send, self._pulse, extra, streams=_streams(headers), level=peer.level)
        try:
            status, message, more = await self._answer(request, peer, path, stream)
        except asyncio.CancelledError:
            stream.leave()
            if GONE not in scope:
                raise
            # Nobody is there to be answered: the cancellation was the client's, and has done its work.
            _this_task().uncancel()
            return
        scope[LEAVES] = False
        await stream.finish(status, message, more)

    async def _answer(self, request: Request, peer: Peer, path: str, stream: Stream) -> tuple[int, bytes, list[Header]]:
        more: list[Header] = []
        modern = peer.revision.modern
        try:
            result = await self._exchange.result(request, peer, path, stream)
            if request.method == "initialize":
                more.append((b"mcp-session-id", self._open(peer, path).id.encode()))
            elif request.method == "logging/setLevel":
                self._set_level(request, peer)
        except McpError as error:
            return _status(error, modern=modern), jsonrpc.failure(request.id, error), more
        return 200, jsonrpc.reply(request.id, result), more

    def _modern(self, headers: Mapping[str, str], request: Request) -> Peer:
        envelope.admit(headers, request.method, request.tree)
        level = request.tree["_meta"].get(envelope.LOG_LEVEL)
        return Peer(revision=MODERN, level=level, headers=headers)

    def _handshake(self, headers: Mapping[str, str], request: Request, path: str) -> Peer:
        if request.method == "initialize":
            return self._newcomer(request)
        return _peer(self._session(headers, path))

    def _newcomer(self, request: Request) -> Peer:
        asked = request.tree.get("protocolVersion")
        if not isinstance(asked, str):
            raise McpError(Code.INVALID_PARAMS, "Invalid params: 'protocolVersion' must be a string")
        params = request.params
        info = bytes(params["clientInfo"]) if "clientInfo" in params else None
        return Peer(negotiate(asked), bytes(params.get("capabilities", b"{}")), info)

    def _open(self, peer: Peer, path: str) -> Session:
        return self._sessions.open(peer.revision, peer.capabilities, peer.info, path, OWNER)

    def _set_level(self, request: Request, peer: Peer) -> None:
        session = self._sessions.get(peer.session or "")
        if session is not None:
            session.level = request.tree["level"]

    def _session(self, headers: Mapping[str, str], path: str) -> Session:
        id_ = headers.get("mcp-session-id")
        if id_ is None:
            raise Refused(400, "the Mcp-Session-Id header is missing; a session begins with 'initialize'")
        session = self._sessions.find(id_, path, OWNER)
        if session is None:
            raise Refused(404, "this session is not known (any more); begin again with 'initialize'")
        said = headers.get("mcp-protocol-version")
        if said is not None and said not in KNOWN:
            raise Refused(400, "the MCP-Protocol-Version header names no revision that is spoken here")
        return session

    async def _batch(
        self, headers: Mapping[str, str], path: str, batch: list[Incoming], send: Send, extra: list[Header]
    ) -> None:
        """A batch is unrolled before any check; only revisions before 2025-06-18 have it."""
        session = self._session(headers, path)
        if session.revision >= Revision.V2025_06_18:
            raise Refused(400, f"revision {session.revision} has no batches")
        if len(batch) > MAX_BATCH:
            raise Refused(400, f"a batch of more than {MAX_BATCH} messages is not accepted")
        stream = Stream(send, self._pulse, extra, streams=False)
        peer = _peer(session)
        replies = [await self._one(message, peer, path, stream) for message in batch if isinstance(message, Request)]
        if replies:
            await stream.finish(200, b"[%b]" % b",".join(replies))
        else:
            await _empty(send, 202, extra)

    async def _one(self, request: Request, peer: Peer, path: str, stream: Stream) -> bytes:
        try:
            if request.method == "initialize":
                raise McpError(Code.INVALID_REQUEST, "Invalid request: 'initialize' must not be part of a batch")
            result = await self._exchange.result(request, peer, path, stream)
            if request.method == "logging/setLevel":
                self._set_level(request, peer)
            return jsonrpc.reply(request.id, result)
        except McpError as error:
            return jsonrpc.failure(request.id, error)

    async def _delete(self, headers: Mapping[str, str], path: str, send: Send, extra: list[Header]) -> None:
        if headers.get("mcp-protocol-version") == MODERN:
            raise Refused(405, f"revision {MODERN} has no sessions", [(b"allow", b"POST")])
        self._sessions.end(self._session(headers, path))
        await _empty(send, 204, extra)

    async def _body(self, receive: Receive) -> bytes:
        """The whole body, within its limits of size and time."""
        first = await receive()
        if first["type"] != "http.request":
            raise Refused(400, "the client went away")
        body: bytes = first["body"]
        if first.get("more_body"):
            body = await self._rest(body, receive)
        if len(body) > self._limits.body_bytes:
            raise self._too_large()
        return body

    async def _rest(self, body: bytes, receive: Receive) -> bytes:
        parts, size = [body], len(body)
        self._held += size
        try:
            self._check_room(size)
            async with asyncio.timeout(self._limits.body_timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Refused(400, "the client went away")
                    part = message["body"]
                    parts.append(part)
                    size += len(part)
                    self._held += len(part)
                    self._check_room(size)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, f"the body took longer than {self._limits.body_timeout:g} s", _CLOSE) from None
        finally:
            self._held -= size
        return b"".join(parts)

    def _check_room(self, size: int) -> None:
        if size > self._limits.body_bytes:
            raise self._too_large()
        if self._held > self._limits.in_flight_body_bytes:
            raise Refused(503, "too many request bodies at once; try again", [(b"retry-after", b"1"), *_CLOSE])

    def _too_large(self) -> Refused:
        return Refused(
            413, f"the body is larger than {self._limits.body_bytes} bytes (server.limits.bodyBytes)", _CLOSE
        )


_CLOSE: list[Header] = [(b"connection", b"close")]


def _this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


def _status(error: McpError, *, modern: bool) -> int:
    return envelope.status(error) if modern else 200


def _check_type(headers: Mapping[str, str]) -> None:
    given = headers.get("content-type", "")
    if given != _TYPE:
        media, _, params = given.partition(";")
        if media.strip().lower() != _TYPE:
            raise Refused(415, f"Content-Type must be {_TYPE}")
        for param in params.lower().split(";"):
            key, _, value = param.partition("=")
            if key.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
                raise Refused(415, "the charset must be utf-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "a compressed body is not accepted")


def _streams(headers: Mapping[str, str]) -> bool:
    accept = headers.get("accept", "")
    return "text/event-stream" in accept or "*/*" in accept or "text/*" in accept


def _peer(session: Session) -> Peer:
    return Peer(session.revision, session.capabilities, session.info, session.id, session.level)


async def _empty(send: Send, status: int, extra: list[Header]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": extra})
    await send({"type": "http.response.body", "body": b""})
