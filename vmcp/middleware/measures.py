"""How long calls took, and how they ended, in numbers that stay few whatever anybody sends.

The rule: labels come from closed sets only: methods that there are, tools that are offered now, groups and backends of the
configuration, words of ours. There is room for so many combinations; then names of tools are told as "other", and in the end
everything. To count one is a look-up and an append: no lock, no object; what was appended is counted some hundreds at once.
(What every call passes is written out, as a function within costs more than what it does.)
"""

import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Final

from vmcp.call import Call, Sent, Trail
from vmcp.protocol.outcomes import OTHER
from vmcp.protocol.revisions import REQUESTS
from vmcp.routing.catalog import Kind

AT_ONCE: Final = 512
"""Times that wait to be counted."""
BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds, as the semantic conventions for MCP have them."""
Labels = tuple[str, ...]
Exemplar = tuple[float, str, str, float]
"""Seconds of one call, the ids of its trace and span, and when it was (epoch)."""

SERVER: Final = "mcp_server_operation_duration_seconds"
CLIENT: Final = "mcp_client_operation_duration_seconds"
SESSION: Final = "mcp_server_session_duration_seconds"


class Timing:
    """What one combination of labels has seen: how many in each bucket (the last is beyond all bounds), and the sum.

    ``waiting`` are times that are not counted yet: whoever appends one calls ``count`` when there are ``AT_ONCE``.
    """

    __slots__ = ("_counting", "_counts", "_total", "exemplars", "waiting")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0
        self._counting = threading.Lock()
        self.waiting: list[float] = []
        self.exemplars: dict[int, Exemplar] = {}

    def add(self, seconds: float) -> None:
        """Count one, sooner or later."""
        waiting = self.waiting
        waiting.append(seconds)
        if len(waiting) >= AT_ONCE:
            self.count()

    def show(self, seconds: float, ids: tuple[str, str]) -> None:
        """Have one, which is counted besides, as an example: the ids of its trace and span."""
        self.exemplars[bisect_left(BOUNDS, seconds)] = (seconds, *ids, time())

    def count(self) -> tuple[list[int], float]:
        """Count those that wait; how many there are in each bucket, and the sum. Any thread may ask.

        The lock is between those who count: times are appended without it, and none that comes meanwhile is lost.
        """
        with self._counting:
            counts, waiting, below = self._counts, self.waiting, 0
            some = waiting[:]
            del waiting[: len(some)]
            # In order, so that the bounds are looked for among the times, which are more.
            some.sort()
            for place, bound in enumerate(BOUNDS):
                before, below = below, bisect_right(some, bound, below)
                counts[place] += below - before
            counts[-1] += len(some) - below
            self._total += sum(some)
            return counts[:], self._total


class _Found(dict[Labels, Timing]):
    """What there is, and for everything else what ``fit`` finds. (A method that only looks up would cost each call twice.)"""

    def __init__(self, fit: Callable[[Labels], Timing]) -> None:
        super().__init__()
        self._fit = fit

    def __missing__(self, values: Labels) -> Timing:
        return self._fit(values)


class Timings:
    """Of one kind, by labels. Mutable. ``steps``: how many combinations there may be while only these labels are "other"."""

    def __init__(self, name: str, labels: Labels, steps: Sequence[tuple[frozenset[str], int]]) -> None:
        self.name = name
        self.labels = labels
        self._steps = steps
        self._timings = _Found(self._fit)
        self.of: Callable[[Labels], Timing] = self._timings.__getitem__
        """Where to count labels of these values."""

    def __len__(self) -> int:
        return len(self._timings)

    def _fit(self, values: Labels) -> Timing:
        for vague, room in self._steps:
            told = self._vaguer(values, vague)
            found = self._timings.get(told)
            if found is None and len(self._timings) < room:
                found = self._timings[told] = Timing()
            if found is not None:
                return found
        return self._timings.setdefault((OTHER,) * len(values), Timing())

    def _vaguer(self, values: Labels, vague: frozenset[str]) -> Labels:
        # What is empty says that there is none of it, which is no name.
        pairs = zip(self.labels, values, strict=True)
        return tuple(OTHER if label in vague and value else value for label, value in pairs)

    def snapshot(self) -> list[tuple[Labels, list[int], float, dict[int, Exemplar]]]:
        """All of it as it is now."""
        timings = list(self._timings.items())  # in one go: it may be asked by another thread
        return [(labels, *each.count(), dict(each.exemplars)) for labels, each in timings]


_METHODS: Final = frozenset(REQUESTS)
_TOOL: Final = frozenset({"gen_ai_tool_name"})
_VAGUE: Final = frozenset({"gen_ai_tool_name", "mcp_protocol_version", "vmcp_group"})


class Measures:
    """All of a process. Mutable; used on the loop only. It is the ``Watcher`` of calls of which there is no trace."""

    only_ends = True

    def __init__(self) -> None:
        self.began = time()
        self.server = Timings(
            SERVER,
            (
                *("mcp_method_name", "gen_ai_tool_name", "error_type"),
                *("network_transport", "mcp_protocol_version", "vmcp_group"),
            ),
            ((frozenset(), 52), (_TOOL, 58), (_VAGUE, 62)),
        )
        self.client = Timings(
            CLIENT, ("mcp_method_name", "vmcp_backend", "error_type", "network_transport"), ((frozenset(), 32),)
        )
        self.sessions = Timings(SESSION, ("mcp_protocol_version", "error_type"), ((frozenset(), 6),))
        self._served, self._asked = self.server.of, self.client.of
        self.in_flight: defaultdict[str, int] = defaultdict(int)
        """By group: whoever begins a call adds one, and calls ``leave``."""
        self.limited: dict[str, int] = {}
        self.denied: dict[str, int] = {}
        self.answered: dict[str, float] = {}
        """When each backend last did (epoch)."""

    # --- calls

    def leave(self, call: Call, error: str, seconds: float, seen: Sent | None = None) -> None:
        """It is over; ``error`` is empty when it was served."""
        group, trail, method, peer, tool = call.face.group, call.trail, call.method, call.peer, ""
        self.in_flight[group] -= 1
        if method == "tools/call":
            # What has found its way to a backend has a name that there is.
            tool = call.name or OTHER if trail.backend is not None else told_tool(call)
        elif method not in _METHODS:
            method = OTHER
        origin = peer.origin
        transport = "tcp" if origin is None or origin.transport != "stdio" else "pipe"
        timing = self._served((method, tool, error, transport, peer.revision, group))
        waiting = timing.waiting
        waiting.append(seconds)
        if len(waiting) >= AT_ONCE:
            timing.count()
        if seen is not None and (ids := seen.ids()) is not None:
            timing.show(seconds, ids)
        if trail.limited is not None or trail.decision == "deny":
            self._refused(trail)

    def _refused(self, trail: Trail) -> None:
        if trail.limited is not None:
            self.limited[trail.limited] = self.limited.get(trail.limited, 0) + 1
        if trail.decision == "deny":
            for policy in trail.policies or ("",):
                self.denied[policy] = self.denied.get(policy, 0) + 1

    # --- what backends were asked

    def asks(self, call: Call, backend: str, transport: str, name: str | None) -> Sent | None:
        """See ``Watcher``."""
        return None

    def asked(self, sent: Sent | None, call: Call, backend: str, transport: str, error: str, seconds: float) -> None:
        """See ``Watcher``."""
        method = call.method
        if method not in _METHODS:
            method = OTHER
        timing = self._asked((method, backend, error, "pipe" if transport == "stdio" else "tcp"))
        waiting = timing.waiting
        waiting.append(seconds)
        if len(waiting) >= AT_ONCE:
            timing.count()
        if not error:
            self.answered[backend] = time()
        if sent is not None and (ids := sent.ids()) is not None:
            timing.show(seconds, ids)

    # --- sessions

    def session_over(self, revision: str, seconds: float) -> None:
        """A session of the handshake era has ended."""
        self.sessions.of((revision, "")).add(seconds)


def told_tool(call: Call) -> str:
    """The name of the tool that is called, if there is one of that name."""
    name = call.name
    if name is None:
        return OTHER
    # What has found its way to a backend is there; for all else one has to look.
    return name if call.trail.backend is not None or name in call.face.routes[Kind.TOOL] else OTHER


def transport_of(call: Call) -> str:
    """How its client is connected."""
    origin = call.peer.origin
    return "pipe" if origin is not None and origin.transport == "stdio" else "tcp"


def refusals(counts: Mapping[str, int], most: int) -> list[tuple[str, int]]:
    """Counts by name, the largest ``most`` of them by name and the others as one."""
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(count for _, count in ranked[most:])
    return [*ranked[:most], *([(OTHER, rest)] if rest else [])]
