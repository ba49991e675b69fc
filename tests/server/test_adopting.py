"""One configuration takes the place of another in a running house: what stays, what goes, and who notices.

Rule: what a client sees is looked at through the door; what is left behind is counted.
"""

import asyncio
import contextlib
import gc
import json
import weakref
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.server.clients import Door, listening
from tests.server.peers import Asked, Notify, Server, config, echo, house, in_memory, said, tool, until
from tests.server.test_audited import Guest
from tests.server.test_gate import LOCAL, key, shown
from tests.server.test_subscribing import CHANGED, UPDATED, hearing, news
from vmcp.config.audit import AuditSpec
from vmcp.config.authz import Authz
from vmcp.config.incoming import Incoming, Issuer, LocalKey
from vmcp.config.limits import Bucket, RateLimits
from vmcp.config.model import BackendSpec, Config, Group, Limits, ServerSpec
from vmcp.config.telemetry import TelemetrySpec
from vmcp.config.values import SecretRef
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.server import runtime
from vmcp.server.entrance import NoEntrance
from vmcp.server.runtime import NotReady, Runtime
from vmcp.state.auditlog import AuditUnavailable
from vmcp.state.chain import Proof

OLD = Revision.V2025_11_25


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "LINGER", 0.0)


class Place:
    """A running house, and its next configurations."""

    def __init__(self, running: Runtime, servers: dict[str, Server], more: dict[str, Any]) -> None:
        self.running = running
        self.servers = servers
        self.more = more
        self._number = 0

    def next(self, names: Iterable[str] | None = None, touched: Iterable[str] = (), **more: Any) -> Config:
        """The same again with these backends, some of them ``touched``, and what else is other."""
        self._number += 1
        self.more |= more
        found = config({name: self.servers[name] for name in names or self.servers}, **self.more)
        specs = dict(found.groups["g"].backends)
        for name in touched:
            specs[name] = replace(specs[name], metadata={"touched": str(self._number)})
        return replace(found, digest=str(self._number), groups={"g": Group("g", specs)})

    async def retired(self) -> None:
        """Until no configuration but the current one is there."""
        await until(lambda: not (self.running._leaving or self.running._closing))


@contextlib.asynccontextmanager
async def place(monkeypatch: pytest.MonkeyPatch, servers: dict[str, Server], **more: Any) -> AsyncIterator[Place]:
    later = dict(servers)
    async with house(monkeypatch, servers, **more) as running:
        monkeypatch.setattr(runtime, "Backend", in_memory(later))
        yield Place(running, later, {key: value for key, value in more.items() if key != "settled"})


def offering(*names: str) -> Server:
    return Server(tools=[tool(name) for name in names], script=echo)


async def names(running: Runtime, revision: Revision = MODERN) -> list[str]:
    door = Door(running.app, revision)
    await door.initialize()
    return [entry["name"] for entry in (await door.ask("tools/list")).result["tools"]]


# --- backends


async def test_what_is_not_touched_is_kept_and_what_is_changed_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one"), "b": offering("two")}) as found:
        kept, changed = found.servers["a"], found.servers["b"]
        asked = len(kept.asked)
        changed.tools = [tool("three")]
        done = await found.running.adopt(found.next(touched=["b"]))
        assert (done.changed, done.began, done.ended) == (True, ("b",), ("b",))
        assert await names(found.running) == ["one", "three"], "at once, and not when the backend has come up"
        await found.retired()
        assert len(kept.asked) == asked
        assert [wire.closed for wire in kept.wires] == [False]
        assert [wire.closed for wire in changed.wires] == [True, False]


async def test_backends_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        found.servers["b"] = offering("two")
        assert (await found.running.adopt(found.next())).began == ("b",)
        assert await names(found.running) == ["one", "two"]
        assert (await found.running.adopt(found.next(["b"]))).ended == ("a",)
        assert await names(found.running) == ["two"]
        await found.retired()
        assert [wire.closed for wire in found.servers["a"].wires] == [True]
        assert (await found.running.adopt(found.next(["a"]))).began == ("a",)
        assert await names(found.running) == ["one"]


