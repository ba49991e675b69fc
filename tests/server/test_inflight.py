"""What is in flight, and which of it a client can name.

Rule: an id names one call or none.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from vmcp.server.inflight import InFlight


@contextlib.asynccontextmanager
async def flying(*ids: bytes) -> AsyncIterator[tuple[InFlight, "list[asyncio.Task[None]]"]]:
    """Calls with these ids that never end by themselves."""

    async def forever() -> None:
        await asyncio.Event().wait()

    calls = InFlight()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(forever()) for _ in ids]
    for task, id_ in zip(tasks, ids, strict=True):
        calls.add(task, id_)
    try:
        yield calls, tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize(
    ("given", "cut"),
    [
        (b"1", 0),
        (b'"1"', 1),
        (b'"a"', 2),
        (b'"\\u0061"', 2),
        ('"ä"'.encode(), 3),
        (b'"\\u00e4"', 3),
        (b"2", None),
        (b'"\\x"', None),
        (b"1.0", None),
        (b"null", None),
    ],
)
async def test_an_id_is_found_however_it_is_written(given: bytes, cut: int | None) -> None:
    async with flying(b"1", b'"1"', b'"a"', b'"\\u00e4"') as (calls, tasks):
        assert calls.holds(given) is (cut is not None)
        assert calls.cancel(given) is (cut is not None)
        assert [task.cancelling() > 0 for task in tasks] == [number == cut for number in range(4)]


async def test_an_id_that_several_share_names_none() -> None:
    async with flying(b"1", b"1", b"2") as (calls, tasks):
        assert calls.holds(b"1")
        assert not calls.cancel(b"1")
        assert not any(task.cancelling() for task in tasks)
        assert not calls.discard(tasks[0])
        assert calls.cancel(b"1")
        assert calls.discard(tasks[1]), "it was cancelled from here"
        assert not calls.discard(tasks[1])
        assert len(calls) == 1


async def test_a_call_is_cancelled_once_however_often_it_is_asked() -> None:
    async with flying(b"1") as (calls, (task,)):
        assert calls.cancel(b"1")
        assert calls.cancel(b"1")
        calls.cancel_all()
        assert task.cancelling() == 1
