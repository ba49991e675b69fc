"""How a persona shows tools that everybody else sees otherwise.

The rule: only what a client reads and writes changes. For policies, limits and records a tool keeps the name, the annotations and
the argument names that it has for all, so a persona opens nothing; and an override takes no name away from another tool.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw

from vmcp.config.overrides import Override
from vmcp.routing import arguments, fragments, headers, members, names
from vmcp.routing.arguments import ArgumentMap
from vmcp.routing.catalog import Kind
from vmcp.routing.personas import View
from vmcp.routing.table import Face, Quarantined, Route

_AS_THEY_ARE = ArgumentMap({}, frozenset(), {}, {})


@dataclass(frozen=True, slots=True)
class Worn:
    """What a persona's tool is to all others: ``text`` is what they see of it, the rest is about its arguments. See ``Dress``."""

    text: bytes
    renamed: Mapping[str, str]
    unknown: frozenset[str]
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any]

    def effective(self, given: Any) -> Any:
        """See ``Dress``."""
        if given is not None and not isinstance(given, Mapping):
            return given
        said = {
            self.renamed.get(name, name): value for name, value in (given or {}).items() if name not in self.unknown
        }
        found = {**self.defaults, **said, **self.fixed}
        return found if found or given is not None else None


def wardrobe(face: Face, views: Iterable[View], limit: int) -> Face:
    """``face``, with what the personas of ``views`` see there instead; names have at most ``limit`` characters."""
    dressed: dict[str, Face] = {}
    lost: list[Quarantined] = []
    for view in views:
        if any(name in face.routes[Kind.TOOL] for name in view.persona.overrides):
            shown, out = _shown(face, view, limit)
            lost += out
            dressed[view.persona.name] = _with(face, shown)
    if not dressed:
        return face
    return replace(face, dressed=MappingProxyType(dressed), quarantined=(*face.quarantined, *lost))


def _with(face: Face, shown: Mapping[str, Route]) -> Face:
    return replace(
        face,
        routes=MappingProxyType({**face.routes, Kind.TOOL: MappingProxyType(shown)}),
        listing=MappingProxyType({**face.listing, Kind.TOOL: tuple(shown.values())}),
    )


def _shown(face: Face, view: View, limit: int) -> tuple[dict[str, Route], list[Quarantined]]:
    """The tools of a persona by the names that it sees, and those that it cannot have under the name they would get."""
    overrides = view.persona.overrides
    seen = [route for route in face.listing[Kind.TOOL] if view.admits(route)]
    called = [_name(route, overrides, limit) for route in seen]
    kept = {route.name for route, name in zip(seen, called, strict=True) if route.name == name}
    shown: dict[str, Route] = {}
    lost: list[Quarantined] = []
    for route, name in zip(seen, called, strict=True):
        taken = name in shown or (name in kept and name != route.name)
        made = _taken(name) if taken else _dress(route, overrides.get(route.name), name)
        if isinstance(made, str):
            why = f"persona '{view.persona.name}': {made}"
            lost.append(Quarantined(Kind.TOOL, name, route.backend, route.original, why))
        else:
            shown[name] = made
    return shown, lost


def _name(route: Route, overrides: Mapping[str, Override], limit: int) -> str:
    override = overrides.get(route.name)
    return names.fit(override.name, limit) if override is not None and override.name is not None else route.name


def _taken(name: str) -> str:
    return f"it would be called '{name}', which is the name of another tool there"


def _dress(route: Route, override: Override | None, name: str) -> Route | str:
    if override is None:
        return route
    if names.reserved(name):
        return f"names that begin with '{names.RESERVED}' are for vmcp itself"
    own = arguments.mapping(override.arguments)
    hidden = _hidden(own, route.arguments)
    if hidden:
        return f"its argument '{hidden[0]}' is not there any more for anybody"
    modern = _text(route.modern, override, name)
    handshake = modern if route.handshake is route.modern else _text(route.handshake, override, name)
    if isinstance(modern, str) or isinstance(handshake, str):
        return modern if isinstance(modern, str) else str(handshake)
    return msgspec.structs.replace(
        route,
        modern=modern,
        handshake=handshake,
        shown_header_params=headers.shown(route.shown_header_params, override.arguments),
        arguments=route.arguments if own is None else replace(own, inner=route.arguments),
        worn=_worn(route, own or _AS_THEY_ARE),
    )


def _worn(route: Route, own: ArgumentMap) -> Worn:
    return Worn(route.modern, own.names, own.unknown, _decoded(own.defaults), _decoded(own.fixed))


def _decoded(values: Mapping[str, Raw]) -> Mapping[str, Any]:
    return MappingProxyType({name: msgspec.json.decode(value) for name, value in values.items()})


def _hidden(own: ArgumentMap | None, inner: ArgumentMap | None) -> Sequence[str]:
    """Arguments that an override fills or renames though they were hidden from all."""
    if own is None or inner is None:
        return ()
    return sorted(inner.unknown.intersection([*own.names.values(), *own.defaults, *own.fixed]))


def _text(text: bytes, override: Override, name: str) -> bytes | str:
    parts = members.split(text) or {}
    parts.update(fragments.edits(parts, override))
    parts["name"] = members.raw(name)
    if override.arguments:
        schema = arguments.shown_schema(parts.get("inputSchema", members.EMPTY), override.arguments)
        if isinstance(schema, str):
            return schema
        parts["inputSchema"] = schema
    return members.join(parts)
