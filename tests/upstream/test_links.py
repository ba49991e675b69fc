"""Private links: whose they are, when they are opened, what is asked back over them, and when they are closed.

Rule: a backend is a server in memory that counts its greetings and connections; time is moved, not waited for.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Raw

from tests.server.peers import Asked, MemoryWire, Notify, Server, in_memory, said, text, tool
from tests.upstream.badserver import until
from tests.upstream.fakes import served, stream, web
from tests.upstream.fakes_backend import Kept, kept, remote
from vmcp.call import Identity
from vmcp.config.model import Allow, BackendSpec
from vmcp.errors import McpError, Overdue, SessionLost, Unavailable
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.upstream import keeper
from vmcp.upstream import links as module
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.links import Key

OLD = Revision.V2025_11_25
ABLE = b'{"elicitation":{},"roots":{}}'
FORM = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def running(server: Server, isolation: Any = "session", **more: Any) -> AsyncIterator[Kept]:
    transport = "stdio" if server.two_way else "streamable-http"
    spec = BackendSpec("a", "g", transport, url="http://x/", command=("x",), isolation=isolation, **more)
    async with kept(spec, make=in_memory({"a": server})) as backend:
        await backend.up()
        yield backend


async def ok(asked: Asked, notify: Notify) -> bytes:
    return said("ok", OLD)


async def who(asked: Asked, notify: Notify) -> bytes:
    """Says over which connection it was asked."""
    return text({"wire": asked.wire.number})


async def asks(asked: Asked, notify: Notify) -> bytes:
    """Asks the user, and answers with the answer or the error."""
    try:
        return text({"answer": await asked.ask("elicitation/create", FORM)})
    except McpError as refused:
        return text({"refused": refused.code})


def old(script: Any = ok, **more: Any) -> Server:
    return Server(OLD, tools=[tool("t")], script=script, **more)


async def asker(question: Question) -> Raw:
    return Raw(b'{"action":"accept","content":{"n":1.0}}')


def told(complete: Any) -> Any:
    return json.loads(bytes(complete.result))


# --- whose they are


async def test_each_session_has_a_connection_of_its_own_opened_with_its_first_call() -> None:
    async with running(server := old(who)) as backend:
        assert server.declared() == [{"elicitation": {"form": {}}}]
        found = [told(await backend.ask(session=s, capabilities=ABLE))["wire"] for s in ("a", "b", "a", "b")]
        assert found == [1, 2, 1, 2]
        assert server.declared()[1:] == [{"elicitation": {}}] * 2


async def test_a_principal_has_one_for_what_its_client_can_do() -> None:
    async with running(server := old(who), allow=Allow(roots=True)) as backend:
        you, me = Identity("i", "you"), Identity("i", "me")
        for identity, able, wire in ((me, ABLE, 1), (you, ABLE, 2), (me, b"{}", 3), (me, ABLE, 1)):
            complete = await backend.ask(client=MODERN, capabilities=able, identity=identity)
            assert (told(complete)["wire"], complete.revision) == (wire, OLD)
        assert server.declared()[1:] == [json.loads(ABLE), json.loads(ABLE), {}]


async def test_a_request_may_have_one_for_itself() -> None:
    async with running(server := old(who, two_way=True), "request") as backend:
        assert [told(await backend.ask(session="s"))["wire"] for _ in range(3)] == [1, 2, 3]
        await until(lambda: all(wire.closed for wire in server.wires[1:]))
        assert not server.wires[0].closed


async def test_a_shared_backend_is_asked_over_one_and_asks_nobody() -> None:
    async with running(server := old(asks), "shared") as backend:
        assert told(await backend.ask(session="s", capabilities=ABLE, asker=asker)) == {"refused": -32601}
        assert (server.declared(), len(server.wires)) == ([{}], 1)


async def test_calls_at_once_open_one_link() -> None:
    async with running(server := old()) as backend, asyncio.TaskGroup() as group:
        server.up.clear()
        for _ in range(20):
            group.create_task(backend.ask(session="s"))
        await until(lambda: len(server.wires) == 2)
        server.up.set()
    assert (len(server.wires), len(server.declared())) == (2, 2)


async def test_who_leaves_while_a_link_opens_leaves_it_to_the_others() -> None:
    server = old()
    async with running(server) as backend, asyncio.TaskGroup() as group:
        server.up.clear()
        first = group.create_task(backend.ask(session="s"))
        await until(lambda: len(server.wires) == 2)
        second = group.create_task(backend.ask(session="s"))
        first.cancel()
        await until(lambda: len(server.wires) == 3)
        server.up.set()
    assert bytes(second.result().result) == said("ok", OLD)


# --- the handshake with a modern backend


async def test_a_backend_of_both_eras_serves_each_client_in_its_own() -> None:
    async with running(server := Server(MODERN, OLD, tools=[tool("t")], script=asks)) as backend:
        complete = await backend.ask(session="s", capabilities=ABLE, asker=asker)
        assert (told(complete), complete.revision) == ({"answer": {"action": "accept", "content": {"n": 1.0}}}, OLD)
        assert server.declared() == [{"elicitation": {}}]
        server.script = ok
        assert (await backend.ask(session="s", client=MODERN)).revision == MODERN


async def test_a_backend_that_knows_no_initialize_is_asked_for_one_only_once() -> None:
    async with running(server := Server(MODERN, tools=[tool("t")], script=ok)) as backend:
        for session in ("a", "b"):
            assert (await backend.ask(session=session, capabilities=ABLE)).revision == MODERN
        assert [asked.method for asked in server.asked].count("initialize") == 1
        meta = server.asked[-1].params["_meta"]
        assert meta["io.modelcontextprotocol/clientCapabilities"] == {"elicitation": {}}


async def test_a_modern_call_says_what_its_own_client_can_do_even_where_all_share() -> None:
    async with running(server := Server(MODERN, tools=[tool("t")], script=ok), "shared") as backend:
        for able in (ABLE, b"{}"):
            await backend.ask(client=MODERN, capabilities=able)
    key = "io.modelcontextprotocol/clientCapabilities"
    assert [asked.params["_meta"][key] for asked in server.calls()] == [{"elicitation": {}}, {}]


async def test_what_it_speaks_is_known_before_it_is_asked() -> None:
    def spoken(backend: Kept, client: Revision) -> Revision | None:
        return backend.backend.speaks(backend.call(session="s", client=client))

    async with running(Server(MODERN, Revision.V2025_06_18, tools=[tool("t")], script=ok)) as backend:
        assert (spoken(backend, OLD), spoken(backend, MODERN)) == (OLD, MODERN)
        await backend.ask(session="s")
        assert spoken(backend, OLD) == Revision.V2025_06_18
    assert spoken(backend, OLD) is None
    async with running(Server(MODERN, tools=[tool("t")], script=ok)) as backend:
        await backend.ask(session="s")
        assert spoken(backend, OLD) == MODERN
    async with running(old(), "shared") as backend:
        assert (spoken(backend, OLD), spoken(backend, MODERN)) == (OLD, OLD)


# --- questions


@pytest.mark.parametrize("two_way", [False, True])
async def test_a_question_reaches_the_asker_of_its_call(two_way: bool) -> None:
    async with running(old(asks, two_way=two_way)) as backend:
        complete = await backend.ask(session="s", capabilities=ABLE, asker=asker)
        assert told(complete) == {"answer": {"action": "accept", "content": {"n": 1.0}}}
        # Where no stream says whose it is, it is of the session; its client may have another way to be asked.
        nobody = {"answer": {"action": "accept", "content": {"of": "s"}}} if two_way else {"refused": -32601}
        assert told(await backend.ask(session="s", capabilities=ABLE)) == nobody
        assert told(await backend.ask(session="t", asker=asker)) == {"refused": -32601}


async def test_questions_of_two_calls_on_one_connection_reach_each_its_own() -> None:
    def named(name: str) -> Any:
        async def asker(question: Question) -> Raw:
            return Raw(json.dumps({"name": name}).encode())

        return asker

    async with running(old(asks)) as backend, asyncio.TaskGroup() as group:
        tasks = {
            name: group.create_task(backend.ask(session="s", capabilities=ABLE, asker=named(name))) for name in "abcdef"
        }
    assert {name: told(task.result())["answer"]["name"] for name, task in tasks.items()} == {n: n for n in "abcdef"}


async def test_a_call_that_is_left_ends_what_it_asked() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def patient(question: Question) -> Raw:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError

    async with running(old(asks)) as backend, asyncio.TaskGroup() as group:
        task = group.create_task(backend.ask(session="s", capabilities=ABLE, asker=patient))
        await asked.wait()
        task.cancel()
        await left.wait()


# --- what is said outside of calls


@pytest.mark.parametrize("two_way", [False, True])
async def test_what_a_private_link_says_is_its_owners_own(two_way: bool) -> None:
    async with running(server := old(two_way=two_way)) as backend:
        await backend.ask(session="s")
        await backend.ask(client=MODERN)
        for wire in (0, 1, 2):
            for method in ("notifications/message", "notifications/progress", "notifications/resources/updated"):
                server.say(method, {"n": wire}, wire)
    assert backend.events == [
        ("notifications/message", {"n": 0}, None),
        ("notifications/resources/updated", {"n": 0}, None),
        ("notifications/message", {"n": 1}, "s"),
        ("notifications/resources/updated", {"n": 1}, "s"),
        ("notifications/message", {"n": 2}, "principal"),
        ("notifications/resources/updated", {"n": 2}, "principal"),
    ]


async def test_log_messages_that_the_config_forbids_are_told_to_nobody() -> None:
    async def logs(asked: Asked, notify: Notify) -> bytes:
        await notify("notifications/message", {"level": "error", "data": 1})
        return said("ok", OLD)

    async with running(server := old(logs), allow=Allow(logging=False)) as backend:
        await backend.ask(session="s")
        server.say("notifications/message", {"n": 1}, 0)
        server.say("notifications/message", {"n": 1}, 1)
    assert backend.events == []


async def test_a_private_link_that_says_its_list_changed_has_it_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(server := old()) as backend:
        await backend.ask(session="s")
        server.tools = [tool("t"), tool("u")]
        server.say("notifications/tools/list_changed", None, 1)
        await until(lambda: len(backend.catalogs) == 2)


async def test_a_notification_of_a_client_reaches_its_own_connection_only() -> None:
    async with running(server := old()) as backend:
        await backend.ask(session="s")
        await backend.ask(session="t")
        server.told.clear()
        backend.backend.inform("s", "notifications/roots/list_changed")
        backend.backend.inform("unknown", "notifications/roots/list_changed")
        await until(lambda: server.told)
    assert server.told == [{"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]


async def test_a_standing_stream_is_held_for_each_link_and_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "backoff", lambda attempt, jitter: 0.0)
    heard: list[int] = []
    ends: Mapping[int, list[Any]] = {
        1: [True, Unavailable("a", "drop"), HttpRefused("a", "no", 503), False],
        2: [HttpRefused("a", "no", 404), True],
    }

    async def hear(wire: MemoryWire, headers: Any) -> bool:
        heard.append(wire.number)
        script = ends.get(wire.number, [False])
        end = script.pop(0) if script else False
        if isinstance(end, Unavailable):
            raise end
        return bool(end)

    monkeypatch.setattr(MemoryWire, "hear", hear)
    async with running(old()) as backend:
        await backend.ask(session="s")
        await backend.ask(session="t")
        await until(lambda: heard.count(1) == 4)
    assert heard.count(2) == 1


# --- standing streams of private links


def roots(answer: bytes = b'{"roots":[]}', seen: list[str] | None = None) -> Any:
    async def asker(question: Question) -> Raw:
        if seen is not None:
            seen.append(question.method)
        return Raw(answer)

    return asker


@pytest.mark.parametrize("two_way", [False, True])
async def test_what_is_asked_as_soon_as_it_may_be_is_of_who_opens_the_link(
    monkeypatch: pytest.MonkeyPatch, two_way: bool
) -> None:
    tell = MemoryWire.tell
    answers: list[Any] = []

    async def tells(wire: MemoryWire, body: bytes, headers: Any) -> None:
        await tell(wire, body, headers)
        if wire.number and b"initialized" in body:
            answers.append(await wire.ask("roots/list", None, None))

    monkeypatch.setattr(MemoryWire, "tell", tells)
    async with running(server := old(two_way=two_way), allow=Allow(roots=True)) as backend:
        await backend.ask(session="s", capabilities=ABLE, asker=roots(b'{"roots":[1]}'))
        assert (answers, backend.asked, len(server.calls())) == ([{"roots": [1]}], [], 1)


async def test_the_first_request_comes_after_the_standing_stream_and_the_answer_to_what_was_asked_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, order = old(), []

    async def hear(wire: MemoryWire, headers: Any) -> bool:
        if wire.number:
            await wire.ask("roots/list", None, None)
            order.append(len(server.calls()))
        return False

    monkeypatch.setattr(MemoryWire, "hear", hear)
    async with running(server, allow=Allow(roots=True)) as backend, asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(backend.ask(session="s", capabilities=ABLE, asker=roots()))
    assert (order, len(server.calls())) == ([0], 3)


async def test_a_stream_of_which_nothing_is_heard_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BRIEFLY", 0.0)
    held = holding(monkeypatch)
    async with running(old()) as backend:
        links = backend.backend._links
        links._patience = 0.01
        await backend.ask(session="s", capabilities=ABLE)
        assert links._patience == 0.0
        await backend.ask(session="t", capabilities=ABLE)
        assert held == {0, 1, 2}


def holding(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The connections whose standing stream is held, which no backend ever ends."""
    held: set[int] = set()

    async def hear(wire: MemoryWire, headers: Any) -> bool:
        held.add(wire.number)
        try:
            await asyncio.Event().wait()
        finally:
            held.remove(wire.number)
        raise AssertionError

    monkeypatch.setattr(MemoryWire, "hear", hear)
    return held


