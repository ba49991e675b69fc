"""The immutable routing table: every face, every route, decided once and replaced whole.

The rule: what may be called is what ``routes`` has, and ``resource_route`` finds nothing that a selection took away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from vmcp.routing.arguments import ArgumentMap
from vmcp.routing.catalog import Kind
from vmcp.routing.selection import Globs
from vmcp.routing.templates import Template


@dataclass(frozen=True, slots=True)
class HeaderParam:
    """An argument that HTTP clients of 2026-07-28 repeat in a header: ``Mcp-Param-<header>``, at ``path`` in the arguments."""

    header: str
    path: tuple[str, ...]


class Route(msgspec.Struct, frozen=True):
    """One advertised thing and where it really is. A struct, because thousands are made at once (a tenth of a dataclass's time).

    ``modern`` and ``handshake`` are the JSON texts that the two eras of clients see in lists (mostly the same object).
    ``listed`` false means hidden: not listed, not callable directly. ``header_params`` are under the backend's own argument
    names, ``shown_header_params`` under the advertised ones. ``tasked``: its backend does it as a task of
    2025-11-25 or not at all.
    """

    kind: Kind
    name: str
    backend: str
    original: str
    modern: bytes
    handshake: bytes
    listed: bool = True
    header_params: tuple[HeaderParam, ...] = ()
    shown_header_params: tuple[HeaderParam, ...] = ()
    arguments: ArgumentMap | None = None
    tasked: bool = False


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Something a backend offers that is not in the table, and why; ``winner`` is the backend that has the name."""

    kind: Kind
    name: str
    backend: str
    original: str
    why: str
    winner: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateRoute:
    """A listed resource template ready to match. ``barred`` are the URIs that its backend's ``exclude`` keeps closed."""

    template: Template
    route: Route
    barred: Globs


Hidden = Mapping[Kind, Mapping[tuple[str, str], Route]]

_NOTHING_HIDDEN: Hidden = MappingProxyType({kind: MappingProxyType({}) for kind in Kind})


@dataclass(frozen=True, slots=True)
class Face:
    """What a client sees at one path. ``routes`` has what may be called, ``listing`` what is listed, in its order.

    ``hidden`` has, by (backend, original name), what only composite tools may reach. ``templates`` are in the order of asking.
    ``backends`` are all that it serves, whether they have answered or not.
    """

    path: str
    group: str
    name: str
    instructions: str
    capabilities: Mapping[str, Mapping[str, Any]]
    routes: Mapping[Kind, Mapping[str, Route]]
    listing: Mapping[Kind, tuple[Route, ...]]
    quarantined: tuple[Quarantined, ...]
    missing: tuple[str, ...]
    hidden: Hidden = field(default_factory=lambda: _NOTHING_HIDDEN)
    templates: tuple[TemplateRoute, ...] = ()
    backends: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All faces by path, as of one config and one set of catalogs."""

    number: int
    config_digest: str
    faces: Mapping[str, Face]


def resource_route(face: Face, uri: str) -> Route | None:
    """Who answers for ``uri``: the backend that lists it, else the matching template with the longest literal beginning.

    A template is no way around a selection: what its backend's ``exclude`` names, or what is hidden by itself, stays closed.
    """
    exact = face.routes[Kind.RESOURCE].get(uri)
    if exact is not None:
        return exact
    hidden = face.hidden[Kind.RESOURCE]
    for candidate in face.templates:
        route = candidate.route
        if candidate.template.match(uri) and not candidate.barred.match(uri) and (route.backend, uri) not in hidden:
            return route
    return None


def diff(old: RoutingTable | None, new: RoutingTable, *, modern: bool | None = None) -> Mapping[str, frozenset[Kind]]:
    """The kinds whose lists look different, by path; a path without changes is left out.

    ``modern`` says to whom: clients of 2026-07-28, older ones, or (None) either.
    """
    before: Mapping[str, Face] = {} if old is None else old.faces
    paths = dict.fromkeys((*before, *new.faces))
    changes = {path: _changed(before.get(path), new.faces.get(path), modern) for path in paths}
    return MappingProxyType({path: kinds for path, kinds in changes.items() if kinds})


def _changed(old: Face | None, new: Face | None, modern: bool | None) -> frozenset[Kind]:
    return frozenset(kind for kind in Kind if _visible(old, kind, modern) != _visible(new, kind, modern))


def _visible(face: Face | None, kind: Kind, modern: bool | None) -> list[tuple[bytes, ...]]:
    if face is None:
        return []
    if modern is None:
        return [(route.modern, route.handshake) for route in face.listing[kind]]
    return [(route.modern if modern else route.handshake,) for route in face.listing[kind]]
