"""One request and its response on a connection of uvicorn's, with the response written as few times as it can be.

The rule: a response whose body is known when it begins is one write; its head is checked and put together once for each set of
headers that the house uses (uvicorn checks every header of every response and writes twice, which costs 8 µs of a call's 80).
"""

import asyncio
import functools
import re
from typing import Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_BODILESS = frozenset({204, 304})


class Cycle(RequestResponseCycle):
    """See uvicorn; only ``send`` differs. ``task`` is what serves the request."""

    task: "asyncio.Task[None] | None" = None
    _begun: Any = None

    async def send(self, message: Any) -> None:
        """Hold the head back until its first piece of body is there; then write both at once."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.response_complete:
            return
        if message["type"] == "http.response.start":
            self._begun = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.response_started:
            self._continue(body, more)
        else:
            self._begin(self._begun, body, more)
        if not more:
            self._end()

    async def send_500_response(self) -> None:
        """An application has failed before it answered; the log has why."""
        await self.send({"type": "http.response.start", "status": 500, "headers": [(b"connection", b"close")]})
        await self.send({"type": "http.response.body", "body": b""})

    def _begin(self, start: Any, body: bytes, more: bool) -> None:
        status: int = start["status"]
        fields = _fields(tuple(start["headers"]))
        parts = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in self.default_headers), fields.text]
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
                parts.append(body)
        self.transport.write(b"".join(parts))

    def _continue(self, body: bytes, more: bool) -> None:
        piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        self.transport.write(piece if more else piece + b"0\r\n\r\n")

    def _end(self) -> None:
        self.response_complete = True
        self.message_event.set()
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