async def test_metrics_come_and_go_and_what_was_counted_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        door, count = Door(found.running.app), b'le="+Inf",mcp_method_name="tools/call"'
        assert (await door.http("GET", "/metrics")).status == 404
        await found.running.adopt(found.next(telemetry=TelemetrySpec(scrape=True)))
        await door.call("one")
        assert count in (await door.http("GET", "/metrics")).body
        await found.running.adopt(found.next(telemetry=None))
        assert (await door.http("GET", "/metrics")).status == 404
        done = await found.running.adopt(found.next(telemetry=TelemetrySpec(scrape=True, tracing=True)))
        assert done.restart == (("telemetry",),)
        assert count in (await door.http("GET", "/metrics")).body


async def test_the_same_again_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        before = found.running.current
        assert not (await found.running.adopt(found.running.config)).changed
        assert found.running.current is before


async def test_a_secret_that_is_another_makes_another_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("first")
    spec = BackendSpec("a", "g", "streamable-http", "http://x/", headers={"X-Key": SecretRef(file=str(secret))})
    async with place(monkeypatch, {"a": offering("one")}) as found:
        given = replace(found.next(), groups={"g": Group("g", {"a": spec})})
        assert (await found.running.adopt(given)).changed
        assert not (await found.running.adopt(given)).changed
        secret.write_text("second")
        assert (await found.running.adopt(given)).began == ("a",)


async def test_a_call_in_flight_ends_on_the_backend_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    go = asyncio.Event()

    async def script(asked: Asked, notify: Notify) -> bytes:
        await go.wait()
        return said("from the old one")

    leaving = Server(tools=[tool("t")], script=script)
    async with place(monkeypatch, {"a": leaving, "b": offering("u")}) as found:
        call = Door(found.running.app).calling()
        async with asyncio.TaskGroup() as group:
            group.create_task(call.run())
            await until(leaving.calls)
            await found.running.adopt(found.next(["b"]))
            assert await names(found.running) == ["u"]
            for _ in range(20):
                await asyncio.sleep(0)
            assert [wire.closed for wire in leaving.wires] == [False]
            go.set()
        assert call.answer.result["content"][0]["text"] == "from the old one"
        await found.retired()
        assert [wire.closed for wire in leaving.wires] == [True]


async def test_a_call_that_waits_for_its_user_holds_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(asked: Asked, notify: Notify) -> bytes:
        question = {"message": "sure?", "requestedSchema": {"type": "object", "properties": {}}}
        answer = await asked.ask("elicitation/create", question)
        return said(answer["action"], OLD)

    asking = Server(OLD, tools=[tool("t")], script=script)
    more = {"isolation": "identity"}
    async with place(monkeypatch, {"a": asking}, **more) as found:
        door = Door(found.running.app)
        meta = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
        first = await door.ask("tools/call", {"name": "t", "_meta": meta})
        assert first.result["resultType"] == "input_required"
        await found.running.adopt(found.next(touched=["a"]))
        for _ in range(100):
            await asyncio.sleep(0)
        assert found.running._leaving, "nobody is at the door, but the call goes on"
        given = {key: {"action": "accept", "content": {}} for key in first.result["inputRequests"]}
        state = first.result["requestState"]
        again = await door.ask(
            "tools/call", {"name": "t", "inputResponses": given, "requestState": state, "_meta": meta}
        )
        assert again.result["content"][0]["text"] == "accept"
        assert len(asking.calls()) == 1, "nothing was done twice"
        await found.retired()


# --- what fails leaves nothing


async def test_one_whose_required_backend_does_not_come_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        before, tasks = found.running.current, asyncio.all_tasks()
        found.servers["dead"] = Server(refusal="no")
        with pytest.raises(NotReady, match="required backends have not come up: dead"):
            await found.running.adopt(found.next(required=("dead",)))
        assert found.running.current is before
        assert await names(found.running) == ["one"]
        await until(lambda: asyncio.all_tasks() == tasks)
        assert (await found.running.adopt(found.next(required=()))).began == ("dead",), (
            "who is not required may be late"
        )
        assert await names(found.running) == ["one"]


async def test_one_that_lets_nobody_in_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        before = found.running.current
        wrong = Incoming("local", keys=(LocalKey("ci", SecretRef(env="NOT_SET")),))
        with pytest.raises(NoEntrance):
            await found.running.adopt(found.next(touched=["a"], incoming=wrong, audit=AuditSpec(str(tmp_path / "log"))))
        with pytest.raises(AuditUnavailable):
            await found.running.adopt(found.next(incoming=Incoming(), audit=AuditSpec(str(tmp_path / "no" / "log"))))
        assert found.running.current is before
        assert (found.running._holdings._logs.all(), len(found.running._holdings.held())) == ([], 1)
        assert len(found.servers["a"].wires) == 1


