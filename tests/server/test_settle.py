"""Clients of the handshake era and results that ask: the door asks them, and calls again with what they said.

Rule: the handler is a script of rounds; what it got with each call is what the client said to each question.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from tests.routing.catalogs import config
from vmcp.call import Answers, Call, Complete, InputRequired, Outcome, Peer
from vmcp.errors import McpError
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.questions import ELICIT, ROOTS, Question
from vmcp.protocol.revisions import HANDSHAKE, MODERN, Revision
from vmcp.routing.build import build
from vmcp.server import exchange
from vmcp.server.exchange import Exchange

OLD = Revision.V2025_11_25
FORM = {"mode": "form", "message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}
WHO = {"method": ELICIT, "params": FORM}
DONE = b'{"resultType":"complete","content":[]}'
Reply = Callable[[Question], Awaitable[bytes]]


class Asked:
    """A client that answers as a script says."""

    def __init__(self, reply: Reply | None = None, *, can_ask: bool = True) -> None:
        self.can_ask = can_ask
        self.asked: list[Question] = []
        self._reply = reply

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError

    async def ask(self, question: Question) -> Raw:
        self.asked.append(question)
        return Raw(await self._reply(question) if self._reply else b'{"action":"accept","content":{"n":1.0}}')


class Rounds:
    """A handler: gives one outcome after the other, the last one for ever, and remembers what came with each call."""

    def __init__(self, *outcomes: Mapping[str, Any] | bytes) -> None:
        self._outcomes = list(outcomes)
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> Outcome:
        self.calls.append(call)
        told = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(told, bytes):
            return Complete(Raw(told), MODERN)
        members = {"resultType": "input_required", **told}
        return InputRequired({key: Raw(json.dumps(value).encode()) for key, value in members.items()})

    def answers(self) -> list[Answers | None]:
        return [call.answers for call in self.calls]


async def result(
    handler: Rounds, client: Asked, revision: Revision = OLD, params: Sequence[bytes] = (), method: str = "tools/call"
) -> Any:
    tables: Any = SimpleNamespace(table=build(1, config(["a"]), {}), settled=asyncio.Event())
    tables.settled.set()
    body = b",".join([b'"name":"t"', *params])
    request = jsonrpc.parse(b'{"jsonrpc":"2.0","id":1,"method":"%b","params":{%b}}' % (method.encode(), body))
    assert isinstance(request, Request)
    text = await Exchange(handler, tables, 1.0).result(request, Peer(revision), "/mcp", client)
    return json.loads(text)


def told(answers: Answers | None) -> tuple[dict[str, Any], str | None]:
    assert answers is not None
    return {key: json.loads(bytes(raw)) for key, raw in answers.responses.items()}, answers.state


async def test_a_client_is_asked_and_the_call_goes_on_with_its_answer() -> None:
    handler, client = Rounds({"inputRequests": {"who": WHO}, "requestState": "s1"}, DONE), Asked()
    assert await result(handler, client) == {"content": []}
    assert [(asked.method, json.loads(bytes(asked.params))) for asked in client.asked] == [(ELICIT, FORM)]
    first, second = handler.answers()
    assert first is None
    assert told(second) == ({"who": {"action": "accept", "content": {"n": 1.0}}}, "s1")
    assert handler.calls[0].params == handler.calls[1].params


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_no_is_an_answer(action: str) -> None:
    async def reply(question: Question) -> bytes:
        return b'{"action":"%b"}' % action.encode()

    handler = Rounds({"inputRequests": {"who": WHO}, "requestState": ""}, DONE)
    await result(handler, Asked(reply))
    assert told(handler.answers()[1]) == ({"who": {"action": action}}, "")


async def test_questions_of_one_round_are_asked_at_once_and_told_apart() -> None:
    together = asyncio.Barrier(3)

    async def reply(question: Question) -> bytes:
        async with asyncio.timeout(5):
            await together.wait()
        return b'{"to":%b}' % json.dumps(json.loads(bytes(question.params or b"{}")).get("message")).encode()

    asks = {"a": {"method": ELICIT, "params": {"message": "A"}}, "b": {"method": ELICIT, "params": {"message": "B"}}}
    handler = Rounds({"inputRequests": {**asks, "c": {"method": ROOTS}}}, DONE)
    await result(handler, Asked(reply))
    assert told(handler.answers()[1]) == ({"a": {"to": "A"}, "b": {"to": "B"}, "c": {"to": None}}, None)


async def test_there_may_be_several_rounds_each_with_its_own_state() -> None:
    rounds = [{"inputRequests": {f"k{n}": WHO}, "requestState": f"s{n}"} for n in range(exchange.ROUNDS)]
    handler, client = Rounds(*rounds, DONE), Asked()
    assert await result(handler, client) == {"content": []}
    assert [told(answers)[1] for answers in handler.answers()[1:]] == [f"s{n}" for n in range(exchange.ROUNDS)]
    assert [list(told(answers)[0]) for answers in handler.answers()[1:]] == [[f"k{n}"] for n in range(exchange.ROUNDS)]


async def test_a_backend_that_asks_for_ever_is_stopped() -> None:
    handler, client = Rounds({"inputRequests": {"who": WHO}}), Asked()
    with pytest.raises(McpError, match="asks too often") as refused:
        await result(handler, client)
    assert (refused.value.code, refused.value.vmcp_code) == (-32603, 4000)
    assert (len(client.asked), len(handler.calls)) == (exchange.ROUNDS, exchange.ROUNDS + 1)


async def test_a_backend_that_asks_nothing_for_ever_is_stopped_sooner() -> None:
    handler = Rounds({"requestState": "s"})
    with pytest.raises(McpError, match="asks too often"):
        await result(handler, Asked())
    assert len(handler.calls) == exchange.SILENT_ROUNDS + 1
    patient = Rounds(*[{"requestState": "s"}] * exchange.SILENT_ROUNDS, DONE)
    assert await result(patient, Asked(can_ask=False)) == {"content": []}, "for that nobody need be asked"


async def test_the_error_of_a_client_ends_the_call_and_its_other_questions() -> None:
    left: list[str] = []

    async def reply(question: Question) -> bytes:
        if question.method == ROOTS:
            raise McpError(-1, "the user has left")
        try:
            await asyncio.Event().wait()
        finally:
            left.append(question.method)
        raise AssertionError

    handler = Rounds({"inputRequests": {"who": WHO, "roots": {"method": ROOTS}}}, DONE)
    with pytest.raises(McpError, match="answered with an error: the user has left") as refused:
        await result(handler, Asked(reply))
    assert refused.value.code == -32603
    assert left == [ELICIT]
    assert len(handler.calls) == 1


async def test_what_nobody_expected_of_a_client_is_an_incident() -> None:
    async def reply(question: Question) -> bytes:
        raise ZeroDivisionError("secret")

    with pytest.raises(McpError, match="incident"):
        await result(Rounds({"inputRequests": {"who": WHO}}, DONE), Asked(reply))


async def test_a_client_that_never_answers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reply(question: Question) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(exchange, "THINKING", 0.01)
    with pytest.raises(McpError, match="did not answer within"):
        await result(Rounds({"inputRequests": {"who": WHO}}, DONE), Asked(reply))


async def test_a_client_that_goes_away_takes_its_questions_along() -> None:
    waiting, left = asyncio.Event(), asyncio.Event()

    async def reply(question: Question) -> bytes:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        raise AssertionError

    handler = Rounds({"inputRequests": {"who": WHO}}, DONE)
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        task = group.create_task(result(handler, Asked(reply)))
        await waiting.wait()
        task.cancel()
        await left.wait()
    assert task.cancelled()
    assert len(handler.calls) == 1


async def test_a_client_without_an_event_stream_is_told_so() -> None:
    client = Asked(can_ask=False)
    with pytest.raises(McpError, match="must accept an event stream"):
        await result(Rounds({"inputRequests": {"who": WHO}}, DONE), client)
    assert client.asked == []


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_a_question_is_asked_in_the_words_of_the_clients_revision_or_not_at_all(revision: Revision) -> None:
    handler, client = Rounds({"inputRequests": {"who": WHO}}, DONE), Asked()
    if revision < Revision.V2025_06_18:
        with pytest.raises(McpError, match="cannot be asked it") as refused:
            await result(handler, client, revision)
        assert refused.value.code == -32603
        return
    await result(handler, client, revision)
    assert ("mode" in json.loads(bytes(client.asked[0].params))) is (revision == OLD)


# --- clients of 2026-07-28 are not asked, but come back


async def test_a_modern_client_gets_the_question_as_its_result() -> None:
    asks = {"inputRequests": {"who": WHO}, "requestState": "sealed", "_meta": {"x": 1.0}}
    client = Asked()
    assert await result(Rounds(asks), client, MODERN) == {"resultType": "input_required", **asks}
    assert client.asked == []


RETRY = [b'"inputResponses":{"a":{ "action" : "accept","n":1.0}}', b'"requestState":"sealed"', b'"x":1']


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
async def test_what_a_modern_client_brings_back_is_taken_from_the_params(method: str) -> None:
    handler = Rounds(DONE)
    await result(handler, Asked(), MODERN, RETRY, method)
    (call,) = handler.calls
    assert call.answers is not None
    assert bytes(call.answers.responses["a"]) == b'{ "action" : "accept","n":1.0}'
    assert call.answers.state == "sealed"
    assert call.params.keys() == {"name", "x"}, "no backend sees what is sealed"


@pytest.mark.parametrize(
    ("given", "responses", "state"),
    [([RETRY[0]], {"a"}, None), ([b'"requestState":""'], set(), ""), ([b'"inputResponses":{}'], set(), None)],
)
async def test_each_half_of_a_retry_may_be_absent(given: list[bytes], responses: set[str], state: str | None) -> None:
    handler = Rounds(DONE)
    await result(handler, Asked(), MODERN, given)
    answers = handler.answers()[0]
    assert answers is not None
    assert (answers.responses.keys(), answers.state) == (responses, state)


@pytest.mark.parametrize(
    "given",
    [b'"inputResponses":[]', b'"inputResponses":null', b'"inputResponses":{"a":1}', b'"inputResponses":{"a":null}',
     b'"requestState":null', b'"requestState":1', b'"requestState":{}'],
)  # fmt: skip
async def test_a_retry_that_is_malformed_is_refused(given: bytes) -> None:
    handler = Rounds(DONE)
    with pytest.raises(McpError, match="Invalid params") as refused:
        await result(handler, Asked(), MODERN, [given])
    assert refused.value.code == -32602
    assert handler.calls == []


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_an_older_client_cannot_slip_a_state_to_a_backend(revision: Revision) -> None:
    handler = Rounds(DONE)
    await result(handler, Asked(), revision, [*RETRY, b'"inputRequests":1'])
    assert handler.answers() == [None]
    assert handler.calls[0].params.keys() == {"name", "x", "inputRequests"}


async def test_in_other_methods_these_names_mean_nothing() -> None:
    handler = Rounds(b'{"resultType":"complete"}')
    await result(handler, Asked(), MODERN, RETRY, "tools/list")
    assert handler.answers() == [None]
    assert handler.calls[0].params.keys() == {"name", "x", "inputResponses", "requestState"}
