"""What has passed through the house lately: rates, the last exchanges, and how each method, tool and backend does.

The rule: it is all in memory, there is a bound to each part, and it begins anew with the process. Neither arguments nor results
are kept, of a name no more than its beginning. While nobody wants it (``on``), nothing is counted; a call costs one tuple and one
append, and the counting is done for many at once.

Who draws from it (``house.recent``) calls, on the loop:

``pace()``
    What passes: the last minute by the second, the last hour by the minute, rates of the last ten seconds, who called.
``exchanges(since)``
    The last 500 calls that have ended, ``Exchanged``, the oldest first, of those with a higher number than ``since``.
``account()``
    How everything does since the start: a ``Statistic`` for each combination of ``method``, ``tool``, ``backend``, ``group``.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import groupby
from time import perf_counter, time
from typing import Any, Final

import msgspec

from vmcp.call import Peer, Trail
from vmcp.errors import McpError
from vmcp.middleware import event
from vmcp.middleware.scribe import Note
from vmcp.protocol import outcomes
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.revisions import REQUESTS
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Face
from vmcp.server.pace import Account, By, Key, Pace
from vmcp.server.rings import SECONDS, Edge, Rings
from vmcp.state import histogram
from vmcp.state.histogram import Calls, Statistic
from vmcp.tasks import Nest

KEPT: Final = 500
"""Exchanges."""
BATCH: Final = 256
"""Calls that are counted at once, if they come within a second."""
MOST: Final = 1024
"""Combinations that have statistics of their own; then names are told as "other"."""
OVER: Final = 10
"""Seconds that ``now`` is about."""
LONGEST: Final = 256
OK: Final = "ok"
FINE: Final = frozenset({OK, outcomes.CANCELLED})
"""Outcomes that are no errors."""
_NO_ERROR: Final = b'"isError":false}'
_NAMES: Final = {method: known.name_key for method, known in REQUESTS.items() if known.name_key in ("name", "uri")}
_NAMED: Final = {"tools/call": Kind.TOOL, "prompts/get": Kind.PROMPT}
"""Of what there are statistics by name."""
_Alike = tuple[str, str, str | None, str | None, str, str]
"""What is the same in calls of one kind: path, method, name, backend, outcome, who."""
_Ended = tuple[float, float, float, int, str, str, _Alike]
"""When, seconds of it all and at the backend, bytes, revision, trace, and what it has in common with others."""


class Exchanged(msgspec.Struct, frozen=True, rename="camel"):
    """One call that has ended. ``number`` grows by one with each; ``ms`` of it all, ``backend_ms`` of that at the backend.

    ``outcome`` is ok, tool_error, cancelled or a kind of error; ``bytes`` are those of the result.
    """

    number: int
    at: float
    method: str
    target: str
    endpoint: str
    backend: str
    outcome: str
    ms: float
    backend_ms: float
    bytes: int
    who: str
    revision: str
    trace_id: str


Told = Callable[[Key, str, Calls], None]
"""Who keeps usage: what it was, by whom, and the calls themselves, which all ended in the same second."""


class Recent:
    """Mutable; used on the loop only. ``busy`` says how many calls are in flight, ``faces`` what is offered now."""

    def __init__(self, busy: Callable[[], int], faces: Callable[[], Mapping[str, Face]]) -> None:
        self.on = False
        """Whether anybody wants it."""
        self.told: Told | None = None
        """Who else wants to know."""
        self._busy = busy
        self._faces = faces
        self._ended: list[_Ended | Note] = []
        self._count = 0
        self._last: deque[_Ended] = deque(maxlen=KEPT)
        self._lines: dict[Key, Calls] = {}
        self.since = time()
        """When counting began (epoch)."""
        self._began = perf_counter()
        self._wall = time() - self._began
        self._rings = Rings(self._began)

    # --- what happens

    def add(
        self,
        request: Request,
        peer: Peer,
        path: str,
        trail: Trail,
        began: float,
        result: bytes | None,
        why: McpError | None,
    ) -> None:
        """A call has ended, with its result, or with an error, or (neither) it was cancelled. ``began`` by ``perf_counter``."""
        method = request.method
        key, now = _NAMES.get(method), perf_counter()
        name = request.tree.get(key) if key is not None else None
        if result is None:
            outcome = outcomes.error_type(why) if why is not None else outcomes.CANCELLED
        elif method == "tools/call" and not result.endswith(_NO_ERROR) and outcomes.tool_failed(result):
            outcome = outcomes.TOOL_ERROR
        else:
            outcome = OK
        who = peer.identity
        ended = self._ended
        alike = (
            path,
            method if len(method) <= LONGEST else method[:LONGEST],
            (name if len(name) <= LONGEST else name[:LONGEST]) if type(name) is str else None,
            trail.backend,
            outcome,
            who.subject if who is not None else "",
        )
        size = len(result) if result is not None else 0
        ended.append((now, now - began, trail.upstream_seconds, size, peer.revision, trail.trace, alike))
        if len(ended) >= BATCH:
            self.fold()

    def noted(self, note: Note, at: float) -> bool:
        """A call has ended well, and the audit log has a note of it, which says all that is wanted here."""
        note.ended, ended = at, self._ended
        ended.append(note)
        if len(ended) >= BATCH:
            self.fold()
        return True

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While the block runs, it is wanted, and counted once a second."""
        async with Nest("recent") as nest:
            nest.start(self._run(), "count")
            self.on = True
            try:
                yield
            finally:
                self.on = False

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.fold()

    def fold(self) -> None:
        """Count what has ended since the last time, and how much is in flight."""
        ended = [_of(each) if isinstance(each, Note) else each for each in self._ended]
        self._ended = []
        self._last.extend(ended)
        self._count += len(ended)
        faces = self._faces()
        for batch in self._by_second(ended):
            groups: dict[_Alike, list[_Ended]] = {}
            for each in batch:
                found = groups.get(each[6])
                if found is None:
                    groups[each[6]] = [each]
                else:
                    found.append(each)
            for (path, method, name, backend, outcome, who), alike in groups.items():
                key = _key(faces.get(path), method, name, backend)
                self._count_in(key, (path, backend or ""), who[:LONGEST], alike, well=outcome in FINE)
        self._rings.advance(perf_counter())
        self._wall = time() - perf_counter()
        second = self._rings.second
        second.busy = max(second.busy, self._busy())

    def _by_second(self, ended: list[_Ended]) -> Iterable[list[_Ended]]:
        """They are in order, and mostly of one second."""
        began = self._began
        if not ended or int(ended[0][0] - began) == int(ended[-1][0] - began):
            return [ended]
        return [list(each) for _, each in groupby(ended, lambda each: int(each[0] - began))]

    def _count_in(self, key: Key, edge: Edge, who: str, alike: list[_Ended], *, well: bool) -> None:
        count, seconds = len(alike), [each[1] for each in alike]
        times = Counter(map(histogram.bucket, seconds))
        calls = Calls(count, 0 if well else count, sum(seconds), sum([each[3] for each in alike]), times)
        calls.when = self._wall + alike[-1][0]
        self._rings.count(alike[-1][0], edge, calls)
        self._line(key).merge(calls)
        if self.told is not None:
            self.told(key, who, calls)

    def _line(self, key: Key) -> Calls:
        found = self._lines.get(key)
        if found is not None:
            return found
        if len(self._lines) >= MOST and key[1]:
            key = key[0], outcomes.OTHER, key[2], key[3]
        if len(self._lines) >= 2 * MOST and key not in self._lines:
            key = "", "", "", ""
        return self._lines.setdefault(key, Calls())

    # --- what is asked

    def pace(self) -> Pace:
        """What passes, with those who called in the last minute."""
        self.fold()
        rings = self._rings
        began = self._wall + self._began
        callers = sorted(self.callers(SECONDS))
        return Pace(began, self._busy(), rings.seconds(), rings.minutes(), *rings.lately(OVER), callers)

    def callers(self, seconds: float) -> set[tuple[str, str, str]]:
        """Who called within so many seconds, at which endpoint, in which revision."""
        self.fold()
        since = perf_counter() - seconds
        found = {(alike[5], alike[0], revision) for at, _, _, _, revision, _, alike in self._last if at > since}
        return {(event.cut(who), path, str(revision)) for who, path, revision in found}

    def exchanges(self, since: int = 0) -> list[Exchanged]:
        """The last ones, the oldest first."""
        self.fold()
        first = self._count - len(self._last) + 1
        return [self._exchanged(number, each) for number, each in enumerate(self._last, first) if number > since]

    def _exchanged(self, number: int, ended: _Ended) -> Exchanged:
        at, seconds, upstream, size, revision, trace, alike = ended
        path, method, name, backend, outcome, who = alike
        return Exchanged(
            number=number,
            at=round(self._wall + at, 3),
            method=event.cut(method),
            target=event.plain(name) if name is not None else "",
            endpoint=path,
            backend=backend or "",
            outcome=outcome,
            ms=round(seconds * 1000, 3),
            backend_ms=round(upstream * 1000, 3),
            bytes=size,
            who=event.cut(who),
            revision=str(revision),
            trace_id=trace,
        )

    def statistics(self, *by: By) -> dict[tuple[str, ...], Statistic]:
        """Since the start. By ``tool`` is about calls of tools only; without ``by`` it is one of everything."""
        return self.account().statistics(*by)

    def account(self) -> Account:
        """How everything does since the start."""
        self.fold()
        return Account(self.since, self._lines)

    def named(self, by: By) -> Mapping[str, Mapping[str, object]]:
        """The same by the names of one field, rounded, without what has no name; nothing while it is not wanted."""
        found = self.statistics(by) if self.on else {}
        return {name: rounded(each) for (name,), each in found.items() if name}


def rounded(told: msgspec.Struct) -> dict[str, Any]:
    """A struct as a map, seconds to the microsecond."""
    found: dict[str, Any] = msgspec.to_builtins(told)
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in found.items()}


def _of(note: Note) -> _Ended:
    """What ``add`` would have made of it."""
    method, trail, who = note.method, note.trail, note.identity
    name = note.name if method in _NAMES else None
    subject = who.subject if who is not None else ""
    alike = (note.path, method[:LONGEST], name, trail.backend, OK, subject)
    return note.ended, note.seconds, trail.upstream_seconds, note.size, note.revision, trail.trace, alike


def _key(face: Face | None, method: str, name: str | None, backend: str | None) -> Key:
    """What it is counted as. Names that clients made up are none of ours."""
    kind = _NAMED.get(method)
    if kind is None or name is None:
        name = ""
    elif backend is None and (face is None or name not in face.routes[kind]):
        name = outcomes.OTHER
    if method not in REQUESTS:
        method = outcomes.OTHER
    return method, name, backend or "", face.group if face is not None else ""
