"""Standing streams and streams that are taken up again: who gets what, where, and once.

Rule: every message is on one stream; a client that comes back gets exactly what it has not had.
"""

import asyncio

import pytest
from msgspec import Raw

from tests.server.clients import Answer, Door, Front, Json, listening
from tests.server.peers import until
from vmcp.call import Call, Complete, Outcome
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import HANDSHAKE, MODERN, Revision
from vmcp.server import journal, pulse, standing
from vmcp.server.sessions import Session

CHANGED = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


class Tool:
    """A tool that says progress each time ``step`` is released, asks when it is told to, and ends after ``steps``."""

    def __init__(self, steps: int = 2) -> None:
        self.step = asyncio.Semaphore(0)
        self.steps = steps
        self.calls = 0

    async def __call__(self, call: Call) -> Outcome:
        self.calls += 1
        for number in range(self.steps):
            await self.step.acquire()
            if call.tree["arguments"].get("asks"):
                await call.client.ask(Question("roots/list"))
            else:
                await call.client.notify("notifications/progress", {"progressToken": 1, "progress": number})
        return Complete(Raw(b'{"content":[]}'), call.peer.revision)

    def go(self, times: int = 1) -> None:
        for _ in range(times):
            self.step.release()


def session_of(front: Front, door: Door) -> Session:
    found = front.sessions.get(door.session or "")
    assert found is not None
    return found


def methods(answer: Answer) -> list[str]:
    return [event.get("method", "") for event in answer.events()]


def numbers(events: list[Json]) -> list[object]:
    """Progress by its number, replies as "reply"."""
    return [event["params"]["progress"] if "params" in event else "reply" for event in events]


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_what_the_hub_tells_comes_on_the_standing_stream(revision: Revision) -> None:
    front = Front(Tool())
    door = await front.door(revision)
    ear = front.ears[door.session or ""]
    async with door.listen().running() as get:
        await until(lambda: get.answer.body)
        assert get.answer.status == 200
        assert get.answer.headers["content-type"] == "text/event-stream"
        primed = revision >= Revision.V2025_11_25
        assert get.answer.body.startswith(b"event: message\nid: " if primed else b": ")
        ear.tell(CHANGED, {})
        await until(get.heard)
        ear.tell(UPDATED, {"uri": "x:/", "x-own": Raw(b"1.0")})
        await until(lambda: len(get.heard()) == 2)
        assert get.heard()[0] == {"jsonrpc": "2.0", "method": CHANGED}
        assert b'"x-own":1.0' in get.answer.body


async def test_what_waits_is_said_once_and_when_there_is_a_stream() -> None:
    front = Front(Tool())
    door = await front.door()
    ear = session_of(front, door)
    for uri in ("a:/", "b:/", "a:/"):
        ear.tell(CHANGED, {})
        ear.tell(UPDATED, {"uri": uri})
        ear.tell("notifications/message", {"level": "error", "data": uri})
    async with door.listen().running() as get:
        await until(get.heard)
    told = methods(get.answer)
    assert told.count(CHANGED) == 1
    assert [e["params"]["uri"] for e in get.heard() if e["method"] == UPDATED] == ["a:/", "b:/"]
    assert told.count("notifications/message") == 3


async def test_only_so_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "WAITING", 3)
    front = Front(Tool())
    door = await front.door()
    for number in range(5):
        session_of(front, door).tell(UPDATED, {"uri": f"{number}:/"})
    async with door.listen().running() as get:
        await until(get.heard)
    assert [event["params"]["uri"] for event in get.heard()] == ["2:/", "3:/", "4:/"]


async def test_only_so_many_bytes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "BYTES", 400)
    front = Front(Tool())
    session = session_of(front, await front.door())
    for uri in ("a:/" + "x" * 100, "b:/", "b:/", "c:/"):
        session.tell(UPDATED, {"uri": uri})
    assert len(session.standing._waiting) == 3
    session.tell(UPDATED, {"uri": "d:/" + "x" * 1000})
    assert len(session.standing._waiting) == 1
    session.tell(CHANGED, {})
    assert list(session.standing._waiting) == [CHANGED]
    assert session.standing._size == len(session.standing._waiting[CHANGED])


async def test_a_message_goes_out_on_the_newest_stream_only() -> None:
    front = Front(Tool())
    door = await front.door()
    async with door.listen().running() as first:
        await until(lambda: first.answer.body)
        async with door.listen().running() as second:
            await until(lambda: second.answer.body)
            session_of(front, door).tell(CHANGED, {})
            await until(second.heard)
            assert not first.heard()
        await until(lambda: len(session_of(front, door).standing) == 1)
        session_of(front, door).tell(CHANGED, {})
        await until(first.heard)
        assert session_of(front, door).held == 1
    assert session_of(front, door).held == 0


