"""A stream of bytes cut into messages: one a line, or each behind a ``Content-Length`` head as language servers do it.

The rule: a JSON text of MCP begins with a brace, so a line that begins like a head can be nothing else; what is cut is handed
on in order, and a message over the limit ends the stream.
"""

import re
from collections.abc import Iterator

from vmcp.errors import WireError

MAX_HEAD = 16
"""Lines of one head."""
_LENGTH = re.compile(rb"(?i)content-length:[ \t]*([0-9]{1,12})[ \t]*\r?")
_OPENING = b"content-"


class Cutter:
    """Cuts what it is fed. ``framed``: the latest message came behind a head. Its owner alone feeds it."""

    __slots__ = ("_awaited", "_buffer", "_detects", "_head", "_length", "_limit", "framed")

    def __init__(self, limit: int, *, detects: bool = True) -> None:
        self.framed = False
        self._limit = limit
        self._detects = detects
        self._buffer = bytearray()
        self._head = 0  # lines of a head that were read; 0 when there is none
        self._length = 0
        self._awaited = 0  # bytes of a body; 0 when lines are read

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that end within ``data``, blank lines among them. Raises ``WireError`` where one is too long."""
        buffer, start = self._buffer, 0
        while True:
            end = data.find(b"\n", start) if not self._awaited else start + self._awaited - len(buffer)
            if end < 0 or end > len(data):
                buffer += data[start:]
                break
            piece = data[start:end]
            if buffer:
                buffer += piece
                piece = bytes(buffer)
                buffer.clear()
            if self._awaited:
                start, self._awaited, self.framed = end, 0, piece[:1] in (b"{", b"[")
                yield piece
            else:
                start = end + 1
                if self._is_message(piece):
                    yield piece
        if not self._awaited:
            self._check(len(buffer))

    @property
    def pending(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self._buffer)

    def rest(self) -> bytes:
        """What came after the last message, once the stream has ended: a last line needs no end, a body does."""
        rest = b"" if self._awaited or self._head else bytes(self._buffer)
        self.clear()
        return rest

    def clear(self) -> None:
        """Forget what has come of a message that is not complete."""
        self._buffer.clear()
        self._head = self._awaited = 0

    def _is_message(self, line: bytes) -> bool:
        """Whether a line is a message; if it belongs to a head, that is read."""
        self._check(len(line))
        if not self._head and not (self._detects and line[:8].lower() == _OPENING):
            self.framed = self.framed and not line.startswith(b"{")
            return True
        if line.startswith(b"{"):
            self._head = 0  # what looked like a head was somebody's chatter
            return True
        if not self._head:
            self._length = 0
        self._head += 1
        if self._head > MAX_HEAD:
            raise WireError(f"a message has a head of more than {MAX_HEAD} lines")
        if found := _LENGTH.fullmatch(line):
            self._length = int(found[1])
            self._check(self._length)
        elif not line.strip():
            self._head, self._awaited = 0, self._length
        return False

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise WireError(f"a message has more than {self._limit} bytes")


def behind_head(body: bytes) -> bytes:
    """A message in the framing with a head."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
