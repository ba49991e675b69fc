"""How long calls took, and how they ended, in numbers that stay few whatever anybody sends.

The rule: labels come from closed sets only: methods that there are, tools that are offered now, groups and backends of the
configuration, words of ours. There is room for so many combinations; then names of tools are told as "other", and in the end
everything. To count one is a look-up and an addition: no lock, no object.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from time import time
from typing import Final

from vmcp.call import Call, Sent, Trail
from vmcp.protocol.outcomes import OTHER
from vmcp.protocol.revisions import REQUESTS
from vmcp.routing.catalog import Kind

BOUNDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds, as the semantic conventions for MCP have them."""
Labels = tuple[str, ...]
Exemplar = tuple[float, str, str, float]
"""Seconds of one call, the ids of its trace and span, and when it was (epoch)."""

SERVER: Final = "mcp_server_operation_duration_seconds"
CLIENT: Final = "mcp_client_operation_duration_seconds"
SESSION: Final = "mcp_server_session_duration_seconds"


class Timing:
    """What one combination of labels has seen: how many in each bucket (the last is beyond all bounds), and the sum."""

    __slots__ = ("counts", "exemplars", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def add(self, seconds: float) -> int:
        """Count one; in which bucket it is."""
        place = bisect_left(BOUNDS, seconds)
        self.counts[place] += 1
        self.total += seconds
        return place


class Timings:
    """Of one kind, by labels. Mutable. ``steps``: how many combinations there may be while only these labels are "other"."""

    def __init__(self, name: str, labels: Labels, steps: Sequence[tuple[frozenset[str], int]]) -> None:
        self.name = name
        self.labels = labels
        self._steps = steps
        self._timings: dict[Labels, Timing] = {}

    def __len__(self) -> int:
        return len(self._timings)

    def of(self, values: Labels) -> Timing:
        """Where to count ``values``."""
        found = self._timings.get(values)
        return found if found is not None else self._fit(values)

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
        return [(labels, list(each.counts), each.total, dict(each.exemplars)) for labels, each in timings]


_METHODS: Final = frozenset(REQUESTS)
_TOOL: Final = frozenset({"gen_ai_tool_name"})
_VAGUE: Final = frozenset({"gen_ai_tool_name", "mcp_protocol_version", "vmcp_group"})


class Measures:
    """All of a process. Mutable; used on the loop only. It is the ``Watcher`` of calls of which there is no trace."""

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
        self.in_flight: dict[str, int] = {}
        self.limited: dict[str, int] = {}
        self.denied: dict[str, int] = {}
        self.answered: dict[str, float] = {}
        """When each backend last did (epoch)."""

    # --- calls

    def enter(self, group: str) -> None:
        """A call begins."""
        self.in_flight[group] = self.in_flight.get(group, 0) + 1

    def leave(self, call: Call, error: str, seconds: float, seen: Sent | None = None) -> None:
        """It is over; ``error`` is empty when it was served."""
        group, trail, method, peer = call.face.group, call.trail, call.method, call.peer
        self.in_flight[group] -= 1
        tool = told_tool(call) if method == "tools/call" else ""
        if method not in _METHODS:
            method = OTHER
        transport = "tcp" if peer.origin is None else transport_of(call)
        timing = self.server.of((method, tool, error, transport, peer.revision, group))
        place = timing.add(seconds)
        if seen is not None and (ids := seen.ids()) is not None:
            timing.exemplars[place] = (seconds, *ids, time())
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
        method = call.method if call.method in _METHODS else OTHER
        timing = self.client.of((method, backend, error, "pipe" if transport == "stdio" else "tcp"))
        place = timing.add(seconds)
        if not error:
            self.answered[backend] = time()
        if sent is not None and (ids := sent.ids()) is not None:
            timing.exemplars[place] = (seconds, *ids, time())

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
