"""What becomes of a backend's questions: to whom they go, what the backend is answered, and what ends them.

Rule: every test ends with all that the backend was told, in order.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from tests.upstream.badserver import until
from tests.upstream.fakes import Json, soon
from vmcp.errors import McpError, SessionLost
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.protocol.questions import Question
from vmcp.tasks import Nest
from vmcp.upstream import answering as module
from vmcp.upstream.answering import Answering
from vmcp.upstream.ask import Ask, Asker

ROOTS = b'{"roots":{}}'
REFUSED = {"code": -32601, "message": "Method not found"}


class Desk:
    """An ``Answering``, and what the backend was told."""

    def __init__(self, nest: Nest, capabilities: bytes = ROOTS) -> None:
        self.told: list[Json] = []
        self.answering = Answering(nest, self._tell, capabilities)

    async def _tell(self, body: bytes) -> None:
        self.told.append(json.loads(body))

    async def hears(self, count: int) -> list[Json]:
        await until(lambda: len(self.told) >= count)
        return self.told


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def nest() -> AsyncIterator[Nest]:
    async with Nest("test") as kept:
        yield kept


def question(id_: str = "7", method: str = "roots/list", **more: Any) -> Message:
    return jsonrpc.read(json.dumps({"jsonrpc": "2.0", "id": "$", "method": method} | more).replace('"$"', id_).encode())


def asking(asker: Asker | None, seconds: float = 5.0) -> Ask:
    return Ask("tools/call", {}, soon(seconds), asker=asker)


async def answers(question: Question) -> Raw:
    return Raw(b'{"roots":[1.0]}')


async def never(question: Question) -> Raw:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("id_", ["7", '"7"', "12345678901234567890"])
async def test_a_question_is_answered_by_the_asker_of_its_request(id_: str, nest: Nest) -> None:
    seen: list[Question] = []

    async def asker(question: Question) -> Raw:
        seen.append(question)
        return await answers(question)

    desk = Desk(nest)
    desk.answering.take(question(id_, params={"_meta": {"n": 1.0}}), 1, asking(asker))
    assert await desk.hears(1) == [{"jsonrpc": "2.0", "id": json.loads(id_), "result": {"roots": [1.0]}}]
    assert [(q.method, json.loads(bytes(q.params))) for q in seen] == [("roots/list", {"_meta": {"n": 1.0}})]
    assert not desk.answering.open


async def test_a_ping_needs_nobody(nest: Nest) -> None:
    desk = Desk(nest, b"{}")
    desk.answering.take(question(method="ping"), 0, None)
    assert await desk.hears(1) == [{"jsonrpc": "2.0", "id": 7, "result": {}}]


async def test_a_question_that_nobody_can_answer_is_refused_at_once(nest: Nest) -> None:
    desk = Desk(nest)
    desk.answering.take(question(), 0, None)
    desk.answering.take(question(), 1, asking(None))
    assert [told["error"] for told in await desk.hears(2)] == [REFUSED, REFUSED]


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "tools/list", "roots/get"])
async def test_nobody_is_asked_what_was_not_declared(method: str, nest: Nest) -> None:
    desk = Desk(nest)
    desk.answering.take(question(method=method, params={}), 1, asking(never))
    [told] = await desk.hears(1)
    assert told["error"]["code"] == -32601


async def test_the_clients_error_is_the_answer(nest: Nest) -> None:
    async def asker(question: Question) -> Raw:
        raise McpError(-1, "User rejected", {"a": 1})

    desk = Desk(nest)
    desk.answering.take(question(), 1, asking(asker))
    [told] = await desk.hears(1)
    assert told["error"] == {"code": -1, "message": "User rejected", "data": {"a": 1}}


async def test_an_answer_that_does_not_arrive_is_an_error(nest: Nest) -> None:
    async def lost(question: Question) -> Raw:
        raise SessionLost("gone")

    desk = Desk(nest)
    desk.answering.take(question("1"), 1, asking(never, 0.01))
    desk.answering.take(question("2"), 1, asking(lost))
    told = {message["id"]: message["error"]["message"] for message in await desk.hears(2)}
    assert told == {1: "The client did not answer in time", 2: "The client's answer did not arrive"}


async def test_only_so_many_questions_wait_at_once(nest: Nest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 2)
    desk = Desk(nest)
    for id_ in ("1", "1", "2", "3"):
        desk.answering.take(question(id_), 1, asking(never))
    assert [told["id"] for told in await desk.hears(2)] == [1, 3]
    assert len(desk.answering.open) == 2


async def test_what_the_backend_takes_back_is_asked_no_longer(nest: Nest) -> None:
    left: list[int] = []

    def waiting(number: int) -> Asker:
        async def asker(question: Question) -> Raw:
            try:
                return await never(question)
            finally:
                left.append(number)

        return asker

    desk = Desk(nest)
    for number, id_ in ((1, "7"), (2, "7"), (3, '"7"')):
        desk.answering.take(question(id_), number, asking(waiting(number)))
    await asyncio.sleep(0)
    desk.answering.cancelled(Raw(b'{"requestId":7}'), None)  # two have this id, and no stream says which is meant
    desk.answering.cancelled(Raw(b"[]"), 1)
    desk.answering.cancelled(Raw(b'{"requestId":8}'), 1)
    desk.answering.cancelled(Raw(b'{"requestId":7}'), 2)
    desk.answering.cancelled(Raw(b'{"requestId":"7"}'), None)
    await until(lambda: sorted(left) == [2, 3])
    assert (desk.told, len(desk.answering.open)) == ([], 1)


async def test_the_end_of_a_request_ends_its_questions_and_no_others(nest: Nest) -> None:
    desk = Desk(nest)
    desk.answering.take(question("1"), 1, asking(never))
    desk.answering.take(question("2"), 2, asking(never))
    desk.answering.end(1)
    [told] = await desk.hears(1)
    assert (told["id"], told["error"]["code"], len(desk.answering.open)) == (1, -32603, 1)