async def test_a_session_has_only_so_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "STREAMS", 1)
    front = Front(Tool())
    door = await front.door()
    first = door.listen()
    async with asyncio.TaskGroup() as group:
        ended = group.create_task(first.run())
        await until(lambda: first.answer.body)
        async with door.listen().running() as second:
            await until(ended.done)
            assert first.answer.chunks[-1] == b""
            session_of(front, door).tell(CHANGED, {})
            await until(second.heard)


async def test_a_client_that_comes_back_gets_what_it_has_not_had() -> None:
    front = Front(Tool())
    door = await front.door()
    ear = session_of(front, door)
    async with door.listen().running() as get:
        await until(lambda: get.answer.body)
        for uri in ("a:/", "b:/"):
            ear.tell(UPDATED, {"uri": uri})
        await until(lambda: len(get.heard()) == 2)
    primed, first, second = get.ids()
    ear.tell(UPDATED, {"uri": "c:/"})
    for last, expected in ((first, ["b:/", "c:/"]), (second, ["c:/"]), (primed, ["a:/", "b:/", "c:/"])):
        async with door.listen(last).running() as again:
            await until(lambda again=again, expected=expected: len(again.heard()) == len(expected))
            assert [event["params"]["uri"] for event in again.heard()] == expected
    async with door.listen(second).running() as again:
        await until(again.heard)
        ear.tell(UPDATED, {"uri": "d:/"})
        await until(lambda: len(again.heard()) == 2)


async def test_a_client_that_comes_back_before_its_loss_is_seen_takes_the_stream_with_it() -> None:
    front = Front(Tool())
    door = await front.door()
    session = session_of(front, door)
    async with door.listen().running() as lost:
        await until(lambda: lost.answer.body)
        async with door.listen(lost.ids()[0]).running() as again:
            await until(lambda: lost.answer.chunks[-1] == b"")
            session.tell(CHANGED, {})
            await until(again.heard)
            assert len(session.standing) == 1
    assert lost.heard() == []


async def test_a_server_that_ends_takes_its_streams_and_calls_with_it() -> None:
    tool = Tool()
    front = Front(tool)
    door = await front.door()
    async with asyncio.TaskGroup() as group:
        get, post = door.listen(), door.calling()
        tasks = [group.create_task(exchanged.run()) for exchanged in (get, post)]
        await until(lambda: tool.calls and get.answer.body)
        for task in tasks:
            task.cancel()
    assert all(task.cancelled() for task in tasks)
    assert not front.pulse.streams
    assert len(session_of(front, door).calls) == session_of(front, door).held == 0


async def test_a_call_goes_on_without_its_client_which_may_come_back_for_the_rest() -> None:
    tool = Tool(3)
    front = Front(tool)
    door = await front.door()
    async with door.calling("call").running() as post:
        tool.go()
        await until(post.heard)
        post.gone = True
        async with door.listen(post.ids()[-1]).running() as get:
            tool.go()
            await until(get.heard)
            tool.go()
            await until(lambda: len(get.heard()) == 3)
    assert numbers(post.heard()) == [0]
    assert numbers(get.heard()) == [1, 2, "reply"]
    assert get.heard()[-1]["id"] == "call"
    assert get.answer.chunks[-1] == b"", "nothing more will come"
    late = await door.http("GET", accept="text/event-stream", last_event_id=post.ids()[0])
    assert numbers(late.events()) == [0, 1, 2, "reply"]
    assert tool.calls == 1


async def test_a_stream_that_is_taken_up_elsewhere_says_nothing_twice() -> None:
    tool = Tool(2)
    front = Front(tool)
    door = await front.door()
    async with door.calling().running() as post:
        tool.go()
        await until(post.heard)
        async with door.listen(post.ids()[-1]).running() as get:
            await until(lambda: get.answer.body)
            async with door.listen(post.ids()[-1]).running() as other:
                await until(lambda: get.answer.chunks[-1] == b"")
                tool.go()
                await until(lambda: len(other.heard()) == 2)
    assert numbers(post.heard()) == [0]
    assert post.answer.chunks[-1] == b""
    assert get.heard() == []


@pytest.mark.parametrize("last", ["x", "-", "0-1", "00000000-1-1"])
async def test_an_id_that_leads_nowhere_is_refused(last: str) -> None:
    front = Front(Tool())
    door = await front.door()
    assert (await door.http("GET", accept="text/event-stream", last_event_id=last)).status == 400


