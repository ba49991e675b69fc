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


Welcome = Callable[[str, Identity | None], bool]
"""Whether something at an endpoint may be open for somebody."""


class Expiring:
    """While the block runs: call ``end`` once, when the identity that ``who`` gives has ended, or is not welcome any more."""

    __slots__ = ("_end", "_ended", "_guests", "_path", "_timer", "_who")

    def __init__(
        self,
        who: Callable[[], Identity | None],
        end: Callable[[], None],
        path: str = "",
        guests: "Guests | None" = None,
    ) -> None:
        self._who = who
        self._end = end
        self._path = path
        self._guests = guests
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._look()
        if self._guests is not None:
            self._guests.enter(self)

    def __exit__(self, *_: object) -> None:
        if self._guests is not None:
            self._guests.leave(self)
        if self._timer is not None:
            self._timer.cancel()

    def review(self, welcome: Welcome) -> bool:
        """End it, if whom it is open for is not welcome; whether that was so."""
        if self._ended or welcome(self._path, self._who()):
            return False
        self._stop()
        return True

    def _stop(self) -> None:
        if not self._ended:
            self._ended = True
            self._end()

    def _look(self) -> None:
        seconds = left(self._who())
        if seconds is None:
            return
        if seconds <= 0:
            self._stop()
        else:
            self._timer = asyncio.get_running_loop().call_later(min(seconds + 0.01, LONGEST), self._look)


class Guests:
    """All that stands open for somebody, as long as he is ``welcome``. Mutable."""

    def __init__(self, welcome: Welcome = lambda _path, _who: True) -> None:
        self._open: set[Expiring] = set()
        self._welcome = welcome

    def __len__(self) -> int:
        return len(self._open)

    def stay(self, path: str, who: Callable[[], Identity | None], end: Callable[[], None]) -> Expiring:
        """For the block in which something is open at an endpoint (empty: wherever that is); see ``Expiring``."""
        return Expiring(who, end, path, self)

    def enter(self, one: Expiring) -> None:
        """Another one. He may have been let in by a configuration that has been replaced meanwhile."""
        self._open.add(one)
        one.review(self._welcome)

    def leave(self, one: Expiring) -> None:
        """He is gone."""
        self._open.discard(one)

    def review(self) -> int:
        """Who is welcome has changed; how many had to leave."""
        return sum(each.review(self._welcome) for each in list(self._open))
