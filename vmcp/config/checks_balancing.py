"""What a schema cannot say about replicas and how they are chosen.

The rule: replicas are one server, so all are reached in the same way; a setting that its strategy does not look at is told.
"""

from collections.abc import Iterator

from vmcp.config.backends import addresses
from vmcp.config.balancing import Balancing
from vmcp.config.rules import Rule
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path
from vmcp.config.urls import SOCKETS, scheme
from vmcp.errors import Problem

_WEIGHTLESS = {"roundRobin": "weightedRoundRobin", "random": "weightedRandom"}
_BELONGS = {"hashOn": "consistentHash", "window": "adaptive"}


def checks(document: Document, entry: Entry) -> Iterator[Problem]:
    """Every problem of one backend."""
    settings = entry.settings
    if "endpoints" not in settings:
        if "loadBalancing" in settings and (*entry.path, "endpoints") not in document.broken:
            what, at = "has no effect: there are no endpoints", (*entry.path, "loadBalancing")
            yield document.problem(Rule.MISPLACED_KEY, at, what, "add endpoints, or remove it", key=True)
        return
    yield from _alike(document, entry)
    yield from _weights(document, entry)
    strategy = settings.get("loadBalancing", {}).get("strategy", Balancing().strategy)
    for key, needs in _BELONGS.items():
        if key in settings.get("loadBalancing", {}) and strategy != needs:
            what, at = f"has no effect with {strategy}", (*entry.path, "loadBalancing", key)
            hint = f"remove it, or use strategy: {needs}"
            yield document.problem(Rule.MISPLACED_KEY, at, what, hint, key=True, severity="warning")


def _alike(document: Document, entry: Entry) -> Iterator[Problem]:
    """Each is another place, and reached over the same transport."""
    seen: set[str] = set()
    sockets: bool | None = None
    for path, url in addresses(entry):
        if path[-2] == entry.path[-1]:
            continue  # the backend's own url, which may not stand beside them at all
        if url in seen:
            what = "is the url of another replica too"
            yield document.problem(Rule.DUPLICATE_NAME, path, what, "remove it, or give the other a weight")
        seen.add(url)
        kind = scheme(url) in SOCKETS
        if sockets is not None and kind is not sockets:
            what = "is not of the same transport as the first replica"
            yield document.problem(Rule.CONTRADICTION, path, what, "replicas are all http, or all WebSocket")
        sockets = kind if sockets is None else sockets


def _weights(document: Document, entry: Entry) -> Iterator[Problem]:
    weights = {number: each.get("weight", 1) for number, each in enumerate(entry.settings["endpoints"]) if each}
    at: Path = (*entry.path, "endpoints")
    if weights and not any(weights.values()):
        what, hint = "every replica has weight 0, so none gets a call", "give one of them a weight"
        yield document.problem(Rule.NOTHING_SERVED, at, what, hint, key=True)
    strategy = entry.settings.get("loadBalancing", {}).get("strategy", Balancing().strategy)
    if strategy in _WEIGHTLESS:
        for number, weight in weights.items():
            if weight > 1:
                what = f"has no effect with {strategy}"
                hint = f"use strategy: {_WEIGHTLESS[strategy]}"
                path: Path = (*at, number, "weight")
                yield document.problem(Rule.MISPLACED_KEY, path, what, hint, key=True, severity="warning")
