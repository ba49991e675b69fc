"""A route as policies see it.

The rule: an annotation that is no boolean says nothing, so then the protocol's own, careful assumption holds.
"""

from collections.abc import Iterable
from types import MappingProxyType

import msgspec

from vmcp.config.cedar.judge import Thing
from vmcp.config.cedar.uses import HINTS
from vmcp.routing import members
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route, RoutingTable, resource_route

_KINDS = {Kind.TOOL: "Tool", Kind.PROMPT: "Prompt", Kind.RESOURCE: "Resource", Kind.TEMPLATE: "Resource"}


def thing(route: Route) -> Thing:
    """What is behind ``route``, by its advertised name and with its advertised annotations, whatever a persona shows instead."""
    text = route.modern if route.worn is None else route.worn.text
    hints = MappingProxyType(_hints(text) if route.kind is Kind.TOOL else {})
    return Thing(_KINDS[route.kind], route.name, route.backend, route.original, hints)


def absent(table: RoutingTable, named: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of ``named`` (kind and name) that are nowhere in ``table``; none while a backend has yet to answer."""
    faces = table.faces.values()
    if any(face.missing for face in faces):
        return []
    kinds = {"Tool": Kind.TOOL, "Prompt": Kind.PROMPT}
    return sorted(
        (kind, name)
        for kind, name in named
        if not any(
            name in face.routes[kinds[kind]]
            if kind in kinds
            else resource_route(face, name) or name in face.routes[Kind.TEMPLATE]
            for face in faces
        )
    )


def _hints(text: bytes) -> dict[str, bool]:
    annotations = members.split((members.split(text) or {}).get("annotations", members.EMPTY)) or {}
    given = {name: msgspec.json.decode(annotations[name]) for name in HINTS if name in annotations}
    return {name: value for name, value in given.items() if isinstance(value, bool)}