async def test_a_house_that_closes_takes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        found.running.drain()
        with pytest.raises(NotReady, match="stopping"):
            await found.running.adopt(found.next(touched=["a"]))


async def test_a_house_that_closes_in_the_midst_of_it_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    slow = offering("late")
    slow.up.clear()
    async with place(monkeypatch, {"a": offering("one")}) as found:
        found.servers["slow"] = slow
        async with asyncio.TaskGroup() as group:
            adopting = group.create_task(found.running.adopt(found.next()))
            await until(lambda: slow.asked)
            adopting.cancel()
        await until(lambda: all(wire.closed for wire in slow.wires))
        await found.running.adopt(found.next(["a"], touched=["a"]))
    assert asyncio.all_tasks() == before


async def test_an_old_configuration_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        await found.running.adopt(found.next(touched=["a"]))
        old = weakref.ref(found.running.current)
        held = weakref.ref(found.running.current.held["a"])
        for _ in range(5):
            await found.running.adopt(found.next(touched=["a"]))
        await found.retired()
        await asyncio.sleep(0)
        found.servers["a"].wires.clear()
        found.servers["a"].asked.clear()
        gc.collect()
        assert old() is None
        assert held() is None
        assert len(found.running._holdings.held()) == 1


# --- clients


async def test_whoever_sees_something_else_is_told_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        place(monkeypatch, {"a": offering("one")}) as found,
        hearing(found.running, OLD) as (_, before),
        hearing(found.running, MODERN) as (_, modern),
    ):
        found.servers["b"] = offering("two")
        await found.running.adopt(found.next())
        await until(lambda: news(before) and news(modern))
        await found.running.adopt(found.next(touched=["b"]))
        await found.retired()
        assert news(before) == news(modern) == [CHANGED], "and not when the same is offered by another"


async def test_another_policy_counts_at_once_and_those_whom_it_may_concern_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        place(monkeypatch, {"a": offering("one", "two")}) as found,
        hearing(found.running, OLD) as (door, stream),
    ):
        assert (await door.call("two")).result
        only_one = 'permit(principal, action, resource == Tool::"one");'
        lists = 'permit(principal, action == Action::"list_tools", resource);'
        await found.running.adopt(found.next(authz=Authz((only_one, lists))))
        assert (await door.call("one")).result
        assert "Unknown tool" in (await door.call("two")).error["message"]
        assert [entry["name"] for entry in (await door.ask("tools/list")).result["tools"]] == ["one"]
        await until(lambda: CHANGED in news(stream))
        assert news(stream).count(CHANGED) == 1


async def test_sessions_stay_but_for_those_whose_endpoint_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one")}) as found:
        stays, goes = Door(found.running.app, OLD), Door(found.running.app, OLD, "/g/mcp")
        for door in (stays, goes):
            await door.initialize()
        given = found.next(touched=["a"])
        moved = replace(given, groups={"h": replace(given.groups["g"], name="h")}, group_ref="h")
        modern = {"toolsListChanged": True}
        raw, headers = Door(found.running.app).message("subscriptions/listen", {"notifications": modern}, 7)
        listen = Door(found.running.app, path="/g/mcp").begin("POST", None, raw, **headers)
        async with goes.listen().running() as stream, asyncio.TaskGroup() as group:
            group.create_task(listen.run())
            await until(lambda: stream.answer.chunks and listen.answer.chunks)
            await found.running.adopt(moved)
            assert (await stays.call("one")).result
            assert (await goes.call("one")).status == 404
            await found.retired()
        assert len(found.running._sessions) == 1
        assert listen.heard()[-1]["result"], "a subscription ends in order"


