"""How everything is and what hangs together with what: clients, endpoints and backends, and what wants a look.

The rule: it is what the house knows already; nobody is asked, and whatever is wrong comes with its reason.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.structs import asdict

from vmcp.admin import mates
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.merging import AWAY
from vmcp.config.model import Config
from vmcp.protocol.revisions import Revision
from vmcp.server.pace import Pace, Rate
from vmcp.server.runtime import Runtime

Data = dict[str, Any]
NAMED: Final = 5
"""Names in a sentence."""
_QUIET: Final = Rate()


async def overview(desk: Desk, asked: Asked) -> Data:
    """Everything at one look. ``span`` is ``hour`` for the history of an hour."""
    house, told = desk.house, await mates.together(desk, asked.now, "status", "backends", "sessions", "pace")
    status, pace = told["status"], told["pace"]
    disk = await desk.disk.compared()
    known = backends(told)
    return {
        "status": status,
        "summary": summary(status, house.reloaded[1], disk),
        "disk": disk,
        "loadedAt": round(house.reloaded[1], 3),
        "now": asdict(pace.now()),
        "history": _history(pace, asked.query.get("span", "")),
        "clients": _clients(told["sessions"], pace),
        "endpoints": _endpoints(status, pace),
        "backends": known,
        "edges": _edges(house, pace),
        "attention": [
            *_of_house(house, status, disk, desk.acts.problems),
            *_of_workers(status["workers"]),
            *_of_backends(known),
            *_of_faces(status),
        ],
    }


def summary(status: Data, loaded: float, disk: str) -> str:
    """The whole in a sentence."""
    counts = status["backends"]
    tools = sum({each["group"]: each["tools"] for each in status["endpoints"]}.values())
    at = datetime.fromtimestamp(loaded, UTC).strftime("%H:%M:%S UTC")
    file = {"same": "unchanged on disk", "differs": "changed on disk"}.get(disk, f"{disk} on disk")
    well = f"{counts['healthy']} of {counts['total']} backends healthy"
    return f"{well} · {tools} tools · config {status['config']['digest']} loaded {at}, {file}"


# --- what there is


def backends(told: Data) -> list[Data]:
    """A line of each, with what passes there; of the parts "backends" and "pace"."""
    rates = told["pace"].backends()
    return [{**each, **_rate(rates.get(each["name"]))} for each in told["backends"]]


async def backend(desk: Desk, asked: Asked) -> Data | None:
    """All that is known of one, with how its calls did; None when there is none of this name."""
    offers = await asyncio.to_thread(list, desk.views.offers(asked.name))
    told = await mates.together(desk, asked.now, "backend", "pace", "account", about=asked.name)
    found, pace = told["backend"], told["pace"]
    if found is None:
        return None
    used = told["account"].statistics("backend").get((asked.name,))
    rate = _rate(pace.backends().get(asked.name))
    lately = [each.backends.get(asked.name, (0, 0)) for each in pace.seconds()]
    history = {"requests": [count for count, _ in lately], "errors": [errors for _, errors in lately]}
    usage = None if used is None else asdict(used)
    return {**found, **rate, "history": history, "usage": usage, "offers": offers}


async def endpoints(desk: Desk, asked: Asked) -> Data:
    """What clients find at each address, and who may."""
    house, told = desk.house, await mates.together(desk, asked.now, "status", "pace")
    behind = {
        path: [name for name in house.backends if name in face.backends] for path, face in house.table.faces.items()
    }
    found = [{**each, "behind": behind[each["path"]]} for each in _endpoints(told["status"], told["pace"])]
    return {"endpoints": found, "access": _access(house), "checks": _checks(house.config)}


def _access(house: Runtime) -> str:
    """Who is let in, in words."""
    kinds = {"local": "who shows a key", "oidc": "who shows a token of the identity provider"}
    return kinds.get(house.config.incoming.type, "whoever reaches it")


def _checks(config: Config) -> list[str]:
    """What a call has to pass, in words and in this order."""
    applied = {
        "personas": bool(config.personas),
        "Cedar policies": config.authz is not None,
        "rate limits": config.rate_limits is not None,
        "the lock file": config.lock.policy != "off",
        "the cache": config.cache is not None,
        "the audit log": config.audit is not None,
    }
    return [words for words, there in applied.items() if there]


def _endpoints(status: Data, pace: Pace) -> list[Data]:
    rates = pace.endpoints()
    return [{**each, **_rate(rates.get(each["path"]))} for each in status["endpoints"]]


def _edges(house: Runtime, pace: Pace) -> list[Data]:
    """Who is behind which endpoint, with what passes there."""
    rates = pace.edges()
    return [
        {"endpoint": path, "backend": name, **_rate(rates.get((path, name)))}
        for path, face in house.table.faces.items()
        for name in house.backends
        if name in face.backends
    ]


def _rate(found: Rate | None) -> Data:
    rate = found or _QUIET
    return {"requestsPerSecond": round(rate.requests, 2), "errorsPerSecond": round(rate.errors, 2)}


def _clients(known: list[Data], pace: Pace) -> list[Data]:
    """By name and endpoint: those with a session, and those who called lately and have none."""
    sessions = Counter((each["client"] or "unnamed", each["path"]) for each in known)
    without = [(who or "without a session", path) for who, path, revision in pace.callers if Revision(revision).modern]
    return [
        *({"name": name, "endpoint": path, "sessions": count} for (name, path), count in sessions.items()),
        *({"name": name, "endpoint": path, "sessions": 0} for name, path in without),
    ]


def _history(pace: Pace, span: str) -> Data:
    hour = span == "hour"
    moments = pace.minutes() if hour else pace.seconds()
    length = 60 if hour else 1
    return {
        "span": "hour" if hour else "minute",
        "requests": [round(each.requests / length, 2) for each in moments],
        "errors": [round(each.errors / length, 2) for each in moments],
        "p95": [None if each.p95 is None else round(each.p95 * 1000, 2) for each in moments],
        "inFlight": [each.in_flight for each in moments],
    }


# --- what wants a look


def _wanting(severity: str, about: str, name: str, what: str, why: str = "") -> Data:
    return {"severity": severity, "about": about, "name": name, "what": what, "why": why}


def _of_house(house: Runtime, status: Data, disk: str, problems: list[str]) -> Iterator[Data]:
    if house.draining:
        yield _wanting("bad", "vmcp", "", "vmcp is draining", "no new traffic is let in until it is stopped")
    for name in status["waitingFor"]:
        yield _wanting("bad", "backend", name, f"{name} is required and not there", "vmcp is not ready without it")
    if house.reloaded[0] == "rejected":
        yield _wanting("bad", "config", "", "the last reload was rejected", _some(problems))
    elif disk == "differs":
        yield _wanting("warn", "config", "", "the files say something else than what runs", "reload to apply them")
    elif disk != "same":
        yield _wanting("bad", "config", "", "the files cannot take over", disk)
    drifts = house.table.drifts
    if drifts:
        names = _some([f"{each.backend}: {each.name}" for each in drifts])
        yield _wanting("warn", "tools", "", f"{_many(len(drifts), 'definition')} not as locked", names)


def _of_workers(workers: list[Data]) -> Iterator[Data]:
    for each in workers:
        if each["status"] in AWAY:
            why = "it is started again" if each["status"] == "away" else "it is busy, or it hangs"
            yield _wanting("bad", "vmcp", "", f"worker {each['index']} is {each['status']}", why)
    if len({each["config"] for each in workers if "config" in each}) > 1:
        yield _wanting("warn", "config", "", "workers have different configurations", "reload to bring them together")


def _of_backends(known: list[Data]) -> Iterator[Data]:
    for each in known:
        name, health = each["name"], each["health"]
        if each["state"] == "down":
            yield _wanting("bad", "backend", name, f"{name} is down", each["why"])
        elif health not in ("healthy", "unknown"):
            severity = "bad" if health == "unhealthy" else "warn"
            yield _wanting(severity, "backend", name, f"{name} is {health}", each["why"])
        circuits: Counter[str] = Counter(each["breakers"])
        for state, count in circuits.items():
            if state != "closed":
                where = f" at {count} of {len(each['breakers'])} places" if len(each["breakers"]) > 1 else ""
                yield _wanting(
                    "bad", "backend", name, f"the circuit of {name} is {state}{where}", "it failed too often"
                )


def _of_faces(status: Data) -> Iterator[Data]:
    told: set[str] = set()
    for each in status["endpoints"]:
        if each["quarantined"] and each["group"] not in told:
            told.add(each["group"])
            names = _some([f"{kept['name']} of {kept['backend']}" for kept in each["quarantined"]])
            what = f"{_many(len(each['quarantined']), 'thing')} kept out of {each['group']}"
            yield _wanting("warn", "endpoint", each["path"], what, names)


def _some(words: list[str]) -> str:
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more


def _many(count: int, what: str) -> str:
    return f"{count} {what} is" if count == 1 else f"{count} {what}s are"
