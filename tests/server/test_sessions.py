"""Sessions: who finds one, when it ends, what ends with it, and how many there may be.

Rule: time is a number that the test sets.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from vmcp.call import Peer
from vmcp.config.model import Limits
from vmcp.errors import McpError
from vmcp.protocol.revisions import Revision
from vmcp.server.sessions import Session, Sessions
from vmcp.state.crew import Common, Crew


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(sessions: Sessions, path: str = "/mcp", owner: str = "o") -> Session:
    return sessions.open(Peer(Revision.V2025_11_25, level="info"), path, owner)


def made(limit: int, idle: float, clock: Callable[[], float], **more: Any) -> Sessions:
    return Sessions(Limits(sessions=limit, session_idle=idle, **more), clock)


def test_an_id_is_long_and_never_the_same() -> None:
    sessions = made(1000, 60, Clock())
    ids = {opened(sessions).id for _ in range(500)}
    assert len(ids) == 500
    assert min(map(len, ids)) >= 43
    assert all(id_.isascii() and id_.isprintable() and " " not in id_ for id_ in ids)


def test_of_several_workers_an_id_says_whose_it_is() -> None:
    sessions = Sessions(Limits(), Clock(), crew=Crew(Common(()), 7))
    session = opened(sessions)
    assert session.id.startswith("7.")
    assert sessions.find(session.id, "/mcp", "o") is session
    assert sessions.find(session.id[2:], "/mcp", "o") is None
    assert sessions.find(f"6{session.id[1:]}", "/mcp", "o") is None


@pytest.mark.parametrize(
    ("path", "owner", "found"),
    [("/mcp", "o", True), ("/g/mcp", "o", False), ("/mcp", "x", False), ("/mcp/", "o", False)],
)
def test_a_session_is_found_by_its_owner_at_its_path_only(path: str, owner: str, found: bool) -> None:
    sessions = made(10, 60, Clock())
    session = opened(sessions)
    assert (sessions.find(session.id, path, owner) is session) is found
    assert sessions.find(session.id + "x", path, owner) is None
    assert sessions.find("", path, owner) is None


def test_a_session_lives_as_long_as_it_is_used() -> None:
    clock = Clock()
    sessions = made(10, 60, clock)
    session = opened(sessions)
    for _ in range(5):
        clock.now += 59
        assert sessions.find(session.id, "/mcp", "o") is session
    clock.now += 61
    assert sessions.find(session.id, "/mcp", "o") is None
    assert len(sessions) == 0


def test_whoever_may_not_have_it_does_not_keep_it_alive() -> None:
    clock = Clock()
    sessions = made(10, 60, clock)
    session = opened(sessions)
    clock.now += 50
    assert sessions.find(session.id, "/mcp", "thief") is None
    clock.now += 20
    assert sessions.find(session.id, "/mcp", "o") is None


def test_a_sweep_takes_the_idle_ones_only() -> None:
    clock = Clock()
    sessions = made(10, 60, clock)
    idle, used = opened(sessions), opened(sessions)
    clock.now += 50
    sessions.find(used.id, "/mcp", "o")
    clock.now += 20
    sessions.sweep()
    assert sessions.get(idle.id) is None
    assert sessions.get(used.id) is used


def test_too_many_are_refused_until_one_ends_or_is_idle() -> None:
    clock = Clock()
    sessions = made(2, 60, clock)
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
    sessions = made(2, 60, Clock())
    session = opened(sessions)
    sessions.end(session)
    sessions.end(session)
    assert len(sessions) == 0


def test_a_principal_may_have_only_so_many() -> None:
    sessions = made(10, 60, Clock(), sessions_per_principal=2)
    first = opened(sessions)
    opened(sessions)
    with pytest.raises(McpError, match="limit of 2 sessions"):
        opened(sessions)
    opened(sessions, owner="other")
    sessions.end(first)
    opened(sessions)
    for session in list(sessions._sessions.values()):
        sessions.end(session)
    assert not sessions._owned


def test_a_session_ends_however_much_it_is_used() -> None:
    clock = Clock()
    sessions = made(10, 60, clock, session_max=100)
    session = opened(sessions)
    session.held = 1
    for _ in range(2):
        clock.now += 50
        assert sessions.find(session.id, "/mcp", "o") is session
    clock.now += 1
    assert sessions.find(session.id, "/mcp", "o") is None


async def test_a_session_with_an_open_stream_or_a_call_is_not_idle() -> None:
    clock = Clock()
    sessions = made(10, 60, clock)
    held, busy = opened(sessions), opened(sessions)
    held.held = 1
    task = asyncio.current_task()
    assert task is not None
    busy.calls.add(task, b"1")
    clock.now += 1000
    sessions.sweep()
    assert len(sessions) == 2
    sessions.release(held)
    busy.calls.discard(task)
    sessions.sweep()
    assert sessions.get(held.id) is held, "it was used until now"
    assert sessions.get(busy.id) is None


async def test_what_goes_on_in_a_session_ends_with_it() -> None:
    ended: list[Session] = []
    hung_up: list[bool] = []
    sessions = Sessions(Limits(), Clock(), ended.append)
    session = opened(sessions)
    session.hang_up = lambda: hung_up.append(True)
    track = session.journal.open(standing=True)
    session.standing.enter(track)
    endless = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(endless.wait())
        session.calls.add(task, b"1")
        sessions.end(session)
    assert task.cancelled()
    assert track.done
    assert ended == [session]
    assert hung_up == [True]
    assert not session.voice.can_ask


@pytest.mark.parametrize(("level", "heard"), [("info", 1), ("debug", 0), (None, 1), ("own", 1)])
def test_a_session_hears_only_messages_that_it_wants(level: str | None, heard: int) -> None:
    session = opened(made(1, 60, Clock()))
    raw = {} if level is None else {"level": Raw(b'"%b"' % level.encode())}
    session.tell("notifications/message", {**raw, "data": 1})
    assert len(session.standing._waiting) == heard


def test_what_a_client_notifies_of_is_passed_on_if_it_may_concern_a_backend() -> None:
    told: list[tuple[Session, str]] = []
    sessions = Sessions(Limits(), Clock(), on_told=lambda session, method: told.append((session, method)))
    session = opened(sessions)
    for method in ("notifications/initialized", "notifications/roots/list_changed", "notifications/own"):
        sessions.told(session, method)
    assert told == [(session, "notifications/roots/list_changed")]
