"""A link in each of the five revisions over both transports: the envelope, our own ids and tokens, what comes in between.

Rule: each test is a conversation with a server that really runs; what it was told is looked up there.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tests.server.peers import Asked, MemoryWire, Server
from tests.upstream.badserver import until
from tests.upstream.child import failure, notice, result
from tests.upstream.fakes import Json, Rig, WebServer, linked, single, soon, text, web, wired
from vmcp import __version__
from vmcp.errors import McpError, Overdue, SessionLost, WireError
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import HANDSHAKE, MODERN, Revision
from vmcp.tasks import Nest
from vmcp.upstream import link as module
from vmcp.upstream.ask import Ask
from vmcp.upstream.link import Facts, Link

META = "io.modelcontextprotocol/"
EVERYWHERE = [(transport, revision) for transport in ("stdio", "http") for revision in Revision]
everywhere = pytest.mark.parametrize(("transport", "revision"), EVERYWHERE, ids=["-".join(pair) for pair in EVERYWHERE])
TALK: Sequence[Json] = [
    notice("notifications/progress", progressToken="$token", progress=1, total=2, message="half", extra=[1.0]),
    notice("notifications/progress", progressToken="somebody else's", progress=1),
    notice("notifications/message", level="info", logger="x", data={"big": 12345678901234567890}),
    notice("notifications/tools/list_changed"),
    {"jsonrpc": "2.0", "id": "ours-1", "method": "ping"},
    {"jsonrpc": "2.0", "id": 77, "method": "sampling/createMessage", "params": {"messages": []}},
    result({"content": [{"type": "text", "text": "grüße"}], "x": 1.0}),
]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


class Listener:
    """A client's end: what it was notified of."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Json]] = []

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        plain = {key: json.loads(bytes(value)) if isinstance(value, Raw) else value for key, value in params.items()}
        self.got.append((method, plain))


def call(seconds: float = 5.0, **more: Any) -> Ask:
    params = {"name": "echo", "arguments": Raw(b'{"n": 1.0}')}
    told: dict[str, Any] = {"method": "tools/call", "params": params, "deadline": soon(seconds), "name": "echo"}
    return Ask(**told | more)


def last(rig: Rig, method: str = "tools/call") -> Json:
    return [message for message in rig.told() if message.get("method") == method][-1]


# --- the envelope


@everywhere
async def test_a_call_and_its_result(transport: str, revision: Revision, journal: Path) -> None:
    async with linked(transport, revision, journal) as rig:
        own = {"traceparent": Raw(b'"00-1"'), "vendor/key": Raw(b"[1.0]")}
        raw = await rig.link.request(call(own_meta=own, level="info"))
        assert bytes(raw) == b'{"content": []}'
        told = last(rig)
    meta: Json = {"traceparent": "00-1", "vendor/key": [1.0]}
    if revision.modern:
        info = {"name": "vmcp", "title": "vmcp", "version": __version__}
        meta |= {f"{META}protocolVersion": MODERN, f"{META}clientInfo": info, f"{META}clientCapabilities": {}}
        meta |= {f"{META}logLevel": "info"}
    params = {"name": "echo", "arguments": {"n": 1.0}, "_meta": meta}
    assert told == {"jsonrpc": "2.0", "id": told["id"], "method": "tools/call", "params": params}


@everywhere
async def test_nothing_is_added_that_the_revision_does_not_need(
    transport: str, revision: Revision, journal: Path
) -> None:
    async with linked(transport, revision, journal) as rig:
        await rig.link.request(call())
        assert ("_meta" in last(rig)["params"]) == revision.modern
        assert f"{META}logLevel" not in last(rig)["params"].get("_meta", {})


async def test_a_log_level_is_not_asked_of_a_server_without_logging(journal: Path) -> None:
    bare = [result({"supportedVersions": [MODERN], "capabilities": {"tools": {}}})]
    async with linked("http", MODERN, journal, {"server/discover": bare}) as rig:
        await rig.link.request(call(level="debug"))
        assert f"{META}logLevel" not in last(rig)["params"]["_meta"]


