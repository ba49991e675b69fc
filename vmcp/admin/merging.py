"""How what several workers say becomes what one would say.

The rule: numbers add, lists follow each other and say whose each thing is, of states the worst is told with its reason; what is
the same for all is taken from the first, which is the one that is asked. It decides on plain data, and knows nobody.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from vmcp.server import pace, sums
from vmcp.server.pace import Account, Pace
from vmcp.state.histogram import Calls
from vmcp.state.usage import Key

Data = dict[str, Any]
By = Mapping[int, Any]
"""What was said, by the number of the worker; the first is the one that merges."""
STATUSES: Final = ("ready", "degraded", "not ready", "stopping")
AWAY: Final = ("away", "silent")
"""How a worker is that says nothing: it is not there, or does not answer."""
STATES: Final = ("up", "starting", "down")
HEALTHS: Final = ("healthy", "unknown", "degraded", "unauthenticated", "unhealthy")
RESULTS: Final = ("unchanged", "applied", "failed", "rejected")
_SHOWN: Final = ("status", "sessions", "requestsInFlight")


def worst(words: Iterable[str], order: Sequence[str]) -> str:
    """The one that stands last in ``order``; what is not there is taken for worse."""
    return max(words, key=lambda word: order.index(word) if word in order else len(order))


def status(said: By) -> Data:
    """How the whole is; see ``Views.status``."""
    all_of: list[Data] = [*said.values()]
    first = all_of[0]
    reloads = [each["config"]["reloads"] for each in all_of]
    return {
        **first,
        "status": worst((each["status"] for each in all_of), STATUSES),
        "ready": all(each["ready"] for each in all_of),
        "waitingFor": _distinct(each["waitingFor"] for each in all_of),
        "startedAt": min(each["startedAt"] for each in all_of),
        "uptimeSeconds": max(each["uptimeSeconds"] for each in all_of),
        "config": {
            **first["config"],
            "reloads": {key: max(each.get(key, 0) for each in reloads) for key in _distinct(reloads)},
        },
        "endpoints": [_endpoint(path, all_of) for path in (each["path"] for each in first["endpoints"])],
        "backends": {
            "total": first["backends"]["total"],
            **{key: min(each["backends"][key] for each in all_of) for key in ("up", "healthy")},
        },
        "sessions": sum(each["sessions"] for each in all_of),
        "requestsInFlight": sum(each["requestsInFlight"] for each in all_of),
        "workers": [{"index": index, **_worker(each)} for index, each in sorted(said.items())],
    }


def _worker(told: Data) -> Data:
    return {"pid": told["pid"], **{key: told[key] for key in _SHOWN}, "config": told["config"]["digest"]}


def _endpoint(path: str, all_of: Sequence[Data]) -> Data:
    found = [each for told in all_of for each in told["endpoints"] if each["path"] == path]
    return {**found[0], "missing": _distinct(each["missing"] for each in found)}


def _distinct(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return list(dict.fromkeys(each for one in lists for each in one))


def backends(said: By) -> list[Data]:
    """A line of each; see ``Views.backends``."""
    names = _distinct((each["name"] for each in lines) for lines in said.values())
    return [line({k: each for k, lines in said.items() for each in lines if each["name"] == name}) for name in names]


def line(said: By) -> Data:
    """One backend."""
    all_of: list[Data] = [*said.values()]
    first = all_of[0]
    bad = max(all_of, key=_rank)
    where = next(index for index, each in said.items() if each is bad)
    alone = bad["why"] and len({each["why"] for each in all_of}) > 1
    return {
        **first,
        "protocolVersion": next((each["protocolVersion"] for each in all_of if each["protocolVersion"]), None),
        "state": bad["state"],
        "health": bad["health"],
        "why": f"worker {where}: {bad['why']}" if alone else bad["why"],
        "breakers": [state for each in all_of for state in each["breakers"]],
    }


def _rank(told: Data) -> tuple[int, int]:
    return _place(told["state"], STATES), _place(told["health"], HEALTHS)


def _place(word: str, order: Sequence[str]) -> int:
    return order.index(word) if word in order else len(order)


def backend(said: By) -> Data | None:
    """All that is known of one: each place at which a worker has it."""
    found = {index: each for index, each in said.items() if each is not None}
    if not found:
        return None
    places = [
        {"worker": index, **place}
        for index, each in found.items()
        for place in each["facts"].get("replicas", [each["facts"]])
    ]
    return {
        **line(found),
        "sinceSeconds": min(each["sinceSeconds"] for each in found.values()),
        "facts": {"replicas": places},
        "processes": marked({index: each["processes"] for index, each in found.items()}),
    }


def marked(said: By) -> list[Data]:
    """A list of all, in which each says which worker it is of."""
    return [{"worker": index, **each} for index, many in said.items() for each in many]


def usage(said: By) -> list[tuple[Key, Calls]]:
    """Rows of statistics that each keeps for itself."""
    found: dict[Key, Calls] = {}
    for rows in said.values():
        for key, calls in rows:
            found.setdefault(key, Calls()).merge(calls)
    return list(found.items())


def reload(said: By) -> Data:
    """How it has ended: as with the one with whom it went worst."""
    all_of: list[Data] = [*said.values()]
    return {
        "result": worst((each["result"] for each in all_of), RESULTS),
        "problems": _distinct(each["problems"] for each in all_of),
    }


def paces(said: By) -> Pace:
    """See ``pace.paces``."""
    return pace.paces([*said.values()])


def accounts(said: By) -> Account:
    """See ``pace.accounts``."""
    return pace.accounts([*said.values()])


def numbers(said: By) -> Data:
    """See ``sums.numbers``."""
    return sums.numbers([*said.values()])
