"""Config + catalogs → RoutingTable.

The rule: pure, and no matter of luck. Names are fixed before backends meet (``names``); where two claim one, the winner is the
backend that stands first in ``priorityOrder``, else in the file, and within one backend the smaller original name. Only the
loser is quarantined, and what the lock keeps out (``lock``), which holds its name all the same. Winners are decided among the
catalogs given: a loser holds the name as long as the winner has never answered (callers keep the last catalog of a backend that
went away, so an outage moves no name).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from vmcp.config.model import Aggregation, Config, Group
from vmcp.routing import dressing, greeting, lock, names, personas, selection, steering, templates
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.lock import Barred, Verdict
from vmcp.routing.offers import offers
from vmcp.routing.table import Face, Hidden, Quarantined, Route, RoutingTable, Rules, TemplateRoute

ROOT = "/mcp"


def build(number: int, config: Config, catalogs: Mapping[str, Catalog]) -> RoutingTable:
    """The table of ``config`` as of ``catalogs`` (by backend; one that is absent has not answered yet)."""
    faces: dict[str, Face] = {}
    made: _Made = {}
    verdict = lock.verdict(config.lock, catalogs.values())
    for group in (*config.groups.values(), *(personas.group(each, config) for each in config.personas.values())):
        face = _face(config, group, _Offering(catalogs, verdict), made)
        if group.name == config.group_ref:
            faces[ROOT] = replace(face, path=ROOT)
        faces[face.path] = face
    views = personas.dressing(config)
    limit = config.aggregation.max_name_length
    shown = {path: dressing.wardrobe(face, views, limit) for path, face in faces.items()} if views else faces
    return RoutingTable(number, config.digest, MappingProxyType(shown), verdict.drifts)


@dataclass(frozen=True, slots=True)
class _Offering:
    """What backends offer, and what of it the lock keeps out."""

    catalogs: Mapping[str, Catalog]
    verdict: Verdict

    def greeting(self, catalog: Catalog) -> Catalog:
        """As far as it may speak for itself."""
        return replace(catalog, instructions="") if catalog.backend in self.verdict.silenced else catalog


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One kind of one face."""

    listing: tuple[Route, ...]
    hidden: Mapping[tuple[str, str], Route]
    quarantined: tuple[Quarantined, ...]
    offered: tuple[Route, ...]


_Made = dict[tuple[str, ...], Mapping[Kind, _Shelf]]
"""Shelves by their backends in order: who has the same backends has the same shelves."""


def _face(config: Config, group: Group, offering: _Offering, made: _Made) -> Face:
    catalogs, verdict = offering.catalogs, offering.verdict
    present = [catalogs[backend] for backend in group.backends if backend in catalogs]
    missing = tuple(backend for backend in group.backends if backend not in catalogs)
    shelves = made.get(tuple(group.backends))
    if shelves is None:
        rank = names.ranks(config.aggregation, group.backends)
        shelves = {kind: _shelf(config.aggregation, kind, present, rank, verdict.barred) for kind in Kind}
        made[tuple(group.backends)] = shelves
    hidden = MappingProxyType({kind: shelf.hidden for kind, shelf in shelves.items()})
    return Face(
        path=f"/{group.name}{ROOT}",
        group=group.name,
        name=config.name,
        instructions=greeting.instructions(group, [offering.greeting(catalog) for catalog in present]),
        capabilities=greeting.capabilities(group, present, missing),
        routes=MappingProxyType({k: MappingProxyType({r.name: r for r in s.listing}) for k, s in shelves.items()}),
        listing=MappingProxyType({kind: shelf.listing for kind, shelf in shelves.items()}),
        quarantined=tuple(entry for shelf in shelves.values() for entry in shelf.quarantined),
        missing=missing,
        hidden=hidden,
        templates=_templates(config.aggregation, shelves[Kind.TEMPLATE].listing),
        backends=frozenset(group.backends),
        rules=_rules(config, group, [each for each in present if each.backend not in verdict.blocked], shelves, hidden),
    )


def _rules(
    config: Config, group: Group, present: Sequence[Catalog], shelves: Mapping[Kind, _Shelf], hidden: Hidden
) -> Rules | None:
    if not config.routing:
        return None
    offered = {(r.kind, r.backend, r.original): r for shelf in shelves.values() for r in shelf.offered}
    premises = steering.Premises(config.aggregation, group.backends, present, offered, hidden)
    return steering.steering(config.routing, premises)


def _shelf(
    aggregation: Aggregation, kind: Kind, present: Sequence[Catalog], rank: Mapping[str, int], barred: Barred
) -> _Shelf:
    offered: list[Route] = []
    hidden: dict[tuple[str, str], Route] = {}
    quarantined: list[Quarantined] = []
    for catalog in present:
        for offer in offers(aggregation, kind, catalog):
            if isinstance(offer, Quarantined):
                quarantined.append(offer)
            elif offer.listed:
                offered.append(offer)
            elif _place(offer) in barred:
                quarantined.append(_barred(offer, barred))
            else:
                hidden[offer.backend, offer.original] = offer
    owners = _owners(offered, rank)
    kept = [route for route in offered if _place(route) not in barred] if barred else offered
    quarantined.extend(_barred(route, barred) for route in offered if barred and _place(route) in barred)
    quarantined.extend(_lost(route, owners[route.name]) for route in kept if owners[route.name] is not route)
    listing = tuple(route for route in kept if owners[route.name] is route)
    return _Shelf(listing, MappingProxyType(hidden), tuple(quarantined), tuple(kept))


def _place(route: Route) -> tuple[Kind, str, str]:
    return route.kind, route.backend, route.original


def _barred(route: Route, barred: Barred) -> Quarantined:
    return Quarantined(route.kind, route.name, route.backend, route.original, barred[_place(route)])


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
