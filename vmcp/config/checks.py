"""What a schema cannot say about the whole file: names, references, the aggregation, the listener.

The rule: a check reads data whose wrong parts were taken out, says nothing about what is missing for that reason, and
returns problems; it never raises. What concerns one backend alone is in ``backends.py``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vmcp.config import (
    administration,
    backends,
    cache,
    checks_authz,
    checks_balancing,
    checks_health,
    checks_incoming,
    checks_limits,
    checks_listener,
    checks_outgoing,
    checks_processes,
    checks_telemetry,
    checks_timeouts,
    overrides,
    personas,
    proxies,
    steering,
    toolhive,
)
from vmcp.config.model import Paths
from vmcp.config.rules import Rule
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path, printable
from vmcp.config.urls import is_loopback, origin_wrong, url_wrong
from vmcp.config.wording import nearest
from vmcp.errors import Problem

RESERVED_GROUPS = frozenset(
    [
        "mcp",
        "sse",
        "message",
        "ws",
        "livez",
        "readyz",
        "healthz",
        "health",
        "ping",
        "status",
        "metrics",
        "admin",
        "api",
        "ui",
        "oauth",
        "persona",
        "groups",
        "_",
    ]
)
_ENDPOINTS = ("sse", "message", "ws")
_FIXED = RESERVED_GROUPS.difference(_ENDPOINTS)


@dataclass(frozen=True, slots=True)
class World:
    """The document and the names in it, with their places. ``whole`` is false when some names could not be read."""

    document: Document
    data: Mapping[str, Any]
    entries: tuple[Entry, ...]
    backend_names: Mapping[str, Path]
    groups: Mapping[str, Path]
    whole: bool


def world(document: Document) -> World:
    """The document as the checks see it."""
    data = document.data
    listed = data.get("backends")
    nameless = isinstance(listed, list) and any(not isinstance(each, dict) or "name" not in each for each in listed)
    broken = any(_names_things(path) for path in document.broken | document.partial)
    entries = tuple(toolhive.entries(data))
    names = {entry.name: (*entry.path, "name") for entry in entries}
    return World(document, data, entries, names, toolhive.group_names(data), not (nameless or broken))


def _names_things(path: Path) -> bool:
    match path:
        case (
            () | ("groupRef",) | ("groups",) | ("groups", _) | ("groups", _, "backends") | ("groups", _, "backends", _)
        ):
            return True
        case ("backends",) | ("backends", _) | ("backends", _, "name"):
            return True
        case _:
            return False


def checks(document: Document) -> Iterator[Problem]:
    """Every problem that the checks find."""
    seen = world(document)
    for check in CHECKS:
        yield from check(seen)
    yield from proxies.checks(document)
    yield from checks_listener.checks(document)
    yield from administration.checks(document)
    yield from checks_incoming.checks(document)
    yield from personas.checks(document, seen.groups if seen.whole else None)
    yield from checks_telemetry.checks(document)
    yield from checks_health.checks(document)
    yield from checks_limits.rate_problems(document, seen.backend_names if seen.whole else None)
    yield from steering.checks(document, seen.entries, whole=seen.whole)
    yield from cache.checks(document, seen.backend_names if seen.whole else None)
    if seen.whole:
        yield from checks_authz.checks(document)
    yield from checks_timeouts.common(document)
    for entry in seen.entries:
        yield from backends.checks(document, entry)
        yield from checks_timeouts.checks(document, entry)
        yield from checks_balancing.checks(document, entry)
        yield from checks_processes.checks(document, entry)


def _groups(world: World) -> Iterator[Problem]:
    document, data = world.document, world.data
    if not world.groups and world.whole:
        hint = "give groups: {<name>: {backends: {…}}}, or backends: [{name: …, url: …}]"
        yield document.problem(Rule.MISSING_KEY, (), "missing key 'groups'", hint)
    elif not any(entry.settings.get("enabled", True) for entry in world.entries) and world.whole:
        yield document.problem(Rule.NOTHING_SERVED, next(iter(world.groups.values())), "there is no backend", key=True)
    if "backends" in data and toolhive.implicit_group(data) in data.get("groups", {}):
        name = document.show(("groupRef",), toolhive.implicit_group(data))
        what = f"the list makes a group {name}, which is in groups too"
        yield document.problem(Rule.CONTRADICTION, ("backends",), what, "move the list into that group", key=True)
    for name, path in world.groups.items():
        if name.lower() in RESERVED_GROUPS:
            listed = path == ("backends",)
            at = ("groupRef",) if listed else path
            what = f"{document.show(at, name)} is a path of vmcp's own"
            yield document.problem(Rule.RESERVED_NAME, at, what, "choose another name", key=not listed)


def _group_ref(world: World) -> Iterator[Problem]:
    document, data = world.document, world.data
    name = data.get("groupRef")
    if name is not None and name not in world.groups and world.whole:
        yield _unknown(world, ("groupRef",), name, "group", world.groups)
    elif name is None and len(world.groups) > 1 and ("groupRef",) not in document.broken:
        what = "there are several groups and no groupRef: nothing is served at /mcp"
        yield document.problem(Rule.NOTHING_SERVED, ("groups",), what, "add groupRef", key=True, severity="warning")


def _unknown(world: World, path: Path, name: str, kind: str, known: Mapping[str, Path], key: bool = False) -> Problem:
    document = world.document
    shown = f"'{printable(name)}'" if key else document.show(path, name)
    tellable = sorted(each for each, at in known.items() if at not in document.hidden)
    hint = nearest(name, tellable) if path not in document.hidden else ""
    hint = hint or (f"there are: {', '.join(tellable)}" if 0 < len(tellable) <= 12 else "")
    return document.problem(Rule.UNKNOWN_REFERENCE, path, f"{shown} is no {kind} of this file", hint, key=key)


def _unique_backends(world: World) -> Iterator[Problem]:
    first: dict[str, Entry] = {}
    for entry in world.entries:
        other = first.setdefault(entry.name, entry)
        if other is not entry:
            path = (*entry.path, "name") if "name" in entry.settings else entry.path
            at = world.document.at_key(other.path)
            what = f"{world.document.show(path, entry.name)} is already the name of a backend, at {at}"
            hint = "backend names are unique in the whole file"
            yield world.document.problem(Rule.DUPLICATE_NAME, path, what, hint, key="name" not in entry.settings)


def _references(world: World) -> Iterator[Problem]:
    if not world.whole:
        return
    maps: tuple[Path, ...] = (("operational", "timeouts", "perWorkload"), ("outgoingAuth", "backends"))
    for path in maps:
        for name in _at(world.data, path) or {}:
            if name not in world.backend_names:
                yield _unknown(world, (*path, name), name, "backend", world.backend_names, key=True)
    lists: tuple[Path, ...] = (("aggregation", "conflictResolutionConfig", "priorityOrder"),)
    for path in lists:
        for number, name in enumerate(_at(world.data, path) or ()):
            if name is not None and name not in world.backend_names:
                yield _unknown(world, (*path, number), name, "backend", world.backend_names)


def _at(data: Any, path: Path) -> Any:
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _conflicts(world: World) -> Iterator[Problem]:
    document, aggregation = world.document, world.data.get("aggregation", {})
    strategy = aggregation.get("conflictResolution", "prefix")
    config = aggregation.get("conflictResolutionConfig", {})
    at: Path = ("aggregation", "conflictResolution")
    order: Path = ("aggregation", "conflictResolutionConfig", "priorityOrder")
    if strategy == "priority" and not config.get("priorityOrder") and not document.broken & {order, order[:-1]}:
        hint = "add conflictResolutionConfig: {priorityOrder: [first, second]}"
        yield document.problem(Rule.MISSING_KEY, at, "priority needs a priorityOrder", hint)
    if strategy == "manual" and not aggregation.get("tools") and ("aggregation", "tools") not in document.broken:
        hint = "add tools: [{workload: …, overrides: {…}}], or use prefix"
        yield document.problem(Rule.MISSING_KEY, at, "manual needs an entry in tools for what it decides", hint)
    yield from _prefix(world, strategy, config.get("prefixFormat"))


def _prefix(world: World, strategy: str, form: str | None) -> Iterator[Problem]:
    if form is None or "{workload}" in form:
        return
    sizes: dict[str, int] = {}
    for entry in world.entries:
        sizes[entry.group] = sizes.get(entry.group, 0) + 1
    many = strategy == "prefix" and any(size > 1 for size in sizes.values())
    path: Path = ("aggregation", "conflictResolutionConfig", "prefixFormat")
    what = "has no {workload} in it" + (": several backends would share one prefix" if many else "")
    hint = 'write for example "{workload}_"'
    yield world.document.problem(Rule.PREFIX_FORMAT, path, what, hint, severity="error" if many else "warning")


def _selections(world: World) -> Iterator[Problem]:
    for kind in ("tools", "prompts", "resources"):
        seen: set[str] = set()
        for number, entry in enumerate(world.data.get("aggregation", {}).get(kind, ())):
            if entry is None:
                continue
            path: Path = ("aggregation", kind, number)
            name = entry.get("workload")
            if name in seen:
                what = f"there is already an entry for {world.document.show((*path, 'workload'), name)}"
                yield world.document.problem(Rule.DUPLICATE_NAME, (*path, "workload"), what, "put both in one entry")
            elif name is not None:
                seen.add(name)
                if world.whole and name not in world.backend_names:
                    yield _unknown(world, (*path, "workload"), name, "backend", world.backend_names)
            yield from overrides.checks(world.document, (*path, "overrides"), entry.get("overrides", {}))


def _manual_names(world: World) -> Iterator[Problem]:
    """Under ``manual`` overrides are final: two backends of one group may not give one name."""
    aggregation = world.data.get("aggregation", {})
    if aggregation.get("conflictResolution") != "manual":
        return
    group_of = {entry.name: entry.group for entry in world.entries}
    owners: dict[tuple[str | None, str], str] = {}
    for number, entry in enumerate(aggregation.get("tools", ())):
        workload = (entry or {}).get("workload")
        for original, settings in (entry or {}).get("overrides", {}).items():
            new = settings.get("name") if isinstance(settings, dict) else None
            if new is None or workload is None:
                continue
            other = owners.setdefault((group_of.get(workload), new), workload)
            if other != workload:
                at: Path = ("aggregation", "tools", number, "overrides", original, "name")
                what = f"{world.document.show(at, new)} is already the name of a tool of another backend"
                yield world.document.problem(Rule.DUPLICATE_NAME, at, what, "choose another name")


def _visibility(world: World) -> Iterator[Problem]:
    document, aggregation = world.document, world.data.get("aggregation", {})
    path: Path = ("aggregation", "defaultToolVisibility")
    if aggregation.get("defaultToolVisibility") != "deny" or ("aggregation", "tools") in document.broken:
        return
    named = {entry.get("workload") for entry in aggregation.get("tools", ()) if entry}
    if not named:
        what = "no tool is advertised: deny, and no entry in tools"
        yield document.problem(Rule.NOTHING_SERVED, path, what, "add entries to aggregation.tools", severity="warning")
    if aggregation.get("conflictResolution") == "priority":
        order = aggregation.get("conflictResolutionConfig", {}).get("priorityOrder", ())
        for number, name in enumerate(order):
            if name in world.backend_names and name not in named:
                at: Path = ("aggregation", "conflictResolutionConfig", "priorityOrder", number)
                what = f"{document.show(at, name)} can win names but none of its tools is advertised"
                hint = "give it an entry in aggregation.tools, or leave defaultToolVisibility at allow"
                yield document.problem(Rule.CONTRADICTION, at, what, hint)


def _strategies(world: World) -> Iterator[Problem]:
    for path, strategy in checks_outgoing.places(world.data, world.entries):
        yield from checks_outgoing.strategy_checks(world.document, path, strategy)
    for entry in world.entries:
        yield from checks_outgoing.entry_checks(world.document, entry)


def _paths(world: World) -> Iterator[Problem]:
    """Every endpoint has a path of its own, at the root and below each group."""
    given = world.data.get("server", {}).get("paths", {})
    taken = {"/mcp": "mcp"} | {getattr(Paths(), key): key for key in _ENDPOINTS if key not in given}
    for key in _ENDPOINTS:
        path = given.get(key)
        if path is None:
            continue
        first = path.split("/")[1]
        other = taken.setdefault(path, key)
        if other != key:
            what, hint = f"is the path of {other} too", "each endpoint needs a path of its own"
        elif not all(part.strip(".") for part in path.split("/")[1:]):
            what, hint = "has an empty or dotted segment", f"write for example /{key}"
        elif first in _FIXED or first in world.groups:
            what, hint = f"begins with '/{first}', which is something else's", "choose another path"
        else:
            continue
        yield world.document.problem(Rule.CONTRADICTION, ("server", "paths", key), what, hint)


def _server(world: World) -> Iterator[Problem]:
    document, server = world.document, world.data.get("server", {})
    anonymous = world.data.get("incomingAuth", {}).get("type", "anonymous") == "anonymous"
    host = server.get("host", "127.0.0.1")
    if anonymous and not is_loopback(host) and not server.get("allowAnonymousNetwork", False):
        what = "anyone on the network could come in, for incomingAuth is anonymous"
        hint = "listen on 127.0.0.1, or write server.allowAnonymousNetwork: true"
        yield document.problem(Rule.ANONYMOUS_NETWORK, ("server", "host"), what, hint)
    public = server.get("publicUrl")
    wrong = url_wrong(public, query=False) if public is not None else None
    if wrong is not None:
        yield document.problem(Rule.BAD_URL, ("server", "publicUrl"), wrong, "write for example https://gw.example.com")
    for number, origin in enumerate(server.get("allowedOrigins", ())):
        wrong = origin_wrong(origin) if origin is not None else None
        if wrong is not None:
            hint = "write for example https://app.example.com"
            yield document.problem(Rule.BAD_URL, ("server", "allowedOrigins", number), wrong, hint)
    for number, name in enumerate(server.get("allowedHosts", ())):
        if name is not None and ("/" in name or "@" in name or " " in name):
            what = "must be a host, or a host and a port"
            hint = "write for example gw.example.com"
            yield document.problem(Rule.BAD_VALUE, ("server", "allowedHosts", number), what, hint)


CHECKS: tuple[Callable[[World], Iterator[Problem]], ...] = (
    _groups,
    _group_ref,
    _unique_backends,
    _references,
    _conflicts,
    _selections,
    _manual_names,
    _visibility,
    _strategies,
    _server,
    _paths,
)
