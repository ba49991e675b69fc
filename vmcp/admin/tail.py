"""The last lines of the log, for who comes when it has scrolled away.

The rule: so many lines and no more, none of them endless; what is kept is what was written, nothing else.
"""

import logging
from collections import deque
from typing import Final

import msgspec

from vmcp.state.estate import Estate

KEPT: Final = 1000
LONGEST: Final = 4096
FEW: Final = 100
"""Lines that one process leaves for another."""


class Tail(logging.Handler):
    """Keeps what passes, as ``formatter`` writes it."""

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._lines: deque[str] = deque(maxlen=KEPT)
        self.count = 0
        """How many there have been."""

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        self._lines.append(self.format(record)[:LONGEST])
        self.count += 1

    def last(self, most: int, since: int = 0) -> list[str]:
        """The last lines, at most so many, and none of the first ``since``."""
        wanted = max(0, min(most, self.count - since, len(self._lines)))
        return list(self._lines)[len(self._lines) - wanted :]

    def numbered(self, since: int = 0) -> list[tuple[int, str]]:
        """Those that are kept and came after a number, each with its own."""
        lines = self.last(KEPT, since)
        return list(enumerate(lines, self.count - len(lines) + 1))


class Left(Tail):
    """Keeps them where another process finds them: few come, and each may be the last."""

    def __init__(self, estate: Estate, formatter: logging.Formatter | None = None) -> None:
        super().__init__(formatter)
        self._estate = estate

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        super().emit(record)
        self._estate.put(msgspec.msgpack.encode(self.numbered()[-FEW:]))
