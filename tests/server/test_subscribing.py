"""Changes on their whole way, from a backend of either era to clients of either era; and how they end with the house.

Rule: a backend says that something changed only when a test lets it, and a client reads what came on its own stream.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.server.clients import Door, Exchanged
from tests.server.peers import Asked, Json, MemoryWire, Notify, Server, house, text, tool, until
from vmcp.errors import SessionLost
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN, Revision
from vmcp.routing.table import RoutingTable
from vmcp.server.runtime import Runtime
from vmcp.upstream.wire import Answer, Headers, OnMessage, Outgoing

ERAS = [LATEST_HANDSHAKE, MODERN]
TAG = "io.modelcontextprotocol/subscriptionId"
UPDATED = "notifications/resources/updated"
CHANGED = "notifications/tools/list_changed"
DECLARED = {"tools": {"listChanged": True}, "resources": {"subscribe": True, "listChanged": True}}


class Changing:
    """A backend whose tools and resources change. ``subscribed`` are the URIs that it was asked to watch and not to leave."""

    def __init__(self, revision: Revision) -> None:
        resources = [{"name": "r", "uri": "r://one"}]
        self.server = Server(
            revision, tools=[tool("t")], resources=resources, capabilities=DECLARED, script=self._script, two_way=True
        )
        self.subscribed: list[str] = []
        self._listeners: list[Notify] = []

    async def _script(self, asked: Asked, notify: Notify) -> bytes:
        if asked.method == "resources/subscribe":
            self.subscribed.append(asked.params["uri"])
        elif asked.method == "resources/unsubscribe":
            self.subscribed.remove(asked.params["uri"])
        elif asked.method == "subscriptions/listen":
            await self._listen(asked.params["notifications"], notify)
        return text({})

    async def _listen(self, wanted: Json, notify: Notify) -> None:
        uris = wanted.get("resourceSubscriptions", [])
        self._listeners.append(notify)
        self.subscribed.extend(uris)
        try:
            await notify("notifications/subscriptions/acknowledged", {"notifications": wanted})
            await asyncio.Event().wait()
        finally:
            self._listeners.remove(notify)
            for uri in uris:
                self.subscribed.remove(uri)

    async def say(self, method: str, **params: Any) -> None:
        if self.server.revision.modern:
            for notify in list(self._listeners):
                await notify(method, params)
        else:
            self.server.say(method, params)

    async def offer(self, *tools: str) -> None:
        self.server.tools = [tool(name) for name in tools]
        await self.say(CHANGED)

    def go_away(self) -> None:
        wire = self.server.wires[-1]
        assert wire.on_gone is not None
        wire.on_gone()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.upstream.control.CALM", 0.001)
    for module in ("control", "keeper", "links"):
        monkeypatch.setattr(f"vmcp.upstream.{module}.backoff", lambda attempt, jitter: 0.001)


@contextlib.asynccontextmanager
async def hearing(running: Runtime, revision: Revision, *uris: str) -> AsyncIterator[tuple[Door, Exchanged]]:
    """A client that listens to changes of tools, and of ``uris``."""
    door = Door(running.app, revision)
    await door.initialize()
    if revision.modern:
        wanted = {"toolsListChanged": True, "resourceSubscriptions": list(uris)}
        raw, headers = door.message("subscriptions/listen", {"notifications": wanted}, 7)
        stream = door.begin("POST", None, raw, **headers)
    else:
        stream = door.listen()
    async with stream.running():
        await until(lambda: stream.answer.chunks)
        if not revision.modern:
            for uri in uris:
                assert (await door.ask("resources/subscribe", {"uri": uri})).result == {}
        yield door, stream


def news(stream: Exchanged) -> list[str]:
    """What was told, but for the acknowledgement."""
    methods = [message.get("method", "result") for message in stream.heard()]
    return [method for method in methods if not method.endswith("/acknowledged")]


@pytest.mark.parametrize("backend", ERAS)
@pytest.mark.parametrize("client", ERAS)
async def test_a_change_reaches_who_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, client: Revision, backend: Revision
) -> None:
    changing = Changing(backend)
    async with (
        house(monkeypatch, {"b": changing.server}) as running,
        hearing(running, client, "r://one") as (door, stream),
    ):
        assert changing.subscribed == ["r://one"]
        await changing.say(UPDATED, uri="r://one/part")
        await until(lambda: news(stream))
        await changing.offer("t", "u")
        await until(lambda: len(news(stream)) == 2)
        assert news(stream) == [UPDATED, CHANGED]
        update = next(message for message in stream.heard() if message["method"] == UPDATED)
        assert update["params"]["uri"] == "r://one/part"
        assert update["params"].get("_meta") == ({TAG: 7} if client.modern else None)
        assert [entry["name"] for entry in (await door.ask("tools/list")).result["tools"]] == ["t", "u"]
        await changing.say(CHANGED)
        await changing.say(UPDATED, uri="r://other")
        await changing.say(UPDATED, uri="r://one")
        await until(lambda: len(news(stream)) == 3)
        assert news(stream)[2] == UPDATED, "what was said to change and did not is told to nobody"


@pytest.mark.parametrize("backend", ERAS)
@pytest.mark.parametrize("client", ERAS)
async def test_who_leaves_leaves_no_subscription(
    monkeypatch: pytest.MonkeyPatch, client: Revision, backend: Revision
) -> None:
    changing = Changing(backend)
    async with house(monkeypatch, {"b": changing.server}) as running:
        async with hearing(running, client, "r://one") as (door, _):
            assert changing.subscribed == ["r://one"]
            if not client.modern:
                assert (await door.http("DELETE")).status == 204
        await until(lambda: not changing.subscribed)


@pytest.mark.parametrize("backend", ERAS)
async def test_an_outage_changes_no_list_and_subscriptions_come_back(
    monkeypatch: pytest.MonkeyPatch, backend: Revision
) -> None:
    changing = Changing(backend)
    async with (
        house(monkeypatch, {"b": changing.server}) as running,
        hearing(running, LATEST_HANDSHAKE, "r://one") as (door, stream),
    ):
        table = running.table
        changing.server.up.clear()
        changing.subscribed.clear()
        changing._listeners.clear()
        changing.go_away()
        await until(lambda: running.backends["b"].status.state == "down")
        assert [entry["name"] for entry in (await door.ask("tools/list")).result["tools"]] == ["t"]
        changing.server.up.set()
        await until(lambda: changing.subscribed == ["r://one"])
        await until(lambda: running.backends["b"].status.state == "up")
        await until(lambda: UPDATED in news(stream))
        assert news(stream) == [UPDATED], "it may have changed while nobody could tell"
        assert running.table is table


async def test_a_new_table_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    changing = Changing(LATEST_HANDSHAKE)
    async with house(monkeypatch, {"b": changing.server}) as running:
        swaps: list[tuple[RoutingTable, RoutingTable]] = []
        monkeypatch.setattr(running.hub, "changed", lambda old, new: swaps.append((old, new)))
        before = running.table
        await changing.offer("t", "u")
        await until(lambda: swaps)
        await asyncio.sleep(0)
        assert swaps == [(before, running.table)]


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("asked", [True, False])
async def test_streams_end_in_order_before_backends_are_left(
    monkeypatch: pytest.MonkeyPatch, client: Revision, asked: bool
) -> None:
    """``asked``: a signal came first, as it does when the server is told to stop."""
    changing = Changing(MODERN)
    async with contextlib.AsyncExitStack() as streams:
        async with house(monkeypatch, {"b": changing.server}) as running:
            _, stream = await streams.enter_async_context(hearing(running, client))
            if asked:
                running.drain()
                await until(lambda: ended(stream))
                assert not any(wire.closed for wire in changing.server.wires)
                assert not running.readiness()[0]
        await until(lambda: ended(stream))
        assert news(stream) == (["result"] if client.modern else [])
        if client.modern:
            assert stream.heard()[-1]["result"]["_meta"][TAG] == 7


def ended(stream: Exchanged) -> bool:
    """Whether the response is complete."""
    last = stream.answer.chunks[-1]
    return b'"result"' in last or last == b""


async def test_a_subscription_is_of_its_own_session(monkeypatch: pytest.MonkeyPatch) -> None:
    changing = Changing(LATEST_HANDSHAKE)
    async with (
        house(monkeypatch, {"b": changing.server}) as running,
        hearing(running, LATEST_HANDSHAKE, "r://one") as (door, mine),
        hearing(running, LATEST_HANDSHAKE) as (_, theirs),
    ):
        await changing.say(UPDATED, uri="r://one")
        await until(lambda: news(mine))
        assert (await door.ask("resources/unsubscribe", {"uri": "r://one"})).result == {}
        await until(lambda: not changing.subscribed)
        await changing.say(UPDATED, uri="r://one")
        await changing.offer("u")
        await until(lambda: news(theirs))
        assert news(mine) == [UPDATED, CHANGED]
        assert news(theirs) == [CHANGED]
        unknown = await door.ask("resources/subscribe", {"uri": "x://unknown"})
        assert unknown.error["code"] == -32002


async def test_each_era_has_its_own_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"b": Changing(MODERN).server}) as running:
        modern, older = Door(running.app, MODERN), Door(running.app, LATEST_HANDSHAKE)
        await older.initialize()
        assert (await older.ask("subscriptions/listen", {"notifications": {}})).error["code"] == -32601
        for verb in ("resources/subscribe", "resources/unsubscribe"):
            answer = await modern.ask(verb, {"uri": "r://one"})
            assert (answer.status, answer.error["code"]) == (404, -32601)


# --- sessions with connections of their own


async def test_a_session_subscribes_over_its_own_connection_and_does_so_again_when_that_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changing = Changing(LATEST_HANDSHAKE)
    server = changing.server
    async with house(monkeypatch, {"b": server}, isolation="session") as running:
        async with (
            hearing(running, LATEST_HANDSHAKE, "r://one") as (door, mine),
            hearing(running, MODERN, "r://one") as (_, theirs),
        ):
            assert changing.subscribed == ["r://one", "r://one"]
            server.say(UPDATED, {"uri": "r://one"}, 1)
            await until(lambda: news(mine))
            server.say(UPDATED, {"uri": "r://one"}, 0)
            server.say(UPDATED, {"uri": "r://one"}, 2)
            await until(lambda: news(theirs))
            assert news(mine) == news(theirs) == [UPDATED], "and what the control link hears is nobody's"
            changing.subscribed.clear()
            lost = server.wires[1].on_gone
            assert lost is not None
            lost()
            await until(lambda: changing.subscribed == ["r://one"])
            await until(lambda: len(news(mine)) == 2)
            server.say(UPDATED, {"uri": "r://one/x"}, 3)
            await until(lambda: len(news(mine)) == 3)
            assert news(theirs) == [UPDATED]
            assert (await door.http("DELETE")).status == 204
            await until(lambda: len(running.backends["b"]._links) == 1)
        assert len(server.wires) == 4


async def test_a_session_that_the_backend_forgot_is_begun_anew_for_who_subscribed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changing = Changing(LATEST_HANDSHAKE)
    forgotten = asyncio.Event()

    async def hear(wire: MemoryWire, headers: Headers) -> bool:
        if wire.number != 1:
            return False
        await forgotten.wait()
        raise SessionLost("gone")

    async def exchange(wire: MemoryWire, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        if forgotten.is_set() and wire.number == 1:
            raise SessionLost("gone")
        return await answered(wire, request, on_message, deadline)

    answered = MemoryWire.exchange
    monkeypatch.setattr(MemoryWire, "hear", hear)
    monkeypatch.setattr(MemoryWire, "exchange", exchange)
    async with (
        house(monkeypatch, {"b": changing.server}, isolation="session") as running,
        hearing(running, LATEST_HANDSHAKE, "r://one") as (_, stream),
    ):
        forgotten.set()
        await until(lambda: changing.subscribed == ["r://one", "r://one"])
        await until(lambda: news(stream))
        assert len(changing.server.wires) == 3
