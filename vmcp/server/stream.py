"""The answer to one POST: plain JSON, or an event stream as soon as something must be said before the result.

The rule: a stream begins only for a client that accepts one, and ends with exactly one reply.
Source: basic/transports, "Sending Messages to the Server", of 2025-03-26 and later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from vmcp.protocol import envelope, jsonrpc, sse
from vmcp.tasks import Nest

Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

QUIET = 15.0
"""Seconds of silence after which a client gets a comment, so that nobody between us takes the connection for dead."""

_JSON: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_SSE: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)


class Pulse:
    """Keeps streams alive: whoever was silent for ``QUIET`` seconds gets a comment. Mutable; one for the whole server."""

    def __init__(self, nest: Nest) -> None:
        self.streams: set[Stream] = set()
        self._nest = nest

    async def run(self) -> None:
        """Look after the streams until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(QUIET / 4)
            latest = now() - QUIET
            for stream in [stream for stream in self.streams if stream.spoke < latest]:
                # A task each: a client that does not read must not keep the others waiting.
                stream.spoke = latest + QUIET
                self._nest.start(stream.breathe(), "breath")


class Stream:
    """The response to one request; it is also the ``Client`` of the call. ``level`` is ``Peer.level``."""

    __slots__ = ("_extra", "_level", "_pulse", "_send", "_started", "_streams", "spoke")

    def __init__(
        self, send: Send, pulse: Pulse, extra: list[Header], *, streams: bool, level: str | None = None
    ) -> None:
        self._send = send
        self._pulse = pulse
        self._extra = extra
        self._streams = streams
        self._level = level
        self._started = False
        self.spoke = asyncio.get_running_loop().time()
        if streams:
            pulse.streams.add(self)

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """See ``Client``."""
        if not self._streams or (method == "notifications/message" and not self._wanted(params)):
            return
        await self._say(sse.encode(jsonrpc.notification(method, params)))

    def _wanted(self, params: Mapping[str, Any]) -> bool:
        level = params.get("level", jsonrpc.NONE)
        return envelope.allows(msgspec.json.decode(level) if level else None, self._level)

    async def breathe(self) -> None:
        """Say nothing, so that it is heard."""
        if self in self._pulse.streams:
            await self._say(sse.comment(b""))

    async def _say(self, text: bytes) -> None:
        self.spoke = asyncio.get_running_loop().time()
        if not self._started:
            self._started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": [*_SSE, *self._extra]})
        await self._send({"type": "http.response.body", "body": text, "more_body": True})

    async def finish(self, status: int, message: bytes, more: list[Header] | None = None) -> None:
        """Send the reply and end. ``more`` are headers, which only an answer that was not streamed still can have."""
        self.leave()
        if self._started:
            await self._send({"type": "http.response.body", "body": sse.encode(message), "more_body": False})
        else:
            headers = [*_JSON, *self._extra, *(more or ())]
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": message})

    def leave(self) -> None:
        """Nothing more will be said here."""
        self._pulse.streams.discard(self)