async def test_an_id_of_another_session_leads_nowhere() -> None:
    tool = Tool(1)
    front = Front(tool)
    mine, other = await front.door(), await front.door()
    tool.go()
    answer = await mine.ask("tools/call", {"name": "t", "arguments": {}})
    last = next(line[4:] for line in answer.body.decode().splitlines() if line.startswith("id: "))
    assert (await mine.http("GET", accept="text/event-stream", last_event_id=last)).status == 200
    assert (await other.http("GET", accept="text/event-stream", last_event_id=last)).status == 400


async def test_what_was_dropped_is_refused_and_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "EVENTS", 2)
    tool = Tool(3)
    front = Front(tool)
    door = await front.door()
    tool.go(3)
    answer = await door.ask("tools/call", {"name": "t", "arguments": {}})
    ids = [line[4:] for line in answer.body.decode().splitlines() if line.startswith("id: ")]
    statuses = [(await door.http("GET", accept="text/event-stream", last_event_id=id_)).status for id_ in ids]
    assert statuses == [400, 400, 200, 200, 200]


async def test_a_reader_that_is_too_late_is_sent_away() -> None:
    front = Front(Tool())
    door = await front.door()
    session = session_of(front, door)
    async with door.listen().running() as get:
        await until(lambda: get.answer.body)
        session.tell(CHANGED, {})
        session.standing.feed(session.standing._tracks[-1])
        session.journal.empty()
        await until(lambda: get.answer.chunks[-1] == b"")


async def test_a_question_of_a_call_without_a_stream_goes_out_on_the_standing_one() -> None:
    tool = Tool(1)
    front = Front(tool)
    door = await front.door(roots={})
    door.accept = "application/json"
    tool.go()
    assert (await door.call("t", {"asks": 1})).error["code"] == -32603
    async with door.listen().running() as get, door.calling(asks=1).running() as post:
        await until(lambda: get.answer.body)
        tool.go()
        await until(get.heard)
        (asked,) = get.heard()
        assert asked["method"] == "roots/list"
        assert (await door.reply(asked["id"], {"roots": []})).status == 202
        await until(lambda: post.answer.body)
    assert post.answer.result == {"content": []}


async def test_an_open_stream_is_heard_to_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "QUIET", 0.01)
    front = Front(Tool())
    door = await front.door()
    async with front.nest:
        front.nest.start(front.pulse.run(), "pulse")
        async with door.listen().running() as get:
            await until(lambda: get.answer.chunks.count(b": \n\n") >= 2)
        assert not front.pulse.streams


async def test_a_session_that_ends_ends_its_streams() -> None:
    front = Front(Tool())
    door = await front.door()
    get = door.listen()
    async with asyncio.TaskGroup() as group:
        group.create_task(get.run())
        await until(lambda: get.answer.body)
        assert (await door.http("DELETE")).status == 204
    assert get.answer.chunks[-1] == b""
    assert [session.id for session in front.ended] == [door.session]


async def test_a_server_that_stops_ends_its_streams_and_opens_no_more() -> None:
    front = Front(Tool())
    door = await front.door()
    get = door.listen()
    async with asyncio.TaskGroup() as group:
        group.create_task(get.run())
        await until(lambda: get.answer.body)
        front.sessions.drain()
    assert (await door.http("GET", accept="text/event-stream")).status == 503


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"accept": "application/json"}, 406),
        ({"accept": None}, 406),
        ({"mcp_session_id": None}, 400),
        ({"mcp_session_id": "x" * 43}, 404),
        ({"mcp_protocol_version": str(MODERN)}, 405),
        ({"mcp_protocol_version": "2023-01-01"}, 400),
    ],
)
async def test_a_stream_is_for_a_session_and_for_who_accepts_it(headers: dict[str, str | None], status: int) -> None:
    front = Front(Tool())
    door = await front.door()
    refused = await door.http("GET", **{"accept": "text/event-stream", **headers})
    assert refused.status == status
    door.path = "/g/mcp"
    assert (await door.http("GET", accept="text/event-stream")).status == 404


async def test_a_client_that_leaves_its_stream_is_forgotten() -> None:
    front = Front(Tool())
    door = await front.door()
    async with listening(front.app, front.config) as server:
        raw = await server.say(
            b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            b"Mcp-Session-Id: %b\r\n\r\n" % (door.session or "").encode()
        )
        await until(lambda: session_of(front, door).held == 1)
        session_of(front, door).tell(CHANGED, {})
        head = await raw.reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert CHANGED.encode() in await raw.reader.readuntil(b'list_changed"}')
        raw.close()
        await until(lambda: session_of(front, door).held == 0)
        await until(lambda: not server.state.tasks)
