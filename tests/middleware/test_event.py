"""What is remembered of events, and what is not.

Rule: whoever is remembered is told as himself and as nobody else, and what clients make up fills no memory.
"""

import json
from typing import Any

from vmcp.call import Identity, Origin, Peer
from vmcp.middleware import event
from vmcp.middleware.event import Extra, Form
from vmcp.protocol.revisions import Revision

HERE = Origin("streamable-http", "192.0.2.7", "curl/8")


def form() -> Form:
    return Form("vmcp", 3, lambda id_: f"mark of {len(id_)}")


def told(made: Form, peer: Peer | None, origin: Origin | None = HERE, extra: Extra | None = None) -> dict[str, Any]:
    text = made.event("mcp_ping", "success", origin, peer, event.text({}), extra or {}, None)
    found: dict[str, Any] = json.loads(text)
    return found


def peer(claims: dict[str, Any], subject: str = "u", **more: Any) -> Peer:
    return Peer(Revision.V2025_11_25, identity=Identity("i", subject, claims), **more)


def test_everybody_is_himself_however_often_he_comes() -> None:
    made, shared = form(), {"azp": "cli"}
    people = [
        peer(shared),
        peer(shared, "v"),
        peer({"azp": "other"}),
        peer(shared, info=b'{"name":"Claude"}'),
        peer(shared, session="s" * 43),
        peer({"azp": "cli", "act": {"sub": "agent"}}),
    ]
    first = [told(made, each) for each in people]
    again = [told(made, each) for each in people]
    for one, other in zip(first, again, strict=True):
        for name in ("source", "subjects", "delegation"):
            assert one.get(name) == other.get(name)
    assert [each["subjects"]["user_id"] for each in first] == ["u", "v", "u", "u", "u", "u"]
    assert [each["subjects"]["azp"] for each in first] == ["cli", "cli", "other", "cli", "cli", "cli"]
    assert first[3]["subjects"]["client_name"] == "Claude"
    assert first[4]["source"]["extra"] == {"user_agent": "curl/8", "session": "mark of 43"}
    assert [each.get("delegation") for each in first] == [None] * 5 + [[{"sub": "agent"}]]


def test_a_time_is_told_to_the_microsecond() -> None:
    made = form()
    for at, ending in (
        (1_700_000_000.5, "20.500000Z"),
        (1_700_000_000.25, "20.250000Z"),
        (1_700_000_061.015625, "21.015625Z"),
    ):
        said = json.loads(made.stamp(1, at) + b"}")
        assert said["logged_at"].endswith(ending)
    assert said["logged_at"] == "2023-11-14T22:14:21.015625Z"


def test_one_who_comes_from_elsewhere_is_told_from_there() -> None:
    made, who = form(), peer({})
    places = [HERE, Origin("websocket", "192.0.2.7"), Origin("sse", "192.0.2.8", "curl/8", via="10.0.0.1"), None]
    found = [told(made, who, place)["source"] for place in places * 2]
    assert [each["value"] for each in found] == ["192.0.2.7", "192.0.2.7", "192.0.2.8", "local"] * 2
    assert found[2]["extra"] == {"user_agent": "curl/8", "via": "10.0.0.1"}


def test_people_are_forgotten_the_oldest_first_and_long_descriptions_at_once() -> None:
    made = form()
    for number in range(event.MOST + 10):
        told(made, peer({}, f"u{number}"))
    assert len(made._people) == event.MOST
    assert told(made, peer({}, "u0"))["subjects"]["user_id"] == "u0"
    made._people.clear()
    told(made, peer({}, info=b'{"name":"%b"}' % (b"x" * 5000)))
    assert not made._people


def test_what_nobody_has_set_is_not_told_and_numbers_go_up() -> None:
    made = form()
    one, other = told(made, None, extra=Extra("2025-11-25", duration_ms=1.5)), told(made, None)
    assert one["metadata"]["extra"] == {"revision": "2025-11-25", "duration_ms": 1.5}
    assert one["audit_id"] < other["audit_id"]
    assert one["msg"] == "audit_event"
