"""A backend with replicas: who gets a call, who stays where, and what happens when one dies.

The rule: replicas are small servers in this process, or processes of their own where one of them is killed; every call is
accounted for by name.
"""

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from tests.upstream.badserver import until
from tests.upstream.child import ECHO, result
from tests.upstream.fakes import FAST, Answer, WebServer, drop, served, single, text
from tests.upstream.fakes import web as small
from tests.upstream.fakes_backend import LATEST, Kept, kept
from tests.upstream.replicating import Process, started
from vmcp.call import Identity
from vmcp.config.balancing import Balancing, EndpointSpec
from vmcp.config.health import BreakerSpec, HealthSpec
from vmcp.config.model import BackendSpec, Limits, PoolSpec
from vmcp.errors import Code, McpError, Unavailable
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Kind
from vmcp.upstream import control
from vmcp.upstream.backend import Backend
from vmcp.upstream.balancer import Balanced, placed
from vmcp.upstream.links import Key
from vmcp.upstream.replica import Homes
from vmcp.upstream.vitals import Tripped

MODERN = "2026-07-28"
NEW = {"client": Revision.V2026_07_28}
ONCE = PoolSpec(retry_attempts=0)
CALM = HealthSpec(interval=1000.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "backoff", lambda attempt, jitter: 0.02)


def named(name: str, revision: str = MODERN, **more: Answer) -> WebServer:
    """A server that says its name."""
    said = {"ping": single(result({})), "tools/call": single(result({"content": [], "name": name}))}
    return small(revision, **said | more)


def several(*urls: str, weights: tuple[int, ...] = (), **more: Any) -> BackendSpec:
    told = zip(urls, weights or (1,) * len(urls), strict=True)
    told_of: dict[str, Any] = {"timeouts": FAST, "pool": ONCE, "health": CALM, "isolation": "session"}
    endpoints = tuple(EndpointSpec(url, weight) for url, weight in told)
    return BackendSpec("time", "g", "streamable-http", endpoints=endpoints, **told_of | more)


@contextlib.asynccontextmanager
async def balanced(*servers: WebServer, all_up: bool = True, **more: Any) -> AsyncIterator[Kept]:
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(served(server))
        backend = await stack.enter_async_context(kept(several(*(each.url for each in servers), **more), make=Balanced))
        if all_up:
            await until(lambda: all(each.there for each in inside(backend)))
        yield backend


def inside(backend: Kept) -> Any:
    return backend.backend._replicas  # type: ignore[attr-defined]


async def who(backend: Kept, **more: Any) -> str:
    return str(json.loads(bytes((await backend.ask(**more)).result))["name"])


async def shares(backend: Kept, calls: int, **more: Any) -> Counter[str]:
    return Counter([await who(backend, **more) for _ in range(calls)])