async def test_nothing_is_left_of_a_link_that_is_closed_however_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    held = holding(monkeypatch)
    monkeypatch.setattr(module, "CAP", 1)
    monkeypatch.setattr(module, "IDLE", 1e6)
    monkeypatch.setattr(module, "LISTENING", 0.01)
    asked: list[str] = []

    async def inquire(backend: Kept, session_id: str, question: Question) -> Raw:
        asked.append(session_id)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Kept, "inquire", inquire)
    async with running(server := old(), allow=Allow(roots=True)) as backend, asyncio.TaskGroup() as group:
        links, tasks = backend.backend._links, backend.backend._nest._tasks
        await until(lambda: held == {0})
        before = len(tasks)

        async def left(*wires: int) -> None:
            await until(
                lambda: held == {0, *wires} and all(w.closed for w in server.wires[1:] if w.number not in wires)
            )

        await backend.ask(session="a")
        await backend.ask(session="b", capabilities=ABLE)  # there is room for one only
        await left(2)
        question = group.create_task(server.wires[2].ask("roots/list", None, None))
        await until(lambda: asked == ["b"])
        backend.backend.forget("b")
        await left()
        await until(lambda: len(tasks) == before)
        question.cancel()
        await backend.ask(session="c")
        await left(3)
        monkeypatch.setattr(module, "IDLE", 0.0)
        links._sweep()
        await left()
        await until(lambda: len(tasks) == before)
    assert held == set()


