"""What clients, models and people will have trouble with in what backends offer: what only shows when they are asked.

The rule: advice, told once for each backend or group with a few examples; the limits of clients are in one table, and a name is
measured as the client shows it to its model.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from vmcp.config.model import Config
from vmcp.config.rules import Rule
from vmcp.routing import hidden, members, personas
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.lock import WORDS, Drift
from vmcp.routing.names import RESERVED
from vmcp.routing.surface import tokens
from vmcp.routing.table import Face, Quarantined, Route, RoutingTable
from vmcp.routing.words import visible

ENTRY: Final = "vmcp"
"""The name that clients are told to give to vmcp."""
NAMES: Final[Mapping[str, tuple[str, int]]] = {
    "Claude Code": (f"mcp__{ENTRY}__", 64),
    "Gemini CLI": (f"mcp_{ENTRY}_", 63),
}
"""What a client puts before the name of a tool, and the longest that it shows to the model."""
COUNTS: Final[Mapping[str, int]] = {"Windsurf": 100, "VS Code": 128}
"""The most tools that a client uses at a time."""
BUDGET: Final = 25_000
"""Tokens of a list of tools from which on it is a burden, if nobody says another number."""
_EXAMPLES: Final = 5
_WORD = re.compile(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)+")
_DESCRIPTION: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Lint:
    """One piece of advice, about a backend or (else) a group."""

    rule: Rule
    what: str
    hint: str
    backend: str | None = None
    group: str | None = None


def lints(config: Config, table: RoutingTable, catalogs: Mapping[str, Catalog], budget: int = BUDGET) -> Iterator[Lint]:
    """Everything there is to say about ``table``, which is of these ``catalogs``."""
    for spec in config.backends:
        if spec.name not in catalogs:
            hint = "start it, or give it more time with --wait"
            yield Lint(Rule.UNANSWERED, "did not answer, so nothing of it is checked", hint, spec.name)
    for catalog in catalogs.values():
        yield from _hidden(catalog)
    yield from _drifts(table.drifts)
    faces = [face for face in table.faces.values() if not face.group.startswith(personas.PREFIX)]
    for face in {face.group: face for face in faces}.values():
        yield from _names(face)
        yield from _sizes(face, budget)
        yield from _kept_out(face)
        yield from _alike(face)
        yield from _mentions(face)


def _some(names: Iterable[str]) -> str:
    found = [f"'{visible(name, 80)}'" for name in dict.fromkeys(names)]
    more = f" and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    return ", ".join(found[:_EXAMPLES]) + more


def _hidden(catalog: Catalog) -> Iterator[Lint]:
    places: dict[str, list[str]] = {}
    for sort in hidden.sorts(catalog.instructions):
        places.setdefault(sort, []).append("instructions")
    for kind in Kind:
        for entry in catalog.entries[kind]:
            for place, sort in hidden.found(entry.raw):
                places.setdefault(sort, []).append(f"{entry.name}: {place}")
    for sort, where in places.items():
        hint = "read what it says with: vmcp plan --output json; leave the tool out until you know why"
        yield Lint(Rule.HIDDEN_CHARACTERS, f"{sort} in {_some(where)}", hint, catalog.backend)


def _drifts(drifts: Sequence[Drift]) -> Iterator[Lint]:
    by_backend: dict[str, list[str]] = {}
    for drift in drifts:
        by_backend.setdefault(drift.backend, []).append(
            f"{WORDS.get(drift.kind, '')} {drift.name or drift.kind}".strip()
        )
    for backend, names in by_backend.items():
        yield Lint(Rule.LOCK_DRIFT, f"not as it was locked: {_some(names)}", "look at it with: vmcp lock diff", backend)


def _names(face: Face) -> Iterator[Lint]:
    for client, (before, most) in NAMES.items():
        long = [route for route in face.listing[Kind.TOOL] if len(before) + len(route.name) > most]
        for backend, routes in _by_backend(long).items():
            room = most - len(before)
            what = f"{client} shows '{before}<name>' in at most {most} characters, so {room} are left for: "
            hint = f"set aggregation.maxNameLength: {room}, or rename them with overrides"
            yield Lint(Rule.NAME_LENGTH, what + _some(route.name for route in routes), hint, backend)


def _by_backend(routes: Iterable[Route]) -> dict[str, list[Route]]:
    found: dict[str, list[Route]] = {}
    for route in routes:
        found.setdefault(route.backend, []).append(route)
    return found


def _sizes(face: Face, budget: int) -> Iterator[Lint]:
    tools = face.listing[Kind.TOOL]
    for client, most in COUNTS.items():
        if len(tools) > most:
            hint = "filter tools (aggregation.tools), or serve fewer at a time with groups or personas"
            yield Lint(Rule.TOOL_COUNT, f"{len(tools)} tools; {client} uses {most} at a time", hint, group=face.group)
    cost = tokens(sum(len(route.modern) for route in tools))
    if cost > budget:
        heavy = sorted(_by_backend(tools).items(), key=lambda each: -sum(len(route.modern) for route in each[1]))
        most_of_it = ", ".join(f"{name} {tokens(sum(len(r.modern) for r in routes))}" for name, routes in heavy[:3])
        what = f"its tools cost about {cost} tokens in every conversation, more than {budget} ({most_of_it})"
        hint = "filter tools, shorten descriptions with overrides, or allow more with --budget"
        yield Lint(Rule.TOKEN_BUDGET, what, hint, group=face.group)


def _kept_out(face: Face) -> Iterator[Lint]:
    reserved = [q for q in face.quarantined if q.name[: len(RESERVED)].lower() == RESERVED]
    lost = [q for q in face.quarantined if q.winner is not None]
    for backend, found in _grouped(reserved).items():
        what = f"names that begin with '{RESERVED}' are for vmcp itself: {_some(q.name for q in found)}"
        yield Lint(Rule.RESERVED_NAME, what, "rename them with aggregation.tools[].overrides", backend)
    for backend, found in _grouped(lost).items():
        what = f"not served, as others have the same names: {_some(f'{q.name} of {q.winner}' for q in found)}"
        yield Lint(Rule.SHADOWED, what, "use the prefix strategy, rename them, or leave them out", backend)


def _grouped(entries: Iterable[Quarantined]) -> dict[str, list[Quarantined]]:
    found: dict[str, list[Quarantined]] = {}
    for entry in entries:
        found.setdefault(entry.backend, []).append(entry)
    return found


def _alike(face: Face) -> Iterator[Lint]:
    """What people and models take for one another, at two backends."""
    shapes: dict[tuple[str, str], list[Route]] = {}
    for route in face.listing[Kind.TOOL]:
        shapes.setdefault(("are easily taken for one another", _shape(route.name)), []).append(route)
        description = _description(route).strip()
        if description:
            shapes.setdefault(("have the same description", description), []).append(route)
    told: dict[tuple[str, str], list[str]] = {}
    for (what, _), routes in shapes.items():
        if len(_by_backend(routes)) > 1:
            told.setdefault((routes[-1].backend, what), []).append(" and ".join(route.name for route in routes))
    for (backend, what), pairs in told.items():
        hint = "tell them apart with names and descriptions of their own (aggregation.tools[].overrides)"
        yield Lint(Rule.ALIKE, f"{_some(pairs)} {what}", hint, backend)


def _shape(name: str) -> str:
    """The same for what differs in case, in ``_`` and ``-``, in l and 1, in O and 0."""
    return re.sub(r"[_-]", "", name).casefold().translate(str.maketrans("1l0", "iio"))


def _mentions(face: Face) -> Iterator[Lint]:
    """A backend that speaks of tools of another one may steer what is done with them."""
    owners: dict[str, set[str]] = {}
    for route in face.listing[Kind.TOOL]:
        for name in {route.name, route.original}:
            owners.setdefault(name, set()).add(route.backend)
    for backend, routes in _by_backend(face.listing[Kind.TOOL]).items():
        found = [
            f"{word} in {route.name}"
            for route in routes
            for word in dict.fromkeys(_WORD.findall(_description(route)))
            if word in owners and backend not in owners[word]
        ]
        if found:
            what = f"its descriptions speak of tools of other backends: {_some(found)}"
            yield Lint(Rule.SHADOWED, what, "read them: a description is an instruction to the model", backend)


def _description(route: Route) -> str:
    text = (members.split(route.modern) or {}).get("description", members.EMPTY)
    try:
        return msgspec.json.decode(text, type=str)[:_DESCRIPTION]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
