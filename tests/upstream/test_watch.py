"""What is wanted of a backend and what it says of its own accord, on connections of both eras.

Rule: a connection is scripted by hand: it remembers what it was asked, and says nothing that a test did not make it say.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from msgspec import Raw

from tests.server.peers import until
from vmcp.errors import Code, McpError, Overdue, SessionLost, Unavailable, VmcpError, WireError
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN, Revision
from vmcp.tasks import Nest
from vmcp.upstream import keeper
from vmcp.upstream.ask import Ask
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.link import Facts, Link
from vmcp.upstream.watch import TASKS, URIS, Watch

Json = dict[str, Any]
LISTS = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}


@dataclass
class Listen:
    """One ``subscriptions/listen`` as the backend has it."""

    ask: Ask
    over: "asyncio.Future[Raw]"
    closed: bool = False

    @property
    def filter(self) -> Json:
        return cast(Json, self.ask.params["notifications"])

    def say(self, method: str, params: Json) -> None:
        assert self.ask.on_event is not None
        self.ask.on_event(method, Raw(json.dumps(params).encode()))

    def agree(self, **subset: Any) -> None:
        self.say("notifications/subscriptions/acknowledged", {"notifications": subset})

    def agree_to_all(self) -> None:
        self.agree(**self.filter)


@dataclass
class Peer:
    """A greeted connection. ``refusals`` are by URI or method; ``hearing`` are the ends of its standing streams, in order."""

    revision: Revision = LATEST_HANDSHAKE
    capabilities: Json = field(default_factory=lambda: LISTS)
    refusals: dict[str, VmcpError] = field(default_factory=dict)
    hearing: "asyncio.Queue[bool | VmcpError]" = field(default_factory=asyncio.Queue)
    asked: list[tuple[str, str]] = field(default_factory=list)
    listens: list[Listen] = field(default_factory=list)
    heard: int = 0
    silent: bool = False

    @property
    def facts(self) -> Facts:
        return Facts(self.revision, self.capabilities, session=b"s")

    @property
    def open(self) -> list[Listen]:
        return [listen for listen in self.listens if not listen.closed]

    async def request(self, ask: Ask) -> Raw:
        if ask.method == "subscriptions/listen":
            return await self._listen(ask)
        self.asked.append((ask.method.removeprefix("resources/"), ask.params["uri"]))
        if self.silent:
            await asyncio.Event().wait()
        refused = self.refusals.get(ask.params["uri"])
        if refused is not None:
            raise refused
        return Raw(b"{}")

    async def _listen(self, ask: Ask) -> Raw:
        wanted = ask.params["notifications"]
        names = [*wanted.get(URIS, ()), "listen"]
        for name in names:
            if name in self.refusals:
                self.asked.append(("listen", name))
                raise self.refusals[name]
        listen = Listen(ask, asyncio.get_running_loop().create_future())
        self.listens.append(listen)
        try:
            return await listen.over
        finally:
            listen.closed = True

    async def hear(self) -> bool:
        self.heard += 1
        end = await self.hearing.get()
        if isinstance(end, VmcpError):
            raise end
        return end


@dataclass
class Rig:
    watch: Watch
    events: list[tuple[str, Json]]
    nest: Nest

    def attach(self, peer: Peer) -> Peer:
        self.watch.attach(cast(Link, peer))
        return peer

    def want(self, name: str, kind: str = URIS) -> "Wanting":
        return Wanting(self.nest, self.watch.want(name, kind))

    @property
    def methods(self) -> list[str]:
        return [method.removeprefix("notifications/") for method, _ in self.events]


class Wanting:
    """A ``want`` under way."""

    def __init__(self, nest: Nest, work: Awaitable[None]) -> None:
        self.done = False
        self.refused: McpError | None = None
        self.task = nest.start(self._run(work), "want")

    async def _run(self, work: Awaitable[None]) -> None:
        try:
            await work
        except McpError as refused:
            self.refused = refused
        self.done = True

    async def over(self) -> McpError | None:
        await until(lambda: self.done)
        return self.refused


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(keeper, "backoff", lambda attempt, jitter: 0.001)
    events: list[tuple[str, Json]] = []
    async with Nest("test") as nest:
        made = Watch("b", nest, lambda method, params: events.append((method, json.loads(bytes(params)))))
        yield Rig(made, events, nest)
        made.detach()


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- before 2026-07-28


async def test_a_resource_is_subscribed_to_once_and_left_once(rig: Rig) -> None:
    peer = rig.attach(Peer())
    assert await rig.want("r://a").over() is None
    assert await rig.want("r://a").over() is None
    rig.watch.unwant("r://a")
    rig.watch.unwant("r://a")
    await until(lambda: len(peer.asked) == 2)
    await turns()
    assert peer.asked == [("subscribe", "r://a"), ("unsubscribe", "r://a")]
    assert rig.events == []


async def test_what_changes_its_mind_quickly_ends_as_it_was_wanted_last(rig: Rig) -> None:
    peer = rig.attach(Peer())
    await rig.want("r://a").over()
    rig.watch.unwant("r://a")
    await rig.watch.want("r://a")
    await turns()
    assert peer.asked == [("subscribe", "r://a")], "it never was unsubscribed"
    rig.watch.unwant("r://a")
    assert await rig.want("r://a").over() is None
    assert [verb for verb, _ in peer.asked] == ["subscribe", "unsubscribe", "subscribe"]


async def test_a_refusal_is_handed_on_and_not_repeated_by_itself(rig: Rig) -> None:
    peer = rig.attach(Peer(refusals={"r://no": McpError(-32002, "no such thing")}))
    refused = await rig.want("r://no").over()
    assert refused is not None
    assert refused.code == -32002
    await rig.want("r://a").over()
    assert peer.asked == [("subscribe", "r://no"), ("subscribe", "r://a")]
    peer.refusals.clear()
    assert await rig.want("r://no").over() is None, "but who asks again is asked for again"


async def test_what_failed_in_passing_is_tried_again_while_it_is_wanted(rig: Rig) -> None:
    peer = rig.attach(Peer(refusals={"r://a": Unavailable("b", "busy")}))
    assert isinstance(await rig.want("r://a").over(), Unavailable)
    peer.refusals.clear()
    await until(lambda: ("notifications/resources/updated", {"uri": "r://a"}) in rig.events)
    assert await rig.want("r://a").over() is None


async def test_without_a_connection_nothing_is_promised(rig: Rig) -> None:
    with pytest.raises(Unavailable, match="not connected"):
        await rig.watch.want("r://a")
    rig.watch.unwant("r://a")
    peer = rig.attach(Peer(silent=True))
    wanting = rig.want("r://b")
    await until(lambda: ("subscribe", "r://b") in peer.asked)
    rig.watch.detach()
    assert isinstance(await wanting.over(), Unavailable)


async def test_a_backend_that_does_not_answer_is_waited_for_so_long(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "ANSWER", 0.01)
    rig.attach(Peer(silent=True))
    assert isinstance(await rig.want("r://a").over(), Overdue)


async def test_a_new_connection_gets_all_subscriptions_and_what_may_have_changed_is_told(rig: Rig) -> None:
    rig.attach(Peer())
    await rig.want("r://a").over()
    await rig.want("r://b").over()
    rig.watch.detach()
    rig.watch.unwant("r://b")
    fresh = rig.attach(Peer())
    await until(lambda: rig.events)
    assert fresh.asked == [("subscribe", "r://a")]
    assert rig.events == [("notifications/resources/updated", {"uri": "r://a"})]


async def test_many_subscriptions_are_taken_up_a_few_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "AT_ONCE", 2)
    names = [f"r://{n}" for n in range(5)]
    for name in names:
        with contextlib.suppress(Unavailable):
            await rig.watch.want(name)
    fresh = rig.attach(Peer())
    await until(lambda: len(rig.events) == 5)
    assert [uri for _, uri in fresh.asked] == names


async def test_a_standing_stream_that_ends_is_opened_again_and_the_gap_is_told(rig: Rig) -> None:
    peer = rig.attach(Peer())
    await rig.want("r://a").over()
    for end in (True, Unavailable("b", "cut"), HttpRefused("b", "busy", 503), WireError("noise"), False):
        peer.hearing.put_nowait(end)
    await until(lambda: peer.heard == 5)
    await turns()
    assert rig.methods == ["tools/list_changed", "resources/updated"] * 4


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (False, []),
        (HttpRefused("b", "no", 406), []),
        (Unavailable("b", "it sent a page", Code.PROTOCOL_ERROR), []),
        (HttpRefused("b", "no", 404), ["tools/list_changed"]),
        (SessionLost("gone"), ["tools/list_changed"]),
    ],
)
async def test_where_there_is_no_standing_stream_that_is_that(rig: Rig, end: bool | VmcpError, told: list[str]) -> None:
    peer = rig.attach(Peer())
    peer.hearing.put_nowait(end)
    assert await rig.want("r://a").over() is None
    await turns()
    assert peer.heard == 1
    assert rig.methods == told, "a lost session shows when the lists are asked for"


async def test_a_session_lost_over_a_subscription_shows_when_lists_are_asked_for(rig: Rig) -> None:
    rig.attach(Peer(refusals={"r://a": SessionLost("gone")}))
    assert isinstance(await rig.want("r://a").over(), Unavailable)
    assert "tools/list_changed" in rig.methods


async def test_tasks_cannot_be_watched_there(rig: Rig) -> None:
    peer = rig.attach(Peer())
    refused = await rig.want("t-1", TASKS).over()
    assert refused is not None
    assert refused.code == -32601
    assert peer.asked == []


# --- since 2026-07-28


def modern(**more: Any) -> Peer:
    return Peer(MODERN, **more)


async def opened(peer: Peer, count: int) -> Listen:
    """The last of so many streams, once it is there."""
    await until(lambda: len(peer.listens) >= count)
    return peer.listens[-1]


async def test_changes_of_lists_are_listened_to_where_they_are_declared(rig: Rig) -> None:
    stream = await opened(rig.attach(modern()), 1)
    assert stream.filter == {"toolsListChanged": True}
    assert stream.ask.lasting
    stream.agree_to_all()
    stream.say("notifications/tools/list_changed", {})
    assert rig.methods == ["tools/list_changed"]


async def test_nothing_is_listened_to_where_there_is_nothing_to_hear(rig: Rig) -> None:
    peer = rig.attach(modern(capabilities={"tools": {}, "prompts": True}))
    await turns()
    assert peer.listens == []
    wanting = rig.want("r://a")
    (await opened(peer, 1)).agree_to_all()
    assert await wanting.over() is None
    rig.watch.unwant("r://a")
    await until(lambda: not peer.open)
    assert len(peer.listens) == 1


async def test_the_old_stream_is_left_only_when_the_new_one_is_acknowledged(rig: Rig) -> None:
    peer = rig.attach(modern())
    (await opened(peer, 1)).agree_to_all()
    wanting = rig.want("r://a")
    second = await opened(peer, 2)
    assert second.filter == {"toolsListChanged": True, URIS: ["r://a"]}
    await turns()
    assert len(peer.open) == 2
    assert not wanting.done
    second.agree_to_all()
    assert await wanting.over() is None
    await until(lambda: peer.open == [second])
    second.say("notifications/resources/updated", {"uri": "r://a"})
    assert rig.events == [("notifications/resources/updated", {"uri": "r://a"})]
    rig.watch.unwant("r://a")
    third = await opened(peer, 3)
    assert third.filter == {"toolsListChanged": True}


async def test_what_the_backend_does_not_honour_is_refused(rig: Rig) -> None:
    peer = rig.attach(modern(capabilities={}))
    wanting = [rig.want(uri) for uri in ("r://a", "r://b")]
    (await opened(peer, 1)).agree(resourceSubscriptions=["r://a"])
    assert [await one.over() is None for one in wanting] == [True, False]
    assert await rig.want("r://a").over() is None
    assert len(peer.listens) == 1


@pytest.mark.parametrize(
    "params", ["[]", "{}", '{"notifications":3}', '{"notifications":{"resourceSubscriptions":"r://a"}}']
)
async def test_an_acknowledgement_of_nothing_promises_nothing(rig: Rig, params: str) -> None:
    peer = rig.attach(modern(capabilities={}))
    wanting = rig.want("r://a")
    (await opened(peer, 1)).say("notifications/subscriptions/acknowledged", json.loads(params))
    refused = await wanting.over()
    assert refused is not None
    assert refused.code == -32602


async def test_one_that_is_unknown_does_not_take_the_others_along(rig: Rig) -> None:
    peer = rig.attach(modern(refusals={"r://no": McpError(-32602, "unknown")}))
    (await opened(peer, 1)).agree_to_all()
    wanting = {uri: rig.want(uri) for uri in ("r://a", "r://no", "r://b")}
    (await opened(peer, 2)).agree_to_all()
    (await opened(peer, 3)).agree_to_all()
    refused = [uri for uri, one in wanting.items() if await one.over() is not None]
    assert refused == ["r://no"]
    assert [listen.filter for listen in peer.open] == [{"toolsListChanged": True, URIS: ["r://a", "r://b"]}]


async def test_lists_are_heard_though_a_subscription_is_refused(rig: Rig) -> None:
    with contextlib.suppress(Unavailable):
        await rig.watch.want("r://no")
    peer = rig.attach(modern(refusals={"r://no": McpError(-32602, "unknown")}))
    assert (await opened(peer, 1)).filter == {"toolsListChanged": True}


async def test_a_backend_without_listen_is_left_alone(rig: Rig) -> None:
    peer = rig.attach(modern(refusals={"listen": McpError(-32601, "Method not found")}))
    await until(lambda: peer.asked)
    refused = await rig.want("r://a").over()
    assert refused is not None
    assert refused.code == -32601
    rig.watch.unwant("r://a")
    await turns()
    asked = len(peer.asked)
    await turns()
    assert len(peer.asked) == asked, "and is not asked again and again"


@pytest.mark.parametrize("how", ["result", "error", "cancelled"])
async def test_a_stream_that_ends_is_opened_again_and_the_gap_is_told(rig: Rig, how: str) -> None:
    peer = rig.attach(modern())
    (await opened(peer, 1)).agree_to_all()
    wanting = rig.want("r://a")
    first = await opened(peer, 2)
    first.agree_to_all()
    await wanting.over()
    if how == "result":
        first.over.set_result(Raw(b"{}"))
    elif how == "error":
        first.over.set_exception(Unavailable("b", "cut"))
    else:
        first.say("notifications/cancelled", {"requestId": 1})
    second = await opened(peer, 3)
    assert second.filter == first.filter
    assert rig.events == []
    second.agree_to_all()
    await until(lambda: len(rig.events) == 2)
    assert rig.methods == ["tools/list_changed", "resources/updated"]
    assert peer.open == [second]


async def test_a_stream_that_is_never_acknowledged_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "ANSWER", 0.01)
    peer = rig.attach(modern())
    first = await opened(peer, 1)
    (await opened(peer, 2)).agree_to_all()
    assert first.closed


async def test_tasks_are_watched_by_who_declares_them(rig: Rig) -> None:
    peer = rig.attach(modern(capabilities={}))
    wanting = rig.want("t-1", TASKS)
    stream = await opened(peer, 1)
    assert stream.filter == {TASKS: ["t-1"]}
    assert b"io.modelcontextprotocol/tasks" in stream.ask.capabilities
    stream.agree_to_all()
    assert await wanting.over() is None


async def test_nothing_is_left_when_the_connection_goes(rig: Rig) -> None:
    peer = rig.attach(modern())
    (await opened(peer, 1)).agree_to_all()
    waiting = rig.want("r://a")
    await opened(peer, 2)
    rig.watch.detach()
    assert isinstance(await waiting.over(), Unavailable)
    await until(lambda: not peer.open)


async def test_a_stream_that_ends_as_it_is_acknowledged_counts_as_ended(rig: Rig) -> None:
    peer = rig.attach(modern())
    first = await opened(peer, 1)
    first.agree_to_all()
    first.say("notifications/cancelled", {"requestId": 1})
    (await opened(peer, 2)).agree_to_all()
    assert first.closed
    assert await settled(peer, 2)


async def settled(peer: Peer, count: int) -> bool:
    """Whether nothing more is opened."""
    await turns()
    return len(peer.listens) == count


async def test_who_gives_up_waiting_is_forgotten(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "AT_ONCE", 1)
    peer = rig.attach(Peer(silent=True))
    rig.want("r://a")
    waiting = rig.want("r://b")
    await until(lambda: peer.asked)
    rig.watch.unwant("r://b")
    assert isinstance(await waiting.over(), Unavailable)
    assert peer.asked == [("subscribe", "r://a")]