@pytest.mark.parametrize("revision", Revision)
async def test_the_headers_of_each_revision(revision: Revision, journal: Path) -> None:
    extra = ((b"mcp-param-region", b"eu"),)
    async with linked("http", revision, journal) as rig:
        await rig.link.request(call(name="gr\u00fc\u00dfe", param_headers=extra))
        await rig.link.request(Ask("tools/list", {}, soon()))
        assert rig.server is not None
        first, second = (
            next(t.headers for t in rig.server.heard if t.method == m) for m in ("tools/call", "tools/list")
        )
    names = ("mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-region")
    version = str(revision) if revision >= Revision.V2025_06_18 else None
    if revision.modern:
        assert [first.get(name) for name in names] == [None, MODERN, "tools/call", "=?base64?Z3LDvMOfZQ==?=", "eu"]
        assert [second.get(name) for name in names] == [None, MODERN, "tools/list", None, None]
    else:
        assert [first.get(name) for name in names] == ["s1", version, None, None, None]
        assert [second.get(name) for name in names] == ["s1", version, None, None, None]


# --- while a call is in flight


@everywhere
@pytest.mark.parametrize("token", ['"t-1"', "7", "7.5"])
async def test_what_comes_during_a_call_reaches_whom_it_concerns(
    token: str, transport: str, revision: Revision, journal: Path
) -> None:
    client = Listener()
    async with linked(transport, revision, journal, {"tools/call": TALK}) as rig:
        raw = await rig.link.request(call(token=Raw(token.encode()), notify=client.notify))
        assert json.loads(bytes(raw)) == TALK[-1]["result"]
        await until(lambda: rig.methods.count("reply") == 2)
        replies = [message for message in rig.told() if "method" not in message]
        sent = last(rig)
        assert sent["params"]["_meta"]["progressToken"] == sent["id"]
        assert "notifications/tools/list_changed" in rig.events
    progress = {"progressToken": json.loads(token), "progress": 1, "total": 2, "message": "half", "extra": [1.0]}
    log = {"level": "info", "logger": "x", "data": {"big": 12345678901234567890}}
    assert client.got == [("notifications/progress", progress), ("notifications/message", log)]
    assert sorted(replies, key=str) == [
        {"jsonrpc": "2.0", "id": "ours-1", "result": {}},
        {"jsonrpc": "2.0", "id": 77, "error": {"code": -32601, "message": "Method not found"}},
    ]


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_client_that_gave_no_token_hears_of_no_progress(transport: str, journal: Path) -> None:
    ours = [notice("notifications/progress", progressToken="$id", progress=1), result({})]
    client = Listener()
    async with linked(transport, "2025-11-25", journal, {"tools/call": ours}) as rig:
        await rig.link.request(call(notify=client.notify))
        await rig.link.request(call())
        assert "_meta" not in last(rig)["params"]
    assert client.got == []


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_params_that_are_none_are_dropped_or_told_as_empty(transport: str, journal: Path) -> None:
    talk: list[Json] = [
        {"jsonrpc": "2.0", "method": "notifications/message", "params": [1]},
        {"jsonrpc": "2.0", "method": "notifications/message"},
        {"jsonrpc": "2.0", "method": "notifications/progress"},
        {"jsonrpc": "2.0", "method": "unheard/of", "params": {}},
        result({}),
    ]
    client = Listener()
    async with linked(transport, "2025-11-25", journal, {"tools/call": talk}) as rig:
        await rig.link.request(call(notify=client.notify, token=Raw(b"1")))
        assert "unheard/of" in rig.events
    assert client.got == [("notifications/message", {})]


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_calls_at_once_have_ids_of_their_own_and_get_their_own_answers(transport: str, journal: Path) -> None:
    talk = [notice("notifications/progress", progressToken="$token", progress=1), result({"id": "$id"})]
    clients = [Listener() for _ in range(20)]
    async with linked(transport, "2025-06-18", journal, {"tools/call": talk}) as rig, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(rig.link.request(call(token=Raw(b"%d" % n), notify=client.notify)))
            for n, client in enumerate(clients)
        ]
    assert len({bytes(task.result()) for task in tasks}) == 20
    assert [client.got[0][1]["progressToken"] for client in clients] == list(range(20))


