"""The answer to one POST: plain JSON, or an event stream as soon as something must be said before the result.

The rule: a stream begins only for a client that accepts one, and ends with exactly one reply, or with none when the client has
cancelled its call. What goes on a stream of a session is kept for a client that loses its connection.
Source: basic/transports, "Sending Messages to the Server", of 2025-03-26 and later.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from vmcp.errors import Code, McpError
from vmcp.protocol import jsonrpc, sse
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.server.asgi import AS_EVENTS, AS_JSON, Header, Send
from vmcp.server.journal import Track
from vmcp.server.pulse import Pulse
from vmcp.server.sessions import Session, wanted


class Stream:
    """The response to one request; it is also the ``Client`` of the call. ``level`` is ``Peer.level``."""

    __slots__ = (
        "_done",
        "_extra",
        "_level",
        "_pulse",
        "_send",
        "_session",
        "_started",
        "_streams",
        "_track",
        "can_ask",
        "spoke",
    )

    def __init__(
        self,
        send: Send,
        pulse: Pulse,
        extra: list[Header],
        *,
        streams: bool,
        level: str | None = None,
        session: Session | None = None,
    ) -> None:
        self._send = send
        self._pulse = pulse
        self._extra = extra
        self._streams = streams
        self._level = level
        self._session = session
        self._track: Track | None = None
        self._started = False
        self._done = False
        self.can_ask = session is not None and (streams or len(session.standing) > 0) and session.voice.can_ask
        self.spoke = 0.0
        if streams:
            pulse.streams.add(self)

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """See ``Client``."""
        if not self._streams or (method == "notifications/message" and not wanted(params, self._level)):
            return
        await self._say(jsonrpc.notification(method, params))

    async def ask(self, question: Question) -> Raw:
        """See ``Client``: on this stream, or on a standing one when the client accepts none here."""
        if self._session is None:
            raise McpError(Code.METHOD_NOT_FOUND, "the client cannot be asked while its call is in flight")
        say = self._say if self._streams else self._session.standing.say
        return await self._session.voice.ask(say, question)

    async def breathe(self) -> None:
        """Say nothing, so that it is heard."""
        if self in self._pulse.streams:
            await self._begin()
            await self._write(sse.comment(b""))

    async def _say(self, message: bytes) -> None:
        if self._done:
            return
        await self._begin()
        track = self._track
        if track is None:
            await self._write(sse.encode(message))
        elif self._session is not None:
            text = self._session.journal.add(track, message)
            if track.reader is None:
                await self._write(text)

    async def _begin(self) -> None:
        if self._started:
            return
        self._started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*AS_EVENTS, *self._extra]})
        if self._session is not None:
            self._track = self._session.journal.open()
            if self._session.revision >= Revision.V2025_11_25:
                await self._write(self._track.prime())

    async def _write(self, text: bytes) -> None:
        self.spoke = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": text, "more_body": True})

    async def finish(self, status: int, message: bytes, more: list[Header] | None = None) -> None:
        """Send the reply and end. ``more`` are headers, which only an answer that was not streamed still can have."""
        self.leave()
        if self._started:
            await self._send({"type": "http.response.body", "body": self._last(message), "more_body": False})
        else:
            headers = [*AS_JSON, *self._extra, *(more or ())]
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": message})

    def _last(self, message: bytes) -> bytes:
        """The reply as the last event; nothing when somebody else passes it on."""
        track = self._track
        if track is None or self._session is None:
            return sse.encode(message)
        text = self._session.journal.add(track, message)
        self._session.journal.finish(track)
        return text if track.reader is None else b""

    async def abandon(self, message: bytes) -> None:
        """End without a reply, as the call was cancelled; ``message`` is for who accepts JSON only."""
        if not self._streams:
            await self.finish(200, message)
            return
        self.leave()
        if not self._started:
            await self._send({"type": "http.response.start", "status": 200, "headers": [*AS_EVENTS, *self._extra]})
        elif self._track is not None and self._session is not None:
            self._session.journal.forget(self._track)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def leave(self) -> None:
        """Nothing more will be said here."""
        self._done = True
        self._pulse.streams.discard(self)
