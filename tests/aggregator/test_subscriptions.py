"""Who hears what, and what backends are asked for it.

Rule: backends are journals of what was wanted of them; what they say is said by the test.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from msgspec import Raw

from tests.middleware.calls import call as some_call
from tests.routing.catalogs import catalog, config
from tests.server.peers import until
from vmcp.aggregator import listening, subscriptions
from vmcp.aggregator.subscriptions import Hub
from vmcp.call import Call, Complete, Peer
from vmcp.config.model import Config
from vmcp.errors import McpError, Unavailable
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN
from vmcp.routing.build import build
from vmcp.routing.table import RoutingTable
from vmcp.tasks import Nest
from vmcp.upstream.links import Key
from vmcp.upstream.watch import URIS, Watch

Json = dict[str, Any]
TAG = "io.modelcontextprotocol/subscriptionId"
CONFIG: Config = config(["a", "b"])
OFFERS = {
    "a": catalog("a", tools=["t"], resources=["r://dir", "r://other"], templates=["r://{+x}"]),
    "b": catalog("b", prompts=["p"], resources=["s://one", "s://no"]),
}
TABLE = build(1, CONFIG, OFFERS)
UPDATED = "notifications/resources/updated"


@dataclass
class Wanted:
    """What a backend is asked for; see ``Watch``."""

    refusals: dict[str, McpError] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    slow: asyncio.Event | None = None

    async def want(self, name: str, kind: str = URIS) -> None:
        self.journal.append(f"+{name}")
        if self.slow is not None:
            await self.slow.wait()
        if name in self.refusals:
            raise self.refusals[name]

    def unwant(self, name: str, kind: str = URIS) -> None:
        self.journal.append(f"-{name}")


@dataclass
class Backend:
    """``private`` are the sessions that have connections of their own, and what is wanted there (None: closed meanwhile)."""

    wanted: Wanted
    private: dict[str, Wanted | None] = field(default_factory=dict)
    on_source: Callable[[], None] = lambda: None

    async def source(self, call: Call) -> Key | None:
        self.on_source()
        return Key("session", call.peer.session) if call.peer.session in self.private else None

    def watch_of(self, source: Key | None) -> Watch | None:
        return cast(Watch, self.wanted if source is None else self.private[source.text])


@dataclass
class Listener:
    """An ear, and a client that takes notifications."""

    path: str = "/mcp"
    told: list[tuple[str, Json]] = field(default_factory=list)
    can_ask: bool = False
    reads: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.reads.set()

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        self.told.append((method, decoded(params)))

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        await self.reads.wait()
        self.told.append((method, decoded(params)))

    async def ask(self, question: Question) -> Raw:
        raise AssertionError("nobody is asked here")

    @property
    def methods(self) -> list[str]:
        return [method.removeprefix("notifications/") for method, _ in self.told]

    @property
    def uris(self) -> list[str]:
        return [params["uri"] for method, params in self.told if method == UPDATED]


def decoded(params: Mapping[str, Any]) -> Json:
    def plain(value: Any) -> Any:
        if isinstance(value, Raw):
            return json.loads(bytes(value))
        return {key: plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    return {key: plain(value) for key, value in params.items()}


@dataclass
class Rig:
    hub: Hub
    a: Wanted
    b: Wanted
    backends: dict[str, Backend]

    def ear(self, session: str, path: str = "/mcp") -> Listener:
        ear = Listener(path)
        self.hub.join(session, ear)
        return ear

    async def subscribe(self, session: str | None, uri: object, table: RoutingTable = TABLE) -> Complete:
        return await self.hub.subscribe(asking(session, {"uri": uri}, table))

    async def unsubscribe(self, session: str, uri: str) -> Complete:
        return await self.hub.unsubscribe(asking(session, {"uri": uri}))

    def say(self, backend: str, method: str, session: str | None = None, **params: Any) -> None:
        self.hub.heard(backend, method, Raw(json.dumps(params).encode()), Key("session", session) if session else None)

    def updated(self, backend: str, uri: str, session: str | None = None) -> None:
        self.say(backend, UPDATED, session, uri=uri)


@pytest.fixture
def rig() -> Rig:
    a, b = Wanted(), Wanted()

    def open_task(call: Call, name: str) -> tuple[str, str] | None:
        return ("a", name.removeprefix("our-")) if name.startswith("our-") else None

    def task_told(backend: str, params: Mapping[str, Raw], session: str | None) -> list[tuple[str, Json]]:
        return [("one", {"taskId": "our-1"}), ("gone", {"taskId": "our-2"})]

    backends = {"a": Backend(a), "b": Backend(b)}
    return Rig(Hub(backends, open_task, task_told), a, b, backends)


def asking(session: str | None, tree: Json, table: RoutingTable = TABLE, **more: Any) -> Call:
    peer = more.pop("peer", Peer(LATEST_HANDSHAKE, session=session))
    face = more.pop("face", table.faces["/mcp"])
    return some_call(tree=tree, table=table, face=face, peer=peer, **more)


# --- sessions


async def test_a_backend_is_asked_once_for_what_many_want_and_left_by_the_last(rig: Rig) -> None:
    one, two, neither = rig.ear("one"), rig.ear("two"), rig.ear("three")
    for session in ("one", "two", "one"):
        assert bytes((await rig.subscribe(session, "s://one")).result) == b"{}"
    rig.updated("b", "s://one")
    assert (one.uris, two.uris, neither.uris) == (["s://one"], ["s://one"], [])
    await rig.unsubscribe("one", "s://one")
    assert "-s://one" not in rig.b.journal
    rig.updated("b", "s://one")
    assert (len(one.told), len(two.told)) == (1, 2)
    rig.hub.leave("two")
    rig.hub.leave("two")
    assert rig.b.journal.count("-s://one") == 1
    rig.updated("b", "s://one")
    assert len(two.told) == 2


async def test_nobody_hears_of_the_same_uri_at_another_backend(rig: Rig) -> None:
    one = rig.ear("one")
    await rig.subscribe("one", "s://one")
    rig.updated("a", "s://one")
    assert one.told == []


@pytest.mark.parametrize(
    ("uri", "heard"),
    [
        ("r://dir", True),
        ("r://dir/", True),
        ("r://dir/x/y", True),
        ("r://dir#part", True),
        ("r://dir?q=1", True),
        ("r://directory", False),
        ("r://", False),
        ("r://other", False),
    ],
)
async def test_who_subscribed_to_a_resource_hears_of_what_is_under_it(rig: Rig, uri: str, heard: bool) -> None:
    one = rig.ear("one")
    await rig.subscribe("one", "r://dir")
    await rig.subscribe("one", "r://dir/x")
    rig.updated("a", uri)
    assert one.uris == ([uri] if heard else []), "and once, though both cover it"


async def test_what_ends_in_a_slash_covers_what_follows(rig: Rig) -> None:
    one = rig.ear("one")
    await rig.subscribe("one", "r://set/")
    rig.updated("a", "r://set/x")
    assert one.uris == ["r://set/x"]


async def test_members_of_an_update_are_kept_but_for_the_protocols_own(rig: Rig) -> None:
    one = rig.ear("one")
    await rig.subscribe("one", "s://one")
    meta = {TAG: 7, "x/y": 1}
    rig.say("b", UPDATED, uri="s://one", title="T", _meta=meta)
    rig.say("b", UPDATED, uri="s://one", _meta={TAG: 7})
    assert one.told == [
        (UPDATED, {"uri": "s://one", "title": "T", "_meta": {"x/y": 1}}),
        (UPDATED, {"uri": "s://one"}),
    ]


@pytest.mark.parametrize("params", [b"[]", b"{}", b'{"uri":3}', b'{"uri":"s://one","uri":'])
async def test_an_update_without_a_uri_is_nothing(rig: Rig, params: bytes) -> None:
    one = rig.ear("one")
    await rig.subscribe("one", "s://one")
    rig.hub.heard("b", UPDATED, Raw(params))
    assert one.told == []


@pytest.mark.parametrize(("uri", "code"), [("t://unknown", -32002), (3, -32602), (None, -32602)])
async def test_what_nobody_has_cannot_be_subscribed_to(rig: Rig, uri: object, code: int) -> None:
    with pytest.raises(McpError) as refused:
        await rig.subscribe("one", uri)
    assert refused.value.code == code
    assert rig.a.journal == rig.b.journal == []


async def test_a_subscription_needs_a_session(rig: Rig) -> None:
    with pytest.raises(McpError) as refused:
        await rig.subscribe(None, "s://one")
    assert refused.value.code == -32600


async def test_what_the_backend_refuses_is_not_subscribed(rig: Rig) -> None:
    one = rig.ear("one")
    rig.b.refusals["s://no"] = McpError(-32601, "Method not found")
    with pytest.raises(McpError, match="Method not found"):
        await rig.subscribe("one", "s://no")
    assert rig.b.journal == ["+s://no", "-s://no"]
    rig.updated("b", "s://no")
    assert one.told == []


async def test_a_subscription_survives_that_asking_again_for_it_fails(rig: Rig) -> None:
    one = rig.ear("one")
    await rig.subscribe("one", "s://one")
    rig.b.refusals["s://one"] = Unavailable("b", "down")
    with pytest.raises(Unavailable):
        await rig.subscribe("one", "s://one")
    rig.updated("b", "s://one")
    assert one.uris == ["s://one"]


async def test_a_session_that_ends_while_it_subscribes_leaves_nothing(rig: Rig) -> None:
    rig.b.slow = asyncio.Event()
    async with Nest("test") as nest:
        nest.start(wait(rig.subscribe("one", "s://one")), "subscribe")
        await until(lambda: rig.b.journal)
        rig.hub.leave("one")
        assert rig.b.journal == ["+s://one", "-s://one"]
        rig.b.slow.set()
    assert rig.b.journal == ["+s://one", "-s://one"]


async def test_a_session_that_ends_before_it_subscribes_subscribes_to_nothing(rig: Rig) -> None:
    rig.backends["b"].on_source = lambda: rig.hub.leave("one")
    with pytest.raises(McpError, match="ended"):
        await rig.subscribe("one", "s://one")
    assert rig.b.journal == []


async def wait(work: Any) -> None:
    await work


async def test_a_session_has_so_many_subscriptions_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_SUBSCRIPTIONS", 1)
    await rig.subscribe("one", "s://one")
    with pytest.raises(McpError, match="1 resources"):
        await rig.subscribe("one", "r://dir")
    await rig.subscribe("two", "r://dir")


async def test_unsubscribing_goes_by_what_is_held_and_not_by_the_table(rig: Rig) -> None:
    one = rig.ear("one")
    await rig.subscribe("one", "s://one")
    await rig.subscribe("one", "s://no")
    later = asking("one", {"uri": "s://one"}, build(2, CONFIG, {}))
    assert bytes((await rig.hub.unsubscribe(later)).result) == b"{}"
    assert bytes((await rig.unsubscribe("two", "s://one")).result) == b"{}", "never subscribed is unsubscribed already"
    rig.updated("b", "s://one")
    assert one.told == []
    assert rig.b.journal[-1] == "-s://one"


async def test_a_session_with_a_connection_of_its_own_subscribes_there(rig: Rig) -> None:
    private = rig.backends["b"].private
    own = private["one"] = Wanted()
    one, two = rig.ear("one"), rig.ear("two")
    for session in ("one", "two"):
        await rig.subscribe(session, "s://one")
    assert (own.journal, rig.b.journal) == (["+s://one"], ["+s://one"])
    rig.updated("b", "s://one", "one")
    assert (len(one.told), len(two.told)) == (1, 0)
    rig.updated("b", "s://one")
    assert (len(one.told), len(two.told)) == (1, 1), "what is said to all is not said to it twice"
    await rig.unsubscribe("one", "s://one")
    assert own.journal[-1] == "-s://one"
    private["one"] = None
    with pytest.raises(Unavailable, match="session has ended"):
        await rig.subscribe("one", "s://one")


async def test_what_concerns_one_session_is_told_to_that_session_only(rig: Rig) -> None:
    one, two = rig.ear("one"), rig.ear("two")
    for session in ("one", "two"):
        await rig.subscribe(session, "s://one")
    rig.say("b", "notifications/message", "one", level="info", data="x")
    rig.say("b", "notifications/elicitation/complete", "one", elicitationId="e")
    rig.say("b", "notifications/x/unknown", "one")
    rig.say("b", "notifications/message", None, level="info", data="whose is it?")
    rig.say("b", "notifications/message", "nobody", level="info", data="x")
    assert one.methods == ["message", "elicitation/complete"]
    assert two.told == []


async def test_the_state_of_a_task_is_told_to_whose_it_is(rig: Rig) -> None:
    one, two = rig.ear("one"), rig.ear("two")
    rig.say("a", "notifications/tasks/status", taskId="1")
    assert one.told == [("notifications/tasks/status", {"taskId": "our-1"})]
    assert two.told == []


async def test_a_session_without_an_ear_misses_what_is_said_and_nothing_breaks(rig: Rig) -> None:
    await rig.subscribe("deaf", "s://one")
    rig.updated("b", "s://one")
    rig.hub.changed(TABLE, build(2, CONFIG, {}))


# --- lists


def changed(**offers: Any) -> RoutingTable:
    return build(2, CONFIG, {**OFFERS, **offers})


@pytest.mark.parametrize(
    ("offers", "told"),
    [
        ({}, []),
        ({"a": catalog("a", tools=["t", "u"], resources=["r://dir", "r://other"], templates=["r://{+x}"])}, ["tools"]),
        ({"b": catalog("b", resources=["s://one", "s://no"])}, ["prompts"]),
        ({"a": catalog("a", tools=["t"], templates=["r://{+y}"])}, ["resources"]),
        ({"a": catalog("a"), "b": catalog("b")}, ["tools", "prompts", "resources"]),
    ],
)
async def test_of_each_kind_that_looks_different_everybody_is_told_once(
    rig: Rig, offers: Json, told: Sequence[str]
) -> None:
    one = rig.ear("one")
    client, work = listener(dict.fromkeys(("toolsListChanged", "promptsListChanged", "resourcesListChanged"), True))
    async with Nest("test") as nest:
        nest.start(wait(rig.hub.listen(work)), "listen")
        await until(lambda: client.told)
        rig.hub.changed(TABLE, changed(**offers))
        expected = [f"{kind}/list_changed" for kind in told]
        assert one.methods == expected
        await until(lambda: client.methods[1:] == expected)


async def test_who_stands_elsewhere_is_not_told(rig: Rig) -> None:
    elsewhere = rig.ear("one", "/other/mcp")
    rig.hub.changed(TABLE, build(2, CONFIG, {}))
    assert elsewhere.told == []


def arrays(of: str) -> bytes:
    """A tool that says that it gives arrays."""
    schema = {"type": "array", "items": {"type": of}}
    return json.dumps({"name": "t", "inputSchema": {"type": "object"}, "outputSchema": schema}).encode()


async def test_an_era_is_not_told_of_what_only_the_other_one_sees(rig: Rig) -> None:
    old, new = (changed(a=catalog("a", tools=[arrays(of)], revision=MODERN)) for of in ("string", "number"))
    one = rig.ear("one")
    client, work = listener({"toolsListChanged": True})
    async with Nest("test") as nest:
        nest.start(wait(rig.hub.listen(work)), "listen")
        await until(lambda: client.told)
        rig.hub.changed(old, new)
        await until(lambda: len(client.told) == 2)
    assert one.told == [], "older revisions know no array there, and see the tool as it was"


# --- subscriptions/listen


def listener(wanted: object, id_: bytes = b'"l"', **more: Any) -> tuple[Listener, Call]:
    client = Listener()
    peer = Peer(MODERN, more.pop("capabilities", b"{}"), headers=more.pop("headers", {"mcp-method": "x"}))
    return client, asking(None, {"notifications": wanted}, peer=peer, client=client, id=id_, **more)


async def test_the_acknowledgement_says_what_is_honoured_once_backends_agreed(rig: Rig) -> None:
    rig.b.slow = asyncio.Event()
    rig.b.refusals["s://no"] = McpError(-32602, "no")
    wanted = {
        "toolsListChanged": True,
        "promptsListChanged": False,
        URIS: ["s://one", "s://no", "t://unknown", "s://one"],
        "future": 1,
    }
    client, work = listener(wanted, b"7")
    async with Nest("test") as nest:
        nest.start(wait(rig.hub.listen(work)), "listen")
        await until(lambda: len(rig.b.journal) == 2)
        rig.updated("b", "s://one")
        assert client.told == [], "nothing comes before the acknowledgement"
        rig.b.slow.set()
        await until(lambda: len(client.told) == 2)
        acknowledged = {"toolsListChanged": True, URIS: ["s://one"]}
        assert client.told == [
            ("notifications/subscriptions/acknowledged", {"notifications": acknowledged, "_meta": {TAG: 7}}),
            (UPDATED, {"uri": "s://one", "_meta": {TAG: 7}}),
        ]
        rig.hub.changed(TABLE, build(2, CONFIG, {}))
        await until(lambda: len(client.told) == 3)
        assert client.methods[2] == "tools/list_changed", "and only what was asked for"
    assert sorted(rig.b.journal) == ["+s://no", "+s://one", "-s://no", "-s://one"], "who leaves wants nothing any more"


async def test_two_subscriptions_of_one_client_are_two(rig: Rig) -> None:
    (one, first), (two, second) = listener({URIS: ["s://one"]}, b"1"), listener({URIS: ["s://one"]}, b'"1"')
    async with Nest("test") as nest:
        task = nest.start(wait(rig.hub.listen(first)), "listen")
        nest.start(wait(rig.hub.listen(second)), "listen")
        await until(lambda: one.told and two.told)
        task.cancel()
        await until(task.done)
        assert "-s://one" not in rig.b.journal
        rig.updated("b", "s://one")
        await until(lambda: two.uris)
        assert two.told[-1][1]["_meta"] == {TAG: "1"}
        assert one.uris == []


async def test_what_is_not_promised_is_not_honoured(rig: Rig) -> None:
    bare = replace(TABLE.faces["/mcp"], capabilities={"tools": {"listChanged": False}})
    client, work = listener({"toolsListChanged": True, "promptsListChanged": True}, face=bare)
    async with Nest("test") as nest:
        nest.start(wait(rig.hub.listen(work)), "listen")
        await until(lambda: client.told)
    assert client.told[0][1]["notifications"] == {}


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        [],
        {"toolsListChanged": 1},
        {URIS: "s://one"},
        {URIS: [1]},
        {URIS: [f"s://{n}" for n in range(257)]},
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(rig: Rig, wanted: object) -> None:
    with pytest.raises(McpError) as refused:
        await rig.hub.listen(listener(wanted)[1])
    assert refused.value.code == -32602
    await rig.hub.silence(0)


async def test_a_subscription_ends_in_order_when_the_house_closes(rig: Rig) -> None:
    client, work = listener({"toolsListChanged": True}, b"9")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.hub.listen(work))
        await until(lambda: client.told)
        rig.hub.changed(TABLE, build(2, CONFIG, {}))
        rig.hub.drain()
    result = json.loads(bytes(task.result().result))
    assert client.methods[1:] == ["tools/list_changed"], "what waited is told first"
    assert result["resultType"] == "complete"
    assert result["_meta"][TAG] == 9
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "test"
    await rig.hub.silence(1)
    late, work = listener({"toolsListChanged": True})
    await rig.hub.listen(work)
    assert late.methods == ["subscriptions/acknowledged"], "who comes now is let go at once"


async def test_who_does_not_read_is_not_waited_for(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    client, work = listener({"toolsListChanged": True})
    client.reads.clear()
    async with Nest("test") as nest:
        nest.start(wait(rig.hub.listen(work)), "listen")
        await asyncio.sleep(0)
        rig.hub.drain()
        with caplog.at_level("INFO", "vmcp.aggregator"):
            await rig.hub.silence(0.01)
    assert "subscriptions cut off" in caplog.messages


async def test_who_reads_slowly_misses_repetitions_and_no_change(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_WAITING", 3)
    client, work = listener({"toolsListChanged": True, URIS: ["r://dir"]})
    client.reads.clear()
    async with Nest("test") as nest:
        nest.start(wait(rig.hub.listen(work)), "listen")
        await until(lambda: rig.a.journal)
        for n in (1, 2, 1, 3, 4, 5, 6):
            rig.updated("a", f"r://dir/{n}")
        client.reads.set()
        await until(lambda: "r://dir" in client.uris)
        assert client.uris == ["r://dir/1", "r://dir/2", "r://dir/3", "r://dir"]


async def test_tasks_are_listened_to_under_the_names_of_the_client(rig: Rig) -> None:
    able = b'{"extensions":{"io.modelcontextprotocol/tasks":{}}}'
    client, work = listener({"taskIds": ["our-1", "their-2"]}, capabilities=able)
    async with Nest("test") as nest:
        nest.start(wait(rig.hub.listen(work)), "listen")
        await until(lambda: client.told)
        assert client.told[0][1]["notifications"] == {"taskIds": ["our-1"]}
        assert rig.a.journal == ["+1"]
        rig.say("a", "notifications/tasks", taskId="1", status="working")
        rig.say("a", "notifications/tasks", taskId="2", status="working")
        rig.say("b", "notifications/tasks", taskId="1", status="working")
        rig.say("a", "notifications/tasks")
        await until(lambda: len(client.told) == 2)
        assert client.told[1] == ("notifications/tasks", {"taskId": "our-1", "status": "working", "_meta": {TAG: "l"}})


async def test_who_did_not_declare_tasks_cannot_listen_to_them(rig: Rig) -> None:
    with pytest.raises(McpError) as refused:
        await rig.hub.listen(listener({"taskIds": ["our-1"]})[1])
    assert refused.value.code == -32021


async def test_where_nobody_has_tasks_none_is_honoured() -> None:
    able = b'{"extensions":{"io.modelcontextprotocol/tasks":{}}}'
    client, work = listener({"taskIds": ["our-1"]}, capabilities=able)
    hub = Hub({})
    async with Nest("test") as nest:
        nest.start(wait(hub.listen(work)), "listen")
        await until(lambda: client.told)
    assert client.told[0][1]["notifications"] == {}
