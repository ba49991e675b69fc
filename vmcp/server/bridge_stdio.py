"""A bridge from stdin and stdout to an MCP server at a URL: for clients that only start processes.

The rule: a message passes byte for byte, in whatever revision; the bridge adds only what HTTP needs and stdio has not: headers,
the session, the streams. What the server does not answer, is answered as an error; stdout carries messages only.
Source: basic/transports ("stdio", "Streamable HTTP") of 2025-03-26 and later.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from vmcp.config.model import PoolSpec, Timeouts
from vmcp.errors import Code, McpError, Unavailable, VmcpError, WireError
from vmcp.protocol import envelope, jsonrpc, sse
from vmcp.protocol.jsonrpc import Incoming, Message, Notification, Request
from vmcp.server.bridge_headers import Known
from vmcp.server.duplex import MAX_IN_FLIGHT
from vmcp.server.inflight import InFlight
from vmcp.server.pipes import Pipes, pipes, stopped_by_signals
from vmcp.tasks import Nest, backoff
from vmcp.upstream.endpoint import BadEndpoint, endpoint
from vmcp.upstream.pool import Pool
from vmcp.upstream.response import Response

log = logging.getLogger("vmcp.bridge")

__all__ = ["BadEndpoint", "Bridge", "serve"]

MAX_MESSAGE = 64 << 20
GRACE, FAREWELL = 5.0, 2.0
TRIES = 5
"""Times that a stream which breaks before its reply is taken up again without anything having come on it."""
PAGES = 100
_HOUR = 3600.0
_TIMES = Timeouts(connect=10.0, first_byte=_HOUR, total=_HOUR, idle_stream=_HOUR)
_POOL = PoolSpec(max_size=MAX_IN_FLIGHT + 8, acquire_timeout=_HOUR)
_EVENTS = b"text/event-stream"
_POST = [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]

Headers = list[tuple[bytes, bytes]]


@dataclass(eq=False)
class _Session:
    """What ``initialize`` agreed on with the server."""

    id: bytes | None
    revision: str

    def headers(self) -> Headers:
        version = [(b"mcp-protocol-version", self.revision.encode())]
        return version if self.id is None else [*version, (b"mcp-session-id", self.id)]


class Bridge:
    """One client on one side, one server on the other. Mutable; ``fixed`` are headers of every request."""

    def __init__(self, url: str, fixed: Headers) -> None:
        target = endpoint(url)
        self._name = target.host_header.decode()
        self._pool = Pool(target, _POOL, _TIMES, max_response=MAX_MESSAGE, name=self._name)
        self._fixed = fixed
        self._nest = Nest("bridge")
        self._calls = InFlight()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._session: _Session | None = None
        self._greeting: tuple[Request, bytes] | None = None
        self._greeted = jsonrpc.notification("notifications/initialized")
        self._renewing = asyncio.Lock()
        self._known = Known()
        self._stream: Pipes | None = None

    # --- from the client

    async def run(self, stream: Pipes) -> None:
        """Pass on what comes until nothing more does, and what is answered until a moment after."""
        self._stream = stream
        while (line := await stream.read()) is not None:
            try:
                if isinstance(line, McpError):
                    raise line
                await self._take(jsonrpc.parse(line), line)
            except McpError as error:
                await self._write(jsonrpc.failure(jsonrpc.NULL, error))

    async def close(self, patience: float) -> None:
        """End everything, the session at the server too."""
        try:
            async with asyncio.timeout(patience):
                await self._quiet.wait()
        except TimeoutError:
            log.info("left unanswered", extra={"calls": len(self._calls)})
        session, self._session = self._session, None
        await self._nest.close()
        if session is not None and session.id is not None:
            try:
                async with asyncio.timeout(FAREWELL):
                    response = await self._pool.request(b"DELETE", [*self._fixed, *session.headers()], b"")
                    await response.read()
            except (VmcpError, TimeoutError):
                log.info("the session could not be given back")
        await self._pool.close()

    async def _take(self, incoming: Incoming | list[Incoming], text: bytes) -> None:
        if isinstance(incoming, Request):
            if incoming.method == "initialize" and not envelope.is_modern({}, incoming.tree):
                await self._serve(incoming, text)  # everything after it needs what it agrees on
            else:
                await self._begin(incoming, text)
        elif isinstance(incoming, list) and any(isinstance(one, Request) for one in incoming):
            self._nest.start(self._serve_batch(text), "batch")
        elif not self._withdrawn(incoming):
            await self._tell(incoming, text)

    async def _begin(self, request: Request, text: bytes) -> None:
        if len(self._calls) >= MAX_IN_FLIGHT:
            error = McpError(Code.INTERNAL_ERROR, f"there are {MAX_IN_FLIGHT} requests in flight, which is the limit")
            await self._write(jsonrpc.failure(request.id, error))
            return
        task = self._nest.start(self._serve(request, text), request.method)
        self._calls.add(task, request.id)
        if request.method != "subscriptions/listen":
            self._quiet.clear()
        task.add_done_callback(self._on_end)

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        if not self._calls:
            self._quiet.set()

    def _withdrawn(self, incoming: Incoming | list[Incoming]) -> bool:
        """In 2026-07-28 a request is cancelled over HTTP by leaving its stream, and over stdio by a notification."""
        if not isinstance(incoming, Notification) or incoming.method != "notifications/cancelled":
            return False
        return (
            self._session is None
            and "requestId" in incoming.params
            and self._calls.cancel(incoming.params["requestId"])
        )

    async def _tell(self, incoming: Incoming | list[Incoming], text: bytes) -> None:
        """What is not answered; in order, so the next message waits until the server has it."""
        try:
            response = await self._pool.request(b"POST", self._headers(incoming), text)
            await response.read()
        except VmcpError as error:
            log.warning("a message was not delivered", extra={"why": str(error)})
            return
        if isinstance(incoming, Notification) and incoming.method == "notifications/initialized":
            self._greeted = text
            self._listen_to(self._session)

    # --- requests

    async def _serve(self, request: Request, text: bytes) -> None:
        try:
            await self._exchange(request, text)
        except McpError as error:
            await self._write(jsonrpc.failure(request.id, error))
        except WireError as error:
            failed = McpError(Code.INTERNAL_ERROR, str(error), vmcp_code=Code.PROTOCOL_ERROR)
            await self._write(jsonrpc.failure(request.id, failed))

    async def _serve_batch(self, text: bytes) -> None:
        try:
            response = await self._pool.request(b"POST", self._headers(None), text, lasting=True)
            if (response.header(b"content-type") or b"").startswith(_EVENTS):
                await self._events(response, sse.Parser(MAX_MESSAGE, MAX_MESSAGE), None)
            elif body := await response.read():
                await self._write(body)
        except VmcpError as error:
            failed = McpError(Code.INTERNAL_ERROR, str(error), vmcp_code=Code.PROTOCOL_ERROR)
            await self._write(jsonrpc.failure(jsonrpc.NULL, failed))

    async def _exchange(self, request: Request, text: bytes) -> None:
        session = self._session
        response = await self._post(request, text)
        modern = envelope.is_modern({}, request.tree)
        if response.status == 404 and session is not None and not modern:
            await response.read()
            await self._renew(session)
            response = await self._post(request, text)
        if response.status == 200 and (response.header(b"content-type") or b"").startswith(_EVENTS):
            body = await self._awaited(response, request, modern)
        else:
            body = await self._single(response, request)
            if modern and request.method == "tools/call" and await self._lacks_headers(response.status, body, request):
                body = await self._single(await self._post(request, text), request)
        if request.method == "initialize" and not modern:
            self._greeting = request, text
            self._open(response, body)
        elif request.method == "tools/list":
            self._known.learn(body)
        await self._write(body)

    async def _post(self, request: Request, text: bytes) -> Response:
        return await self._pool.request(b"POST", self._headers(request), text, lasting=True)

    async def _single(self, response: Response, request: Request) -> bytes:
        """The reply in a body: as it is if it answers this request, else made from what the server said."""
        body = await response.read()
        message = _message(body)
        if message is not None and not message.method and bytes(message.id) == request.id:
            return body
        if message is not None and message.error:
            return jsonrpc.failure(request.id, jsonrpc.fault(message.error))
        raise Unavailable(self._name, f"it answered with HTTP {response.status}", Code.PROTOCOL_ERROR)

    async def _awaited(self, response: Response, request: Request, modern: bool) -> bytes:
        """The reply at the end of a stream; one that breaks is taken up where it broke, if the server allows for it."""
        parser = sse.Parser(MAX_MESSAGE, MAX_MESSAGE)
        for attempt in range(TRIES):
            found = await self._events(response, parser, request.id)
            if found is not None:
                return found
            if modern or not parser.last_id:
                break
            await asyncio.sleep(_delay(parser, attempt))
            parser = _resumed(parser)
            response = await self._get(parser.last_id)
            if response.status != 200:
                await response.read()
                break
        raise Unavailable(self._name, "it closed the stream before its reply", Code.TRANSPORT_CLOSED)

    async def _events(self, response: Response, parser: sse.Parser, id_: bytes | None) -> bytes | None:
        """Pass on what comes on a stream until its end, or until the reply to ``id_``, which is given back."""
        try:
            async for chunk in response.chunks():
                for event in parser.feed(chunk):
                    if not event.data:
                        continue
                    message = _message(event.data) if id_ is not None else None
                    if message is not None and not message.method and bytes(message.id) == id_:
                        await response.release()
                        return event.data
                    await self._write(event.data)
        except Unavailable as broken:
            log.debug("a stream broke", extra={"why": broken.why})
        finally:
            response.close()
        return None

    # --- the session

    def _open(self, response: Response, body: bytes) -> None:
        message = _message(body)
        told = jsonrpc.members(message.result) if message is not None and message.result else {}
        revision = bytes(told.get("protocolVersion", b"")).strip(b'"').decode("latin-1")
        if revision:
            self._session = _Session(response.header(b"mcp-session-id"), revision)

    async def _renew(self, lost: _Session) -> None:
        """The server has forgotten us (it was started anew): greet it again, without the client noticing."""
        async with self._renewing:
            if self._session is not lost or self._greeting is None:
                return
            request, text = self._greeting
            response = await self._post(request, text)
            if (response.header(b"content-type") or b"").startswith(_EVENTS):
                body = await self._awaited(response, request, False)
            else:
                body = await self._single(response, request)
            self._open(response, body)
            fresh = self._session
            if fresh is lost or fresh.revision != lost.revision:
                raise Unavailable(self._name, "it has ended our session", Code.TRANSPORT_CLOSED)
            await (await self._pool.request(b"POST", self._headers(None), self._greeted)).read()
            self._listen_to(fresh)

    def _listen_to(self, session: _Session | None) -> None:
        if session is not None:
            self._nest.start(self._listen(session), "standing stream")

    async def _listen(self, session: _Session) -> None:
        """Hold the standing stream, as long as the server has one."""
        parser = sse.Parser(MAX_MESSAGE, MAX_MESSAGE)
        attempt = 0
        while session is self._session:
            try:
                response = await self._get(parser.last_id)
                if response.status == 200:
                    attempt = 0
                    await self._events(response, parser, None)
                elif parser.last_id and response.status in (400, 404):
                    await response.read()
                    parser = _resumed(parser, anew=True)
                elif response.status < 500:
                    return  # 405: there is none; 404: the session is over, which the next request finds out
            except VmcpError as error:
                log.info("the standing stream failed", extra={"why": str(error)})
            await asyncio.sleep(_delay(parser, attempt))
            attempt += 1
            parser = _resumed(parser)

    async def _get(self, last_id: bytes) -> Response:
        headers = [*self._fixed, (b"accept", _EVENTS), *(self._session.headers() if self._session else [])]
        if last_id:
            headers.append((b"last-event-id", last_id))
        return await self._pool.request(b"GET", headers, b"", lasting=True)

    # --- what HTTP needs besides

    def _headers(self, said: Incoming | list[Incoming] | None) -> Headers:
        fixed = [*self._fixed, *_POST]
        if isinstance(said, Request | Notification) and envelope.is_modern({}, said.tree):
            return [*fixed, *self._known.headers(said.method, said.tree)]
        session = self._session
        greeting = isinstance(said, Request) and said.method == "initialize"
        return fixed if session is None or greeting else [*fixed, *session.headers()]

    async def _lacks_headers(self, status: int, body: bytes, request: Request) -> bool:
        """Whether a call was refused for headers that the bridge could not know, and now does (-32020)."""
        message = _message(body)
        if status != 400 or message is None or jsonrpc.fault(message.error).code != Code.HEADER_MISMATCH:
            return False
        before = dict(self._known.params)
        cursor: str | None = None
        for _ in range(PAGES):
            params: dict[str, Any] = {
                "_meta": request.params["_meta"],
                **({} if cursor is None else {"cursor": cursor}),
            }
            tree = {"_meta": request.tree["_meta"]}
            own = Request(b'"vmcp-tools"', "tools/list", params, tree)
            text = b'{"jsonrpc":"2.0","id":"vmcp-tools","method":"tools/list","params":%b}' % jsonrpc.encode(params)
            cursor = self._known.learn(await self._single(await self._post(own, text), own))
            if cursor is None:
                break
        return self._known.params != before

    async def _write(self, message: bytes) -> None:
        assert self._stream is not None
        await self._stream.write(message)


def _message(text: bytes) -> Message | None:
    try:
        return jsonrpc.read(text)
    except WireError:
        return None


def _delay(parser: sse.Parser, attempt: int) -> float:
    """What the server wants, and longer each time that nothing came of it."""
    wanted = parser.retry / 1000 if parser.retry is not None else 0.5
    return max(wanted, backoff(attempt - 1, 0.5)) if attempt else wanted


def _resumed(parser: sse.Parser, *, anew: bool = False) -> sse.Parser:
    fresh = sse.Parser(MAX_MESSAGE, MAX_MESSAGE)
    fresh.last_id, fresh.retry = b"" if anew else parser.last_id, parser.retry
    return fresh


async def serve(bridge: Bridge, reading: int, writing: int) -> None:
    """Serve a bridge over two descriptors until the first one ends, or a signal comes."""
    async with pipes(reading, writing, MAX_MESSAGE) as stream:
        with stopped_by_signals(stream.stop):
            try:
                await bridge.run(stream)
            finally:
                await bridge.close(GRACE)
