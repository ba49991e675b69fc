"""What was said on the event streams of a session, so that a client which lost its connection can go on where it was.

The rule: an event id names one place on one stream of one session, and only that stream is replayed; what was dropped for want
of room is known to be missing, so that a client is refused and never silently given less.
Source: basic/transports "Resumability and Redelivery" of 2025-03-26 to 2025-11-25. No clock and no I/O in here.
"""

import secrets
from collections import OrderedDict, deque
from typing import Protocol

from vmcp.protocol import sse

EVENTS = 256
"""Events that a session keeps."""
BYTES = 1 << 20
"""Bytes that a session keeps, unless the newest event alone is larger."""
TOTAL = 64 << 20
"""Bytes that all sessions together keep."""
TRACKS = 64
"""Streams that a session remembers besides those that are still being written."""
RETRY = 1000
"""Milliseconds after which a client should come back."""


class Reading(Protocol):
    """Whoever passes a track on to the client."""

    def wake(self) -> None:
        """There is something new."""


class Shelf:
    """Where all journals of the process stand. When it is full, the one that was longest untouched is emptied."""

    def __init__(self, limit: int = TOTAL) -> None:
        self.size = 0
        self._limit = limit
        self._journals: OrderedDict[Journal, None] = OrderedDict()

    def touched(self, journal: "Journal") -> None:
        """``journal`` has grown."""
        self._journals[journal] = None
        self._journals.move_to_end(journal)
        while self.size > self._limit and self._journals:
            self._journals.popitem(last=False)[0].empty()

    def removed(self, journal: "Journal") -> None:
        """``journal`` is no more."""
        self._journals.pop(journal, None)


class Track:
    """One stream: what is kept of it, and who reads it. ``done``: nothing more will come; ``standing``: it is of a GET."""

    __slots__ = ("done", "events", "lost", "name", "reader", "standing", "told")

    def __init__(self, name: str, *, standing: bool = False) -> None:
        self.name = name
        self.standing = standing
        self.events: deque[tuple[int, bytes]] = deque()
        self.told = 0
        self.lost = 0
        self.done = False
        self.reader: Reading | None = None

    def id(self, place: int) -> bytes:
        """The event id of a place; 0 is before the first event."""
        return f"{self.name}-{place:x}".encode()

    def prime(self) -> bytes:
        """An event that says nothing but where the stream begins, and when to come back to it (2025-11-25)."""
        return sse.encode(b"", id=self.id(0), retry=RETRY)

    def after(self, place: int) -> list[tuple[int, bytes]] | None:
        """What followed ``place``; None when some of it is gone."""
        if place < self.lost:
            return None
        return [(number, text) for number, text in self.events if number > place]

    def wake(self) -> None:
        """Tell the reader, if there is one, that there is something new."""
        if self.reader is not None:
            self.reader.wake()


class Journal:
    """The streams of one session. Mutable; used by the streams themselves."""

    __slots__ = ("_kept", "_mark", "_number", "_order", "_shelf", "_tracks")

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._mark = ""
        self._number = 0
        self._kept = 0
        self._tracks: dict[str, Track] = {}
        self._order: deque[Track] = deque()

    def open(self, *, standing: bool = False) -> Track:
        """A new stream."""
        # The mark tells ids of this session from those of another, or of this one before a restart.
        self._mark = self._mark or secrets.token_hex(4)
        self._number += 1
        track = Track(f"{self._mark}-{self._number:x}", standing=standing)
        self._tracks[track.name] = track
        if len(self._tracks) > TRACKS:
            self._forget_oldest()
        return track

    def add(self, track: Track, message: bytes) -> bytes:
        """Keep ``message`` (JSON) as the next event of ``track``; the event as text."""
        track.told += 1
        text = sse.encode(message, id=track.id(track.told))
        if track.name in self._tracks:
            track.events.append((track.told, text))
            self._order.append(track)
            self._grow(len(text))
        else:
            track.lost = track.told
        track.wake()
        return text

    def find(self, id_: str) -> tuple[Track, int] | None:
        """The stream and the place that an event id names; None when it names none, or what followed is gone."""
        name, _, place = id_.rpartition("-")
        track = self._tracks.get(name)
        try:
            number = int(place, 16)
        except ValueError:
            return None
        if track is None or not track.lost <= number <= track.told or track.id(number) != id_.encode("latin-1"):
            return None
        return track, number

    def finish(self, track: Track) -> None:
        """Nothing more will come on ``track``."""
        track.done = True
        track.wake()

    def forget(self, track: Track) -> None:
        """Nobody may come back to ``track``."""
        self._drop(track)
        self._tracks.pop(track.name, None)
        self.finish(track)

    def empty(self) -> None:
        """Drop every event; who has read them all can still go on."""
        while self._order:
            self._evict()

    def close(self) -> None:
        """The session is over."""
        self.empty()
        for track in list(self._tracks.values()):
            self.finish(track)
        self._tracks.clear()
        self._shelf.removed(self)

    def _grow(self, size: int) -> None:
        self._kept += size
        self._shelf.size += size
        while len(self._order) > EVENTS or (self._kept > BYTES and len(self._order) > 1):
            self._evict()
        self._shelf.touched(self)

    def _evict(self) -> None:
        """Drop the oldest event of all: events of a track are as old as their places in both queues."""
        track = self._order.popleft()
        track.lost, text = track.events.popleft()
        self._kept -= len(text)
        self._shelf.size -= len(text)

    def _drop(self, track: Track) -> None:
        size = sum(len(text) for _, text in track.events)
        self._kept -= size
        self._shelf.size -= size
        if track.events:
            track.events.clear()
            self._order = deque(other for other in self._order if other is not track)
        track.lost = track.told

    def _forget_oldest(self) -> None:
        for track in self._tracks.values():
            if track.reader is None and (track.done or track.standing):
                self.forget(track)
                return
