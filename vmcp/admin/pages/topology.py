"""Where everything stands in the picture of clients, endpoints and backends.

The rule: it computes places and nothing else; colours are classes, and what a colour says stands there as a word too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any, Final

WIDTH: Final = 1080
NODE: Final = 250
HIGH: Final = 54
GAP: Final = 16
TOP: Final = 34
MOST: Final = 24
"""Backends that are drawn; a list has them all."""
GUESTS: Final = 8
"""Clients that are drawn."""
LETTERS: Final = 25
_TONES: Final = {
    "healthy": "good",
    "unknown": "warn",
    "degraded": "warn",
    "unauthenticated": "warn",
    "unhealthy": "bad",
}
_SIGNS: Final = {"good": "●", "warn": "◐", "bad": "✕", "plain": ""}
Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A box. ``steps`` is the page behind it; empty: there is none."""

    x: int
    y: float
    title: str
    full: str
    text: str
    tone: str
    steps: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        """The tone for who sees no colours."""
        return _SIGNS[self.tone]


@dataclass(frozen=True, slots=True)
class Edge:
    """A line between two boxes. ``label`` is what passes there, empty when nothing does."""

    path: str
    tone: str
    width: float
    label: str
    x: float
    y: float
    full: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it."""

    height: float
    nodes: list[Node]
    edges: list[Edge]
    left_out: int
    columns: tuple[tuple[int, str], ...]


def picture(scene: Data) -> Picture:
    """From what ``scene.overview`` told."""
    backends = (
        sorted(scene["backends"], key=_worst_first)[:MOST] if len(scene["backends"]) > MOST else scene["backends"]
    )
    clients = _grouped(scene["clients"])
    shown = list(clients.items())[:GUESTS]
    columns = (len(shown) or 1, len(scene["endpoints"]), len(backends))
    height = TOP + max(columns) * (HIGH + GAP)
    middle, right = (WIDTH - NODE) // 2, WIDTH - NODE
    left_nodes = {
        name: _client(name, each, y) for (name, each), y in zip(shown, _places(columns[0], height), strict=False)
    }
    faces = {
        e["path"]: _face(e, middle, y) for e, y in zip(scene["endpoints"], _places(columns[1], height), strict=True)
    }
    behind = {e["name"]: _backend(e, right, y) for e, y in zip(backends, _places(columns[2], height), strict=True)}
    edges = [
        *_guest_edges(shown, left_nodes, faces),
        *(
            _edge(faces[each["endpoint"]], behind[each["backend"]], each["requestsPerSecond"])
            for each in scene["edges"]
            if each["backend"] in behind and each["endpoint"] in faces
        ),
    ]
    nobody = (
        []
        if shown
        else [Node(0, next(iter(_places(1, height))), "no client", "", "connect one", "plain", ("connect",))]
    )
    return Picture(
        height=height,
        nodes=[*nobody, *left_nodes.values(), *faces.values(), *behind.values()],
        edges=edges,
        left_out=len(scene["backends"]) - len(backends),
        columns=((0, "Clients"), (middle, "Endpoints"), (right, "Backends")),
    )


def _worst_first(backend: Data) -> tuple[int, float]:
    return ("bad", "warn", "good").index(tone(backend)), -backend["requestsPerSecond"]


def _places(count: int, height: float) -> Iterator[float]:
    """The upper edges of so many boxes, in the middle of the column."""
    start = TOP + (height - TOP - count * (HIGH + GAP) + GAP) / 2
    return (round(start + number * (HIGH + GAP), 1) for number in range(count))


def _grouped(clients: Sequence[Data]) -> dict[str, list[Data]]:
    found: dict[str, list[Data]] = {}
    for each in clients:
        found.setdefault(each["name"], []).append(each)
    return found


def _client(name: str, found: list[Data], y: float) -> Node:
    sessions = sum(each["sessions"] for each in found)
    text = f"{sessions} session{'' if sessions == 1 else 's'}" if sessions else "called lately"
    return Node(0, y, cut(name), name, text, "plain", ("sessions",))


def _face(found: Data, x: int, y: float) -> Node:
    text = f"{found['tools']} tools{_pace(found)}"
    tone_ = "warn" if found["missing"] or found["quarantined"] else "good"
    return Node(x, y, cut(found["path"]), found["url"], text, tone_, ("endpoints",))


def _backend(found: Data, x: int, y: float) -> Node:
    circuits = [state for state in found["breakers"] if state != "closed"]
    if circuits:
        text = f"circuit {circuits[0]}"
    elif found["state"] != "up":
        text = found["state"]
    else:
        text = found["health"] if found["health"] not in ("healthy", "unknown") else f"{found.get('tools', 0)} tools"
    return Node(x, y, cut(found["name"]), found["why"], text + _pace(found), tone(found), ("backends", found["name"]))


def tone(backend: Data) -> str:
    """How a backend is, in one of three words."""
    if any(state == "open" for state in backend["breakers"]) or backend["state"] == "down":
        return "bad"
    if backend["state"] != "up" or any(state != "closed" for state in backend["breakers"]):
        return "bad" if backend["health"] == "unhealthy" else "warn"
    return _TONES.get(backend["health"], "warn")


def _pace(found: Data) -> str:
    return f" · {found['requestsPerSecond']:.1f}/s" if found["requestsPerSecond"] else ""


def cut(text: str) -> str:
    """As much as a box has room for."""
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _guest_edges(
    shown: Sequence[tuple[str, list[Data]]], nodes: Mapping[str, Node], faces: Mapping[str, Node]
) -> Iterator[Edge]:
    for name, found in shown:
        for each in found:
            if each["endpoint"] in faces:
                yield _edge(nodes[name], faces[each["endpoint"]], 0.0)


def _edge(start: Node, end: Node, rate: float) -> Edge:
    x1, y1, x2, y2 = start.x + NODE, start.y + HIGH / 2, end.x, end.y + HIGH / 2
    bend = (x2 - x1) / 2
    path = f"M{x1} {y1}C{x1 + bend:.0f} {y1} {x2 - bend:.0f} {y2} {x2} {y2}"
    label = f"{rate:.1f}/s" if rate else ""
    full = f"{start.title} to {end.title}" + (f", {label}" if label else "")
    return Edge(path, end.tone, round(1.5 + min(5.0, log2(1 + rate)), 1), label, (x1 + x2) / 2, (y1 + y2) / 2, full)
