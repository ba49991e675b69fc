"""What the admin desk of one worker asks those of the others, and what each answers: parts of what is shown, and acts.

The rule: every part is asked of all by the same name that it has here, and told as one by its rule; who does not answer in time
is left out. An act that another worker passes on is not recorded again.
"""

import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from vmcp.admin import merging
from vmcp.admin.confluence import Confluence
from vmcp.admin.desk import Desk
from vmcp.admin.process import vitals
from vmcp.server.mates import Mates
from vmcp.server.pace import Account, Pace
from vmcp.server.recent import Exchanged, rounded
from vmcp.state.crew import AWAY
from vmcp.state.histogram import Calls
from vmcp.state.usage import DAY, Key, NoUsage

PARTS_OF: Final = "admin"
ACT: Final = "act"
SINCE: Final = "since"
"""The names of the questions."""
KEEPER: Final = -1
"""The number of the supervisor, who is no worker."""
LONG: Final = 60.0
"""Seconds for what makes a worker work, as a reload does."""
Data = dict[str, Any]


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked: parts, one act or one stream, and what it is about. ``since``: the last number that is known of each worker,
    and of which process it is."""

    names: tuple[str, ...]
    about: str = ""
    days: int = 0
    since: Mapping[int, tuple[int, int]] = {}
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """What is answered, how that of several is told as one, and as what it is read."""

    answer: Callable[[Desk, Question], Any]
    merge: Callable[[merging.By], Any]
    kind: Any = Any


def _impaired(desk: Desk, _: Question) -> bool:
    auditor = desk.house.current.auditor
    return auditor is not None and auditor.short()


async def _usage(desk: Desk, question: Question) -> list[tuple[Key, Calls]]:
    """What a worker keeps for itself; nothing where it is in a file of all, but then it is written there first."""
    usage = desk.usage
    if usage is None:
        return []
    desk.house.recent.fold()
    try:
        rows = await usage.read(question.days * DAY if usage.path is None else 0.0)
    except NoUsage:
        return []
    return rows if usage.path is None else []


PARTS: Final[Mapping[str, Part]] = {
    "status": Part(lambda desk, _: desk.views.status(), merging.status),
    "backends": Part(lambda desk, _: desk.views.backends()["backends"], merging.backends),
    "backend": Part(lambda desk, asked: desk.views.backend(asked.about, asked.now), merging.backend),
    "sessions": Part(lambda desk, asked: desk.views.sessions(asked.now)["sessions"], merging.marked),
    "metrics": Part(lambda desk, _: desk.views.metrics()["metrics"], merging.numbers),
    "pace": Part(lambda desk, _: desk.house.recent.pace(), merging.paces, Pace),
    "account": Part(lambda desk, _: desk.house.recent.account(), merging.accounts, Account),
    "impaired": Part(_impaired, lambda said: any(said.values())),
    "usage": Part(_usage, merging.usage, list[tuple[Key, Calls]]),
}
ACTS: Final[Mapping[str, Callable[[Desk, str], Any]]] = {
    "reload": lambda desk, _: desk.acts.reload(""),
    "drain": lambda desk, _: desk.acts.drain(""),
    "reset": lambda desk, name: desk.acts.reset("", name),
    "clear": lambda desk, pattern: desk.acts.clear("", pattern),
    "end": lambda desk, name: desk.acts.end("", name),
    "level": lambda desk, level: desk.acts.level("", level),
}
STREAMS: Final[Mapping[str, tuple[Callable[[Desk, int], Sequence[tuple[int, Any]]], Any]]] = {
    "exchanges": (
        lambda desk, since: [(each.number, each) for each in desk.house.recent.exchanges(since)],
        list[tuple[int, Exchanged]],
    ),
    "lines": (lambda desk, since: desk.tail.numbered(since), list[tuple[int, str]]),
}
"""What has numbers, of those after one; and as what it is read."""
_encode: Final = msgspec.msgpack.Encoder(enc_hook=str).encode
_question: Final = msgspec.msgpack.Decoder(Question).decode
_parts: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


async def together(desk: Desk, now: float, *names: str, about: str = "", days: int = 0) -> dict[str, Any]:
    """Parts of what is shown, by their names, as one vmcp has them. ``now`` is by the clock of the loop."""
    question = Question(names, about, days, now=now)
    own = await _answered(desk, question)
    if desk.mates is None:
        return own
    answers = await desk.mates.all(PARTS_OF, _encode(question))
    said = {index: _parts(answer.body) for index, answer in answers.items()}
    told = {name: PARTS[name].merge({desk.mates.crew.index: own[name], **_read(name, said)}) for name in names}
    if "status" in told:
        told["status"] = _staffed(desk.mates, told["status"])
    return told


def _read(name: str, said: Mapping[int, Mapping[str, msgspec.Raw]]) -> dict[int, Any]:
    kind = PARTS[name].kind
    return {index: msgspec.msgpack.decode(parts[name], type=kind) for index, parts in said.items()}


async def _answered(desk: Desk, question: Question) -> dict[str, Any]:
    found = {name: PARTS[name].answer(desk, question) for name in question.names}
    return {name: await each if inspect.isawaitable(each) else each for name, each in found.items()}


def _staffed(mates: Mates, status: Data) -> Data:
    """With all workers that there are, and what the system knows of them."""
    counts, deaths = mates.crew.common.counts, mates.crew.common.deaths
    known = {each["index"]: each for each in status["workers"]}
    workers = []
    for index, count in enumerate(counts):
        each = known.get(index) or {"index": index, "status": "away" if count == AWAY else "silent"}
        told = {"connections": 0 if count == AWAY else count, "restarts": deaths[index]}
        workers.append({**each, **told, **vitals(each.get("pid"))})
    whole = all(each["index"] in known for each in workers)
    worst = merging.worst((status["status"], "ready" if whole else "degraded"), merging.STATUSES)
    keeper = os.getppid()
    age = float(vitals(keeper).get("ageSeconds") or status["uptimeSeconds"])
    since = {"startedAt": round(time.time() - age, 3), "uptimeSeconds": age}
    return {**status, **since, "status": worst, "pid": keeper, "workers": workers}


async def everywhere(desk: Desk, act: str, about: str = "", patience: float | None = None) -> dict[int, Any]:
    """Have the other workers do it too; what they say, of those that have something to say."""
    if desk.mates is None:
        return {}
    answers = await desk.mates.all(ACT, _encode(Question((act,), about)), patience)
    said = {index: msgspec.msgpack.decode(answer.body) for index, answer in answers.items()}
    return {index: told for index, told in said.items() if told is not None}


# --- what came since


async def exchanges(desk: Desk) -> list[Data]:
    """The last calls of all, the oldest first."""
    if desk.mates is None:
        return [rounded(each) for each in desk.house.recent.exchanges()]
    await _flow(desk, desk.mates, "exchanges", desk.streams.exchanges)
    return [{**rounded(each), "number": n, "worker": worker} for n, worker, each in desk.streams.exchanges.all()]


async def lines(desk: Desk, most: int, since: int) -> Data:
    """The last lines of the log, of those after ``since``."""
    if desk.mates is None:
        return {"lines": desk.tail.last(most, since), "last": desk.tail.count}
    kept = desk.mates.crew.common.spoken
    spoken = kept.get() if kept is not None else None
    more = [] if spoken is None else [(KEEPER, os.getppid(), msgspec.msgpack.decode(spoken, type=STREAMS["lines"][1]))]
    await _flow(desk, desk.mates, "lines", desk.streams.lines, more)
    found = [line for _, _, line in desk.streams.lines.all(since)]
    return {"lines": found[max(0, len(found) - most) :], "last": desk.streams.lines.count}


async def _flow(desk: Desk, mates: Mates, name: str, into: Confluence[Any], more: Sequence[Any] = ()) -> None:
    """Take what has come since the last time."""
    things, kind = STREAMS[name]
    question = Question((name,), since=into.known)
    answers = await mates.all(SINCE, _encode(question))
    said = [*more, (mates.crew.index, os.getpid(), things(desk, into.known.get(mates.crew.index, (0, 0))[1]))]
    for index, answer in answers.items():
        said.append((index, answer.pid, msgspec.msgpack.decode(answer.body, type=kind)))
    into.add(said)


# --- what the others ask


def answering(desk: Desk) -> None:
    """Let this desk answer those of the other workers."""
    mates = desk.mates
    if mates is None:
        return
    index = mates.crew.index

    async def parts(body: bytes) -> bytes:
        return _encode(await _answered(desk, _question(body)))

    async def act(body: bytes) -> bytes:
        asked = _question(body)
        made = ACTS[asked.names[0]](desk, asked.about)
        return _encode(await made if inspect.isawaitable(made) else made)

    async def since(body: bytes) -> bytes:
        asked = _question(body)
        pid, last = asked.since.get(index, (0, 0))
        return _encode(STREAMS[asked.names[0]][0](desk, last if pid == os.getpid() else 0))

    mates.answers |= {PARTS_OF: parts, ACT: act, SINCE: since}
