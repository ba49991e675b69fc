"""A child that is started in advance: whose it becomes, and what becomes of it if nobody wants it.

Rule: the child of a call is told by its process id, and every child is gone when the backend is.
"""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.upstream.badserver import until
from tests.upstream.fakes import alive, journal_of
from tests.upstream.fakes_backend import Kept, kept, local
from vmcp.call import Identity
from vmcp.config.model import BackendSpec, Limits
from vmcp.config.processes import ProcessSpec
from vmcp.errors import McpError
from vmcp.upstream.links import Key
from vmcp.upstream.places import places
from vmcp.upstream.stdio import StdioWire


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Path]:
    yield tmp_path / "journal"
    assert places().total == 0
    await until(lambda: not any(map(alive, journal_of(tmp_path / "journal", "pid"))))


def warm(journal: Path) -> BackendSpec:
    return local(journal, isolation="session", process=ProcessSpec(warm=True))


def pid_of(wire: object) -> int:
    assert isinstance(wire, StdioWire)
    assert wire._child is not None
    return wire._child.pid


def own(backend: Kept, session: str) -> int:
    """The child of a session."""
    link = backend.backend._links.of(Key("session", session))
    assert link is not None
    return pid_of(link.wire)


async def spare(backend: Kept) -> int:
    """The child that waits, once it does."""
    waiting = backend.backend._connector._spare
    assert waiting is not None
    await until(lambda: waiting._wire is not None and not waiting._filling)
    return pid_of(waiting._wire)


async def test_the_first_client_gets_the_child_that_waits_and_the_next_one_is_started(journal: Path) -> None:
    async with kept(warm(journal)) as backend:
        await backend.up()
        first = await spare(backend)
        await backend.ask(session="a")
        assert own(backend, "a") == first
        second = await spare(backend)
        await backend.ask(session="b")
        assert own(backend, "b") == second != first
        third = await spare(backend)
        await backend.ask(session="a")
        assert own(backend, "a") == first
        assert await spare(backend) == third
    assert not any(map(alive, [first, second, third]))


async def test_one_that_ended_while_it_waited_is_nobodys_and_is_started_again_when_somebody_asks(journal: Path) -> None:
    async with kept(warm(journal)) as backend:
        await backend.up()
        first = await spare(backend)
        os.kill(first, signal.SIGKILL)
        waiting = backend.backend._connector._spare
        assert waiting is not None
        await until(lambda: waiting._wire is not None and waiting._wire.exited)
        await backend.ask(session="a")
        await until(lambda: waiting._wire is not None and not waiting._wire.exited)
        assert len({first, own(backend, "a"), await spare(backend)}) == 3


async def test_who_has_as_many_as_he_may_does_not_get_the_one_that_waits(journal: Path) -> None:
    async with kept(warm(journal), limits=Limits(processes_per_principal=1)) as backend:
        await backend.up()
        await backend.ask(session="a", identity=Identity("i", "me"))
        waiting = await spare(backend)
        with pytest.raises(McpError, match="processesPerPrincipal"):
            await backend.ask(session="b", identity=Identity("i", "me"))
        await backend.ask(session="c", identity=Identity("i", "you"))
        assert own(backend, "c") == waiting


async def test_where_there_is_no_room_for_one_that_waits_there_is_none(journal: Path) -> None:
    async with kept(warm(journal), limits=Limits(processes=2)) as backend:
        await backend.up()
        first = await spare(backend)
        await backend.ask(session="a")
        assert own(backend, "a") == first
        await backend.ask(session="a")
        backend.backend.forget("a")
        await until(lambda: places().total == 1)
        await backend.ask(session="b")
        assert own(backend, "b") != first
        assert places().total == 2
