"""Streamable HTTP towards a backend: one POST per message, the answer as JSON or as an SSE stream.

The rule: what is forwarded is only what the link hands over; no header of a client passes through here. A stream that broke off
is taken up with a GET (basic/transports, "Resumability and Redelivery"); no request is ever sent a second time for it.
Source: basic/transports of 2025-03-26 and later.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from vmcp.errors import Code, Overdue, Unavailable, VmcpError, WireError
from vmcp.protocol import jsonrpc, sse
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream.faults import lost
from vmcp.upstream.pool import Pool
from vmcp.upstream.response import Response
from vmcp.upstream.span import PROGRESS, Span
from vmcp.upstream.wire import Answer, Credential, Headers, OnMessage, OnStray, Outgoing, Signing, Widening, carried

_ALWAYS: list[tuple[bytes, bytes]] = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
]
LISTENING: list[tuple[bytes, bytes]] = [(b"accept", b"text/event-stream"), (b"cache-control", b"no-cache")]
_REASONS = {
    401: "it wants credentials (HTTP 401); give it some under headers or outgoingAuth (listingToken, if each caller has his own)",
    403: "it refused our credentials (HTTP 403), or that it was shown none (listingToken, if each caller has his own)",
    404: "there is nothing at its URL (HTTP 404); check the path of the url",
    405: "its URL takes no POST (HTTP 405); check the path of the url",
    406: "it does not answer in a form we accept (HTTP 406)",
    429: "it is limiting our rate (HTTP 429)",
}
_NOT_TAKEN = "it refused the credential of its outgoingAuth strategy (HTTP 401)"
_WHOLE = frozenset({401, 405})
_DENIED = (400, 401, 403)
_EXPIRED = re.compile(rb"ExpiredToken|security token included in the request is (?:expired|invalid)")
"""What AWS writes when the keys are good no more. Others write their reasons where nobody reads them."""
PAUSE, SHORTEST, LONGEST = 1.0, 0.1, 60.0
"""Seconds before a stream is taken up again: where the backend names none, and the limits of what it may name."""
_ELSEWHERE = (502, 503, 504)
"""How who stands before a backend says that the backend itself has not answered."""
FAILURES = 5
"""Tries in a row to take up a stream that may fail."""


class HttpRefused(Unavailable):
    """A backend answered with an HTTP status and no JSON-RPC, but perhaps a ``text``."""

    def __init__(self, backend: str, why: str, status: int, text: bytes = b"") -> None:
        super().__init__(backend, why, Code.PROTOCOL_ERROR)
        self.status = status
        self.text = text


async def _outdated(response: Response, who: Credential, shown: Headers) -> bool:
    """Whether the backend only did not take what ``who`` showed, and there is something else to show."""
    if response.status == 403 and isinstance(shown, Widening):
        return shown.lacks((response.header(b"www-authenticate") or b"").decode("latin-1"))
    if response.status != 401 and not (isinstance(shown, Signing) and _EXPIRED.search(await response.read())):
        return False
    return who.refused(shown)


def refused(backend: str, status: int, text: bytes = b"") -> HttpRefused:
    """The error for a status that is no success."""
    return HttpRefused(backend, _REASONS.get(status, f"it answered with HTTP {status}"), status, text)


class HttpWire:
    """One backend over streamable HTTP. ``fixed`` are the headers of the config; ``credential`` is for what is no call."""

    closing_cancels = True
    private_streams = True

    def __init__(self, name: str, pool: Pool, fixed: Headers) -> None:
        self.name = name
        self._max_message = pool.max_response
        self.on_stray: OnStray | None = None
        self.credential: Credential | None = None
        self.on_open: Callable[[], None] | None = None
        """Told each time that the standing stream is open."""
        self._pool = pool
        self._target = pool.target
        self._plain = fixed
        self._fixed = [*_ALWAYS, *fixed]
        self._heard = self._parser()
        self._now = asyncio.get_running_loop().time

    # --- requests

    def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Coroutine[Any, Any, Answer]:
        """See ``Wire``."""
        if request.again:
            return self._perhaps_again(request, on_message, deadline)
        return self._once(request, on_message, deadline)

    async def _perhaps_again(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        """The answer to what may run twice; if it was lost on the way, that to the same question asked once more."""
        attempt = 0
        while True:
            try:
                return await self._once(request, on_message, deadline)
            except VmcpError as error:
                passed = isinstance(error, HttpRefused) and error.status in _ELSEWHERE
                if not (passed or lost(error)) or not await self._pool.rest(attempt, deadline):
                    raise
                attempt += 1

    async def _once(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        who = request.credential or self.credential
        shown = await who.headers(deadline) if who is not None else ()
        response = await self._post(request, shown, deadline)
        if who is not None and response.status in _DENIED and await _outdated(response, who, shown):
            response.close()  # it has not done anything yet
            shown = await who.headers(deadline)
            response = await self._post(request, shown, deadline)
        if response.status == 401 and shown:
            response.close()  # what it says about it is for whoever holds the credential, not for clients
            raise HttpRefused(self.name, _NOT_TAKEN, 401)
        kind = response.header(b"content-type") or b""
        id_ = b"%d" % request.id
        if response.status == 200 and kind.startswith(b"text/event-stream"):
            message = await self._streamed(request, shown, response, on_message, Span(request.limits, deadline))
        else:
            message = self._single(response.status, kind, await response.body(), id_)
        return Answer(message, response.status, response.header(b"mcp-session-id"))

    def _post(self, request: Outgoing, shown: Headers, deadline: float) -> Coroutine[Any, Any, Response]:
        headers = [
            *self._fixed,
            *(carried(shown, self._target, b"POST", request.body) if shown else ()),
            *request.headers,
        ]
        replay, lasting = request.replay, request.lasting
        return self._pool.request(
            b"POST", headers, request.body, total=deadline, replay=replay, lasting=lasting, limits=request.limits
        )

    async def _streamed(
        self, request: Outgoing, shown: Headers, response: Response, on_message: OnMessage | None, span: Span
    ) -> Message:
        """The reply in a stream of answers, and in those that take it up."""
        parser = self._parser()
        message = await self._reply(response, parser, request.id, on_message, span)
        while message is None:
            response = await self._resumed(request, shown, response, parser, span)
            message = await self._reply(response, parser, request.id, on_message, span)
        return message

    async def _resumed(
        self, request: Outgoing, shown: Headers, broken: Response, parser: sse.Parser, span: Span
    ) -> Response:
        """The stream in which the reply is still to come, where the backend told how to find it."""
        if not (request.resumes and parser.last_id):
            raise broken.fault or self._closed_early()
        failures = 0
        while True:
            await self._pause(parser, span)
            try:
                return await self._take_up(
                    [*carried(shown, self._target, b"GET", b""), *request.headers], parser, span.at
                )
            except Unavailable as failed:
                failures += 1
                if failures == FAILURES or (isinstance(failed, HttpRefused) and failed.status < 500):
                    raise self._closed_early() from failed

    async def _reply(
        self, response: Response, parser: sse.Parser, id_: int, on_message: OnMessage | None, span: Span
    ) -> Message | None:
        """The reply to ``id_``; None when the stream ended before it, or broke off with a ``fault``."""
        ours = b"%d" % id_
        try:
            async for message in self._messages(response, parser):
                if message.method:
                    if on_message is not None:
                        await on_message(message)
                    if message.method == PROGRESS and span.heard(message.method, self._now()):
                        response.prolong(span.at, span.limit(0.0))
                elif bytes(message.id) == ours or message.error:
                    await response.release()
                    return message
        except VmcpError as error:
            if error is not response.fault or isinstance(error, Overdue):
                raise
        finally:
            response.close()
        return None

    async def _messages(self, response: Response, parser: sse.Parser) -> AsyncIterator[Message]:
        async for chunk in response.chunks():
            events = parser.feed(chunk)
            if events:
                response.digested()
            for event in events:
                if event.data:
                    for message in jsonrpc.read_all(event.data):
                        yield message

    def _parser(self) -> sse.Parser:
        return sse.Parser(max_line=self._max_message, max_event=self._max_message)

    def _closed_early(self) -> Unavailable:
        return Unavailable(self.name, "it closed the stream before its reply", Code.TRANSPORT_CLOSED)

    def _single(self, status: int, kind: bytes, text: bytes | bytearray, id_: bytes) -> Message:
        if not kind.startswith(b"application/json"):
            raise self._refused(status, text)
        try:
            message = jsonrpc.read(text)
        except WireError:
            if status == 200:
                raise
            raise self._refused(status, text) from None
        ours = bytes(message.id) == id_
        if message.method or (not message.error and (not ours or status != 200)) or (status in _WHOLE and not ours):
            raise self._refused(status, text)  # it is about who asks, or the URL, whatever its body says
        return message

    def _refused(self, status: int, text: bytes | bytearray) -> Unavailable:
        if 200 <= status < 300:
            return Unavailable(self.name, f"it sent no reply (HTTP {status})", Code.PROTOCOL_ERROR)
        return refused(self.name, status, bytes(text))

    # --- streams that are taken up, and the one that stands

    async def _pause(self, parser: sse.Parser, span: Span | None = None) -> None:
        """Wait as long as the backend asked for; not for what would come too late."""
        seconds = PAUSE if parser.retry is None else min(max(parser.retry / 1000, SHORTEST), LONGEST)
        if span is not None and self._now() + seconds >= span.at:
            raise Overdue(self.name, *span.limit(span.at - self._pool.timeouts.total))
        await asyncio.sleep(seconds)

    async def _take_up(self, headers: Headers, parser: sse.Parser, deadline: float | None = None) -> Response:
        """The stream that goes on after the last event of ``parser``, or a new one when there was none."""
        last = [(b"last-event-id", parser.last_id)] if parser.last_id else []
        parser.renew()
        sent = [*LISTENING, *self._plain, *headers, *last]
        response = await self._pool.request(b"GET", sent, b"", total=deadline, replay=True, lasting=True)
        kind = response.header(b"content-type") or b""
        if response.status == 200 and kind.startswith(b"text/event-stream"):
            return response
        response.close()
        raise refused(self.name, response.status)

    async def hear(self, headers: Headers) -> bool:
        """See ``Wire``. One that ended after an event with an id is taken up there, by the next call too."""
        parser = self._heard
        while True:
            try:
                response = await self._take_up([*await self._own(b"GET"), *headers], parser)
            except HttpRefused as no:
                if parser.last_id and no.status < 500:
                    parser.last_id = b""  # it does not remember that any more
                    continue
                if no.status == 405:
                    return False
                raise
            if self.on_open is not None:
                self.on_open()
            await self._hear(response, parser)
            if not parser.last_id:
                return True
            await self._pause(parser)

    async def _hear(self, response: Response, parser: sse.Parser) -> None:
        try:
            async for message in self._messages(response, parser):
                if message.method and self.on_stray is not None:
                    self.on_stray(message)
        except VmcpError as error:
            if error is not response.fault:
                raise
        finally:
            response.close()

    # --- the rest

    async def _own(self, method: bytes, body: bytes = b"") -> Headers:
        if self.credential is None:
            return ()
        deadline = asyncio.get_running_loop().time() + self._pool.timeouts.total
        return carried(await self.credential.headers(deadline), self._target, method, body)

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``. The answer to a notification has no content."""
        response = await self._pool.request(b"POST", [*self._fixed, *await self._own(b"POST", body), *headers], body)
        await response.aclose() if response.status == 200 else await response.read()

    async def end_session(self, headers: Headers) -> None:
        """Tell the backend that a session is over; one that does not care answers 405."""
        response = await self._pool.request(b"DELETE", [*self._fixed, *await self._own(b"DELETE"), *headers], b"")
        await response.read()

    async def close(self) -> None:
        """See ``Wire``."""
        await self._pool.close()
