"""How much is too much: what is turned away while the process has more to do than it can.

The rule: decisions only, on numbers that others measure; to turn a request away costs next to nothing, and it is told when to
come again. Health is not asked here. Three things are watched: requests whose answer has not begun, memory, and how late the
event loop is. Memory acts in steps, a late loop by degrees: the longer it is late, the larger is the part that is turned away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vmcp.config.model import Limits
from vmcp.errors import Code, McpError, Throttled
from vmcp.protocol import jsonrpc

STEPS: Final = (0.85, 0.90, 0.95)
"""Parts of the memory from which on: no new streams; no lists; nothing."""
CALMER: Final = 0.03
"""So far below its part a step ends."""
LATE: Final = 0.5
"""Seconds that the loop may be late."""
PATIENCE: Final = 1.0
"""Seconds that it may be so before anybody is turned away."""
MOST: Final = 0.9
"""The largest part that is turned away for it: some must pass to find out whether it is better."""
_LISTS = frozenset(
    {"tools/list", "prompts/list", "prompts/get", "resources/list", "resources/templates/list", "completion/complete"}
)
_STREAMS = frozenset({"subscriptions/listen", "resources/subscribe"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to a request that is turned away: its status, headers and body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def _refusal(key: str, why: str, seconds: int) -> Refusal:
    error = McpError(
        Code.INTERNAL_ERROR,
        f"{why} ({key}); try again in {seconds} s",
        {"retryAfter": seconds},
        vmcp_code=Code.GATEWAY_ERROR,
    )
    headers = (b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"retry-after", b"%d" % seconds)
    return Refusal(503, headers, jsonrpc.failure(jsonrpc.NULL, error))


_BUSY = _refusal("server.limits.requests", "too many requests are in flight", 1)
_BEHIND = _refusal("overload", "the gateway has too much to do", 1)
_FULL = _refusal("server.limits.memoryBytes", "the gateway is short of memory", 5)


class Load:
    """Mutable; told by the watch over the connections, about four times a second.

    ``ceiling``: only from so many tasks on ``refuses`` has to be asked. ``step`` is 0 to 3.
    """

    def __init__(self, limits: Limits, memory: int) -> None:
        self.step = 0
        self.ceiling = limits.requests
        self.refused = 0
        self._requests = limits.requests
        self._memory = memory
        self._begun = 0
        self._late_for = 0.0
        self._part = 0.0
        self._due = 0.0
        self._lag = 0.0
        self._used = 0

    @property
    def uneasy(self) -> bool:
        """Whether anything but the number of requests makes it turn somebody away."""
        return self.step > 0 or self._part > 0.0

    def turn(self, elapsed: float, lag: float, used: int, begun: int) -> bool:
        """``elapsed`` seconds after the last time the loop was ``lag`` late and ``used`` bytes were in use.

        ``begun`` answers stand open, and count no more. Whether the state has changed.
        """
        before = self.step, self._part > 0.0
        self._lag, self._used, self._begun = lag, used, begun
        self._measure(elapsed)
        share = used / self._memory
        above = sum(share >= step for step in STEPS)
        below = sum(share >= step - CALMER for step in STEPS)
        self.step = max(above, min(self.step, below))
        self.ceiling = 0 if self.uneasy else self._requests + begun
        return before != (self.step, self._part > 0.0)

    def _measure(self, elapsed: float) -> None:
        if self._lag > LATE:
            self._late_for += elapsed
        elif self._lag < LATE / 2:
            self._late_for = 0.0
        if self._late_for >= PATIENCE:
            self._part = min(MOST, self._part + 0.2 * elapsed / PATIENCE)
        elif self._lag < LATE / 2:
            self._part = max(0.0, self._part - 0.4 * elapsed / PATIENCE)
            if self._part < 1e-9:
                self._part = 0.0

    def refuses(self, in_flight: int, method: str | None, *, standing: bool) -> Refusal | None:
        """How to turn a request away, or None. ``in_flight``: tasks without it; ``method``: of MCP, if the head says it."""
        if self.step == len(STEPS):
            found: Refusal | None = _FULL
        elif in_flight >= self._requests + self._begun:
            found = _BUSY
        elif self._lot():
            found = _BEHIND
        else:
            found = _FULL if self._costly(method, standing=standing) else None
        self.refused += found is not None
        return found

    def _lot(self) -> bool:
        """Whether it hits this one: so many of a hundred, evenly spread."""
        self._due += self._part
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True

    def _costly(self, method: str | None, *, standing: bool) -> bool:
        if self.step >= 1 and (standing or method in _STREAMS):
            return True
        return self.step >= 2 and method in _LISTS

    def admit(self, method: str) -> None:
        """A message that came some way on which nobody could say before what it is. Raises ``Throttled``."""
        if self.step and (self.step == len(STEPS) or self._costly(method, standing=False)):
            self.refused += 1
            raise Throttled(
                "server.limits.memoryBytes", "the gateway is short of memory (server.limits.memoryBytes)", 5.0
            )

    def numbers(self) -> Mapping[str, float]:
        """What was measured last, and what came of it."""
        return {
            "vmcp_load_step": self.step,
            "vmcp_load_shed_ratio": round(self._part, 3),
            "vmcp_load_loop_lag_seconds": round(self._lag, 4),
            "vmcp_load_memory_used": self._used,
            "vmcp_load_refused_total": self.refused,
        }