# --- cancellation


@everywhere
@pytest.mark.parametrize("how", ["cancelled", "overdue"])
async def test_a_call_that_is_left_is_cancelled_the_way_of_its_revision(
    how: str, transport: str, revision: Revision, journal: Path
) -> None:
    async with linked(transport, revision, journal, {"tools/call": []}) as rig:
        if how == "overdue":
            with pytest.raises(Overdue):
                await rig.link.request(call(0.1))
        else:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(rig.link.request(call()))
                await until(lambda: "tools/call" in rig.methods)
                task.cancel()
            assert task.cancelled()
        if transport == "http":
            assert rig.server is not None
            await until(lambda: rig.server is not None and rig.server.left > 0)  # the stream was closed
        if transport == "stdio" or not revision.modern:
            await until(lambda: "notifications/cancelled" in rig.methods)
            told = last(rig, "notifications/cancelled")
            assert told["params"]["requestId"] == last(rig)["id"]
        await rig.link.request(Ask("tools/list", {}, soon()))
        cancelled = rig.methods.count("notifications/cancelled")
        assert cancelled == (0 if transport == "http" and revision.modern else 1)


async def test_a_call_that_ended_by_itself_is_not_cancelled(journal: Path) -> None:
    async with linked("stdio", "2025-11-25", journal, {"tools/call": [failure(-32000, "no", {"a": 1})]}) as rig:
        with pytest.raises(McpError, match="no") as failed:
            await rig.link.request(call())
        assert (failed.value.code, bytes(failed.value.data)) == (-32000, b'{"a": 1}')  # type: ignore[call-overload]
        await rig.link.request(Ask("tools/list", {}, soon()))
        assert "notifications/cancelled" not in rig.methods


