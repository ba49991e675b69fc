"""Streamable HTTP towards a backend: one POST per message, the answer as JSON or as an SSE stream.

The rule: what is forwarded is only what the link hands over; no header of a client passes through here.
Source: basic/transports of 2025-03-26 and later.
"""

from collections.abc import AsyncIterator

from vmcp.errors import Code, Unavailable, WireError
from vmcp.protocol import jsonrpc, sse
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream.http1 import Response
from vmcp.upstream.pool import Pool
from vmcp.upstream.wire import Answer, Headers, OnMessage, OnStray, Outgoing

_ALWAYS: list[tuple[bytes, bytes]] = [
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
]
_REASONS = {
    401: "it wants credentials (HTTP 401); give it some under headers or outgoingAuth",
    403: "it refused our credentials (HTTP 403)",
    404: "there is nothing at its URL (HTTP 404); check the path of the url",
    405: "its URL takes no POST (HTTP 405); check the path of the url",
    406: "it does not answer in a form we accept (HTTP 406)",
    429: "it is limiting our rate (HTTP 429)",
}


class HttpWire:
    """One backend over streamable HTTP. ``fixed`` are the headers of the config."""

    closing_cancels = True

    def __init__(self, name: str, pool: Pool, fixed: Headers) -> None:
        self.name = name
        self._max_message = pool.max_response
        self.on_stray: OnStray | None = None
        self._pool = pool
        self._fixed = [*_ALWAYS, *fixed]

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        """See ``Wire``."""
        headers = [*self._fixed, *request.headers]
        response = await self._pool.request(b"POST", headers, request.body, total=deadline, replay=request.replay)
        id_ = b"%d" % request.id
        kind = response.header(b"content-type") or b""
        if response.status == 200 and kind.startswith(b"text/event-stream"):
            message = await self._stream(response, id_, on_message)
        else:
            message = self._single(response.status, kind, await response.read(), id_)
        return Answer(message, response.status, response.header(b"mcp-session-id"))

    async def _stream(self, response: Response, id_: bytes, on_message: OnMessage | None) -> Message:
        try:
            async for message in self._messages(response):
                if message.method:
                    if on_message is not None:
                        await on_message(message)
                elif bytes(message.id) == id_ or message.error:
                    await response.release()
                    return message
        finally:
            response.close()
        raise Unavailable(self.name, "it closed the stream before its reply", Code.TRANSPORT_CLOSED)

    async def _messages(self, response: Response) -> AsyncIterator[Message]:
        parser = sse.Parser(max_line=self._max_message, max_event=self._max_message)
        async for chunk in response.chunks():
            for event in parser.feed(chunk):
                if event.data:
                    yield jsonrpc.read(event.data)

    def _single(self, status: int, kind: bytes, text: bytes, id_: bytes) -> Message:
        if not kind.startswith(b"application/json"):
            raise self._refused(status, text)
        try:
            message = jsonrpc.read(text)
        except WireError:
            if status == 200:
                raise
            raise self._refused(status, text) from None
        if message.method or (not message.error and (bytes(message.id) != id_ or status != 200)):
            raise self._refused(status, text)
        return message

    def _refused(self, status: int, text: bytes) -> Unavailable:
        if 200 <= status < 300:
            return Unavailable(self.name, f"it sent no reply (HTTP {status})", Code.PROTOCOL_ERROR)
        return HttpRefused(self.name, _REASONS.get(status, f"it answered with HTTP {status}"), status, text)

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``. The answer to a notification has no content."""
        response = await self._pool.request(b"POST", [*self._fixed, *headers], body)
        await response.aclose() if response.status == 200 else await response.read()

    async def end_session(self, headers: Headers) -> None:
        """Tell the backend that a session is over; one that does not care answers 405."""
        response = await self._pool.request(b"DELETE", [*self._fixed, *headers], b"")
        await response.read()

    async def close(self) -> None:
        """See ``Wire``."""
        await self._pool.close()


class HttpRefused(Unavailable):
    """A backend answered with an HTTP status and no JSON-RPC, but perhaps a ``text``."""

    def __init__(self, backend: str, why: str, status: int, text: bytes = b"") -> None:
        super().__init__(backend, why, Code.PROTOCOL_ERROR)
        self.status = status
        self.text = text
