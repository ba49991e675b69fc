"""Where things stand in the picture. Rule: boxes neither overlap nor leave it, and every colour has a word."""

import itertools
from typing import Any

import pytest

from vmcp.admin.pages import topology
from vmcp.admin.pages.topology import GAP, HIGH, LETTERS, MOST, NODE, WIDTH, picture


def backend(name: str, **more: Any) -> dict[str, Any]:
    usual = {"state": "up", "health": "healthy", "why": "", "breakers": [], "tools": 3, "requestsPerSecond": 0.0}
    return {"name": name, **usual, **more}


def endpoint(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "url": path, "tools": 1, "missing": [], "quarantined": [], "requestsPerSecond": 0.0, **more}


def scene(clients: list[Any], endpoints: list[Any], backends: list[Any], rate: float = 0.0) -> dict[str, Any]:
    edges = [
        {"endpoint": e["path"], "backend": b["name"], "requestsPerSecond": rate} for e in endpoints for b in backends
    ]
    return {"clients": clients, "endpoints": endpoints, "backends": backends, "edges": edges}


@pytest.mark.parametrize(("clients", "faces", "backends"), [(0, 0, 0), (1, 1, 1), (3, 2, 7), (20, 1, 40)])
def test_boxes_stand_in_columns_and_none_overlaps(clients: int, faces: int, backends: int) -> None:
    drawn = picture(
        scene(
            [{"name": f"c{n}", "endpoint": "/0", "sessions": 1} for n in range(clients)],
            [endpoint(f"/{n}") for n in range(faces)],
            [backend(f"b{n}") for n in range(backends)],
        )
    )
    columns: dict[int, list[float]] = {}
    for node in drawn.nodes:
        assert 0 <= node.x <= WIDTH - NODE
        assert topology.TOP <= node.y <= drawn.height - HIGH
        columns.setdefault(node.x, []).append(node.y)
    for places in columns.values():
        assert all(round(b - a, 1) == HIGH + GAP for a, b in itertools.pairwise(places))
    assert drawn.left_out == max(0, backends - MOST)


def test_where_not_all_have_room_the_worst_are_shown() -> None:
    many = [backend(f"b{n}") for n in range(MOST + 5)]
    bad = backend("bad", state="down")
    drawn = picture(scene([], [endpoint("/a")], [*many, bad]))
    assert "bad" in [node.title for node in drawn.nodes]
    assert drawn.left_out == 6


@pytest.mark.parametrize(
    ("more", "tone", "text"),
    [
        ({}, "good", "3 tools"),
        ({"requestsPerSecond": 2.04}, "good", "3 tools · 2.0/s"),
        ({"state": "down", "health": "unhealthy"}, "bad", "down"),
        ({"state": "starting", "health": "unknown"}, "warn", "starting"),
        ({"health": "degraded"}, "warn", "degraded"),
        ({"health": "unhealthy"}, "bad", "unhealthy"),
        ({"breakers": ["closed", "open"]}, "bad", "circuit open"),
        ({"breakers": ["half-open"]}, "warn", "circuit half-open"),
    ],
)
def test_a_backend_is_told_by_a_colour_a_sign_and_a_word(more: dict[str, Any], tone: str, text: str) -> None:
    node = picture(scene([], [], [backend("b", **more)])).nodes[-1]
    assert (node.tone, node.text) == (tone, text)
    assert node.sign


def test_a_busy_line_is_wider_and_says_how_busy() -> None:
    quiet, busy = (picture(scene([], [endpoint("/a")], [backend("b")], rate)).edges[0] for rate in (0.0, 20.0))
    assert (quiet.label, busy.label) == ("", "20.0/s")
    assert quiet.width < busy.width
    assert busy.full == "/a to b, 20.0/s"


def test_clients_are_told_by_their_sessions_and_long_names_are_cut() -> None:
    name = "n" * 60
    clients = [
        {"name": name, "endpoint": "/a", "sessions": 2},
        {"name": "other", "endpoint": "/gone", "sessions": 0},
        {"name": "one", "endpoint": "/a", "sessions": 1},
    ]
    drawn = picture(scene(clients, [endpoint("/a", missing=["x"])], []))
    first, second, third, face = drawn.nodes
    assert (len(first.title), first.full, first.text) == (LETTERS, name, "2 sessions")
    assert (second.text, third.text, face.tone) == ("called lately", "1 session", "warn")
    assert len(drawn.edges) == 2, "what is not there any more has no line"


def test_where_nobody_is_it_says_so() -> None:
    assert picture(scene([], [endpoint("/a")], [])).nodes[0].title == "no client"