async def test_a_cancellation_that_cannot_be_told_is_let_go(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GOODBYE", 0.05)
    async with linked("http", "2025-11-25", journal, {"tools/call": []}) as rig:
        assert rig.server is not None
        rig.server.on["notifications/cancelled"] = _never
        with pytest.raises(Overdue):
            await rig.link.request(call(0.1))
        await until(lambda: "notifications/cancelled" in rig.methods and not rig.nest._tasks)
        await rig.wire.close()
        with pytest.raises(McpError):
            await rig.link.request(call())


async def _never(peer: Any, told: Any) -> None:
    await peer.gone()


# --- sessions


LOST = {
    "404 and an error": (single(failure(-32600, "Session not found") | {"id": "server-error"}, 404), True),
    "404 in plain text": (text(404, b"session not found"), True),
    "404 and nothing": (text(404, b""), True),
    "400 and words": (single(failure(-32000, "Bad Request: No valid session ID provided") | {"id": None}, 400), True),
    "400 in plain text": (text(400, b"Invalid session ID"), True),
    "400 and other words": (single(failure(-32602, "Bad arguments"), 400), False),
    "400 in other text": (text(400, b"what?"), False),
    "500 and words": (single(failure(-32000, "No valid session ID provided"), 500), False),
    "200 and words": (single(failure(-32000, "No valid session ID provided")), False),
}


@pytest.mark.parametrize(("answer", "lost"), LOST.values(), ids=LOST)
async def test_how_a_forgotten_session_is_told(answer: Any, lost: bool, journal: Path) -> None:
    async with linked("http", "2025-11-25", journal) as rig:
        assert rig.server is not None
        rig.server.on["tools/call"] = answer
        with pytest.raises(SessionLost if lost else McpError):
            await rig.link.request(call())


@pytest.mark.parametrize("answer", [single(failure(-32601, "Unknown"), 404), text(404)])
async def test_who_gave_no_session_cannot_have_forgotten_it(answer: Any) -> None:
    async with wired(WebServer({"tools/call": answer})) as (wire, _), Nest("test") as nest:
        link = Link(wire, Facts(Revision.V2025_06_18, {}), nest, lambda *_: None, iter(range(9)))  # type: ignore[arg-type]
        with pytest.raises(McpError):
            await link.request(call())


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_the_end_of_a_session_is_told(revision: Revision, journal: Path) -> None:
    async with linked("http", revision, journal) as rig:
        await rig.link.end()
        assert rig.server is not None
        told = rig.server.heard[-1]
    assert (told.verb, told.headers["mcp-session-id"]) == ("DELETE", "s1")


async def test_a_goodbye_that_nobody_takes_is_let_go(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GOODBYE", 0.05)
    async with linked("http", "2025-11-25", journal) as rig:
        assert rig.server is not None
        rig.server.on[""] = _never
        await rig.link.end()
        await rig.wire.close()
        await rig.link.end()
    async with linked("stdio", "2025-11-25", journal) as rig:
        await rig.link.end()
        await rig.link.request(call())
        assert rig.methods == ["server/discover", "initialize", "notifications/initialized", "tools/call"]


# --- what is no answer


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_reply_with_neither_result_nor_error_is_none(transport: str, journal: Path) -> None:
    async with linked(transport, "2025-11-25", journal, {"tools/call": [{"jsonrpc": "2.0", "id": "$id"}]}) as rig:
        with pytest.raises(WireError, match="neither result nor error"):
            await rig.link.request(call())


async def test_only_a_call_of_a_tool_is_never_sent_twice() -> None:
    server = web("2025-11-25")
    async with wired(server) as (wire, _), Nest("test") as nest:
        seen: list[tuple[str, bool]] = []

        class Watching:
            closing_cancels = private_streams = True
            on_stray = None

            async def exchange(self, request: Any, on_message: Any, deadline: float) -> Any:
                seen.append((json.loads(request.body)["method"], request.replay))
                return await wire.exchange(request, on_message, deadline)

        server.sessions = None
        link = Link(Watching(), Facts(Revision.V2025_11_25, {}), nest, lambda *_: None, iter(range(9)))  # type: ignore[arg-type]
        for method in ("tools/list", "prompts/list", "tools/call"):
            await link.request(Ask(method, {}, soon()))
    assert seen == [("tools/list", True), ("prompts/list", True), ("tools/call", False)]


# --- what no stream attributes


class Said:
    """What the owner of a link, and one lasting request, were told of."""

    def __init__(self) -> None:
        self.owner: list[tuple[str, Any]] = []
        self.listener: list[tuple[str, Any]] = []

    def on_event(self, method: str, params: Raw) -> None:
        self.owner.append((method, json.loads(bytes(params) or b"null")))

    def to_listener(self, method: str, params: Raw) -> None:
        self.listener.append((method, json.loads(bytes(params) or b"null")))


@contextlib.asynccontextmanager
async def in_memory(server: Server, revision: Revision, said: Said, **more: Any) -> AsyncIterator[Link]:
    async with Nest("test") as nest:
        yield Link(MemoryWire(server, "a"), Facts(revision, {}), nest, said.on_event, itertools.count(1), **more)


async def never(asked: Asked, notify: Any) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


def listen(said: Said) -> Ask:
    return Ask("subscriptions/listen", {}, soon(), lasting=True, on_event=said.to_listener)


@pytest.mark.parametrize("two_way", [False, True])
async def test_what_names_a_lasting_request_is_told_to_it_and_to_nobody_else(two_way: bool) -> None:
    server, said = Server(MODERN, two_way=two_way, script=never), Said()
    async with in_memory(server, MODERN, said) as link, asyncio.TaskGroup() as group:
        task = group.create_task(link.request(listen(said)))
        await until(lambda: bool(server.asked))
        named = {"_meta": {f"{META}subscriptionId": 1}}
        for params in (
            named,
            {"_meta": {f"{META}subscriptionId": 2}},
            {"_meta": {f"{META}subscriptionId": "1"}},
            {},
            None,
        ):
            server.say("notifications/tools/list_changed", params)
        server.say("notifications/cancelled", {"requestId": 1})
        server.say("notifications/cancelled", {"requestId": 2})
        task.cancel()
    assert said.listener == [("notifications/tools/list_changed", named), ("notifications/cancelled", {"requestId": 1})]
    assert [method for method, _ in said.owner] == ["notifications/tools/list_changed"] * 4


async def test_what_comes_on_the_stream_of_a_lasting_request_is_told_to_it() -> None:
    async def listens(asked: Asked, notify: Any) -> bytes:
        await notify("notifications/subscriptions/acknowledged", {})
        await notify("notifications/cancelled", {"requestId": 1})
        return b"{}"

    said = Said()
    async with in_memory(Server(MODERN, script=listens), MODERN, said) as link:
        await link.request(listen(said))
        await link.request(Ask("tools/list", {}, soon()))
    assert [method for method, _ in said.listener] == [
        "notifications/subscriptions/acknowledged",
        "notifications/cancelled",
    ]
    assert said.owner == []


@pytest.mark.parametrize("private", [True, False])
async def test_a_question_on_one_stream_is_of_the_latest_request_of_a_private_link(private: bool) -> None:
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}
    asked_of: list[str] = []

    async def script(asked: Asked, notify: Any) -> bytes:
        await gates[asked.name].wait()
        try:
            return json.dumps(await asked.ask("roots/list")).encode()
        except McpError as refused:
            return b"%d" % refused.code

    def asker(name: str) -> Any:
        async def answer(question: Question) -> Raw:
            asked_of.append(name)
            return Raw(json.dumps({"of": name}).encode())

        return answer

    server = Server(Revision.V2025_11_25, two_way=True, script=script)
    more = {"private": private, "capabilities": b'{"roots":{}}'}
    async with in_memory(server, Revision.V2025_11_25, Said(), **more) as link, asyncio.TaskGroup() as group:
        tasks = {}
        for name in "ab":
            tasks[name] = group.create_task(link.request(Ask("prompts/get", {"name": name}, soon(), asker=asker(name))))
            await until(lambda name=name: server.asked and server.asked[-1].name == name)
        for name in "ba":
            gates[name].set()
            await asyncio.wait([tasks[name]])
    assert asked_of == (["b", "a"] if private else [])
    assert bytes(tasks["a"].result()) == (b'{"of": "a"}' if private else b"-32601")


async def test_a_question_after_its_request_is_refused_and_one_taken_back_is_forgotten() -> None:
    left = asyncio.Event()
    server = Server(Revision.V2025_11_25, two_way=True)

    async def script(asked: Asked, notify: Any) -> bytes:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asked.ask("roots/list")
        server.say("notifications/cancelled", {"requestId": "q-1"})
        await left.wait()
        return b"{}"

    async def asker(question: Question) -> Raw:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError

    server.script = script
    more = {"private": True, "capabilities": b'{"roots":{}}'}
    async with in_memory(server, Revision.V2025_11_25, Said(), **more) as link:
        await link.request(Ask("tools/call", {}, soon(), asker=asker))
        with pytest.raises(McpError, match="Method not found"):
            await server.wires[0].ask("roots/list", None, None)
    assert server.told == []


async def test_a_first_request_that_never_comes_takes_its_questions_along() -> None:
    server = Server(Revision.V2025_11_25, script=never)
    more = {"private": True, "capabilities": b'{"roots":{}}'}
    async with in_memory(server, Revision.V2025_11_25, Said(), **more) as link, asyncio.TaskGroup() as group:

        async def asker(question: Question) -> Raw:
            await asyncio.Event().wait()
            raise AssertionError

        opener = Ask("tools/call", {}, soon(), asker=asker)
        link.expect(opener, None)
        task = group.create_task(refusal(server.wires[0]))
        await until(lambda: link._answering.open)
        link.spare(opener)
        assert "has ended" in str(await task)
        link.spare(opener)
        assert "Method not found" in str(await refusal(server.wires[0]))


async def refusal(wire: MemoryWire) -> McpError:
    with pytest.raises(McpError) as refused:
        await wire.ask("roots/list", None, None)
    return refused.value


@pytest.mark.parametrize("able", [b"{}", b'{"elicitation":{}}'])
async def test_a_modern_request_says_what_its_client_can_do(able: bytes) -> None:
    server = Server(MODERN, tools=[])
    async with in_memory(server, MODERN, Said()) as link:
        await link.request(Ask("tools/list", {}, soon(), capabilities=able))
    assert server.asked[0].params["_meta"][f"{META}clientCapabilities"] == json.loads(able)