def told(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [record.__dict__ for record in caplog.records if record.message == message]


# --- sharing out


def test_a_spec_with_replicas_is_balanced_and_one_without_is_not() -> None:
    async def kinds() -> list[type]:
        plain = BackendSpec("a", "g", "streamable-http", url="http://127.0.0.1:1/")
        made = [placed(spec, Limits(), None) for spec in (plain, several("http://a/"))]  # type: ignore[arg-type]
        for each in made:
            await each._credentials.close()
        return [type(each) for each in made]

    assert asyncio.run(kinds()) == [Backend, Balanced]


async def test_calls_go_to_all_replicas_in_turn() -> None:
    async with balanced(*(named(name) for name in "abc")) as backend:
        assert await shares(backend, 30, **NEW) == {"a": 10, "b": 10, "c": 10}
        assert backend.status.state == "up"
        assert backend.status.health == "healthy"
        assert (backend.backend.revision, backend.backend.declares("tools")) == (Revision.V2026_07_28, True)
        assert [each["replica"] for each in backend.backend.facts()["replicas"]] == [0, 1, 2]
        assert len(backend.catalogs) == 1, "what they offer is told once"


async def test_weights_count_and_one_without_weight_gets_nothing() -> None:
    servers = [named(name) for name in "abc"]
    weighty = Balancing("weightedRoundRobin")
    async with balanced(*servers, weights=(3, 1, 0), balancing=weighty) as backend:
        assert await shares(backend, 40, **NEW) == {"a": 30, "b": 10}


async def test_the_one_with_fewer_calls_is_next() -> None:
    held = asyncio.Event()

    async def holding(peer: Any, heard: Any) -> None:
        await held.wait()
        await single(result({"content": [], "name": "a"}))(peer, heard)

    servers = named("a", **{"tools/call": holding}), named("b")
    async with balanced(*servers, balancing=Balancing("leastConnections")) as backend, asyncio.TaskGroup() as group:
        slow = []
        while "tools/call" not in servers[0].methods:
            slow.append(group.create_task(who(backend, **NEW)))
            await asyncio.sleep(0.001)
        assert await shares(backend, 20, **NEW) == {"b": 20}
        held.set()


@pytest.mark.parametrize(("on", "differs"), [("principal", "identity"), ("tool", "name")])
async def test_a_key_keeps_to_its_replica(on: Any, differs: str) -> None:
    balancing = Balancing("consistentHash", hash_on=on)
    async with balanced(*(named(name) for name in "abc"), balancing=balancing) as backend:
        found = {}
        for number in range(20):
            name = f"n{number}"
            more = {"identity": Identity("i", name)} if differs == "identity" else {"name": name}
            (found[name],) = await shares(backend, 3, **NEW, **more)
        assert set(found.values()) == {"a", "b", "c"}


# --- who stays where


async def test_a_session_stays_with_its_replica_and_different_ones_are_shared_out() -> None:
    async with balanced(*(named(name, LATEST) for name in "abc")) as backend:
        homes = {session: await shares(backend, 5, session=session) for session in ("s1", "s2", "s3", "s4")}
        assert all(set(counted.values()) == {5} for counted in homes.values())
        assert {name for counted in homes.values() for name in counted} == {"a", "b", "c"}
        backend.backend.forget("s1")
        assert backend.backend._homes.of(Key("session", "s1")) is None  # type: ignore[union-attr]


async def test_a_principal_of_another_era_stays_too_and_where_nobody_has_a_session_nobody_stays() -> None:
    async with balanced(*(named(name, LATEST) for name in "ab")) as backend:
        one = await shares(backend, 6, **NEW, identity=Identity("i", "one"))
        two = await shares(backend, 6, **NEW, identity=Identity("i", "two"))
        assert (len(one), len(two), set(one) | set(two)) == (1, 1, {"a", "b"})
    async with balanced(*(named(name, LATEST) for name in "ab"), isolation="shared") as backend:
        assert await shares(backend, 6, session="s1") == {"a": 3, "b": 3}


async def test_what_a_client_tells_reaches_the_replica_that_knows_it_and_in_its_revision() -> None:
    servers = [named(name, LATEST) for name in "ab"]
    async with balanced(*servers) as backend:
        home = "ab".index(await who(backend, session="s"))
        assert backend.backend.speaks(backend.call(session="s")) is Revision.V2025_11_25
        backend.backend.inform("s", "notifications/roots/list_changed")
        await until(lambda: "notifications/roots/list_changed" in servers[home].methods)
        assert "notifications/roots/list_changed" not in servers[1 - home].methods


async def test_what_replicas_say_and_ask_is_passed_on() -> None:
    async with balanced(named("a", LATEST), named("b", LATEST)) as backend:
        for number, each in enumerate(inside(backend)):
            each.heard("time", "notifications/message", Raw(b"%d" % number), None)
            await each.inquire("s", Question("roots/list", Raw(b"{}")))
        assert backend.events == [("notifications/message", 0, None), ("notifications/message", 1, None)]
        assert backend.asked == [("s", "roots/list")] * 2


async def test_a_client_that_subscribes_before_it_calls_stays_with_the_replica_that_it_subscribed_at() -> None:
    async with balanced(named("a", LATEST), named("b", LATEST)) as backend:
        lead = backend.backend._lead  # type: ignore[union-attr]
        assert await backend.backend.source(backend.call(session="s")) == Key("session", "s")
        assert {await who(backend, session="s") for _ in range(3)} == {"ab"[lead.number]}
        assert backend.backend.consent is None


async def test_a_task_is_asked_for_where_it_was_made() -> None:
    def tasked(name: str) -> WebServer:
        made = {"task": {"taskId": f"task-of-{name}", "status": "working", "createdAt": "x", "ttl": None}}
        state = {**made["task"], "name": name}
        return named(name, LATEST, **{"tools/call": single(result(made)), "tasks/get": single(result(state))})

    async with balanced(tasked("a"), tasked("b"), isolation="request") as backend:
        for _ in range(4):
            made = json.loads(bytes((await backend.ask()).result))["task"]["taskId"]
            for _ in range(3):
                assert f"task-of-{await who(backend, method='tasks/get', name=made)}" == made


# --- dying and coming back


async def test_who_is_not_there_gets_nothing_and_its_calls_go_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    servers = [named(name) for name in "ab"]
    async with served(servers[0]), kept(several(servers[0].url, "http://127.0.0.1:1/mcp"), make=Balanced) as backend:
        await until(lambda: inside(backend)[0].there)
        await until(lambda: inside(backend)[1].backend.status.state == "down")
        assert await shares(backend, 10, **NEW) == {"a": 10}
        assert (backend.status.state, backend.status.health) == ("up", "degraded")
        assert backend.status.why == "1 of 2 replicas are not healthy"
        assert {each["replica"] for each in told(caplog, "backend down")} == {1}


@pytest.mark.parametrize("answer", [drop, text(503), single(b"{")], ids=["drop", "503", "garbage"])
async def test_what_one_replica_may_have_done_is_not_asked_of_another(answer: Answer) -> None:
    servers = [named("a", **{"tools/call": answer}), named("b")]
    async with balanced(*servers) as backend:
        for _ in range(6):
            with contextlib.suppress(Unavailable):
                await who(backend, **NEW)
        assert [server.methods.count("tools/call") for server in servers] == [3, 3]


async def test_when_nobody_is_there_it_says_why() -> None:
    async with kept(several("http://127.0.0.1:1/mcp", "http://127.0.0.1:1/other"), make=Balanced) as backend:
        await until(lambda: backend.status.state == "down")
        assert (backend.status.health, backend.status.why) == ("unhealthy", "connection refused")
        with pytest.raises(Unavailable, match="connection refused") as refused:
            await backend.ask()
        assert refused.value.vmcp_code == Code.SERVER_UNAVAILABLE
        assert backend.backend.link is None


async def test_one_that_fails_calls_is_left_out_and_the_last_never_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vmcp.upstream")
    servers = [named(name) for name in "abc"]
    async with balanced(*servers, breaker=BreakerSpec(2, 60.0, 1), balancing=Balancing(ejection=100)) as backend:
        for server in servers[:2]:
            server.on["tools/call"] = text(502)
        for _ in range(12):
            with contextlib.suppress(McpError):
                await who(backend, **NEW)
        assert await shares(backend, 6, **NEW) == {"c": 6}
        servers[2].on["tools/call"] = drop
        for _ in range(6):
            with pytest.raises(Unavailable) as failed:
                await who(backend, **NEW)
            assert not isinstance(failed.value, Tripped)
        assert len(told(caplog, "circuit breaker")) == 2


async def test_no_more_than_the_share_is_left_out() -> None:
    servers = [named(name, **{"tools/call": text(502)}) for name in "abc"]
    async with balanced(*servers, named("d"), breaker=BreakerSpec(1, 60.0, 1)) as backend:
        for _ in range(40):
            with contextlib.suppress(McpError):
                await who(backend, **NEW)
        states = Counter(each.backend.vitals.breaker.state for each in inside(backend))
        assert states == {"open": 2, "closed": 2}, "half of four"
    async with balanced(named("a", **{"tools/call": drop}), named("b"), balancing=Balancing(ejection=0)) as backend:
        for _ in range(40):
            with contextlib.suppress(McpError):
                await who(backend, **NEW)
        assert not any(each.out for each in inside(backend))


async def test_when_all_that_are_there_are_left_alone_it_says_when_to_come_back() -> None:
    """One falls away while the other is left out: then nobody can be asked."""
    servers = [named(name) for name in "ab"]
    async with balanced(*servers, breaker=BreakerSpec(1, 60.0, 1)) as backend:
        servers[0].on["tools/call"] = drop
        while not inside(backend)[0].out:
            with contextlib.suppress(McpError):
                await who(backend, **NEW)
        inside(backend)[1].backend._control.link = None
        with pytest.raises(Tripped) as refused:
            await who(backend, **NEW)
        assert refused.value.data == {"retryAfter": 60}
        backend.backend.reset()
        servers[0].on["tools/call"] = single(result({"content": [], "name": "a"}))
        assert await who(backend, **NEW) == "a"


async def test_a_single_replica_has_a_breaker_only_if_the_file_says_so() -> None:
    failing = {"tools/call": text(502)}
    async with balanced(named("a", **failing)) as backend:
        for _ in range(20):
            with pytest.raises(Unavailable, match="502"):
                await who(backend, **NEW)
    async with balanced(named("a", **failing), breaker=BreakerSpec(2, 60.0, 1)) as backend:
        for _ in range(2):
            with pytest.raises(Unavailable, match="502"):
                await who(backend, **NEW)
        with pytest.raises(Tripped):
            await who(backend, **NEW)


async def test_who_comes_back_starts_slowly() -> None:
    servers = [named(name) for name in "ab"]
    async with balanced(*servers, breaker=BreakerSpec(1, 0.01, 1), balancing=Balancing(slow_start=3600.0)) as backend:
        servers[0].on["tools/call"] = drop
        while not inside(backend)[0].out:
            with contextlib.suppress(McpError):
                await who(backend, **NEW)
        servers[0].on["tools/call"] = single(result({"content": [], "name": "a"}))
        while inside(backend)[0].out:
            await who(backend, **NEW)
        assert inside(backend)[0].back is not None
        counted = await shares(backend, 300, **NEW)
        assert 0 < counted["a"] < 75


# --- what is listed


async def test_the_lead_is_what_is_listed_and_those_that_differ_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    more = single(result({"tools": [ECHO, {"name": "more", "inputSchema": {"type": "object"}}]}))
    servers = named("a", LATEST), named("b", LATEST, **{"tools/list": more})
    async with balanced(*servers) as backend:
        lead = backend.backend._lead  # type: ignore[union-attr]
        names = {0: ["echo"], 1: ["echo", "more"]}
        assert [each.name for each in backend.catalogs[-1].entries[Kind.TOOL]] == names[lead.number]
        assert len(backend.catalogs) == 1
        (warned,) = told(caplog, "replicas differ")
        assert (warned["backend"], warned["lead"], warned["replica"]) == ("time", lead.number, 1 - lead.number)
        lead.backend._control.link = None
        backend.backend.on_settled(lead)  # type: ignore[union-attr]
        assert [each.name for each in backend.catalogs[-1].entries[Kind.TOOL]] == names[1 - lead.number]
        assert len(backend.catalogs) == 2


async def test_subscriptions_of_all_go_along_with_the_lead() -> None:
    uris = [named(name, LATEST, **{"resources/subscribe": single(result({}))}) for name in "ab"]
    async with balanced(*uris, isolation="shared") as backend:
        watched = backend.backend
        assert await watched.source(backend.call()) is None
        first = watched._lead  # type: ignore[union-attr]
        watch = watched.watch_of(None)
        assert watch is not None
        await watch.want("file:///a")
        assert uris[first.number].methods.count("resources/subscribe") == 1
        first.backend._control.link = None
        watched.on_settled(first)  # type: ignore[union-attr]
        other = uris[1 - first.number]
        await until(lambda: other.methods.count("resources/subscribe") == 1)
        successor = watched.watch_of(None)
        assert successor is not None
        assert (watch.busy, successor.busy) == (False, True)


# --- processes that are killed


@contextlib.asynccontextmanager
async def processes(names: str, revision: str, **more: Any) -> AsyncIterator[tuple[list[Process], Kept]]:
    async with contextlib.AsyncExitStack() as stack:
        all_of = await stack.enter_async_context(started(names, revision))
        spec = several(*(each.url for each in all_of), **more)
        backend = await stack.enter_async_context(kept(spec, make=Balanced))
        await until(lambda: all(each.there for each in inside(backend)))
        yield all_of, backend


def said(complete: Any) -> dict[str, Any]:
    return dict(json.loads(json.loads(bytes(complete.result))["content"][0]["text"]))


QUICK = HealthSpec(interval=0.3, timeout=0.28, unhealthy=2, healthy=1)


async def test_a_replica_that_is_killed_under_load_costs_only_what_it_had_in_hand() -> None:
    """Twenty callers at once; the ledger has one outcome for each call. Later it comes back and takes its share."""
    ledger: Counter[str] = Counter()
    failures: list[McpError] = []
    stop = asyncio.Event()

    async def caller(backend: Kept) -> None:
        while not stop.is_set():
            try:
                ledger[said(await backend.ask(name="who", **NEW))["name"]] += 1
            except McpError as error:
                failures.append(error)
            await asyncio.sleep(0.002)

    breaker, balancing = BreakerSpec(3, 0.2, 1), Balancing(slow_start=0.2)
    more = {"breaker": breaker, "balancing": balancing, "health": QUICK}
    async with processes("abc", MODERN, **more) as (replicas, backend), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(caller(backend))
        await until(lambda: min(ledger[name] for name in "abc") > 50)
        await replicas[1].kill()
        before = ledger.copy()
        await until(lambda: ledger["a"] + ledger["c"] > before["a"] + before["c"] + 500)
        assert len(failures) <= 20, "at most one for each caller: what was with it when it died"
        assert all(isinstance(error, Unavailable) for error in failures)
        assert ledger["b"] == before["b"]
        settled = len(failures)
        await replicas[1].start()
        await until(lambda: ledger["b"] > before["b"] + 100)
        assert len(failures) == settled
        stop.set()


async def test_sessions_of_a_killed_replica_are_begun_anew_elsewhere_and_the_others_go_on() -> None:
    async with processes("ab", LATEST, balancing=Balancing("roundRobin"), health=QUICK) as (replicas, backend):
        sessions = [f"s{number}" for number in range(6)]
        first = {session: said(await backend.ask(name="who", session=session)) for session in sessions}
        assert {each["name"] for each in first.values()} == {"a", "b"}
        await replicas[0].kill()
        second = {}
        for session in sessions:
            try:
                second[session] = said(await backend.ask(name="who", session=session))
            except McpError:  # its connection was cut; the next call finds another place
                second[session] = said(await backend.ask(name="who", session=session))
        assert {each["name"] for each in second.values()} == {"b"}
        for session, told in first.items():
            stayed = told["name"] == "b"
            assert (second[session]["session"] == told["session"]) is stayed
            assert second[session]["calls"] == (2 if stayed else 1)
        third = {session: said(await backend.ask(name="who", session=session)) for session in sessions}
        assert {session: each["session"] for session, each in third.items()} == {
            session: each["session"] for session, each in second.items()
        }


async def test_what_a_session_was_subscribed_to_goes_along() -> None:
    async with processes("ab", LATEST, health=QUICK) as (replicas, backend):
        call = backend.call(session="s")
        await backend.ask(name="who", session="s")
        source = await backend.backend.source(call)
        assert source == Key("session", "s")
        watch = backend.backend.watch_of(source)
        assert watch is not None
        await watch.want("file:///a")
        home = backend.backend._homes.of(source)  # type: ignore[union-attr]
        await replicas[home.number].kill()
        with contextlib.suppress(McpError):
            await backend.ask(name="who", session="s")
        await backend.ask(name="who", session="s")
        moved = backend.backend.watch_of(source)
        assert moved is not None
        assert moved is not watch
        assert (moved.busy, watch.busy) == (True, False)
        assert moved._keeper is not None
        await until(lambda: moved._keeper is not None and moved._keeper.held)


# --- who belongs where, by itself


class At:
    """A replica as far as ``Homes`` looks at it."""

    def __init__(self) -> None:
        self.backend = self
        self.forgotten: list[str] = []

    def watch_of(self, key: Key) -> None:
        return None

    def forget(self, session: str) -> None:
        self.forgotten.append(session)


def test_homes_are_as_many_as_are_remembered_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.upstream.replica.REMEMBERED", 2)
    homes, here = Homes(), At()
    keys = [Key("session", str(number)) for number in range(3)]
    for key in keys:
        homes.settle(key, here)  # type: ignore[arg-type]
        homes.made(key.text, here)  # type: ignore[arg-type]
    assert [homes.of(key) is here for key in keys] == [False, True, True]
    assert [homes.of_task(key.text) is here for key in keys] == [False, True, True]
    assert (homes.of(None), homes.of_task(None)) == (None, None)


def test_an_old_home_is_left_once_the_new_one_has_answered() -> None:
    homes, old, new, key = Homes(), At(), At(), Key("session", "s")
    assert not homes.settle(key, old)  # type: ignore[arg-type]
    assert homes.settle(key, new)  # type: ignore[arg-type]
    assert homes.settle(key, old)  # type: ignore[arg-type]
    homes.follow(key, old)  # type: ignore[arg-type]
    assert (old.forgotten, new.forgotten) == ([], ["s"])
    homes.follow(key, old)  # type: ignore[arg-type]
    assert (old.forgotten, new.forgotten) == ([], ["s"])
    homes.settle(key, new)  # type: ignore[arg-type]
    homes.forget(key)
    homes.follow(key, new)  # type: ignore[arg-type]
    assert old.forgotten == []
