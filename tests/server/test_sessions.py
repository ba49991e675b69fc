"""Sessions: who finds one, when it ends, and how many there may be.

Rule: time is a number that the test sets.
"""

import pytest

from vmcp.errors import McpError
from vmcp.protocol.revisions import Revision
from vmcp.server.sessions import Session, Sessions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(sessions: Sessions, path: str = "/mcp", owner: str = "o") -> Session:
    return sessions.open(Revision.V2025_11_25, b"{}", None, path, owner)


def test_an_id_is_long_and_never_the_same() -> None:
    sessions = Sessions(1000, 60, Clock())
    ids = {opened(sessions).id for _ in range(500)}
    assert len(ids) == 500
    assert min(map(len, ids)) >= 43
    assert all(id_.isascii() and id_.isprintable() and " " not in id_ for id_ in ids)


@pytest.mark.parametrize(
    ("path", "owner", "found"),
    [("/mcp", "o", True), ("/g/mcp", "o", False), ("/mcp", "x", False), ("/mcp/", "o", False)],
)
def test_a_session_is_found_by_its_owner_at_its_path_only(path: str, owner: str, found: bool) -> None:
    sessions = Sessions(10, 60, Clock())
    session = opened(sessions)
    assert (sessions.find(session.id, path, owner) is session) is found
    assert sessions.find(session.id + "x", path, owner) is None
    assert sessions.find("", path, owner) is None


def test_a_session_lives_as_long_as_it_is_used() -> None:
    clock = Clock()
    sessions = Sessions(10, 60, clock)
    session = opened(sessions)
    for _ in range(5):
        clock.now += 59
        assert sessions.find(session.id, "/mcp", "o") is session
    clock.now += 61
    assert sessions.find(session.id, "/mcp", "o") is None
    assert len(sessions) == 0


def test_whoever_may_not_have_it_does_not_keep_it_alive() -> None:
    clock = Clock()
    sessions = Sessions(10, 60, clock)
    session = opened(sessions)
    clock.now += 50
    assert sessions.find(session.id, "/mcp", "thief") is None
    clock.now += 20
    assert sessions.find(session.id, "/mcp", "o") is None


def test_a_sweep_takes_the_idle_ones_only() -> None:
    clock = Clock()
    sessions = Sessions(10, 60, clock)
    idle, used = opened(sessions), opened(sessions)
    clock.now += 50
    sessions.find(used.id, "/mcp", "o")
    clock.now += 20
    sessions.sweep()
    assert sessions.get(idle.id) is None
    assert sessions.get(used.id) is used


def test_too_many_are_refused_until_one_ends_or_is_idle() -> None:
    clock = Clock()
    sessions = Sessions(2, 60, clock)
    first, _second = opened(sessions), opened(sessions)
    with pytest.raises(McpError, match="limit of 2 sessions"):
        opened(sessions)
    sessions.end(first)
    third = opened(sessions)
    clock.now += 61
    opened(sessions)
    assert sessions.get(third.id) is None
    assert len(sessions) == 1


def test_ending_twice_does_no_harm() -> None:
    sessions = Sessions(2, 60, Clock())
    session = opened(sessions)
    sessions.end(session)
    sessions.end(session)
    assert len(sessions) == 0
