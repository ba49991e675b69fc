"""One view of several workers. Rule: two whole houses in one process, real sockets between them; the first is asked."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.admin.offices import Office, office
from tests.admin.visitors import ALL, Visitor
from tests.server.clients import Door
from tests.server.mated import crew
from tests.server.peers import Server, echo, house, tool
from vmcp.admin.listening import Admin
from vmcp.admin.mates import PARTS
from vmcp.admin.tail import Tail
from vmcp.config.administration import AdminSpec
from vmcp.config.oauth import StateSpec
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN
from vmcp.server.mates import Mates
from vmcp.server.reloading import Reloads, Source
from vmcp.server.runtime import Runtime
from vmcp.state.crew import AWAY
from vmcp.tasks import Nest
from vmcp.upstream.backend import Backend

BACKENDS = {"b": Server(tools=[tool("t")], script=echo)}


@dataclass
class Pair:
    """``here`` is asked; ``there`` is the house of the other worker, ``log`` what it has logged."""

    here: Office
    there: Runtime
    mates: Mates
    log: Tail
    file: Path


@contextlib.asynccontextmanager
async def pair(monkeypatch: pytest.MonkeyPatch, folder: Path, **more: Any) -> AsyncIterator[Pair]:
    (folder / "there").mkdir()
    file = folder / "there" / "vmcp.yaml"
    file.write_text("")
    log = Tail(logging.Formatter("%(message)s"))
    async with (
        crew(2) as (first, second),
        office(monkeypatch, folder, BACKENDS, mates=first, **more) as here,
        house(monkeypatch, BACKENDS, **({"state": more["state"]} if "state" in more else {})) as there,
        Nest("reload") as nest,
    ):
        there.mates = second
        reloads = Reloads(there, Source([str(file)], lambda: [(str(file), file.read_text())]), nest)
        async with Admin(AdminSpec(), log)(there, reloads, "http://127.0.0.1:1"):
            yield Pair(here, there, first, log, file)


async def used(*houses: Runtime, revision: Any = LATEST_HANDSHAKE, calls: int = 2) -> None:
    for each in houses:
        door = Door(each.app, revision)
        if revision is LATEST_HANDSHAKE:
            await door.initialize()
        for _ in range(calls):
            await door.call("t")


async def test_the_status_is_that_of_all_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        await used(both.here.running, both.there)
        both.mates.crew.common.counts[1] = 7
        told = await both.here.get("status")
        assert (told["sessions"], told["status"], told["pid"]) == (2, "ready", os.getppid())
        one, two = told["workers"]
        assert (one["index"], one["sessions"], one["connections"], one["pid"]) == (0, 1, 0, os.getpid())
        assert (two["index"], two["sessions"], two["connections"], two["status"]) == (1, 1, 7, "ready")
        assert two["rssBytes"] > 1e6
        both.there.drain()
        assert (await both.here.get("status"))["status"] == "stopping"


async def test_a_worker_that_is_away_is_told_as_such_and_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        await used(both.here.running, both.there)
        both.mates.crew.common.counts[1] = AWAY
        told = await both.here.get("status")
        assert (told["status"], told["sessions"], told["ready"]) == ("degraded", 1, True)
        assert told["workers"][1] == {"index": 1, "status": "away", "connections": 0, "restarts": 0}
        overview = await both.here.get("overview")
        assert "worker 1 is away" in [each["what"] for each in overview["attention"]]


async def test_a_worker_that_says_nothing_is_left_out_after_a_while(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        monkeypatch.setattr(both.there.mates, "answers", {"admin": _never})
        both.mates.patience = 0.05
        told = await both.here.get("status")
        assert (told["status"], told["workers"][1]["status"]) == ("degraded", "silent")


async def _never(_: bytes) -> bytes:
    await asyncio.Event().wait()
    return b""


async def test_what_has_passed_is_told_of_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        await used(both.here.running, both.there, calls=3)
        statistics = await both.here.get("statistics")
        (line,) = statistics["tools"]
        assert (line["tool"], line["count"]) == ("t", 6)
        assert (await both.here.get("metrics"))["metrics"]["vmcp_requests_total"] == 2 * (3 + 1)
        (t,) = (await both.here.get("tools"))["tools"]
        assert t["usage"]["calls"] == 6
        rates = await both.here.get("rates")
        assert len(rates["seconds"]) == 60
        assert (await both.here.get("usage"))["total"]["count"] == 2 * (3 + 1)


async def test_usage_in_a_file_of_all_has_what_any_has_just_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with pair(monkeypatch, tmp_path, state=StateSpec(str(tmp_path / "state"))) as both:
        await used(both.here.running, both.there, calls=3)
        told = await both.here.get("usage")
        assert (told["where"], told["total"]["count"]) == ("file", 2 * (3 + 1))


async def test_sessions_are_listed_with_their_workers_and_ended_wherever_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        await used(both.here.running, both.there)
        found = {each["worker"]: each["id"] for each in (await both.here.get("sessions"))["sessions"]}
        assert sorted(found) == [0, 1]
        for worker, running in ((1, both.there), (0, both.here.running)):
            answer = await both.here.ask("DELETE", f"/admin/v1/sessions/{found[worker]}")
            assert (answer.status, len(running.sessions)) == (200, 0)
        assert (await both.here.ask("DELETE", f"/admin/v1/sessions/{found[1]}")).status == 404


async def test_a_backend_is_told_as_it_is_where_it_is_worst(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        (line,) = (await both.here.get("backends"))["backends"]
        assert (line["state"], line["tools"]) == ("up", 1)
        told = await both.here.get("backends/b")
        assert [each["worker"] for each in told["facts"]["replicas"]] == [0, 1]
        assert len(told["history"]["requests"]) == 60
        assert (await both.here.ask("GET", "/admin/v1/backends/none")).status == 404


async def test_calls_of_all_are_one_stream_with_numbers_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        await used(both.here.running, both.there, calls=1, revision=MODERN)
        first = await both.here.get("traffic")
        assert sorted(each["worker"] for each in first["exchanges"]) == [0, 1]
        assert [each["number"] for each in first["exchanges"]] == [2, 1]
        await used(both.there, calls=1, revision=MODERN)
        since = await both.here.get(f"traffic?since={first['last']}")
        assert [(each["number"], each["worker"]) for each in since["exchanges"]] == [(3, 1)]


async def test_lines_of_all_logs_are_one_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        before = (await both.here.get("log"))["last"]
        both.log.emit(logging.makeLogRecord({"msg": "said by the other", "created": time.time()}))
        told = await both.here.get(f"log?since={before}")
        assert told == {"lines": ["said by the other"], "last": before + 1}
        assert await both.here.get(f"log?since={before + 1}") == {"lines": [], "last": before + 1}


async def test_the_pages_show_the_workers_and_whose_things_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with pair(monkeypatch, tmp_path, listen=True, ui=ALL) as both:
        await used(both.here.running, both.there)
        who = Visitor(both.here)
        await who.login()
        _, text = await who.see("")
        assert [f'<th scope="row">{index}</th>' in text for index in (0, 1, 2)] == [True, True, False]
        assert (await who.see("sessions"))[1].count('data-key="worker"') == 2
        assert [f"worker {index}</span>" in (await who.see("backends/b"))[1] for index in (0, 1)] == [True, True]
        for page in ("backends", "endpoints", "tools", "statistics", "traffic", "audit", "config", "about"):
            assert (await who.see(page))[0] == 200, page
        (session,) = (each["id"] for each in (await both.here.get("sessions"))["sessions"] if each["worker"] == 1)
        assert (await who.send(f"sessions/{session}/end", {}))[0] == 303
        assert not len(both.there.sessions)
        both.mates.crew.common.counts[1] = AWAY
        assert "worker 1 is away" in (await who.see(""))[1]


async def test_what_is_to_be_done_is_done_by_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        done: list[str] = []
        monkeypatch.setattr(Backend, "reset", lambda self: done.append(self.spec.name))
        assert await both.here.post("backends/b/reset") == {"reset": "b"}
        assert done == ["b", "b"]
        assert await both.here.post("cache/clear") == {"cleared": 0}
        told = await both.here.post("reload")
        assert told["result"] == "rejected"
        assert both.there.reloads == {"rejected": 1} == both.here.running.reloads
        assert any(str(both.file) in problem for problem in told["problems"])
        assert await both.here.post("drain") == {"status": "stopping"}
        assert both.there.draining
        assert both.here.running.draining


async def test_what_is_done_by_all_is_recorded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with pair(monkeypatch, tmp_path) as both:
        said: list[tuple[int, str]] = []
        for index, running in enumerate((both.here.running, both.there)):
            running.current.auditor = _Auditor(index, said)  # type: ignore[assignment]
        await used(both.there)
        (session,) = (await both.here.get("sessions"))["sessions"]
        await both.here.ask("DELETE", f"/admin/v1/sessions/{session['id']}")
        for act in ("backends/b/reset", "cache/clear", "drain"):
            await both.here.post(act)
        assert said == [(0, "end"), (0, "reset"), (0, "clear"), (0, "drain")]


class _Auditor:
    def __init__(self, index: int, said: list[tuple[int, str]]) -> None:
        self.index, self.said = index, said

    def happened(self, kind: str, outcome: str, origin: Any, who: Any, target: Any, extra: Any = None) -> None:
        if kind == "admin_act":
            self.said.append((self.index, target["method"]))

    def short(self) -> bool:
        return self.index == 1


def test_an_audit_log_that_one_worker_cannot_write_is_told() -> None:
    assert PARTS["impaired"].merge({0: False, 1: True})
    assert not PARTS["impaired"].merge({0: False, 1: False})
