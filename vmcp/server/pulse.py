"""Keeps streams alive: whoever was silent for a while gets a comment, so that nobody between us takes it for dead.

The rule: one task looks after all streams of the process; none has a timer of its own.
"""

import asyncio
from typing import Protocol

from vmcp.tasks import Nest

QUIET = 15.0
"""Seconds of silence after which a client gets a comment."""


class Breathing(Protocol):
    """A stream that must not be silent for long. ``spoke`` is the loop time of the last word on it; 0 on a new one."""

    spoke: float

    async def breathe(self) -> None:
        """Say nothing, so that it is heard."""


class Pulse:
    """Mutable; one for the whole server. ``streams`` are those that are looked after."""

    def __init__(self, nest: Nest) -> None:
        self.streams: set[Breathing] = set()
        self._nest = nest

    async def run(self) -> None:
        """Look after the streams until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(QUIET / 4)
            self._look(now())

    def _look(self, now: float) -> None:
        """One round; what it looked at is not kept until the next."""
        for stream in [stream for stream in self.streams if stream.spoke < now - QUIET]:
            if not stream.spoke:
                stream.spoke = now
                continue
            # A task each: a client that does not read must not keep the others waiting.
            stream.spoke = now
            self._nest.start(stream.breathe(), "breath")
