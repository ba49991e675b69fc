"""Questions to a client: who is asked, who may answer, and what becomes of a question that nobody waits for.

Rule: what is said is read as the bytes that were said.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Raw

from tests.server.peers import until
from vmcp.errors import McpError
from vmcp.protocol.jsonrpc import Reply
from vmcp.protocol.questions import Question
from vmcp.server import voice
from vmcp.server.voice import Voice

ABLE = b'{"sampling":{},"elicitation":{},"roots":{}}'
ROOTS = Question("roots/list")


class Client:
    """What a client hears, and the voice that says it."""

    def __init__(self, capabilities: bytes = ABLE) -> None:
        self.voice = Voice(capabilities)
        self.heard: list[bytes] = []

    async def say(self, message: bytes) -> None:
        self.heard.append(message)

    def last(self) -> Any:
        return json.loads(self.heard[-1])

    @contextlib.asynccontextmanager
    async def asked(self, question: Question = ROOTS) -> AsyncIterator["asyncio.Task[Raw]"]:
        async with asyncio.TaskGroup() as group:
            before = len(self.heard)
            task = group.create_task(self.voice.ask(self.say, question))
            await until(lambda: len(self.heard) > before)
            yield task


def answer(id_: object, result: bytes = b'{"roots":[]}') -> Reply:
    return Reply(json.dumps(id_).encode(), Raw(result))


async def test_a_question_goes_out_as_it_was_said_and_its_answer_comes_back() -> None:
    client = Client()
    params = b'{"messages":[],"maxTokens":1e0,"x-own":{"a":[1.0]}}'
    async with client.asked(Question("sampling/createMessage", Raw(params))) as task:
        assert params in client.heard[0]
        assert client.voice.take(answer(client.last()["id"], b'{"role":"assistant","x":1.0}'))
        assert bytes(await task) == b'{"role":"assistant","x":1.0}'
    assert len(client.voice) == 0


async def test_a_question_without_params_has_none() -> None:
    client = Client()
    async with client.asked():
        assert "params" not in client.last()
        client.voice.take(answer(client.last()["id"]))


async def test_an_error_of_the_client_is_raised_as_it_was_said() -> None:
    client = Client()
    told = Raw(b'{"code":-1,"message":"User rejected","data":{"x":1.0}}')

    async def refuse(message: bytes) -> None:
        client.voice.take(Reply(b"%d" % json.loads(message)["id"], error=told))

    with pytest.raises(McpError) as raised:
        await client.voice.ask(refuse, ROOTS)
    error = raised.value
    assert (error.code, error.message, error.data) == (-1, "User rejected", Raw(b'{"x":1.0}'))


async def test_only_the_very_id_is_an_answer_and_only_once() -> None:
    client = Client()
    async with client.asked() as task:
        id_ = client.last()["id"]
        for wrong in (str(id_), id_ + 1, -id_, 1):
            assert not client.voice.take(answer(wrong))
        assert not task.done()
        assert client.voice.take(answer(id_))
        assert not client.voice.take(answer(id_))


async def test_ids_begin_at_random_and_go_up() -> None:
    begun = set()
    for _ in range(5):
        client = Client()
        async with client.asked(), client.asked():
            first, second = (json.loads(message)["id"] for message in client.heard)
            assert second == first + 1
            begun.add(first)
            for id_ in (first, second):
                client.voice.take(answer(id_))
    assert len(begun) == 5


@pytest.mark.parametrize(
    ("capabilities", "question"),
    [
        (b"{}", ROOTS),
        (b'{"sampling":{}}', Question("elicitation/create", Raw(b'{"message":"?"}'))),
        (
            b'{"elicitation":{}}',
            Question("elicitation/create", Raw(b'{"mode":"url","url":"https://x/","message":"?"}')),
        ),
        (ABLE, Question("tools/list")),
    ],
)
async def test_nobody_is_asked_what_it_did_not_declare(capabilities: bytes, question: Question) -> None:
    client = Client(capabilities=capabilities)
    with pytest.raises(McpError):
        await client.voice.ask(client.say, question)
    assert not client.heard


@pytest.mark.parametrize(("capabilities", "able"), [(b"{}", False), (b'{"experimental":{}}', False), (ABLE, True)])
async def test_who_declared_something_can_be_asked(capabilities: bytes, able: bool) -> None:
    client = Client(capabilities=capabilities)
    assert client.voice.can_ask is able
    client.voice.close()
    assert not client.voice.can_ask


async def test_a_question_is_said_as_it_is() -> None:
    client = Client()
    question = Question("elicitation/create", Raw(b'{"mode" : "form","message":"?","requestedSchema":{"n":1.0}}'))
    async with client.asked(question):
        assert bytes(question.params) in client.heard[-1]
        client.voice.take(answer(client.last()["id"]))


async def test_a_question_that_is_not_answered_in_time_is_withdrawn() -> None:
    client = Client()
    with pytest.raises(McpError, match="in time"):
        await client.voice.ask(client.say, ROOTS, asyncio.get_running_loop().time() + 0.01)
    asked, withdrawn = map(json.loads, client.heard)
    assert withdrawn["method"] == "notifications/cancelled"
    assert withdrawn["params"]["requestId"] == asked["id"]
    assert not client.voice.take(answer(asked["id"]))


async def test_a_question_that_nobody_waits_for_any_more_is_withdrawn() -> None:
    client = Client()
    async with client.asked() as task:
        task.cancel()
        await until(task.done)
    assert client.last()["method"] == "notifications/cancelled"
    assert len(client.voice) == 0


async def test_a_withdrawal_that_cannot_be_said_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "_FAREWELL", 0.01)
    heard: list[bytes] = []

    async def stuck(message: bytes) -> None:
        heard.append(message)
        if b"cancelled" in message:
            await asyncio.Event().wait()

    with pytest.raises(McpError, match="in time"):
        await Client().voice.ask(stuck, ROOTS, asyncio.get_running_loop().time() + 0.01)
    assert len(heard) == 2


async def test_a_session_that_ends_answers_for_its_client() -> None:
    client = Client()
    with pytest.raises(ExceptionGroup) as raised:
        async with client.asked():
            client.voice.close()
    assert "ended its session" in str(raised.value.exceptions[0])
    with pytest.raises(McpError, match="ended its session"):
        await client.voice.ask(client.say, ROOTS)


async def test_there_are_only_so_many_questions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "OPEN", 1)
    client = Client()
    async with client.asked():
        with pytest.raises(McpError, match="1 questions before it"):
            await client.voice.ask(client.say, ROOTS)
        client.voice.take(answer(client.last()["id"]))
    async with client.asked():
        client.voice.take(answer(client.last()["id"]))
