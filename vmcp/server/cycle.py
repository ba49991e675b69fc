"""One request and its response on a connection of uvicorn's, with the response written as few times as it can be.

The rule: a response whose body is known when it begins is one write; its head is checked and put together once for each set of
headers that the house uses (uvicorn checks every header of every response and writes twice, which costs 8 µs of a call's 80).
"""

import asyncio
import functools
import logging
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from vmcp.server.load import Refusal

log = logging.getLogger("vmcp.server")

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_BODILESS = frozenset({204, 304})
LARGE: Final = 1 << 16
"""Bytes of a body from which it goes to the system as it is, beside its head."""
STATUS = "vmcp.status"
"""Key of the scope: the status with which the application has answered, whether or not its client was still there."""


class Cycle(RequestResponseCycle):
    """See uvicorn; here a request whose body is there already waits for nothing. ``task`` is what serves the request."""

    scope: Any
    task: "asyncio.Task[None] | None" = None
    _begun: Any = None
    _news = False
    _waiter: "asyncio.Future[None] | None" = None
    holds = 0
    """Bytes of a large body, which the transport keeps until the last of them is out."""

    def __init__(  # uvicorn's makes an Event for each request, among other things that are not used here
        self,
        scope: Any,
        transport: asyncio.Transport,
        flow: Any,
        default_headers: list[tuple[bytes, bytes]],
        on_response: Callable[[], None],
        *,
        expects: bool,
        keep_alive: bool,
    ) -> None:
        self.scope = scope
        self.transport = transport
        self.flow = flow
        self.logger = log
        self.default_headers = default_headers
        self.on_response = on_response
        self.waiting_for_100_continue = expects
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False

    def set(self) -> None:
        """Let who waits in ``receive`` look again. (uvicorn rings an Event, which this is to it.)"""
        self._news = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def message_event(self) -> Any:  # type: ignore[override]
        """What uvicorn rings."""
        return self

    def arrived(self, piece: bytes) -> int:
        """Take a piece of the body; how much is waiting to be received."""
        self.body += piece
        self.set()
        return len(self.body)

    def whole(self) -> None:
        """Nothing more will come."""
        self.more_body = False
        self.set()

    def left(self) -> None:
        """The client went away."""
        self.disconnected = True
        self.set()

    async def receive(self) -> Any:
        """The next piece of the body, or word of the end (ASGI 3)."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self._news:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, bytearray()
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        """Hold the head back until its first piece of body is there; then write both at once."""
        if message["type"] == "http.response.start":
            # Without waiting, so that of two who write at once neither finds a head that is begun and not there.
            self._begun = message
            self.scope[STATUS] = message["status"]
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()  # until the client reads, or the watch lets it go
        if self.disconnected or self.response_complete:
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.response_started:
            self._continue(body, more)
        else:
            self._begin(self._begun, body, more)
        if not more:
            self._end()

    def refuse(self, refusal: Refusal) -> None:
        """Answer at once, without an application."""
        self._begin({"status": refusal.status, "headers": refusal.headers}, refusal.body, more=False)
        self._end()

    async def send_500_response(self) -> None:
        """An application has failed before it answered; the log has why."""
        await self.send({"type": "http.response.start", "status": 500, "headers": [(b"connection", b"close")]})
        await self.send({"type": "http.response.body", "body": b""})

    def _begin(self, start: Any, body: bytes, more: bool) -> None:
        status: int = start["status"]
        fields = _fields(tuple(start["headers"]))
        parts = [STATUS_LINE[status], _fields(tuple(self.default_headers)).text, fields.text]
        self.response_started = True
        self.waiting_for_100_continue = False
        if fields.closes:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")
        self.chunked_encoding = more
        if more:
            parts.append(b"transfer-encoding: chunked\r\n\r\n")
            parts.append(b"%x\r\n%b\r\n" % (len(body), body) if body else b"")
        elif status in _BODILESS:
            parts.append(b"\r\n")
        else:
            parts.append(b"content-length: %d\r\n\r\n" % len(body))
            if self.scope["method"] != "HEAD":
                if len(body) > LARGE:  # still one write, without one more copy
                    self.holds = len(body)
                    self.transport.writelines([b"".join(parts), body])
                    return
                parts.append(body)
        self.transport.write(b"".join(parts))

    def _continue(self, body: bytes, more: bool) -> None:
        piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        self.transport.write(piece if more else piece + b"0\r\n\r\n")

    def _end(self) -> None:
        self.response_complete = True
        self.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class _Fields(NamedTuple):
    text: bytes
    closes: bool


@functools.lru_cache(256)
def _fields(headers: tuple[tuple[bytes, bytes], ...]) -> _Fields:
    """Headers as text. Raises ``ValueError`` for one that would break the framing; the length is never the caller's to say."""
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name == b"content-length":
            raise ValueError("a header of a response is malformed")
    closes = any(name == b"connection" and b"close" in value.lower() for name, value in headers)
    return _Fields(b"".join(b"%b: %b\r\n" % header for header in headers), closes)
