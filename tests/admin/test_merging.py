"""How what several workers say becomes one. Rule: plain data; the first that says something is the one that merges."""

from typing import Any

import pytest

from vmcp.admin import merging
from vmcp.state.histogram import Calls


def status(pid: int, said: str = "ready", **more: Any) -> dict[str, Any]:
    return {
        "name": "n",
        "pid": pid,
        "status": said,
        "ready": said in ("ready", "degraded"),
        "waitingFor": [],
        "startedAt": 100.0 + pid,
        "uptimeSeconds": 50.0 - pid,
        "config": {"digest": "d", "reloads": {}},
        "endpoints": [{"path": "/mcp", "tools": 3, "missing": []}],
        "backends": {"total": 2, "up": 2, "healthy": 2},
        "sessions": 1,
        "requestsInFlight": 2,
        "workers": [],
        **more,
    }


def test_the_whole_is_as_well_as_its_worst_worker_and_has_what_all_have() -> None:
    missing = [{"path": "/mcp", "tools": 1, "missing": ["b"]}]
    told = merging.status(
        {
            0: status(10, config={"digest": "d", "reloads": {"applied": 2}}),
            2: status(
                12,
                "not ready",
                waitingFor=["b"],
                endpoints=missing,
                backends={"total": 2, "up": 1, "healthy": 1},
                config={"digest": "e", "reloads": {"applied": 1, "rejected": 1}},
            ),
        }
    )
    assert (told["status"], told["ready"], told["waitingFor"]) == ("not ready", False, ["b"])
    assert (told["startedAt"], told["uptimeSeconds"]) == (110.0, 40.0)
    assert told["config"] == {"digest": "d", "reloads": {"applied": 2, "rejected": 1}}
    assert told["endpoints"] == [{"path": "/mcp", "tools": 3, "missing": ["b"]}]
    assert told["backends"] == {"total": 2, "up": 1, "healthy": 1}
    assert (told["sessions"], told["requestsInFlight"]) == (2, 4)
    assert told["workers"] == [
        {"index": 0, "pid": 10, "status": "ready", "sessions": 1, "requestsInFlight": 2, "config": "d"},
        {"index": 2, "pid": 12, "status": "not ready", "sessions": 1, "requestsInFlight": 2, "config": "e"},
    ]


def line(state: str = "up", health: str = "healthy", why: str = "", **more: Any) -> dict[str, Any]:
    return {
        "name": "b",
        "protocolVersion": None,
        "state": state,
        "health": health,
        "why": why,
        "breakers": ["closed"],
        "tools": 3,
        **more,
    }


@pytest.mark.parametrize(
    ("said", "state", "health", "why"),
    [
        ((line(), line("down", "unhealthy", "refused")), "down", "unhealthy", "worker 4: refused"),
        ((line("down", "unhealthy", "refused"), line()), "down", "unhealthy", "worker 0: refused"),
        ((line("up", "degraded", "slow"), line("up", "degraded", "slow")), "up", "degraded", "slow"),
        ((line("starting", "unknown"), line("up", "unhealthy", "x")), "starting", "unknown", ""),
        ((line(), line()), "up", "healthy", ""),
    ],
)
def test_a_backend_is_as_it_is_where_it_is_worst(said: tuple[Any, Any], state: str, health: str, why: str) -> None:
    told = merging.line({0: said[0], 4: said[1]})
    assert (told["state"], told["health"], told["why"]) == (state, health, why)
    assert told["breakers"] == ["closed", "closed"]


def test_backends_are_those_of_all_in_the_order_of_the_first() -> None:
    found = merging.backends({0: [line(name="b"), line(name="a")], 1: [line(name="a"), line(name="c")]})
    assert [each["name"] for each in found] == ["b", "a", "c"]
    assert merging.line({0: line(), 1: line(protocolVersion="2025-11-25")})["protocolVersion"] == "2025-11-25"


def test_each_place_of_a_backend_says_whose_it_is() -> None:
    one = {**line(), "sinceSeconds": 5.0, "facts": {"health": "healthy", "pid": 7}, "processes": [{"pid": 7}]}
    two = {**line(), "sinceSeconds": 3.0, "facts": {"replicas": [{"replica": 0}, {"replica": 1}]}, "processes": []}
    told = merging.backend({0: one, 1: two, 2: None})
    assert told is not None
    assert told["sinceSeconds"] == 3.0
    assert told["facts"]["replicas"] == [
        {"worker": 0, "health": "healthy", "pid": 7},
        {"worker": 1, "replica": 0},
        {"worker": 1, "replica": 1},
    ]
    assert told["processes"] == [{"worker": 0, "pid": 7}]
    assert merging.backend({0: None, 1: None}) is None


def test_a_reload_has_ended_as_with_whom_it_went_worst() -> None:
    said = {
        -1: {"result": "unchanged", "problems": []},
        1: {"result": "rejected", "problems": ["p", "q"]},
        2: {"result": "rejected", "problems": ["q"]},
    }
    assert merging.reload(said) == {"result": "rejected", "problems": ["p", "q"]}


def test_statistics_that_each_keeps_are_added_by_their_keys() -> None:
    key, other = (3600, 0, "ping", "", "", "g", "me"), (3600, 0, "ping", "", "", "g", "you")
    told = dict(merging.usage({0: [(key, Calls(1))], 1: [(key, Calls(2)), (other, Calls(4))]}))
    assert {known: calls.count for known, calls in told.items()} == {key: 3, other: 4}


def test_a_state_that_nobody_knows_is_taken_for_the_worst() -> None:
    assert merging.worst(["ready", "on fire", "stopping"], merging.STATUSES) == "on fire"
