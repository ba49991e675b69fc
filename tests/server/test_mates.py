"""What workers ask each other. Rule: real sockets; and whatever one of them does, no descriptor is left."""

import asyncio
import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from tests.server.mated import crew
from tests.server.peers import until
from vmcp.server import mates
from vmcp.server.post import QUESTION
from vmcp.state.crew import AWAY


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def back(body: bytes) -> bytes:
    return body[::-1]


@pytest.mark.parametrize("size", [0, 3, 70_000, 3_000_000])
async def test_who_is_asked_answers_whole_and_nothing_is_left_open(size: int) -> None:
    async with crew(3) as (one, two, three):
        two.answers["back"] = three.answers["back"] = back
        before = descriptors()
        body = os.urandom(size)
        answers = await one.all("back", body)
        assert {index: (each.pid, each.body) for index, each in answers.items()} == {
            1: (os.getpid(), body[::-1]),
            2: (os.getpid(), body[::-1]),
        }
        await until(lambda: descriptors() == before)


async def test_who_does_not_know_the_question_says_nothing_and_is_not_waited_for() -> None:
    async with crew(3) as (one, _, three):
        three.answers["back"] = back
        assert list(await one.all("back", b"x", 60.0)) == [2]


async def test_who_is_away_is_not_asked() -> None:
    async with crew(2) as (one, two):
        two.answers["back"] = back
        one.crew.common.counts[1] = AWAY
        assert await one.ask(1, "back") is None
        one.crew.common.counts[1] = 0
        assert await one.ask(1, "back") is not None


async def test_who_takes_too_long_is_left_out_and_may_go_on_in_vain() -> None:
    async with crew(3) as (one, two, three):
        gate, begun = asyncio.Event(), asyncio.Event()

        async def late(_: bytes) -> bytes:
            begun.set()
            await gate.wait()
            return bytes(1 << 20)

        two.answers["q"], three.answers["q"] = late, back
        before = descriptors()
        assert list(await one.all("q", b"", 0.05)) == [2]
        assert begun.is_set()
        gate.set()
        await until(lambda: descriptors() == before and not two._busy)


async def test_half_an_answer_is_none() -> None:
    async with crew(2) as (one, two):

        def dies(body: bytes, found: list[int]) -> None:
            os.write(found[0], mates._HEAD.pack(1, 100) + b"half")
            os.close(found[0])

        assert two._post is not None
        two._post.on[QUESTION] = dies
        assert await one.ask(1, "q") is None


async def test_nobody_announces_more_than_there_may_be() -> None:
    async with crew(2) as (one, two):
        held: list[int] = []

        def boasts(body: bytes, found: list[int]) -> None:
            os.write(found[0], mates._HEAD.pack(1, mates.LARGEST + 1))
            held.extend(found)

        assert two._post is not None
        two._post.on[QUESTION] = boasts
        async with asyncio.timeout(5):
            assert await one.ask(1, "q", patience=60.0) is None
        os.close(held[0])


async def test_more_questions_than_can_be_answered_at_once_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mates, "MOST", 1)
    async with crew(2) as (one, two):
        gate, begun = asyncio.Event(), asyncio.Event()

        async def waits(_: bytes) -> bytes:
            begun.set()
            await gate.wait()
            return b"done"

        two.answers["waits"], two.answers["back"] = waits, back
        async with asyncio.TaskGroup() as group:
            first = group.create_task(one.ask(1, "waits", patience=60.0))
            await begun.wait()
            assert await one.ask(1, "back", patience=60.0) is None
            gate.set()
        answer = first.result()
        assert answer is not None
        assert answer.body == b"done"
        assert await one.ask(1, "back", b"ab") == mates.Answer(os.getpid(), b"ba")


async def test_who_has_no_descriptors_left_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    async with crew(2) as (one, two):
        two.answers["back"] = back
        monkeypatch.setattr(mates.socket, "socketpair", none_left)
        assert not await one.all("back")


async def test_a_full_inbox_is_no_answer() -> None:
    async with crew(2) as (one, two):
        assert one._post is not None
        assert two._post is not None
        two._post.stop()
        while one._post.send(1, b"x", bytes(60_000), []):
            pass
        assert await one.ask(1, "q", patience=60.0) is None


async def test_a_question_without_a_way_back_and_one_with_too_many_leave_nothing_open() -> None:
    async with crew(2) as (one, _):
        assert one._post is not None
        before = descriptors()
        reads, writes = os.pipe()
        assert one._post.send(1, QUESTION, b"q\n", [])
        assert one._post.send(1, QUESTION, b"q\n", [reads, writes])
        os.close(reads)
        os.close(writes)
        await until(lambda: descriptors() == before)
