"""While a call is in flight: questions on its stream, answers that come by other posts, and a client that cancels.

Rule: a question or a cancellation of one session never reaches another, whatever the ids.
"""

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from tests.server.clients import Answer, Door, Front, Json
from tests.server.peers import until
from vmcp.call import Call, Complete, Outcome
from vmcp.errors import McpError
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import HANDSHAKE, MODERN, Revision

FORM = Question("elicitation/create", Raw(b'{"message":"?","requestedSchema":{"type":"object","properties":{}}}'))
ROOTS = Question("roots/list")


class Asker:
    """A tool that asks ``question`` and answers with what it was told."""

    def __init__(self, question: Question = ROOTS) -> None:
        self.question = question
        self.could: list[bool] = []

    async def __call__(self, call: Call) -> Outcome:
        self.could.append(call.client.can_ask)
        told = await call.client.ask(self.question)
        return Complete(Raw(b'{"content":[],"told":%b}' % bytes(told)), call.peer.revision)


class Parked:
    """A tool that says where it is when it is asked to, and waits until it is told to go on."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = self.cancelled = 0

    async def __call__(self, call: Call) -> Outcome:
        if call.tree["arguments"].get("talks"):
            await call.client.notify("notifications/progress", {"progressToken": 1, "progress": 1})
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Complete(Raw(b'{"content":[]}'), call.peer.revision)


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_a_question_comes_on_the_stream_of_its_call(revision: Revision) -> None:
    asker = Asker()
    door = await Front(asker).door(revision, roots={})
    async with door.calling("call").running() as post:
        await until(post.heard)
        (asked,) = post.heard()
        assert asked == {"jsonrpc": "2.0", "id": asked["id"], "method": "roots/list"}
        answer = await door.reply(asked["id"], {"roots": [], "x": 1})
        assert (answer.status, answer.body) == (202, b"")
        await until(lambda: len(post.heard()) == 2)
    assert post.answer.message["id"] == "call"
    assert post.answer.result["told"] == {"roots": [], "x": 1}
    assert asker.could == [True]


async def test_an_error_of_the_client_ends_the_question() -> None:
    door = await Front(Asker()).door(roots={})
    async with door.calling().running() as post:
        await until(post.heard)
        await door.reply(post.heard()[0]["id"], error={"code": -1, "message": "no"})
        await until(lambda: len(post.heard()) == 2)
    assert post.answer.message["error"] == {"code": -1, "message": "no"}


async def test_answers_within_a_batch_count_too() -> None:
    door = await Front(Asker()).door(Revision.V2025_03_26, roots={})
    async with door.calling().running() as post:
        await until(post.heard)
        batch = [{"jsonrpc": "2.0", "id": post.heard()[0]["id"], "result": {"roots": []}}]
        assert (await door.post(batch)).status == 202
        await until(lambda: len(post.heard()) == 2)
    assert post.answer.result["told"] == {"roots": []}


async def test_nobody_answers_for_somebody_else() -> None:
    front = Front(Asker())
    mine, other = await front.door(roots={}), await front.door(roots={})
    async with mine.calling().running() as post:
        await until(post.heard)
        asked = post.heard()[0]["id"]
        assert (await other.reply(asked, {"roots": ["theirs"]})).status == 202
        mine.path = "/g/mcp"
        assert (await mine.reply(asked, {"roots": ["theirs"]})).status == 404
        mine.path = "/mcp"
        await mine.reply(asked, {"roots": ["mine"]})
        await until(lambda: len(post.heard()) == 2)
    assert post.answer.result["told"] == {"roots": ["mine"]}


@pytest.mark.parametrize(
    ("revision", "accept", "capabilities"),
    [
        (MODERN, "application/json, text/event-stream", {"roots": {}}),
        (Revision.V2025_11_25, "application/json", {"roots": {}}),
        (Revision.V2025_11_25, "application/json, text/event-stream", {"sampling": {}}),
    ],
)
async def test_who_cannot_be_asked_is_not(revision: Revision, accept: str, capabilities: dict[str, Json]) -> None:
    asker = Asker()
    door = await Front(asker).door(revision, **capabilities)
    door.accept = accept
    answer = await door.call("t")
    assert "error" in answer.message
    assert asker.could == [revision is not MODERN and "sampling" in capabilities]


async def test_a_client_that_ends_its_session_ends_its_question() -> None:
    front = Front(Asker())
    door = await front.door(roots={})
    async with door.calling().running() as post:
        await until(post.heard)
        await door.http("DELETE")
    assert methods(post.answer)[0] == "roots/list"
    assert "result" not in post.answer.events()[-1]


def methods(answer: Answer) -> list[str]:
    return [event.get("method", "") for event in answer.events()]


# --- cancelling


async def cancel(door: Door, id_: object) -> None:
    assert (await door.tell("notifications/cancelled", {"requestId": id_, "reason": "x"})).status == 202


@pytest.mark.parametrize("revision", HANDSHAKE)
@pytest.mark.parametrize("talks", [0, 1])
async def test_a_cancelled_call_ends_without_a_reply(revision: Revision, talks: int) -> None:
    parked = Parked()
    door = await Front(parked).door(revision)
    async with door.calling("call", talks=talks).running() as post:
        await until(lambda: parked.begun)
        await cancel(door, "other")
        await cancel(door, "call")
    assert parked.cancelled == 1
    assert post.answer.status == 200
    assert post.answer.streamed
    assert len(post.answer.events()) == talks
    for last in post.ids()[-1:]:
        gone = await door.http("GET", accept="text/event-stream", last_event_id=last)
        assert gone.status == 400, "there is nothing to come back to"


async def test_who_accepts_json_only_is_told_of_the_cancellation() -> None:
    parked = Parked()
    door = await Front(parked).door()
    door.accept = "application/json"
    async with door.calling(7).running() as post:
        await until(lambda: parked.begun)
        await cancel(door, 7)
    assert post.answer.error["message"] == "the request was cancelled"
    assert post.answer.json()["id"] == 7


async def test_a_cancellation_takes_a_question_back() -> None:
    door = await Front(Asker()).door(roots={})
    async with door.calling("call").running() as post:
        await until(post.heard)
        await cancel(door, "call")
    asked, withdrawn = post.answer.events()
    assert withdrawn["method"] == "notifications/cancelled"
    assert withdrawn["params"]["requestId"] == asked["id"]


@pytest.mark.parametrize(
    "params", [{}, {"requestId": None}, {"requestId": 1.0}, {"requestId": [1]}, {"requestId": "1"}]
)
async def test_what_names_no_call_cancels_none(params: Json) -> None:
    parked = Parked()
    door = await Front(parked).door()
    async with door.calling(1).running() as post:
        await until(lambda: parked.begun)
        assert (await door.tell("notifications/cancelled", params)).status == 202
        parked.go.set()
        await until(lambda: post.answer.body)
    assert post.answer.result == {"content": []}


async def test_nobody_cancels_for_somebody_else_and_twins_are_left_alone() -> None:
    parked = Parked()
    front = Front(parked)
    mine, other, modern = await front.door(), await front.door(), await front.door(MODERN)
    async with mine.calling().running() as one, mine.calling().running() as two, modern.calling().running() as three:
        await until(lambda: parked.begun == 3)
        for door in (other, mine):
            await cancel(door, 1)
        raw: Any = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert (await modern.post(raw, mcp_protocol_version=str(MODERN))).status == 202
        parked.go.set()
        for post in (one, two, three):
            await until(lambda post=post: post.answer.body)
            assert "result" in post.answer.message
    assert parked.cancelled == 0


async def test_a_call_of_a_batch_is_cancelled_and_the_others_are_answered() -> None:
    parked = Parked()
    door = await Front(parked).door(Revision.V2025_03_26)
    call: Json = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "t", "arguments": {}}}
    for others, expected in (
        ([{"jsonrpc": "2.0", "id": 2, "method": "ping"}], [{"jsonrpc": "2.0", "id": 2}]),
        ([], []),
    ):
        parked.begun = 0
        raw = door.begin("POST", None, str([{**call, "id": 1}, *others]).replace("'", '"').encode())
        async with raw.running():
            await until(lambda: parked.begun)
            await cancel(door, 1)
        assert [{**reply, "result": {}} for reply in (raw.answer.json() if expected else [])] == [
            {**one, "result": {}} for one in expected
        ]
    assert parked.cancelled == 2


async def test_a_cancelled_call_leaves_the_connection_and_the_session_as_they_were() -> None:
    parked = Parked()
    front = Front(parked)
    door = await front.door()
    async with door.calling(1).running():
        await until(lambda: parked.begun)
        await cancel(door, 1)
    session = front.sessions.get(door.session or "")
    assert session is not None
    assert len(session.calls) == 0
    assert not front.pulse.streams
    parked.go.set()
    assert (await door.ask("tools/call", {"name": "t", "arguments": {}})).result == {"content": []}


async def test_an_error_of_the_handler_leaves_nothing_in_flight() -> None:
    async def failing(call: Call) -> Outcome:
        raise McpError(-32602, "no")

    front = Front(failing)
    door = await front.door()
    assert (await door.call("t")).error["code"] == -32602
    session = front.sessions.get(door.session or "")
    assert session is not None
    assert len(session.calls) == 0
