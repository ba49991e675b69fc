"""What a child writes where no messages are expected: the last of it kept, and as much in the log as somebody can read.

The rule: whatever comes is taken at once and costs no more than a copy; the memory is bounded, and so are the lines of log in a
second. What is left out there is counted, and the log says how much it was.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final

from vmcp.upstream.inbox import printable

log = logging.getLogger("vmcp.upstream.stdio")

KEPT: Final = 64 << 10
"""Bytes of stderr that are remembered."""
LONGEST: Final = 2048
"""Bytes of one line that are shown."""
LINES: Final = 100
"""Lines of one child in the log within a second."""


class Pace:
    """At most ``LINES`` in each second. Mutable; ``now`` is a clock that never goes back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since = now()
        self._room = LINES
        self._skipped = 0

    def room(self) -> tuple[int, int]:
        """How many may come now, and how many were skipped in the seconds before, which is told only once."""
        now, skipped = self._now(), 0
        if now - self._since >= 1.0:
            self._since, self._room = now, LINES
            skipped, self._skipped = self._skipped, 0
        return self._room, skipped

    def took(self, came: int, skipped: int) -> None:
        """So many came, and so many were skipped."""
        self._room -= came
        self._skipped += skipped


class Complaints:
    """The stderr of the backend ``name``. Mutable."""

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self._name = name
        self._kept = bytearray()
        self._line = b""
        self._secrets: list[bytes] = []
        self._pace = Pace(now)

    def hide(self, secrets: Iterable[str]) -> None:
        """Say nothing of these from now on, whatever comes."""
        self._secrets = sorted((each.encode("utf-8", "surrogateescape") for each in secrets), key=len, reverse=True)

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._kept += data
        if len(self._kept) > 2 * KEPT:
            del self._kept[:-KEPT]
        if log.isEnabledFor(logging.DEBUG):
            self._log(data)

    def tail(self, most: int) -> list[str]:
        """The last lines that are not empty, at most so many."""
        lines = bytes(self._kept[-KEPT:]).split(b"\n")
        if len(self._kept) > KEPT:
            del lines[0]  # it begins somewhere
        return [text for line in lines if (text := self._shown(line))][-most:]

    def _shown(self, line: bytes) -> str:
        for secret in self._secrets:
            line = line.replace(secret, b"***")
        return printable(line)

    def _log(self, data: bytes) -> None:
        room, skipped = self._pace.room()
        if skipped:
            log.debug("stderr lines left out", extra={"backend": self._name, "lines": skipped})
        *lines, rest = (self._line + data).split(b"\n", room)
        over = rest.count(b"\n")
        self._pace.took(len(lines), over)
        self._line = rest[rest.rfind(b"\n") + 1 :][:LONGEST]
        for line in lines:
            if text := self._shown(line):
                log.debug("stderr", extra={"backend": self._name, "line": text})
