"""The immutable routing table: every face, every route, decided once and replaced whole.

The rule: what may be called is what ``routes`` has, and ``resource_route`` finds nothing that a selection took away.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from vmcp.config.globs import Globs
from vmcp.routing.arguments import ArgumentMap
from vmcp.routing.catalog import Kind
from vmcp.routing.lock import Drift
from vmcp.routing.templates import Template


@dataclass(frozen=True, slots=True)
class HeaderParam:
    """An argument that HTTP clients of 2026-07-28 repeat in a header: ``Mcp-Param-<header>``, at ``path`` in the arguments."""

    header: str
    path: tuple[str, ...]


class Dress(Protocol):
    """What a tool that a persona shows in its own way (``routing.dressing``) is to everybody else."""

    @property
    def text(self) -> bytes:
        """The JSON text that they see in a list."""

    def effective(self, given: Any) -> Any:
        """The arguments of a call (None: it has none) as they are meant: under the names that all know, filled in."""


class Route(msgspec.Struct, frozen=True):
    """One advertised thing and where it really is. A struct, because thousands are made at once (a tenth of a dataclass's time).

    ``modern`` and ``handshake`` are the JSON texts that the two eras of clients see in lists (mostly the same object).
    ``listed`` false means hidden: not listed, not callable directly. ``header_params`` are under the backend's own argument
    names, ``shown_header_params`` under the advertised ones. ``tasked``: its backend does it as a task of
    2025-11-25 or not at all. ``idempotent``: it is annotated so; to call it twice does what calling it once does.
    ``worn``: a persona shows it otherwise, maybe under another name; ``name`` is that by which policies and limits know it.
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
    idempotent: bool = False
    worn: Dress | None = None


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


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asks for: ``name`` is the advertised name or URI. ``values`` are made when a condition wants them."""

    method: str
    name: str
    values: Callable[[], Mapping[str, Any]]


class Rules(Protocol):
    """The routing rules of a face (``routing.steering``)."""

    def aim(self, asked: Asked, route: Route) -> Route:
        """``route``, or the same thing at another backend."""

    def reach(self, asked: Asked) -> Route | None:
        """Who shall be asked for a URI that nobody lists."""


Hidden = Mapping[Kind, Mapping[tuple[str, str], Route]]

_NOTHING_HIDDEN: Hidden = MappingProxyType({kind: MappingProxyType({}) for kind in Kind})


@dataclass(frozen=True, slots=True)
class Face:
    """What a client sees at one path. ``routes`` has what may be called, ``listing`` what is listed, in its order.

    ``hidden`` has, by (backend, original name), what only composite tools may reach. ``templates`` are in the order of asking.
    ``backends`` are all that it serves, whether they have answered or not. ``dressed`` is what personas see in its place.
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
    rules: Rules | None = None
    dressed: "Mapping[str, Face]" = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All faces by path, as of one config and one set of catalogs. ``drifts``: what is not as it was locked."""

    number: int
    config_digest: str
    faces: Mapping[str, Face]
    drifts: tuple[Drift, ...] = ()


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