async def test_a_session_that_ends_while_its_stream_opens_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    held = holding(monkeypatch)
    async with running(server := old()) as backend, asyncio.TaskGroup() as group:
        task = group.create_task(refused(backend, session="s", capabilities=ABLE))
        await until(lambda: 1 in held)
        backend.backend.forget("s")
        assert "the session has ended" in str(await task)
        await until(lambda: server.wires[1].closed and held == {0})


async def test_a_link_of_one_request_has_a_stream_only_if_something_may_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = holding(monkeypatch)

    async def sees(asked: Asked, notify: Notify) -> bytes:
        return text({"held": asked.wire.number in held})

    monkeypatch.setattr(module, "LISTENING", 0.01)
    async with running(old(sees), "request") as backend:
        backend.backend._links._patience = 0.01
        assert told(await backend.ask(session="s")) == {"held": False}
        assert told(await backend.ask(session="s", capabilities=ABLE)) == {"held": True}
        await until(lambda: held <= {0})


async def test_what_is_asked_while_nothing_is_in_flight_is_of_the_client_of_the_session() -> None:
    async with running(server := old(), allow=Allow(roots=True)) as backend:
        await backend.ask(session="s", capabilities=ABLE)
        await backend.ask(client=MODERN, capabilities=ABLE)
        answer = await server.wires[1].ask("roots/list", None, None)
        assert (answer["content"], backend.asked) == ({"of": "s"}, [("s", "roots/list")])
        with pytest.raises(McpError, match="Method not found"):
            await server.wires[2].ask("roots/list", None, None)
        with pytest.raises(McpError, match="takes no sampling"):
            await server.wires[1].ask("sampling/createMessage", {}, None)


