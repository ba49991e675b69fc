"""What clients see of a table: at each endpoint, and at each persona's, the things by the names and in the words shown there.

The rule: it is read off the table that is served, so what is compared and weighed is what a client gets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vmcp.config.model import Config
from vmcp.routing import personas
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.table import Face, RoutingTable

BYTES_PER_TOKEN: Final = 4
ESTIMATE: Final = f"tokens are estimated: bytes of JSON text divided by {BYTES_PER_TOKEN}"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing by its advertised name (or URI); ``backend`` and ``original`` are empty where nobody says them."""

    kind: Kind
    name: str
    backend: str
    original: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is seen at one endpoint; ``missing`` are backends that have not answered."""

    path: str
    persona: str | None
    instructions: str
    items: Mapping[Kind, Mapping[str, Item]]
    missing: tuple[str, ...] = ()


def surface(config: Config, table: RoutingTable) -> dict[str, Sheet]:
    """The sheets of ``table`` by path. A persona's endpoint shows what that persona sees."""
    return {path: _sheet(config, path, face) for path, face in table.faces.items()}


def _sheet(config: Config, path: str, face: Face) -> Sheet:
    shown, view = seen(config, face)
    name = None if view is None else face.group.removeprefix(personas.PREFIX)
    return Sheet(path, name, face.instructions, {kind: _items(shown, kind, view) for kind in Kind}, face.missing)


def seen(config: Config, face: Face) -> tuple[Face, personas.View | None]:
    """What clients see at a face: at a persona's own, things as it shows them, and the view that some of them pass."""
    if not face.group.startswith(personas.PREFIX):
        return face, None
    name = face.group.removeprefix(personas.PREFIX)
    return face.dressed.get(name, face), personas.view(config.personas[name], config)


def _items(face: Face, kind: Kind, view: personas.View | None = None) -> Mapping[str, Item]:
    return {
        name: Item(kind, name, route.backend, route.original, route.modern)
        for name, route in face.routes[kind].items()
        if view is None or view.admits(route)
    }


def served(path: str, catalog: Catalog) -> Sheet:
    """What somebody serves at ``path``, of whom only the lists are known."""
    items = {kind: {e.name: Item(kind, e.name, "", "", e.raw) for e in catalog.entries[kind]} for kind in Kind}
    return Sheet(path, None, catalog.instructions, items)


def tokens(size: int) -> int:
    """So many tokens a model reads for ``size`` bytes, as a rule of thumb."""
    return -(-size // BYTES_PER_TOKEN)


def weight(items: Mapping[str, Item]) -> int:
    """The tokens of one list."""
    return tokens(sum(len(item.text) for item in items.values()))
