"""How much may be tried again: a share of what is asked, so that retries never become a load of their own.

The rule: pure. Whoever owns a budget counts its requests here and asks before each retry.
"""

from typing import Final

SHARE: Final = 0.2
LEAST: Final = 3
"""Retries in a window, however little is asked."""
WINDOW: Final = 10.0
"""Seconds."""


class Budget:
    """Mutable. ``requests`` counts what was asked, and is increased by the owner."""

    __slots__ = ("_at", "_recent", "_since", "requests", "spent", "taken")

    def __init__(self) -> None:
        self.requests = 0
        self.taken = 0
        """Retries so far."""
        self.spent = 0
        """Retries in this window."""
        self._at = float("-inf")
        self._since = 0
        self._recent = 0.0

    def take(self, now: float) -> bool:
        """Whether one more retry is within the budget; if so, it counts."""
        if now - self._at >= WINDOW:
            self._turn(now)
        asked = max(self._recent, self.requests - self._since)
        if self.spent >= max(LEAST, SHARE * asked):
            return False
        self.spent += 1
        self.taken += 1
        return True

    def _turn(self, now: float) -> None:
        """A window begins. What was asked within one on the average since the last one began is the measure for it."""
        elapsed = now - self._at
        self._recent = (self.requests - self._since) * WINDOW / elapsed
        self._at, self._since, self.spent = now, self.requests, 0
