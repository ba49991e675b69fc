"""Config + catalogs → RoutingTable.

The rule: pure, and no matter of luck. Names are fixed before backends meet (``names``); where two claim one, the winner is the
backend that stands first in ``priorityOrder``, else in the file, and within one backend the smaller original name. Only the
loser is quarantined. Winners are decided among the catalogs given: a loser holds the name as long as the winner has never
answered (callers keep the last catalog of a backend that went away, so an outage moves no name).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from vmcp.config.model import Aggregation, Config, Group
from vmcp.routing import greeting, names, personas, selection, templates
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.offers import offers
from vmcp.routing.table import Face, Quarantined, Route, RoutingTable, TemplateRoute

ROOT = "/mcp"


def build(number: int, config: Config, catalogs: Mapping[str, Catalog]) -> RoutingTable:
    """The table of ``config`` as of ``catalogs`` (by backend; one that is absent has not answered yet)."""
    faces: dict[str, Face] = {}
    made: _Made = {}
    for group in (*config.groups.values(), *(personas.group(each, config) for each in config.personas.values())):
        face = _face(config, group, catalogs, made)
        if group.name == config.group_ref:
            faces[ROOT] = replace(face, path=ROOT)
        faces[face.path] = face
    return RoutingTable(number, config.digest, MappingProxyType(faces))


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One kind of one face."""

    listing: tuple[Route, ...]
    hidden: Mapping[tuple[str, str], Route]
    quarantined: tuple[Quarantined, ...]


_Made = dict[tuple[str, ...], Mapping[Kind, _Shelf]]
"""Shelves by their backends in order: who has the same backends has the same shelves."""


def _face(config: Config, group: Group, catalogs: Mapping[str, Catalog], made: _Made) -> Face:
    present = [catalogs[backend] for backend in group.backends if backend in catalogs]
    missing = tuple(backend for backend in group.backends if backend not in catalogs)
    shelves = made.get(tuple(group.backends))
    if shelves is None:
        rank = names.ranks(config.aggregation, group.backends)
        shelves = {kind: _shelf(config.aggregation, kind, present, rank) for kind in Kind}
        made[tuple(group.backends)] = shelves
    return Face(
        path=f"/{group.name}{ROOT}",
        group=group.name,
        name=config.name,
        instructions=greeting.instructions(group, present),
        capabilities=greeting.capabilities(group, present, missing),
        routes=MappingProxyType({k: MappingProxyType({r.name: r for r in s.listing}) for k, s in shelves.items()}),
        listing=MappingProxyType({kind: shelf.listing for kind, shelf in shelves.items()}),
        quarantined=tuple(entry for shelf in shelves.values() for entry in shelf.quarantined),
        missing=missing,
        hidden=MappingProxyType({kind: shelf.hidden for kind, shelf in shelves.items()}),
        templates=_templates(config.aggregation, shelves[Kind.TEMPLATE].listing),
        backends=frozenset(group.backends),
    )


def _shelf(aggregation: Aggregation, kind: Kind, present: Sequence[Catalog], rank: Mapping[str, int]) -> _Shelf:
    offered: list[Route] = []
    hidden: dict[tuple[str, str], Route] = {}
    quarantined: list[Quarantined] = []
    for catalog in present:
        for offer in offers(aggregation, kind, catalog):
            if isinstance(offer, Quarantined):
                quarantined.append(offer)
            elif offer.listed:
                offered.append(offer)
            else:
                hidden[offer.backend, offer.original] = offer
    owners = _owners(offered, rank)
    quarantined.extend(_lost(route, owners[route.name]) for route in offered if owners[route.name] is not route)
    listing = tuple(route for route in offered if owners[route.name] is route)
    return _Shelf(listing, MappingProxyType(hidden), tuple(quarantined))


def _owners(offered: Sequence[Route], rank: Mapping[str, int]) -> dict[str, Route]:
    owners: dict[str, Route] = {}
    for route in offered:
        other = owners.setdefault(route.name, route)
        if (rank[route.backend], route.original) < (rank[other.backend], other.original):
            owners[route.name] = route
    return owners


def _lost(route: Route, owner: Route) -> Quarantined:
    why = f"'{route.original}' of '{route.backend}' has the same name as '{owner.original}' of '{owner.backend}'"
    return Quarantined(route.kind, route.name, route.backend, route.original, why, owner.backend)


def _templates(aggregation: Aggregation, listing: Sequence[Route]) -> tuple[TemplateRoute, ...]:
    barred = {r.backend: selection.chooser(aggregation, Kind.TEMPLATE, r.backend).left_out for r in listing}
    found = [
        TemplateRoute(template, route, barred[route.backend])
        for route in listing
        if (template := templates.compiled(route.original)) is not None
    ]
    return tuple(sorted(found, key=lambda candidate: -len(candidate.template.prefix)))
