"""What passes now and what has passed, in a form that can be sent, and added to what others have counted.

The rule: percentiles are told of what was counted together, and never of percentiles; so several processes say what one would.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from vmcp.server.rings import Edge, Slot
from vmcp.state import histogram
from vmcp.state.histogram import Calls, Statistic

By = Literal["method", "tool", "backend", "group"]
Key = tuple[str, str, str, str]
"""Method, name, backend, group; empty where there is none."""
Caller = tuple[str, str, str]
"""Subject, path of the endpoint, revision."""
_FIELDS: Final[Mapping[str, int]] = {"method": 0, "tool": 1, "backend": 2, "group": 3}


class Rate(msgspec.Struct, frozen=True, rename="camel"):
    """In a second: requests, and those of them that ended with an error. ``p95`` in seconds, None: there were none."""

    requests: float = 0.0
    errors: float = 0.0
    p95: float | None = None
    in_flight: int = 0


class Moment(msgspec.Struct, frozen=True, rename="camel"):
    """A second or a minute. ``at`` is its beginning (epoch); by backend and endpoint: requests and errors."""

    at: float
    requests: int
    errors: int
    p95: float | None
    in_flight: int
    backends: Mapping[str, tuple[int, int]]
    endpoints: Mapping[str, tuple[int, int]]


class Pace(msgspec.Struct, frozen=True):
    """What passes: 60 seconds and 60 minutes, and ``lately``, of ``over`` seconds. ``began``: when number 0 did (epoch).

    ``callers`` are those of the last minute, ``busy`` how many calls are in flight.
    """

    began: float
    busy: int
    past: Sequence[Slot]
    hour: Sequence[Slot]
    lately: Slot
    over: int
    callers: Sequence[Caller] = ()

    def seconds(self) -> list[Moment]:
        """The last 60 that have ended, the oldest first."""
        return [self._moment(slot, 1) for slot in self.past]

    def minutes(self) -> list[Moment]:
        """The last 60, of which one goes on."""
        return [self._moment(slot, 60) for slot in self.hour]

    def _moment(self, slot: Slot, length: int) -> Moment:
        p95 = histogram.quantiles(slot.times, (0.95,))[0]
        at = round(self.began + slot.number * length, 3)
        return Moment(at, *slot.sums, p95, slot.busy, slot.by(1), slot.by(0))

    def now(self) -> Rate:
        """Of everything."""
        requests, errors = self.lately.sums
        p95 = histogram.quantiles(self.lately.times, (0.95,))[0]
        return Rate(requests / self.over, errors / self.over, p95, self.busy)

    def edges(self) -> dict[Edge, Rate]:
        """By endpoint and backend, of those between which something has passed; without a p95."""
        return {edge: self._rate(count, bad) for edge, (count, bad) in self.lately.edges.items()}

    def backends(self) -> dict[str, Rate]:
        """By the name of a backend."""
        return {name: self._rate(*counts) for name, counts in self.lately.by(1).items()}

    def endpoints(self) -> dict[str, Rate]:
        """By the path of an endpoint."""
        return {path: self._rate(*counts) for path, counts in self.lately.by(0).items()}

    def _rate(self, requests: int, errors: int) -> Rate:
        return Rate(requests / self.over, errors / self.over)


class Account(msgspec.Struct, frozen=True):
    """How each combination does since ``since`` (epoch)."""

    since: float
    lines: Mapping[Key, Calls]

    def statistics(self, *by: By) -> dict[tuple[str, ...], Statistic]:
        """By the values of these fields. By ``tool`` is about calls of tools only; without ``by`` it is one of everything."""
        places = [_FIELDS[each] for each in by]
        lines: dict[tuple[str, ...], Calls] = {}
        for key, line in self.lines.items():
            if "tool" not in by or key[0] == "tools/call":
                lines.setdefault(tuple(key[place] for place in places), Calls()).merge(line)
        return {key: line.told() for key, line in lines.items()}


def paces(all_of: Sequence[Pace]) -> Pace:
    """Of several processes, the first of which says what time it is."""
    first = all_of[0]
    if len(all_of) == 1:
        return first
    return Pace(
        first.began,
        sum(each.busy for each in all_of),
        [_slot(slots) for slots in zip(*(each.past for each in all_of), strict=False)],
        [_slot(slots) for slots in zip(*(each.hour for each in all_of), strict=False)],
        _slot([each.lately for each in all_of]),
        max(each.over for each in all_of),
        sorted({caller for each in all_of for caller in each.callers}),
    )


def _slot(slots: Sequence[Slot]) -> Slot:
    whole = Slot(slots[0].number)
    for each in slots:
        whole.merge(each)
    whole.busy = sum(each.busy for each in slots)
    return whole


def accounts(all_of: Sequence[Account]) -> Account:
    """Of several processes."""
    if len(all_of) == 1:
        return all_of[0]
    lines: dict[Key, Calls] = {}
    for each in all_of:
        for key, calls in each.lines.items():
            lines.setdefault(key, Calls()).merge(calls)
    return Account(min(each.since for each in all_of), lines)
