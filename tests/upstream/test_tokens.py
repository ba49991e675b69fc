"""Keeping tokens: until shortly before their end, so many, one request for each key; and how long an answer lets them live."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from vmcp.errors import Overdue, Unavailable
from vmcp.upstream.credentials import grants
from vmcp.upstream.credentials import tokens as module
from vmcp.upstream.credentials.grants import remaining
from vmcp.upstream.credentials.tokens import LONGEST, UNKNOWN, Token, Tokens


@pytest.fixture
async def tokens() -> AsyncIterator[Tokens]:
    made = Tokens("time")
    yield made
    await made.close()


class Clock:
    """The loop's time, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real, self.moved = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self.moved)


class Source:
    """Gives numbered tokens of a life."""

    def __init__(self, seconds: float = 600.0) -> None:
        self.seconds = seconds
        self.given = 0

    async def __call__(self) -> Token:
        self.given += 1
        return Token(str(self.given), self.seconds)


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


@pytest.mark.parametrize(("life", "used"), [(600.0, 570.0), (100.0, 90.0), (1e9, LONGEST - 30)])
async def test_a_token_is_used_until_shortly_before_its_end(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, life: float, used: float
) -> None:
    clock, source = Clock(monkeypatch), Source(life)
    assert await tokens.get("a", source, soon()) == "1"
    clock.moved = used - 1
    assert await tokens.get("a", source, soon()) == "1"
    clock.moved = used + 1
    assert await tokens.get("a", source, soon()) == "2"


async def test_a_token_without_life_serves_those_who_wait_and_nobody_later(tokens: Tokens) -> None:
    source = Source(0.0)
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(tokens.get("a", source, soon())) for _ in range(2)]
    assert [each.result() for each in both] == ["1", "1"]
    assert await tokens.get("a", source, soon()) == "2"


async def test_keys_are_kept_apart_and_the_oldest_goes(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAP", 2)
    source = Source()
    for key in ("a", "b", "a", "c"):
        await tokens.get(key, source, soon())
    assert (source.given, len(tokens)) == (3, 2)
    assert await tokens.get("a", source, soon()) == "1"
    assert await tokens.get("b", source, soon()) == "4"


async def test_only_the_token_that_was_refused_is_dropped(tokens: Tokens) -> None:
    source = Source()
    await tokens.get("a", source, soon())
    tokens.drop("a", "another")
    tokens.drop("b", "1")
    assert await tokens.get("a", source, soon()) == "1"
    tokens.drop("a", "1")
    assert await tokens.get("a", source, soon()) == "2"


async def test_a_failure_reaches_all_who_wait_and_the_next_one_asks_again(tokens: Tokens) -> None:
    asked, go = 0, asyncio.Event()

    async def failing() -> Token:
        nonlocal asked
        asked += 1
        await go.wait()
        raise Unavailable("time", "no")

    async def told() -> str:
        with pytest.raises(Unavailable) as caught:
            await tokens.get("a", failing, soon())
        return caught.value.why

    async with asyncio.TaskGroup() as group:
        both = [group.create_task(told()) for _ in range(2)]
        await asyncio.sleep(0)
        go.set()
    assert ([each.result() for each in both], asked) == (["no", "no"], 1)
    assert await tokens.get("a", Source(), soon()) == "1"


async def test_who_cannot_wait_is_told_so_and_the_request_goes_on(tokens: Tokens) -> None:
    go = asyncio.Event()

    async def slow() -> Token:
        await go.wait()
        return Token("late", 600.0)

    with pytest.raises(Overdue):
        await tokens.get("a", slow, asyncio.get_running_loop().time())
    go.set()
    assert await tokens.get("a", Source(), soon()) == "late"


async def test_closing_ends_what_is_asked() -> None:
    tokens, started = Tokens("time"), asyncio.Event()

    async def never() -> Token:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def waiting() -> None:
        with pytest.raises(Unavailable, match="being closed"):
            await tokens.get("a", never, soon())

    async with asyncio.TaskGroup() as group:
        group.create_task(waiting())
        await started.wait()
        await tokens.close()
    with pytest.raises(Unavailable, match="being closed"):
        await tokens.get("a", Source(), soon())


LIVES: list[tuple[object, float]] = [
    (60, 60),
    (60.5, 60.5),
    ("60", 60),
    (0, 0),
    (-5, 0),
    (10**9, LONGEST),
    ("9" * 5000, LONGEST),
]
LIVES += [(None, UNKNOWN), (True, UNKNOWN), ("x", UNKNOWN), ("-5", UNKNOWN), ("²", UNKNOWN), ([], UNKNOWN)]


@pytest.mark.parametrize(("said", "life"), LIVES)
def test_how_long_a_token_lives(said: object, life: float) -> None:
    assert grants.life(said) == life


def test_what_is_made_of_a_callers_token_ends_with_it() -> None:
    assert 50 < remaining(time.time() + 60) <= 60
    assert remaining(time.time() - 60) == 0
    assert remaining(None) == UNKNOWN