# --- the log level


async def test_a_session_sets_the_level_of_its_own_link() -> None:
    capabilities = {"tools": {}, "logging": {}}
    async with running(server := old(capabilities=capabilities)) as backend:
        for level in ("info", "debug", "debug", "error"):
            await backend.ask(session="s", level=level)
        await backend.ask(session="t", level="info")
    levels = [
        (asked.wire.number, asked.params["level"]) for asked in server.asked if asked.method == "logging/setLevel"
    ]
    assert levels == [(1, "debug"), (1, "error")]


async def test_a_level_that_is_refused_hinders_nobody() -> None:
    async def refuses(asked: Asked, notify: Notify) -> bytes:
        if asked.method == "logging/setLevel":
            raise McpError(-32601, "Method not found")
        return said("ok", OLD)

    async with running(old(refuses, capabilities={"tools": {}, "logging": {}})) as backend:
        assert bytes((await backend.ask(session="s", level="debug")).result) == said("ok", OLD)


# --- when they end


async def test_over_http_the_stream_comes_before_the_first_call_and_ends_with_the_session() -> None:
    server = web("2025-11-25", **{"": stream(ends=False)})
    async with served(server), kept(remote(server, isolation="session")) as backend:
        await backend.up()
        await backend.ask(session="s", capabilities=ABLE)
        said = [told.method or told.verb for told in server.heard if told.headers.get("mcp-session-id") == "s2"]
        assert said == ["notifications/initialized", "GET", "tools/call"]
        left = server.left
        backend.backend.forget("s")
        await until(lambda: server.left > left and server.heard[-1].verb == "DELETE")
        assert backend.backend._connector._pools["standing streams"].active == 1, "that of the control link"


