"""How a backend's health is found out, and what follows: real servers, whose probes come every few hundredths of a second.

The rule: nothing waits for a time to pass, only for what is to be seen; the clock is never read.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.badserver import Peer, until
from tests.upstream.child import answers, failure, result
from tests.upstream.fakes import (
    Answer,
    Heard,
    WebServer,
    alive,
    drop,
    journal_of,
    scripted,
    served,
    silence,
    single,
    text,
)
from tests.upstream.fakes import web as small
from tests.upstream.fakes_backend import LATEST, Kept, kept, local, remote
from vmcp.config.health import BreakerSpec, HealthSpec
from vmcp.config.outgoing import PassThrough
from vmcp.config.values import Concealed
from vmcp.errors import Code, McpError, Overdue, Unavailable
from vmcp.tasks import Nest
from vmcp.upstream import control, stdio
from vmcp.upstream.vitals import Tripped, Vitals

MODERN = "2026-07-28"
QUICK = HealthSpec(interval=0.02, timeout=3.0, unhealthy=3, healthy=2)
PING = {"ping": [["say", result({})]]}
SMALL = BreakerSpec(failures=3, timeout=0.05, half_open=1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "backoff", lambda attempt, jitter: 0.01)


def web(revision: str, **more: Answer) -> WebServer:
    """A small server that knows ``ping`` too."""
    return small(revision, **{"ping": single(result({}))} | more)


def probing(server: Any, **more: Any) -> Any:
    """A spec whose backend is probed often, and never asked again when an answer was lost."""
    spec = remote(server, **{"health": QUICK} | more)
    return replace(spec, pool=replace(spec.pool, retry_attempts=0))


async def healthy(backend: Kept) -> None:
    await until(lambda: backend.status.health == "healthy")


async def turned(backend: Kept, health: str) -> str:
    await until(lambda: backend.status.health == health)
    return backend.status.why


def told(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [record.__dict__ for record in caplog.records if record.message == message]


@pytest.mark.parametrize(("revision", "probe"), [(LATEST, "ping"), ("2024-11-05", "ping"), (MODERN, "server/discover")])
async def test_a_probe_is_cheap_and_never_a_new_greeting(revision: str, probe: str) -> None:
    async with served(server := web(revision)), kept(probing(server)) as backend:
        await healthy(backend)
        before = list(server.methods)
        await until(lambda: server.methods[len(before) :].count(probe) >= 5)
        assert set(server.methods[len(before) :]) == {probe}
        assert backend.states == ["up"], "what has not changed is not told"
        assert backend.backend.facts()["probes"] >= 4


async def test_one_that_knows_no_ping_is_there_all_the_same() -> None:
    server = web(LATEST, ping=single(failure(-32601, "Method not found")))
    async with served(server), kept(probing(server)) as backend:
        await until(lambda: server.methods.count("ping") >= 5)
        assert (backend.status.health, backend.states) == ("healthy", ["up"])


@pytest.mark.parametrize("answer", [drop, text(503), single(b"{"), text(404)], ids=["drop", "503", "garbage", "404"])
async def test_one_that_stops_answering_is_degraded_then_unhealthy_and_connected_to_anew(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vmcp.upstream")
    async with served(server := web(MODERN)), kept(probing(server)) as backend:
        await healthy(backend)
        greeting, server.on["server/discover"] = server.on["server/discover"], answer
        assert await turned(backend, "degraded")
        assert backend.status.state == "up"
        assert await backend.down()
        assert backend.status.health == "unhealthy"
        with pytest.raises(Unavailable, match="backend 'time' is unavailable") as refused:
            await backend.ask()
        assert refused.value.vmcp_code == Code.SERVER_UNAVAILABLE
        server.on["server/discover"] = greeting
        await backend.up()
        await healthy(backend)
        assert backend.states[:2] == ["up", "up"]
    changes = [(each["before"], each["health"]) for each in told(caplog, "backend health")]
    assert changes == [("healthy", "degraded"), ("degraded", "healthy")]
    assert [each["levelname"] for each in told(caplog, "backend health")] == ["WARNING", "INFO"]
    assert len([each for each in told(caplog, "backend down") if each["levelname"] == "WARNING"]) == 1


async def test_one_failure_is_not_the_end_of_it() -> None:
    async with served(server := web(LATEST, ping=drop)), kept(probing(server)) as backend:
        await turned(backend, "degraded")
        server.on["ping"] = single(result({}))
        await healthy(backend)
        assert server.methods.count("initialize") == 1
        assert set(backend.states) == {"up"}


async def test_one_that_answers_late_is_degraded_and_in_use() -> None:
    late = asyncio.Event()

    async def slowly(peer: Peer, told: Heard) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await late.wait()
        await single(result({}))(peer, told)

    spec = replace(QUICK, timeout=0.5)
    async with served(server := web(LATEST, ping=slowly)), kept(probing(server, health=spec)) as backend:
        assert "to answer a probe" in await turned(backend, "degraded")
        await backend.ask()
        late.set()
        await healthy(backend)
        assert set(backend.states) == {"up"}


@pytest.mark.parametrize("status", [401, 403])
async def test_one_that_takes_nobody_without_a_credential_is_unauthenticated_and_stays_up(status: int) -> None:
    async with served(server := web(LATEST, ping=text(status))), kept(probing(server)) as backend:
        assert "credentials" in await turned(backend, "unauthenticated")
        probes = server.methods.count("ping")
        await until(lambda: server.methods.count("ping") > probes + 5)
        assert set(backend.states) == {"up"}
        server.on["ping"] = single(result({}))
        await healthy(backend)


async def test_one_that_cannot_be_listed_without_a_credential_is_unauthenticated_too() -> None:
    async with served(server := web(MODERN, **{"server/discover": text(401)})), kept(probing(server)) as backend:
        await backend.down()
        assert backend.status.health == "unauthenticated"


async def test_that_it_turned_us_away_is_a_fact_of_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vmcp.upstream")
    async with served(server := web(MODERN, **{"server/discover": text(401)})), kept(probing(server)) as backend:
        await turned(backend, "unauthenticated")
        server.on["server/discover"] = drop
        await turned(backend, "unhealthy")
    first, *others = told(caplog, "backend down")
    assert (first["refused"], first["login"]) == (True, False)
    assert "refused" not in others[-1]


async def test_where_each_caller_has_his_own_credential_a_probe_without_one_expects_a_401() -> None:
    auth = PassThrough(listing=Concealed("listing"))
    async with served(server := web(LATEST, ping=text(401))), kept(probing(server, auth=auth)) as backend:
        await until(lambda: server.methods.count("ping") >= 5)
        assert (backend.status.health, set(backend.states)) == ("healthy", {"up"})


async def test_a_session_that_was_forgotten_is_renewed_by_a_probe() -> None:
    async with served(server := web(LATEST)), kept(probing(server)) as backend:
        await healthy(backend)
        assert server.sessions is not None
        server.sessions.clear()
        await until(lambda: server.sessions)
        await until(lambda: server.methods.count("ping") >= 5)
        assert (server.methods.count("initialize"), set(backend.states), backend.status.health) == (
            2,
            {"up"},
            "healthy",
        )


async def test_what_becomes_of_a_probe_says_nothing_about_a_connection_made_since() -> None:
    """The backend falls while it is probed, and is there again before the probe comes to its end."""
    held = asyncio.Event()

    async def holding(peer: Peer, told: Heard) -> None:
        await held.wait()
        await text(503)(peer, told)

    spec = replace(QUICK, unhealthy=1, timeout=5.0)
    async with served(server := web(LATEST, ping=holding)), kept(probing(server, health=spec)) as backend:
        await until(lambda: "ping" in server.methods)
        server.on["ping"] = single(result({}))
        backend.backend._control._on_gone()
        await until(lambda: backend.states == ["up", "down", "up"])
        held.set()
        await healthy(backend)
        assert backend.states[:3] == ["up", "down", "up"]
        assert "down" not in backend.states[3:]


async def test_nobody_is_probed_while_calls_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    evident = Vitals.evident

    def counted(vitals: Vitals, now: float) -> bool:
        looked.append(evident(vitals, now))
        return looked[-1]

    monkeypatch.setattr(Vitals, "evident", counted)
    async with served(server := web(LATEST)), kept(probing(server, health=replace(QUICK, interval=0.2))) as backend:
        await backend.up()
        while len(looked) < 3:
            await backend.ask()
        assert looked == [True] * 3
        assert "ping" not in server.methods


async def test_the_first_probes_do_not_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds > 1:  # others sleep too
            waits.append(seconds)
        await real(3600 if seconds > 1 else seconds)

    server = web(LATEST)
    async with served(server), kept(remote(server, health=replace(QUICK, interval=100.0))) as backend:
        await backend.up()
        monkeypatch.setattr(control.asyncio, "sleep", sleep)
        async with Nest("forty") as nest:
            for number in range(40):
                nest.start(backend.backend._control._look_after(), str(number))
            while len(waits) < 40:
                await real(0)
            monkeypatch.undo()
    assert all(50.0 <= each < 150.0 for each in waits)
    assert max(waits) - min(waits) > 40.0


async def test_to_connect_anew_is_tried_as_often_as_one_would_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "backoff", lambda attempt, jitter: 3600.0)
    async with served(server := web(MODERN)), kept(probing(server)) as backend:
        await healthy(backend)
        greeting, server.on["server/discover"] = server.on["server/discover"], drop
        await backend.down()
        server.on["server/discover"] = greeting
        await healthy(backend)


# --- child processes


async def test_a_child_that_hangs_is_replaced(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "CLOSE_WAIT", 0.1)
    monkeypatch.setattr(stdio, "TERM_WAIT", 0.1)
    hangs = replace(QUICK, timeout=0.1)
    async with kept(local(journal, PING, health=hangs)) as backend:
        await backend.up()
        (pid,) = journal_of(journal, "pid")
        os.kill(pid, signal.SIGSTOP)
        assert await backend.down() == "it did not answer a probe in 0.1 s"
        await backend.up()
        await until(lambda: not alive(pid))
        assert len(journal_of(journal, "pid")) == 2
        await backend.ask()


async def test_a_child_that_is_busy_with_a_call_is_left_to_it(journal: Path) -> None:
    """It reads no probe before the call is done, which takes many probes' time."""
    script = PING | {"tools/call": [["stall", 1.0], ["say", result({"content": []})]]}
    async with kept(local(journal, script, health=replace(QUICK, timeout=0.05))) as backend:
        await healthy(backend)
        async with asyncio.TaskGroup() as group:
            call = group.create_task(backend.ask())
            assert await turned(backend, "degraded") == "it is busy"
        assert call.result()
        await healthy(backend)
        assert (len(journal_of(journal, "pid")), set(backend.states)) == (1, {"up"})