async def test_a_message_to_an_endpoint_that_is_gone_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a connection that is still open, as the calls of the old configuration have not ended."""
    hanging = offering("t")
    never = asyncio.Event()

    async def script(asked: Asked, notify: Notify) -> bytes:
        await never.wait()
        return said("at last")

    hanging.script = script
    async with (
        place(monkeypatch, {"a": hanging}) as found,
        listening(found.running.app, found.running.config) as port,
        connect(f"ws://localhost:{port.port}/g/ws", proxy=None) as wire,
        asyncio.TaskGroup() as group,
    ):
        call = Door(found.running.app).calling()
        group.create_task(call.run())
        await until(hanging.calls)
        given = found.next()
        await found.running.adopt(replace(given, groups={"h": replace(given.groups["g"], name="h")}, group_ref="h"))
        await wire.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
        async with asyncio.timeout(5):
            assert "not served any more" in str(await wire.recv())
        never.set()
        async with asyncio.timeout(5):
            await wire.wait_closed()


async def test_subscriptions_go_over_to_who_stands_in_the_place_of_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Server(OLD, tools=[tool("t")], capabilities={"tools": {}, "resources": {"subscribe": True}})
    first.resources = [{"uri": "r://one", "name": "one"}]

    async def script(asked: Asked, notify: Notify) -> bytes:
        return b"{}"

    first.script = script
    async with place(monkeypatch, {"a": first}) as found, hearing(found.running, OLD, "r://one") as (door, stream):
        await found.running.adopt(found.next(touched=["a"]))
        await until(lambda: UPDATED in news(stream))
        await until(lambda: len(subscribed(first)) == 2)
        await found.retired()
        first.say(UPDATED, {"uri": "r://one"}, subscribed(first)[-1])
        await until(lambda: news(stream).count(UPDATED) == 2)
        assert (await door.ask("resources/unsubscribe", {"uri": "r://one"})).result == {}
        await found.running.adopt(found.next([], touched=[]))


async def test_nobody_listens_to_a_backend_that_has_been_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Server(OLD, tools=[tool("t")], capabilities={"tools": {}, "resources": {"subscribe": True}})
    first.resources = [{"uri": "r://one", "name": "one"}]
    never = asyncio.Event()

    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.method == "tools/call":
            await never.wait()
            return said("at last", OLD)
        return b"{}"

    first.script = script
    async with (
        place(monkeypatch, {"a": first}, isolation="shared") as found,
        hearing(found.running, OLD, "r://one") as (door, stream),
        asyncio.TaskGroup() as group,
    ):
        call = door.calling()
        group.create_task(call.run())
        await until(lambda: any(one.method == "tools/call" for one in first.calls()))
        await found.running.adopt(found.next(touched=["a"]))
        await until(lambda: UPDATED in news(stream))
        await until(lambda: len(subscribed(first)) == 2)
        before, after = subscribed(first)
        first.say(UPDATED, {"uri": "r://one"}, before)
        for _ in range(50):
            await asyncio.sleep(0)
        assert news(stream).count(UPDATED) == 1
        first.say(UPDATED, {"uri": "r://one"}, after)
        await until(lambda: news(stream).count(UPDATED) == 2)
        never.set()


def subscribed(server: Server) -> list[int]:
    """On which of its connections somebody subscribed."""
    return [one.wire.number for one in server.calls() if one.method == "resources/subscribe"]


# --- who may come in


async def test_whoever_lost_his_key_loses_what_he_had_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "LINGER", 60.0)
    async with (
        place(monkeypatch, {"a": offering("one")}, incoming=LOCAL) as found,
        listening(found.running.app, found.running.config) as port,
        connect(f"ws://localhost:{port.port}/ws", additional_headers=shown("ada"), proxy=None) as ada,
        connect(f"ws://localhost:{port.port}/ws", additional_headers=shown("bob"), proxy=None) as bob,
    ):
        door = Door(found.running.app, OLD)
        initialize = {"protocolVersion": str(OLD), "capabilities": {}}
        raw, _ = door.message("initialize", initialize, 0)
        answer = await door.post(raw, authorization="Bearer key-of-ada")
        door.session = answer.headers["mcp-session-id"]
        async with door.listen(authorization="Bearer key-of-ada").running() as stream:
            await until(lambda: stream.answer.chunks)
            await found.running.adopt(found.next(incoming=Incoming("local", keys=(key("bob"), key("eve")))))
            async with asyncio.timeout(5):
                await ada.wait_closed()
            assert ada.close_code == 1008
            await until(lambda: not len(found.running._guests) - 1)
        assert (await door.ask("ping", authorization="Bearer key-of-ada")).status == 401
        await bob.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
        async with asyncio.timeout(5):
            assert "result" in str(await bob.recv())
        rotated = LocalKey("bob", key("another").sha256)
        await found.running.adopt(found.next(incoming=Incoming("local", keys=(rotated,))))
        async with asyncio.timeout(5):
            await bob.wait_closed()


async def test_what_is_known_of_tokens_is_kept_unless_something_new_is_said_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with place(monkeypatch, {"a": offering("one")}, incoming=LOCAL) as found:
        proofs = found.running.current.proofs
        await found.running.adopt(found.next(touched=["a"]))
        assert found.running.current.proofs is proofs
        await found.running.adopt(found.next(incoming=replace(LOCAL, os_user=True)))
        assert found.running.current.proofs is not proofs
        await found.retired()
        assert found.running._holdings._proofs.all() == [found.running.current.proofs]


async def test_an_issuer_that_is_told_something_new_of_puts_its_people_out(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Issuer("https://one", "a"), Issuer("https://two", "a")
    async with place(monkeypatch, {}, incoming=Incoming("oidc", issuers=(one, two))) as found:
        before = found.running.current.proofs
        who = {each.issuer: runtime.Identity(each.issuer, "ada", token="t") for each in (one, two)}
        changed = Incoming("oidc", issuers=(one, replace(two, audience="b")))
        await found.running.adopt(found.next([], incoming=changed))
        assert found.running._welcome("/mcp", who["https://one"])
        assert not found.running._welcome("/mcp", who["https://two"])
        assert not found.running._welcome("/gone/mcp", who["https://one"])
        await found.running.adopt(found.next([], incoming=Incoming()))
        assert not found.running._welcome("/mcp", who["https://one"])
        assert found.running._welcome("", None)
        assert found.running.current.proofs is not before


# --- limits, listener, log


async def test_who_has_used_up_a_rate_gets_no_new_one_by_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RateLimits(per_user=Bucket(2, 3600.0))
    async with place(monkeypatch, {"a": offering("one")}, rate_limits=limits) as found:
        door = Door(found.running.app)
        assert ["error" in (await door.call("one")).message for _ in range(3)] == [False, False, True]
        await found.running.adopt(found.next(touched=["a"]))
        assert "too often" in (await door.call("one")).error["message"]
        await found.running.adopt(found.next(rate_limits=RateLimits(per_user=Bucket(3, 3600.0))))
        assert (await door.call("one")).result


async def test_what_needs_a_restart_is_named_and_the_rest_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(monkeypatch, {"a": offering("one", "two")}) as found:
        server = ServerSpec(port=1, limits=replace(Limits(), page_size=1), public_url="https://gw.example.com")
        done = await found.running.adopt(found.next(server=server))
        assert done.restart == (("server", "port"), ("server", "limits", "pageSize"))
        assert len(await names(found.running)) == 2
        answer = await Door(found.running.app).http("GET", "/livez", host="gw.example.com")
        assert answer.status == 200


async def test_the_audit_log_moves_and_nothing_is_recorded_twice_or_never(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    async with place(monkeypatch, {"a": offering("one")}, audit=AuditSpec(str(first))) as found:
        door = Guest(found.running.app, OLD)
        await door.initialize()
        async with door.listen().running() as stream:
            await until(lambda: stream.answer.chunks)
            await door.call("one")
            await found.running.adopt(found.next(audit=AuditSpec(str(first), component="renamed")))
            await door.call("one")
            await found.running.adopt(found.next(audit=AuditSpec(str(second))))
            found.running.recorded("success", {"cause": "test"})
            await door.call("one")
            await found.retired()
            await door.call("one")
        await found.running.adopt(found.next(audit=None))
        await door.call("one")
        await found.retired()
    kinds = {path: [record["type"] for record in told(path)] for path in (first, second)}
    assert kinds[first] == ["mcp_initialize", "sse_connection", "mcp_tool_call", "mcp_tool_call"]
    assert kinds[second] == ["config_reload", "mcp_tool_call", "mcp_tool_call", "sse_connection"]
    assert [record["component"] for record in told(first)] == ["vmcp", "vmcp", "vmcp", "renamed"]


def told(path: Path) -> list[dict[str, Any]]:
    """The events of a log, whose chain is whole."""
    proof = Proof(None)
    proof.read("log", path.read_bytes().splitlines(keepends=True))
    proof.end("log")
    assert proof.faults == []
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [event for event in found if not event["type"].startswith("audit_")]