@pytest.mark.parametrize("two_way", [False, True])
async def test_a_link_ends_with_its_session_and_at_once(two_way: bool) -> None:
    async with running(server := old(two_way=two_way)) as backend:
        await backend.ask(session="s")
        await backend.ask(session="t")
        backend.backend.forget("s")
        backend.backend.forget("s")
        backend.backend.forget("never seen")
        await until(lambda: server.wires[1].closed)
        assert [wire.closed for wire in server.wires] == [False, True, False]
    assert all(wire.closed for wire in server.wires)


async def test_a_session_that_ends_while_its_link_opens_gets_none() -> None:
    async with running(server := old()) as backend, asyncio.TaskGroup() as group:
        server.up.clear()
        task = group.create_task(refused(backend, session="s"))
        await until(lambda: len(server.wires) == 2)
        backend.backend.forget("s")
        server.up.set()
        assert "the session has ended" in str(await task)
        await until(lambda: server.wires[1].closed)


async def refused(backend: Kept, **more: Any) -> McpError:
    with pytest.raises(McpError) as failed:
        await backend.ask(**more)
    return failed.value


async def test_what_nobody_uses_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.02)
    gate = asyncio.Event()

    async def waits(asked: Asked, notify: Notify) -> bytes:
        await gate.wait()
        return said("ok", OLD)

    async with running(server := old()) as backend, asyncio.TaskGroup() as group:
        await backend.ask(session="idle")
        server.script = waits
        group.create_task(backend.ask(session="busy"))
        await until(lambda: server.wires[1].closed)
        await until(lambda: len(server.wires) == 3)
        assert not server.wires[2].closed
        gate.set()
        await until(lambda: server.wires[2].closed)
        await backend.ask(session="idle")
        assert len(server.wires) == 4


