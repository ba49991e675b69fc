"""Recent numbers as plain data: rates, traffic, statistics, usage; what ``vmcp top`` and the pages show.

The rule: names and numbers, never an argument or a result. What is of this process alone says since when.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from vmcp.admin import mates
from vmcp.admin.acts import Data
from vmcp.admin.desk import Asked, Desk, Wrong
from vmcp.admin.filters import Unreadable, Words, parsed
from vmcp.server.pace import Account, By, Pace
from vmcp.server.recent import KEPT, rounded
from vmcp.state.histogram import Calls
from vmcp.state.usage import DAY, HOUR, Key, NoUsage

WORDS: Final[Words] = {
    "method": "method",
    "tool": "target",
    "target": "target",
    "backend": "backend",
    "endpoint": "endpoint",
    "outcome": "outcome",
    "who": "who",
    "trace": "traceId",
    "ms": "#ms",
    "bytes": "#bytes",
}
"""What exchanges can be filtered by."""
SHOWN: Final = 100
TOP: Final = 50
"""Lines of a ranking."""
PERIODS: Final = (1, 7, 30, 90)
"""Days."""


async def rates(desk: Desk, asked: Asked) -> Data:
    """How much passes now, in the last minute by the second, and in the last hour by the minute."""
    pace: Pace = (await mates.together(desk, asked.now, "pace"))["pace"]
    return {
        "now": rounded(pace.now()),
        "seconds": [rounded(each) for each in pace.seconds()],
        "minutes": [rounded(each) for each in pace.minutes()],
        "backends": {name: rounded(each) for name, each in pace.backends().items()},
        "endpoints": {path: rounded(each) for path, each in pace.endpoints().items()},
        "edges": [{"endpoint": path, "backend": name, **rounded(each)} for (path, name), each in pace.edges().items()],
    }


async def traffic(desk: Desk, asked: Asked) -> Data:
    """The last exchanges that a filter (``q``) lets through, the newest first."""
    fits = wanted(asked, WORDS)
    exchanges = await mates.exchanges(desk)
    last = exchanges[-1]["number"] if exchanges else 0
    since, most = number(asked, "since", 0), number(asked, "limit", SHOWN)
    found = [each for each in reversed(exchanges) if each["number"] > since and fits(each)]
    return {"exchanges": found[:most], "matching": len(found), "of": len(exchanges), "kept": KEPT, "last": last}


async def statistics(desk: Desk, asked: Asked) -> Data:
    """How each method, tool, backend and group does, since the start."""
    account: Account = (await mates.together(desk, asked.now, "account"))["account"]

    def ranked(*by: By) -> list[Data]:
        found = account.statistics(*by).items()
        told = [dict(zip(by, key, strict=True)) | rounded(each) for key, each in found if key[0]]
        return sorted(told, key=lambda each: -each["count"])

    return {
        "startedAt": round(account.since, 3),
        "total": next((rounded(each) for each in account.statistics().values()), rounded(Calls().told())),
        "methods": ranked("method"),
        "tools": ranked("tool", "group", "backend"),
        "backends": ranked("backend"),
        "groups": ranked("group"),
    }


async def usage(desk: Desk, asked: Asked) -> Data:
    """Who used what in the last ``days``, by the hour or the day."""
    days = min(max(1, number(asked, "days", 7)), 3650)
    kept = desk.usage
    if kept is None:
        return {"enabled": False, "days": days}
    told: Data = {"enabled": True, "days": days, "where": "memory" if kept.path is None else "file"}
    if desk.mates is not None:
        rows = (await mates.together(desk, asked.now, "usage", days=days))["usage"]
        if kept.path is None:
            return {**told, **summary(rows, days)}
    desk.house.recent.fold()
    try:
        rows = await kept.read(days * DAY)
    except NoUsage as none:
        return {**told, "failing": str(none)}
    failing = {} if kept.failing is None else {"failing": f"they cannot be written: {kept.failing}"}
    return {**told, **failing, **summary(rows, days)}


def summary(rows: list[tuple[Key, Calls]], days: int) -> Data:
    """What was kept, by time and by whom and what it was."""
    span = HOUR if days <= 2 else DAY
    series = _grouped(rows, lambda key: (key[1] // span * span,))
    return {
        "spanSeconds": span,
        "total": _kept(_all(calls for _, calls in rows)),
        "series": [{"at": at, "count": calls.count, "errors": calls.errors} for (at,), calls in sorted(series.items())],
        "tools": _ranked(
            [row for row in rows if row[0][2] == "tools/call"],
            ("tool", "group", "backend"),
            lambda k: (k[3], k[5], k[4]),
        ),
        "backends": _ranked([row for row in rows if row[0][4]], ("backend",), lambda key: (key[4],)),
        "people": _ranked([row for row in rows if row[0][6]], ("who",), lambda key: (key[6],)),
        "methods": _ranked(rows, ("method",), lambda key: (key[2],)),
    }


Part = Callable[[Key], tuple[Any, ...]]


def _grouped(rows: Iterable[tuple[Key, Calls]], part: Part) -> dict[tuple[Any, ...], Calls]:
    found: dict[tuple[Any, ...], Calls] = {}
    for key, calls in rows:
        found.setdefault(part(key), Calls()).merge(calls)
    return found


def _all(calls: Iterable[Calls]) -> Calls:
    whole = Calls()
    for each in calls:
        whole.merge(each)
    return whole


def _ranked(rows: Iterable[tuple[Key, Calls]], names: tuple[str, ...], part: Part) -> list[Data]:
    found = sorted(_grouped(rows, part).items(), key=lambda each: -each[1].count)[:TOP]
    return [dict(zip(names, key, strict=True)) | _kept(calls) for key, calls in found]


def wanted(asked: Asked, words: Words) -> Callable[[Data], bool]:
    """What the query's filter (``q``) lets through. Raises ``Wrong``."""
    try:
        return parsed(asked.query.get("q", ""), words)
    except Unreadable as why:
        raise Wrong(str(why)) from None


def number(asked: Asked, key: str, default: int) -> int:
    """A number of the query. Raises ``Wrong``."""
    found = asked.query.get(key, str(default))
    if not (found.isascii() and found.isdecimal() and len(found) < 16):
        raise Wrong(f"'{key}' must be a number")
    return int(found)


def _kept(calls: Calls) -> Data:
    """Of what is kept on disk; when the last one was is not."""
    told = rounded(calls.told())
    del told["last"]
    return told
