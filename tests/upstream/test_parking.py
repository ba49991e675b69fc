"""Calls that wait for their client: what is asked in one round, who may take them up again, and how they end.

Rule: nothing is waited for but what the call itself says; beside each coming back stands one that is refused.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from msgspec import Raw

from tests.server.peers import until
from vmcp.call import Client, Complete
from vmcp.errors import McpError
from vmcp.protocol.jsonrpc import NONE
from vmcp.protocol.questions import ELICIT, SAMPLE, Question
from vmcp.protocol.revisions import Revision
from vmcp.tasks import Nest
from vmcp.upstream import parking
from vmcp.upstream.ask import Asker
from vmcp.upstream.parking import Parking, Round

ANN, BOB = "1:xann", "1:xbob"
YES = Raw(b'{"action":"accept"}')
TOKEN = Raw(b'"t"')


class Stream:
    """A client that remembers what it was told."""

    can_ask = False

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        self.told.append((method, {key: bytes(raw) for key, raw in params.items()}))

    async def ask(self, question: Question) -> Raw:
        raise AssertionError


def done(words: object) -> Complete:
    return Complete(Raw(json.dumps(words).encode()), Revision.V2025_11_25)


def question(words: str, method: str = ELICIT) -> Question:
    return Question(method, Raw(json.dumps({"message": words}).encode()))


def words(turn: object) -> dict[str, str]:
    """The texts of a round by key."""
    assert isinstance(turn, Round)
    return {key: json.loads(bytes(asked.params))["message"] for key, asked in turn.asked.items()}


@pytest.fixture
async def nest() -> AsyncIterator[Nest]:
    async with Nest("test") as nest:
        yield nest


def asks_once(answers: list[Any] | None = None) -> Callable[[Client, Asker], Awaitable[Complete]]:
    async def run(client: Client, ask: Asker) -> Complete:
        answer = json.loads(bytes(await ask(question("who?"))))
        if answers is not None:
            answers.append(answer)
        return done(answer)

    return run


async def test_a_call_that_asks_nothing_is_just_answered(nest: Nest) -> None:
    lot = Parking(nest)

    async def run(client: Client, ask: Asker) -> Complete:
        await client.notify("notifications/progress", {"progressToken": Raw(b"1"), "progress": Raw(b"1")})
        await client.notify("notifications/message", {"data": Raw(b"2")})
        return done(1)

    stream = Stream()
    assert await lot.begin(ANN, run, stream, TOKEN) == done(1)
    assert stream.told == [
        ("notifications/progress", {"progressToken": b'"t"', "progress": b"1"}),
        ("notifications/message", {"data": b"2"}),
    ]
    assert not len(lot)


async def test_its_error_is_raised_and_what_nobody_expected_becomes_one(
    nest: Nest, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(client: Client, ask: Asker) -> Complete:
        raise McpError(-7, "no")

    async def break_(client: Client, ask: Asker) -> Complete:
        raise ZeroDivisionError("secret")

    with pytest.raises(McpError, match="no") as refused:
        await Parking(nest).begin(ANN, refuse, Stream(), NONE)
    assert refused.value.code == -7
    with pytest.raises(McpError, match="the log has why"):
        await Parking(nest).begin(ANN, break_, Stream(), NONE)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_question_ends_the_turn_and_the_answer_goes_on_with_the_same_call(nest: Nest) -> None:
    lot = Parking(nest)
    asked = await lot.begin(ANN, asks_once(), Stream(), NONE)
    assert words(asked) == {"q1": "who?"}
    assert isinstance(asked, Round)
    assert len(lot) == 1
    assert await lot.resume(asked.place, ANN, {"q1": YES, "other": YES}, Stream(), NONE) == done({"action": "accept"})
    assert not len(lot)
    assert await lot.resume(asked.place, ANN, {"q1": YES}, Stream(), NONE) is None, "it is over"


async def test_somebody_else_cannot_take_it_up_and_does_not_disturb_it(nest: Nest) -> None:
    lot = Parking(nest)
    answers: list[Any] = []
    asked = await lot.begin(ANN, asks_once(answers), Stream(), NONE)
    assert isinstance(asked, Round)
    for place, principal in ((asked.place, BOB), (asked.place, ""), ("x", ANN), ("", ANN)):
        assert await lot.resume(place, principal, {"q1": YES}, Stream(), NONE) is None
    assert answers == []
    assert await lot.resume(asked.place, ANN, {"q1": YES}, Stream(), NONE) == done({"action": "accept"})


async def test_what_is_asked_at_once_is_one_round_and_what_is_not_answered_is_asked_again(nest: Nest) -> None:
    lot = Parking(nest)

    async def run(client: Client, ask: Asker) -> Complete:
        found: dict[str, Any] = {}

        async def one(text: str) -> None:
            found[text] = json.loads(bytes(await ask(question(text))))

        async with asyncio.TaskGroup() as group:
            for text in ("a", "b", "c"):
                group.create_task(one(text))
        await one("d")
        return done(found)

    first = await lot.begin(ANN, run, Stream(), NONE)
    assert words(first) == {"q1": "a", "q2": "b", "q3": "c"}
    assert isinstance(first, Round)
    second = await lot.resume(first.place, ANN, {"q2": Raw(b'{"n":2}')}, Stream(), NONE)
    assert words(second) == {"q1": "a", "q3": "c"}
    third = await lot.resume(first.place, ANN, {"q1": Raw(b'{"n":1}'), "q3": Raw(b'{"n":3}')}, Stream(), NONE)
    assert words(third) == {"q4": "d"}, "a key is never used twice"
    late = await lot.resume(first.place, ANN, {"q1": YES, "q2": YES}, Stream(), NONE)
    assert words(late) == {"q4": "d"}, "an answer to what is no longer asked is no answer to anything"
    last = await lot.resume(first.place, ANN, {"q4": Raw(b'{"n":4}')}, Stream(), NONE)
    assert last == done({"b": {"n": 2}, "a": {"n": 1}, "c": {"n": 3}, "d": {"n": 4}})


async def test_only_one_can_be_at_the_door(nest: Nest) -> None:
    lot = Parking(nest)
    go = asyncio.Event()

    async def run(client: Client, ask: Asker) -> Complete:
        await ask(question("who?"))
        await go.wait()
        return done(1)

    asked = await lot.begin(ANN, run, Stream(), NONE)
    assert isinstance(asked, Round)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(lot.resume(asked.place, ANN, {"q1": YES}, Stream(), NONE))
        await until(lambda: not len(lot))
        assert await lot.resume(asked.place, ANN, {"q1": YES}, Stream(), NONE) is None
        go.set()
    assert first.result() == done(1)


async def test_the_retry_gets_the_notifications_under_its_own_token(nest: Nest) -> None:
    lot = Parking(nest)
    params = {"progressToken": Raw(b'"t"'), "progress": Raw(b"1")}

    async def run(client: Client, ask: Asker) -> Complete:
        assert not client.can_ask
        with pytest.raises(McpError):
            await client.ask(question("not this way"))
        for text in ("one", "two"):
            await ask(question(text))
            await client.notify("notifications/progress", params)
            await client.notify("notifications/message", {})
        return done(1)

    streams = [Stream(), Stream(), Stream()]
    asked = await lot.begin(ANN, run, streams[0], TOKEN)
    assert isinstance(asked, Round)
    await lot.resume(asked.place, ANN, {"q1": YES}, streams[1], Raw(b"7"))
    await lot.resume(asked.place, ANN, {"q2": YES}, streams[2], NONE)
    assert [stream.told for stream in streams] == [
        [],
        [("notifications/progress", {"progressToken": b"7", "progress": b"1"}), ("notifications/message", {})],
        [("notifications/message", {})],
    ]


async def test_what_is_said_while_nobody_is_there_or_too_fast_is_dropped(nest: Nest) -> None:
    lot = Parking(nest)
    said = asyncio.Event()

    async def run(client: Client, ask: Asker) -> Complete:
        answer = asyncio.ensure_future(ask(question("who?")))  # noqa: TID251 - as the link's own task does
        await until(lambda: len(lot))
        await client.notify("notifications/message", {"n": Raw(b"0")})
        said.set()
        await answer
        for n in range(parking.BACKLOG + 5):
            await client.notify("notifications/message", {"n": Raw(b"%d" % n)})
        return done(1)

    asked = await lot.begin(ANN, run, Stream(), NONE)
    assert isinstance(asked, Round)
    await said.wait()
    stream = Stream()
    await lot.resume(asked.place, ANN, {"q1": YES}, stream, NONE)
    assert len(stream.told) == parking.BACKLOG


async def test_a_question_that_is_taken_back_is_not_asked(nest: Nest) -> None:
    lot = Parking(nest)

    async def run(client: Client, ask: Asker) -> Complete:
        answer = asyncio.ensure_future(ask(question("never mind")))  # noqa: TID251 - as the link's own task does
        await asyncio.sleep(0)
        answer.cancel()
        await asyncio.wait([answer])
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        return done(json.loads(bytes(await ask(question("who?")))))

    asked = await lot.begin(ANN, run, Stream(), NONE)
    assert words(asked) == {"q2": "who?"}


async def test_a_round_that_came_to_nothing_is_waited_past(nest: Nest) -> None:
    lot = Parking(nest, gather=0.0)
    withdrawn = asyncio.Event()

    async def run(client: Client, ask: Asker) -> Complete:
        answer = asyncio.ensure_future(ask(question("never mind")))  # noqa: TID251 - as the link's own task does
        await asyncio.sleep(0)
        answer.cancel()
        await withdrawn.wait()
        return done(1)

    async with asyncio.TaskGroup() as group:
        turn = group.create_task(lot.begin(ANN, run, Stream(), NONE))
        asyncio.get_running_loop().call_later(0.01, withdrawn.set)
    assert turn.result() == done(1)


async def test_more_questions_than_one_call_may_ask_are_refused(nest: Nest) -> None:
    lot = Parking(nest)

    async def run(client: Client, ask: Asker) -> Complete:
        async def one(n: int) -> int:
            try:
                await ask(question(str(n)))
            except McpError as refused:
                return int("any more" in refused.message)
            return 0

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(n)) for n in range(18)]
        return done(sum(task.result() for task in tasks))

    asked = await lot.begin(ANN, run, Stream(), NONE)
    assert isinstance(asked, Round)
    assert len(asked.asked) == 16
    assert await lot.resume(asked.place, ANN, dict.fromkeys(asked.asked, YES), Stream(), NONE) == done(2)


async def test_each_principal_has_its_own_spaces(nest: Nest) -> None:
    lot = Parking(nest, spaces=2)
    for _ in range(2):
        assert isinstance(await lot.begin(ANN, asks_once(), Stream(), NONE), Round)
    answers: list[Any] = []
    with pytest.raises(McpError, match="2 calls already wait"):
        await lot.begin(ANN, asks_once(answers), Stream(), NONE)
    assert isinstance(await lot.begin(BOB, asks_once(), Stream(), NONE), Round)
    assert len(lot) == 3
    assert answers == []


# --- how it ends


class Ending:
    """A run that says how its questions and itself ended."""

    def __init__(self) -> None:
        self.answers: list[object] = []
        self.cancelled = asyncio.Event()

    async def run(self, client: Client, ask: Asker) -> Complete:
        try:
            for asked in (question("who?"), question("what?", SAMPLE)):
                await self._one(ask, asked)
            await self._one(ask, question("too late"))
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError

    async def _one(self, ask: Asker, asked: Question) -> None:
        try:
            self.answers.append(json.loads(bytes(await ask(asked))))
        except McpError as error:
            self.answers.append(error.message)


async def test_who_does_not_come_back_has_said_nothing_and_the_call_is_cancelled(
    nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "FAREWELL", 0.01)
    lot = Parking(nest, patience=0.0)
    ending = Ending()
    asked = await lot.begin(ANN, ending.run, Stream(), NONE)
    assert isinstance(asked, Round)
    async with asyncio.timeout(5):
        await ending.cancelled.wait()
    assert ending.answers == [
        {"action": "cancel"},
        "the client cannot be asked any more",
        "the client cannot be asked any more",
    ]
    assert await lot.resume(asked.place, ANN, {"q1": YES}, Stream(), NONE) is None
    assert not len(lot)


async def test_a_question_that_is_no_elicitation_is_answered_with_an_error(
    nest: Nest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "FAREWELL", 0.01)
    ended: list[str] = []

    async def run(client: Client, ask: Asker) -> Complete:
        try:
            await ask(question("what?", SAMPLE))
        except McpError as error:
            ended.append(error.message)
        return done(1)

    await Parking(nest, patience=0.0).begin(ANN, run, Stream(), NONE)
    await until(lambda: ended)
    assert ended == ["the client did not answer in time"]


async def test_coming_back_stops_the_clock(nest: Nest) -> None:
    lot = Parking(nest, patience=0.05)
    go = asyncio.Event()

    async def run(client: Client, ask: Asker) -> Complete:
        await ask(question("who?"))
        await go.wait()
        return done(1)

    asked = await lot.begin(ANN, run, Stream(), NONE)
    assert isinstance(asked, Round)
    asyncio.get_running_loop().call_later(0.1, go.set)
    assert await lot.resume(asked.place, ANN, {"q1": YES}, Stream(), NONE) == done(1)


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_client_that_goes_away_during_a_turn_cancels_the_call(nest: Nest, resumed: bool) -> None:
    lot = Parking(nest)
    cancelled = asyncio.Event()

    async def run(client: Client, ask: Asker) -> Complete:
        try:
            if resumed:
                await ask(question("who?"))
            await client.notify("notifications/message", {})
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    stream = Stream()
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        turn = group.create_task(lot.begin(ANN, run, stream, NONE))
        if resumed:
            asked = await turn
            assert isinstance(asked, Round)
            turn = group.create_task(lot.resume(asked.place, ANN, {"q1": YES}, stream, NONE))  # type: ignore[arg-type]
        await until(lambda: stream.told)
        turn.cancel()
        await cancelled.wait()
    assert not len(lot)


async def test_a_call_that_ends_while_it_waits_keeps_its_end_for_the_client(nest: Nest) -> None:
    lot = Parking(nest)
    left = asyncio.Event()

    async def run(client: Client, ask: Asker) -> Complete:
        answer = asyncio.ensure_future(ask(question("who?")))  # noqa: TID251 - as the link's own task does
        await until(lambda: len(lot))
        answer.cancel()
        left.set()
        raise McpError(-9, "the backend is gone")

    asked = await lot.begin(ANN, run, Stream(), NONE)
    assert isinstance(asked, Round)
    await left.wait()
    with pytest.raises(McpError, match="gone"):
        await lot.resume(asked.place, ANN, {"q1": YES}, Stream(), NONE)


async def test_nobody_waits_for_a_call_whose_nest_is_closed() -> None:
    nest = Nest("test")
    lot = Parking(nest)

    async def run(client: Client, ask: Asker) -> Complete:
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        turn = group.create_task(ended(lot.begin(ANN, run, Stream(), NONE)))
        await asyncio.sleep(0)
        await nest.close()
        assert "ended in the middle" in await turn


async def ended(turn: Awaitable[object]) -> str:
    try:
        await turn
    except McpError as error:
        return error.message
    return ""
