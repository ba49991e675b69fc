"""The table in words, and in a form to compare.

The rule: the same table gives the same text, whatever the order in which its backends answered.
"""

from collections.abc import Iterable
from typing import Any

from vmcp.routing.catalog import Kind
from vmcp.routing.table import Face, Quarantined, Route, RoutingTable

_WORDS = {Kind.TOOL: "tool", Kind.PROMPT: "prompt", Kind.RESOURCE: "resource", Kind.TEMPLATE: "resource template"}


def explain(face: Face) -> tuple[str, ...]:
    """One line for each thing at ``face`` that an operator would wonder about."""
    missing = (f"backend '{backend}' has not answered yet" for backend in face.missing)
    kept_out = (f"{_WORDS[q.kind]} '{q.name}' of '{q.backend}' is kept out: {q.why}" for q in face.quarantined)
    hidden = (
        f"{_WORDS[kind]} '{original}' of '{backend}' is hidden by the configuration"
        for kind in Kind
        for backend, original in face.hidden[kind]
    )
    return (*missing, *kept_out, *hidden)


def to_json(table: RoutingTable) -> dict[str, Any]:
    """Path → kind → what is there, listed things first, and ``quarantined``. For golden files and for people."""
    return {path: _face(face) for path, face in table.faces.items()}


def _face(face: Face) -> dict[str, Any]:
    kinds = {str(kind): _routes((*face.listing[kind], *face.hidden[kind].values())) for kind in Kind}
    return {**kinds, "quarantined": [_quarantined(entry) for entry in face.quarantined]}


def _routes(routes: Iterable[Route]) -> list[dict[str, Any]]:
    return [{"name": r.name, "backend": r.backend, "original": r.original, "listed": r.listed} for r in routes]


def _quarantined(entry: Quarantined) -> dict[str, Any]:
    return {
        "kind": str(entry.kind),
        "name": entry.name,
        "backend": entry.backend,
        "original": entry.original,
        "why": entry.why,
        "winner": entry.winner,
    }
