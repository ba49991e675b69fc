"""The standing streams of a session (GET): what belongs to no request, and what is left of a stream that was cut off.

The rule: a message goes out on one stream, the newest; while there is none it waits, and what says the same twice is said once.
Source: basic/transports "Listening for Messages from the Server" of 2025-03-26 to 2025-11-25.
"""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from vmcp.errors import Code, McpError
from vmcp.protocol import jsonrpc, sse
from vmcp.server.asgi import AS_EVENTS, Header, Send
from vmcp.server.journal import Journal, Track
from vmcp.server.pulse import Pulse

WAITING = 256
"""Messages that wait for a stream; then the oldest is dropped."""
BYTES = 256 << 10
"""Bytes of them, unless the newest alone has more."""
STREAMS = 4
"""Streams that a session may hold open; then the oldest is ended."""


class Standing:
    """What waits for a session, and where it goes. Mutable; used by the session's transport and the hub."""

    __slots__ = ("_journal", "_numbers", "_size", "_tracks", "_waiting")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._numbers = itertools.count()
        self._tracks: list[Track] = []
        self._waiting: dict[object, bytes] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._tracks)

    def put(self, method: str, params: Mapping[str, Any]) -> None:
        """Say a notification as soon as there is a stream; never blocks."""
        key, message = self._key(method, params), jsonrpc.notification(method, params or None)
        self._size += len(message) - len(self._waiting.get(key, b""))
        self._waiting[key] = message
        while len(self._waiting) > WAITING or (self._size > BYTES and len(self._waiting) > 1):
            self._size -= len(self._waiting.pop(next(iter(self._waiting))))
        if self._tracks:
            self._tracks[-1].wake()

    def _key(self, method: str, params: Mapping[str, Any]) -> object:
        if method.endswith("/list_changed"):
            return method
        return jsonrpc.encode(params.get("uri")) if method == "notifications/resources/updated" else next(self._numbers)

    async def say(self, message: bytes) -> None:
        """Say ``message`` now. Raises ``McpError`` when there is no stream."""
        if not self._tracks:
            why = "the client has no stream open on which it could be asked"
            raise McpError(Code.INTERNAL_ERROR, why, vmcp_code=Code.TRANSPORT_ERROR)
        self._journal.add(self._tracks[-1], message)

    def enter(self, track: Track) -> None:
        """A client listens on ``track`` for whatever there is."""
        if track in self._tracks:
            self._tracks.remove(track)
        self._tracks.append(track)
        if len(self._tracks) > STREAMS:
            self._journal.finish(self._tracks.pop(0))

    def leave(self, track: Track) -> None:
        """Nobody listens on ``track`` for now; its client may come back to it."""
        if track in self._tracks:
            self._tracks.remove(track)

    def feed(self, track: Track) -> None:
        """Put what waits on ``track``, if it is the newest."""
        if self._tracks and self._tracks[-1] is track:
            waiting, self._waiting, self._size = self._waiting, {}, 0
            for message in waiting.values():
                self._journal.add(track, message)

    def close(self) -> None:
        """End every stream."""
        for track in self._tracks:
            self._journal.finish(track)
        self._tracks.clear()


class Reader:
    """One GET of a client: passes on what its track holds and will hold. See ``journal.Reading``, ``pulse.Breathing``."""

    def __init__(self, track: Track, place: int, standing: Standing | None, send: Send, pulse: Pulse) -> None:
        self._track = track
        self._place = place
        self._standing = standing
        self._send = send
        self._pulse = pulse
        self._news = asyncio.Event()
        self.spoke = 0.0

    def wake(self) -> None:
        """See ``Reading``."""
        self._news.set()

    def stop(self) -> None:
        """End the stream; its client may come back to the place."""
        self._leave()
        self.wake()

    async def breathe(self) -> None:
        """See ``Breathing``."""
        if self in self._pulse.streams:
            await self._write(sse.comment(b""))

    async def run(self, extra: list[Header], *, primed: bool) -> None:
        """Serve the stream to its end. ``primed``: the client knows what an event without data is."""
        track = self._track
        before, track.reader = track.reader, self
        if before is not None:
            before.wake()
        if self._standing is not None:
            self._standing.enter(track)
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": [*AS_EVENTS, *extra]})
            await self._write(track.prime() if primed and not self._place else sse.comment(b""))
            self._pulse.streams.add(self)
            await self._pass_on()
        finally:
            self._leave()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_on(self) -> None:
        """Write until nothing more will come, another reader has taken over, or we are so late that something is gone."""
        track = self._track
        while track.reader is self:
            self._news.clear()
            if self._standing is not None:
                self._standing.feed(track)
            done, events = track.done, track.after(self._place)
            if events is None:
                return
            for place, text in events:
                await self._write(text)
                self._place = place
            if not events:
                if done:
                    return
                await self._news.wait()

    def _leave(self) -> None:
        self._pulse.streams.discard(self)
        if self._track.reader is self:
            self._track.reader = None
            if self._standing is not None:
                self._standing.leave(self._track)

    async def _write(self, text: bytes) -> None:
        self.spoke = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": text, "more_body": True})
