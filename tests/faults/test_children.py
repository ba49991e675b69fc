"""Child processes that crash, flap, babble and hang, behind a whole backend.

Rule: each call has exactly one outcome, and each scenario ends with no process left of it.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.badserver import until
from tests.upstream.child import answers, result
from tests.upstream.fakes import alive, journal_of, scripted
from tests.upstream.fakes_backend import LATEST, Kept, kept, local
from vmcp.call import Identity
from vmcp.config.health import HealthSpec
from vmcp.config.model import Limits
from vmcp.config.processes import ProcessSpec
from vmcp.errors import Code, McpError, Unavailable
from vmcp.upstream import control, stdio
from vmcp.upstream.links import Key
from vmcp.upstream.places import places
from vmcp.upstream.stdio import StdioWire

CRASHES = int(os.environ.get("VMCP_CRASHES", "8"))
CRASH: list[list[Any]] = [["write", 2, "Error: out of cheese\n"], ["leave", 1]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture(autouse=True)
async def nothing_is_left(journal: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(stdio, "CLOSE_WAIT", 0.1)
    monkeypatch.setattr(stdio, "TERM_WAIT", 0.2)
    yield
    await until(lambda: not any(map(alive, journal_of(journal, "pid"))))
    assert places().total == 0


async def refused(backend: Kept, **more: Any) -> McpError:
    with pytest.raises(McpError) as failed:
        await backend.ask(**more)
    return failed.value


# --- R-STDIO-1


async def test_a_child_that_crashes_with_each_call_fails_that_call_and_comes_back(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "backoff", lambda *_: 0.0)
    async with kept(local(journal, {"tools/call": CRASH})) as backend:
        for number in range(CRASHES):
            await until(lambda n=number: len(journal_of(journal, "pid")) == n + 1 and backend.status.state == "up")
            failed = await refused(backend)
            assert isinstance(failed, Unavailable)
            assert failed.why == 'the process exited with status 1: "Error: out of cheese"'
            assert failed.vmcp_code == Code.TRANSPORT_CLOSED
        await until(lambda: len(journal_of(journal, "pid")) == CRASHES + 1 and backend.status.state == "up")
        assert places().total == 1


async def test_a_child_that_ends_at_once_is_started_again_after_longer_and_longer_pauses(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    def pause(attempt: int, jitter: float) -> float:
        attempts.append(attempt)
        return 0.0

    monkeypatch.setattr(control, "backoff", pause)
    async with kept(local(journal, {"start": CRASH})) as backend:
        await until(lambda: len(attempts) >= 4)
        assert await backend.down() == 'the process exited with status 1: "Error: out of cheese"'
    assert attempts[:4] == [0, 1, 2, 3]


async def test_all_calls_in_flight_fail_when_a_child_is_killed(journal: Path) -> None:
    async with kept(local(journal, {"tools/call": []})) as backend, asyncio.TaskGroup() as group:
        await backend.up()
        calls = [group.create_task(refused(backend)) for _ in range(20)]
        await until(lambda: sum(told["method"] == "tools/call" for told in journal_of(journal, "told")) == 20)
        os.kill(journal_of(journal, "pid")[0], signal.SIGKILL)
    assert {str(call.result()) for call in calls} == {"backend 'time' is unavailable: the process was ended by SIGKILL"}


# --- what is not well


async def test_a_child_that_babbles_is_degraded_and_what_it_complains_of_is_shown(journal: Path) -> None:
    babble = [["write", 1, "debug\n", stdio.NOISE + 1], ["write", 2, "token=sesame-open-42 at 10.1.2.3\n"]]
    answer = scripted(answers(LATEST))["tools/call"]
    script = {"tools/call": [*answer, *babble], "ping": [["say", result({})]]}
    async with kept(local(journal, script, health=HealthSpec(interval=0.02))) as backend:
        await backend.up()
        await backend.ask()
        await until(lambda: backend.status.health == "degraded")
        assert backend.status.why == "it wrote more than 100 lines in a row that are no JSON-RPC"
        assert backend.backend.facts()["garbage"] == stdio.NOISE + 1
        await until(lambda: bool(backend.backend.facts()["stderr"]))
        assert backend.backend.facts()["stderr"] == ["token=*** at [host]"]
        assert backend.backend.link is not None
        wire = backend.backend.link.wire
        assert isinstance(wire, StdioWire)
        wire._noisy_until = 0.0  # a minute later
        await until(lambda: backend.status.health == "healthy")


async def test_some_stopped_children_hold_up_nobody_else(journal: Path, tmp_path: Path) -> None:
    """R-STDIO-2, smaller."""
    journals = [tmp_path / f"journal{number}" for number in range(6)]
    async with asyncio.TaskGroup() as group, AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(kept(local(each))) for each in journals]
        for backend in backends:
            await backend.up()
        pids = [journal_of(each, "pid")[0] for each in journals]
        for pid in pids[::2]:
            os.kill(pid, signal.SIGSTOP)
        stuck = [group.create_task(refused(backend)) for backend in backends[::2]]
        for backend in backends[1::2] * 10:
            await backend.ask()
        assert not any(call.done() for call in stuck)
        for pid in pids[::2]:
            os.kill(pid, signal.SIGKILL)
    assert all("SIGKILL" in str(call.result()) for call in stuck)
    assert not any(map(alive, [pid for each in journals for pid in journal_of(each, "pid")]))


# --- children of one client


async def test_a_child_of_one_client_is_stopped_when_it_is_idle_and_started_when_it_is_needed(journal: Path) -> None:
    spec = local(journal, isolation="session", process=ProcessSpec(idle_stop=0.05))
    async with kept(spec) as backend:
        await backend.up()
        await backend.ask(session="a")
        shared, own = journal_of(journal, "pid")
        await until(lambda: not alive(own))
        assert alive(shared), "the one that all share is kept"
        await backend.ask(session="a")
        assert len(journal_of(journal, "pid")) == 3
    assert not alive(shared)


async def test_one_principal_has_no_more_children_than_he_may_and_others_are_not_kept_from_theirs(
    journal: Path,
) -> None:
    spec = local(journal, isolation="session")
    limits = Limits(processes=4, processes_per_principal=1)
    async with kept(spec, limits=limits) as backend:
        await backend.up()
        mine, yours = ({"identity": Identity("i", name)} for name in ("me", "you"))
        await backend.ask(session="a", **mine)
        failed = await refused(backend, session="b", **mine)
        assert "server.limits.processesPerPrincipal is 1" in str(failed)
        await backend.ask(session="a", **mine)
        await backend.ask(session="c", **yours)
        backend.backend.forget("a")
        await until(lambda: places().total == 2)
        await backend.ask(session="b", **mine)
        third = {"identity": Identity("i", "they")}
        await backend.ask(session="d", **third)
        assert places().total == 4
        await backend.ask(session="e", identity=Identity("i", "one more"))
        assert places().total == 4, "in the place of one who is idle"


async def test_who_comes_when_all_places_are_taken_gets_that_of_whom_nobody_has_heard_for_longest(
    journal: Path,
) -> None:
    spec = local(journal, isolation="session")
    async with kept(spec, limits=Limits(processes=3, processes_per_principal=1)) as backend:
        await backend.up()
        for session in ("a", "b", "c"):  # nobody is told apart, so there is no limit for each
            await backend.ask(session=session)
        assert places().total == 3
        pids = {link: backend.backend._links.of(Key("session", link)) for link in ("a", "b", "c")}
        assert pids["a"] is None
        assert pids["b"] is not None
        assert pids["c"] is not None
        await backend.ask(session="a")
        assert backend.backend._links.of(Key("session", "b")) is None
