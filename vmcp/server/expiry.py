"""The end of a stream whose client's token has ended: what stands open must not outlive what it was opened by.

The rule: a newer token of the same principal on the same connection counts; the clock is looked at again when the timer rings.
"""

import asyncio
import time
from collections.abc import Callable

from vmcp.call import Identity

LONGEST = 3600.0
"""Seconds between two looks at the clock, which somebody may set."""


def left(identity: Identity | None) -> float | None:
    """Seconds until an identity ends; None: it does not."""
    return None if identity is None or identity.expires is None else identity.expires - time.time()


class Expiring:
    """While the block runs: call ``end`` once, when the identity that ``who`` gives has ended."""

    __slots__ = ("_end", "_timer", "_who")

    def __init__(self, who: Callable[[], Identity | None], end: Callable[[], None]) -> None:
        self._who = who
        self._end = end
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._look()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        seconds = left(self._who())
        if seconds is None:
            return
        if seconds <= 0:
            self._end()
        else:
            self._timer = asyncio.get_running_loop().call_later(min(seconds + 0.01, LONGEST), self._look)