# --- the breaker


async def refused(backend: Kept) -> McpError:
    with pytest.raises(McpError) as error:
        await backend.ask()
    return error.value


@pytest.mark.parametrize("answer", [drop, text(502), single(b"{")], ids=["drop", "502", "garbage"])
async def test_calls_without_an_answer_open_the_breaker_and_the_next_fails_at_once(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vmcp.upstream")
    calm = replace(QUICK, interval=1000.0)
    server = web(LATEST, **{"tools/call": answer})
    async with served(server), kept(probing(server, health=calm, breaker=replace(SMALL, timeout=60.0))) as backend:
        await backend.up()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await backend.ask()
        sent = server.methods.count("tools/call")
        with pytest.raises(Tripped, match="left alone; try again in 60 s") as refused:
            await backend.ask()
        assert (refused.value.data, refused.value.vmcp_code) == ({"retryAfter": 60}, Code.SERVER_UNAVAILABLE)
        assert server.methods.count("tools/call") == sent == 3
        assert (backend.status.state, backend.status.health) == ("up", "degraded")
        assert backend.backend.facts()["breaker"]["state"] == "open"
        server.on["tools/call"] = single(result({"content": []}))
        backend.backend.reset()
        await backend.ask()
        assert backend.status.health == "healthy"
    assert [each["state"] for each in told(caplog, "circuit breaker")] == ["open", "closed"]


async def test_whatever_it_answers_the_breaker_stays_closed() -> None:
    said: list[Callable[..., Any]] = [
        single(failure(-32603, "The disk is full")),
        single(result({"content": [], "isError": True})),
        text(401),
        text(429),
    ]
    async with served(server := web(LATEST)), kept(probing(server, breaker=SMALL)) as backend:
        await backend.up()
        for answer in said:
            server.on["tools/call"] = answer
            for _ in range(5):
                with suppress(McpError):
                    await backend.ask()
        assert backend.backend.facts()["breaker"]["state"] == "closed"
        assert server.methods.count("tools/call") == 20


async def test_who_leaves_does_not_open_it_and_who_waits_in_vain_does() -> None:
    spec = replace(SMALL, timeout=60.0)
    async with served(server := web(LATEST)), kept(probing(server, breaker=spec)) as backend:
        await backend.up()
        server.on["tools/call"] = silence
        for number in range(6):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(backend.ask())
                await until(lambda number=number: server.methods.count("tools/call") > number)
                task.cancel()
        assert backend.backend.facts()["breaker"]["failed"] == 0
        assert backend.backend.vitals.active == 0
        loop = asyncio.get_running_loop()
        for _ in range(3):
            with pytest.raises(Overdue):
                await backend.ask(deadline=loop.time() + 0.05)
        with pytest.raises(Tripped):
            await backend.ask()


async def test_a_probe_is_the_call_that_an_open_breaker_waits_for() -> None:
    """Nobody's call has to be tried out."""
    server = web(LATEST, **{"tools/call": drop})
    async with served(server), kept(probing(server, breaker=SMALL)) as backend:
        await backend.up()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await backend.ask()
        server.on["tools/call"] = single(result({"content": []}))
        await until(lambda: backend.backend.facts()["breaker"]["state"] == "closed")
        assert server.methods.count("tools/call") == 3
        await backend.ask()


async def test_a_probe_that_fails_keeps_it_open() -> None:
    server = web(LATEST, **{"tools/call": drop, "ping": drop})
    never = replace(QUICK, unhealthy=1000)
    async with served(server), kept(probing(server, breaker=SMALL, health=never)) as backend:
        await backend.up()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await backend.ask()
        await until(lambda: backend.backend.facts()["breaker"]["opened"] >= 3)
        assert server.methods.count("tools/call") == 3


async def test_a_server_that_dies_mid_call_opens_it_and_one_that_is_back_is_used(journal: Path) -> None:
    """A child that is killed: the call fails at once, the next one is used when it is there."""
    script = {"tools/call": [["stall", 30.0]]}
    async with kept(local(journal, scripted(answers(LATEST)) | script, breaker=SMALL)) as backend:
        await backend.up()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(refused(backend))
            await until(lambda: any(each.get("method") == "tools/call" for each in journal_of(journal, "told")))
            os.kill(journal_of(journal, "pid")[0], signal.SIGKILL)
        assert isinstance(call.result(), Unavailable)
        assert backend.backend.facts()["breaker"]["failed"] == 1
        await until(lambda: len(journal_of(journal, "pid")) == 2)
        await backend.up()
