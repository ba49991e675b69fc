"""From bytes to one HTTP/1.1 response: httptools does the syntax, this file what a gateway must refuse beyond it.

Rule: when in doubt about where a message ends (RFC 9112, 6.3), it is an error, and its connection never serves another.
"""

import re
from math import inf

import httptools

from vmcp.errors import WireError

HEAD_BYTES = 64 << 10
HEAD_COUNT = 200
INTERIM_COUNT = 8
_PARTS = 8
_KEEP_ALIVE = re.compile(rb"timeout=(\d{1,8})\b")
_WATCHED = frozenset({b"content-encoding", b"transfer-encoding", b"content-length", b"keep-alive"})


class Message:
    """What has come of one response so far. Only the framer of its connection and its reader change it."""

    __slots__ = ("headers", "parts", "size", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes | bytearray] = []
        self.size = 0


class Framer:
    """The parser of one connection, which fills one ``Message`` after the other.

    ``headed``: its final head is there; ``complete``: so is its end; ``reusable``: and the next one may follow.
    """

    __slots__ = (
        "_bodiless",
        "_framed",
        "_interims",
        "_message",
        "_name",
        "_parser",
        "_quiet",
        "_reason",
        "complete",
        "headed",
        "keep_alive",
        "received",
        "reusable",
        "until_close",
    )

    def __init__(self, name: str) -> None:
        self._name = name
        self._parser = httptools.HttpResponseParser(self)
        self.keep_alive = inf
        self.begin(Message(), bodiless=False)

    def begin(self, message: Message, bodiless: bool) -> None:
        """What comes next is ``message``; ``bodiless`` if it answers a HEAD."""
        self._message = message
        self._bodiless = bodiless
        self.headed = self.complete = self.reusable = self.until_close = self._framed = False
        self.received = self._quiet = self._interims = 0
        self._reason: WireError | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes; raises ``WireError`` when they cannot be the message awaited."""
        size = len(data)
        self.received += size
        self._quiet += size
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.reusable = False
            if not self.complete:
                raise self._reason or self.broken("is no valid HTTP") from error
        if self._quiet > HEAD_BYTES and not self.complete:
            # An endless head, chunk extension or trailer: bytes without any of the body among them.
            raise self.broken(f"has more than {HEAD_BYTES} bytes of framing at a time")

    def ended_beside(self) -> None:
        """The rest of the body came another way. The parser, which still waits for it, is of no more use."""
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self.complete = True
        self._parser = httptools.HttpResponseParser(self)

    def broken(self, how: str) -> WireError:
        """The error for a response that ``how``."""
        return WireError(f"the response of backend '{self._name}' {how}")

    def _refuse(self, how: str) -> WireError:
        # The parser hides what its callbacks raise, so it is kept beside.
        self._reason = self.broken(how)
        return self._reason

    # ---- the parser's callbacks

    def on_message_begin(self) -> None:
        """A status line begins; after a complete response nobody asked for it."""
        if self.complete:
            raise self._refuse("is followed by another")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer (which is dropped)."""
        if not self.headed:
            self._message.headers.append((name.lower(), value))

    def _check_head(self) -> None:
        """Look at a head as a whole, once: this is the hot path."""
        headers = self._message.headers
        if len(headers) > HEAD_COUNT:
            raise self._refuse(f"has more than {HEAD_COUNT} headers")
        for name, value in headers:
            if name in _WATCHED:
                self._watch(name, value.strip().lower())

    def _watch(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            if value != b"chunked" or self._framed:
                raise self._refuse("has a transfer coding other than chunked")
            self._framed = True
        elif name == b"content-encoding":
            if value not in (b"", b"identity"):
                raise self._refuse("is compressed, though identity was asked for")
        elif found := _KEEP_ALIVE.match(value):
            # The peer says when it closes idle connections: be a second earlier, or its FIN and our request cross.
            self.keep_alive = max(int(found[1]) - 1.0, 0.5)

    def on_headers_complete(self) -> None:
        """A head ends: decide whether it is the final one and what body follows."""
        status = self._parser.get_status_code()
        self._check_head()
        if status < 200:
            self._interim(status)
            return
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise self._refuse("has an HTTP version that was not asked for")
        self._message.status = status
        self.headed = True
        self.until_close = not self._framed and status not in (204, 304)
        self.reusable = version == "1.1" and not self._bodiless
        self.complete = self._bodiless

    def _interim(self, status: int) -> None:
        self._interims += 1
        if status == 101:
            raise self._refuse("switches protocols")
        if status < 100 or self._interims > INTERIM_COUNT:
            raise self._refuse("has no final status")
        self._message.headers.clear()
        self._framed = False

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            return
        self._quiet = 0
        message = self._message
        message.size += len(data)
        parts = message.parts
        if len(parts) < _PARTS:
            parts.append(data)
        elif isinstance(last := parts[-1], bytearray):
            last += data
        else:
            # A peer that sends crumbs would cost us a bytes object for each, and what is large would be joined at last.
            parts.append(bytearray(data))

    def on_message_complete(self) -> None:
        """The response ends here, or an interim one did."""
        if self.headed:
            self.reusable = self.reusable and not self.complete and self._parser.should_keep_alive()
            self.complete = True