async def test_there_are_only_so_many_and_the_oldest_unused_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAP", 2)
    async with running(server := old(who)) as backend:
        for session in ("a", "b", "a", "c"):
            await backend.ask(session=session)
        await until(lambda: server.wires[2].closed)
        assert told(await backend.ask(session="a"))["wire"] == 1
        gate = asyncio.Event()

        async def waits(asked: Asked, notify: Notify) -> bytes:
            await gate.wait()
            return said("ok", OLD)

        server.script = waits
        async with asyncio.TaskGroup() as group:
            for session in ("a", "c"):
                group.create_task(backend.ask(session=session))
            await until(lambda: len(server.calls()) == 7)
            assert "2 clients use it at the same time" in str(await refused(backend, session="d"))
            gate.set()


async def test_a_link_whose_wire_has_ended_is_opened_anew_for_the_next_call() -> None:
    async with running(server := old(who, two_way=True)) as backend:
        await backend.ask(session="s")
        gone = server.wires[1].on_gone
        assert gone is not None
        gone()
        assert told(await backend.ask(session="s"))["wire"] == 2
        await until(lambda: server.wires[1].closed)
        assert backend.states == ["up"]


async def test_a_session_that_the_backend_forgot_is_begun_anew_once(monkeypatch: pytest.MonkeyPatch) -> None:
    forgets = {1}

    async def forgetful(asked: Asked, notify: Notify) -> bytes:
        if asked.wire.number in forgets:
            raise SessionLost("404")
        return await who(asked, notify)

    async with running(server := old(forgetful)) as backend:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(backend.ask(session="s")) for _ in range(5)]
        assert {told(task.result())["wire"] for task in tasks} == {2}
        assert len(server.wires) == 3
        forgets.update(range(100))
        assert "it forgets every session at once" in str(await refused(backend, session="t"))


async def test_a_link_that_cannot_be_opened_fails_the_call_and_the_next_one_tries_again() -> None:
    async with running(server := old()) as backend:
        server.refusal = "connection refused"
        assert "connection refused" in str(await refused(backend, session="s"))
        server.refusal = ""
        await backend.ask(session="s")


async def test_opening_counts_against_the_time_of_the_call() -> None:
    async with running(server := old()) as backend:
        server.up.clear()
        late = asyncio.get_running_loop().time() + 0.05
        assert isinstance(await refused(backend, session="s", deadline=late), Overdue)
        await until(lambda: server.wires[1].closed)


async def test_nothing_is_opened_any_more_when_it_ends() -> None:
    async with running(server := old()) as backend:
        await backend.ask(session="s")
        links = backend.backend._links
    assert (len(links), all(wire.closed for wire in server.wires)) == (0, True)
    with pytest.raises(Unavailable, match="the session has ended"):
        await links.take(Key("session", "s"), b"{}", 1e9)


async def test_a_wire_that_ends_during_the_greeting_makes_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(server := old(two_way=True)) as backend, asyncio.TaskGroup() as group:
        server.up.clear()
        task = group.create_task(refused(backend, session="s"))
        await until(lambda: len(server.wires) == 2)
        gone = server.wires[1].on_gone
        assert gone is not None
        gone()
        server.up.set()
        assert "it is gone" in str(await task)
        await until(lambda: server.wires[1].closed)


async def test_a_backend_whose_schemas_are_others_by_now_is_listed_again() -> None:
    async def mismatch(asked: Asked, notify: Notify) -> bytes:
        raise McpError(-32020, "Header mismatch")

    async with running(server := Server(MODERN, tools=[tool("t")], script=mismatch)) as backend:
        server.tools = [tool("u")]
        await refused(backend, client=MODERN)
        await until(lambda: len(backend.catalogs) == 2)
