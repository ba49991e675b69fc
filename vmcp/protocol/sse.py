"""Server-sent events as bytes: an incremental parser and an encoder.

Rule: lines end at CR, LF or CRLF and nowhere else (WHATWG HTML 9.2.6), however the stream was cut into chunks.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vmcp.errors import WireError
from vmcp.protocol.jsonrpc import one_line

_BOM = b"\xef\xbb\xbf"
_OPENINGS = (b"event: message\r\ndata: ", b"event: message\ndata: ", b"data: ")
# Characters that JSON allows raw inside strings, but at which many clients split lines.
_SPLITTERS = (
    (b"\xe2\x80\xa8", rb"\u2028"),
    (b"\xe2\x80\xa9", rb"\u2029"),
    (b"\xc2\x85", rb"\u0085"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``id`` is the last event id in effect when it was dispatched, empty if there is none."""

    data: bytes
    event: bytes = b"message"
    id: bytes = b""


class Parser:
    """Turns chunks into events. ``last_id`` and ``retry`` (milliseconds) are what a reconnection needs.

    ``last_id`` is that of the last event which was complete: one that was cut off has to come again. Its owner alone feeds
    it; after a ``WireError`` it is of no further use.
    """

    def __init__(self, max_line: int = 1 << 20, max_event: int = 16 << 20) -> None:
        self.last_id = b""
        self.retry: int | None = None
        self._max_line = max_line
        self._max_event = max_event
        self._fresh = True
        self._skip_lf = False
        self._tail: list[bytes] = []
        self._tail_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._kind = b""
        self._id = b""

    def renew(self) -> None:
        """A new stream takes up where the last one ended: what was incomplete is forgotten, ``last_id`` and ``retry`` stay."""
        self._fresh, self._skip_lf = True, False
        self._tail, self._tail_size = [], 0
        self._data, self._data_size = [], 0
        self._kind, self._id = b"", self.last_id

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end within ``chunk``."""
        if not (self._tail or self._data or self._kind or self._skip_lf or self._fresh):
            whole = self._whole(chunk)
            if whole is not None:
                return [whole]
        return self._lines(self._trimmed(chunk))

    def _whole(self, chunk: bytes) -> Event | None:
        """The fast path: a chunk which is exactly one message of one data line."""
        end = len(chunk) - (4 if chunk.endswith(b"\r\n\r\n") else 2)
        if not chunk.endswith((b"\n\n", b"\r\n\r\n")):
            return None
        for opening in _OPENINGS:
            if chunk.startswith(opening):
                start = len(opening)
                plain = start <= end and chunk.find(b"\n", start, end) < 0 and chunk.find(b"\r", start, end) < 0
                if not plain or end - start + 6 > min(self._max_line, self._max_event):
                    return None
                self.last_id = self._id
                return Event(chunk[start:end], b"message", self.last_id)
        return None

    def _trimmed(self, chunk: bytes) -> bytes:
        """``chunk`` without a byte order mark at the very start, and without the LF of a CRLF cut in two."""
        if self._fresh and chunk:
            chunk = b"".join((*self._tail, chunk))
            self._tail, self._tail_size = [], 0
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._tail, self._tail_size = [chunk], len(chunk)
                return b""
            self._fresh = False
            chunk = chunk.removeprefix(_BOM)
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        return chunk

    def _lines(self, chunk: bytes) -> list[Event]:
        if not chunk:
            return []
        lines = chunk.splitlines()  # on bytes: CR, LF and CRLF only
        self._skip_lf = chunk.endswith(b"\r")
        rest = b"" if chunk.endswith((b"\r", b"\n")) else lines.pop()
        if lines and self._tail:
            lines[0] = b"".join((*self._tail, lines[0]))
            self._tail, self._tail_size = [], 0
        events = self._read(lines)
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
            self._check_line(self._tail_size)
        return events

    def _read(self, lines: Iterable[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if line:
                self._check_line(len(line))
                self._field(line)
            else:
                self.last_id = self._id
                if self._data:
                    events.append(Event(b"\n".join(self._data), self._kind or b"message", self.last_id))
                    self._data, self._data_size = [], 0
                self._kind = b""
        return events

    def _check_line(self, size: int) -> None:
        if size > self._max_line:
            raise WireError(f"an event stream has a line of more than {self._max_line} bytes")

    def _field(self, line: bytes) -> None:
        if line.startswith(b"data: "):  # it may be large, and is copied but once
            name, value = b"data", line[6:]
        else:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_size += len(line)
            if self._data_size > self._max_event:
                raise WireError(f"an event stream has an event of more than {self._max_event} bytes")
        elif name == b"event":
            self._kind = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry = int(value)


def encode(data: bytes, event: bytes = b"message", id: bytes | None = None, retry: int | None = None) -> bytes:
    """One event of one data line. ``data`` is JSON; what clients may take for a line end is escaped."""
    data = one_line(data)
    head = b"event: " + event
    if id is not None:
        head += b"\nid: " + id
    if retry is not None:
        head += b"\nretry: %d" % retry
    if not data.isascii():
        for raw, escaped in _SPLITTERS:
            data = data.replace(raw, escaped)
    fields = 1 + (id is not None) + (retry is not None)
    if b"\r" in head or head.count(b"\n") != fields - 1 or b"\0" in (id or b""):
        raise WireError("an event cannot hold a line end, nor its id a NUL")
    return b"".join((head, b"\ndata: ", data, b"\n\n"))


def comment(text: bytes) -> bytes:
    """A comment, which clients skip: it keeps a silent stream alive."""
    if b"\r" in text or b"\n" in text:
        raise WireError("a comment of an event stream cannot hold a line end")
    return b": " + text + b"\n\n"
