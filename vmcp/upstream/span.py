"""How long one request may take, and what its backend's words change about that.

The rule: any word ends a silence; a report of progress starts the whole time anew too, up to a limit of its own. Whoever says
that time is up names the limit that counted, with the value that the config gives it.
"""

from typing import Final

from vmcp.config.timeouts import Timeouts

PROGRESS: Final = "notifications/progress"
Limit = tuple[str, float]
"""The config key of a limit, and its seconds."""


class Span:
    """The time of one request that ends at ``at`` (loop time). ``limits`` None: it is no call, and nothing moves its end."""

    __slots__ = ("_latest", "_limits", "_moved", "_silence", "at")

    def __init__(self, limits: Timeouts | None, at: float) -> None:
        self.at = at
        self._limits = limits
        self._latest = at if limits is None else at - limits.total + limits.longest
        self._moved = False
        self._silence: Limit | None = None

    def heard(self, method: str, now: float) -> bool:
        """A notification came; whether it moved the end."""
        if method != PROGRESS or self._limits is None or self.at >= self._latest:
            return False
        self.at = max(self.at, min(now + self._limits.total, self._latest))
        self._moved = True
        return True

    def silent(self, key: str, seconds: float, now: float) -> float:
        """Until when nothing need be heard, if the limit ``key`` gives so many ``seconds`` for that."""
        assert self._limits is not None
        if now + seconds >= self.at:
            self._silence = None
            return self.at
        self._silence = f"{self._limits.place}.{key}", seconds
        return now + seconds

    def limit(self, began: float) -> Limit:
        """Which limit has passed, for what began at ``began``."""
        if self._silence is not None:
            return self._silence
        if self._limits is not None and self._moved and self.at >= self._latest:
            return f"{self._limits.place}.totalWithProgress", self._limits.longest
        return whole(self._limits, self.at - began)


def whole(limits: Timeouts | None, allowed: float) -> Limit:
    """The limit of the whole: as the config has it, or the seconds ``allowed`` where it is about something else than a call."""
    return ("timeouts.total", round(allowed, 3)) if limits is None else (f"{limits.place}.total", limits.total)
