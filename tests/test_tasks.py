"""The nest: a task that fails harms nobody, and nobody leaves before everything has ended.

Rule: nothing here sleeps; tasks tell how far they are through events.
"""

import asyncio
import gc
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.tasks import Nest, backoff


async def bounded(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()


async def test_a_task_that_fails_is_logged_and_its_neighbours_go_on(caplog: pytest.LogCaptureFixture) -> None:
    failed, done, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        failed.set()
        raise ValueError("broken")

    async def neighbour() -> None:
        await go.wait()
        done.set()

    async with Nest("house") as nest:
        nest.start(neighbour(), "neighbour")
        task = nest.start(fail(), "probe")
        await bounded(failed)
        async with asyncio.timeout(5):
            await task
        go.set()
        await bounded(done)
    [record] = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("vmcp.tasks", logging.ERROR, "background task failed")
    assert (vars(record)["nest"], vars(record)["task"]) == ("house", "probe")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


async def test_a_task_that_succeeds_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def succeed() -> None:
        return

    async with Nest("house") as nest:
        task = nest.start(succeed(), "probe")
        assert task.get_name() == "house/probe"
        async with asyncio.timeout(5):
            await task
    assert not caplog.records


async def test_close_waits_for_the_clean_up_of_every_task(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []
    started = asyncio.Event()

    async def work(name: str, turns: int) -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(turns):
                await asyncio.sleep(0)
            ended.append(name)

    nest = Nest("house")
    tasks = [nest.start(work("long", 20), "long"), nest.start(work("short", 1), "short")]
    await bounded(started)
    async with asyncio.timeout(5):
        await nest.close()
    assert ended == ["short", "long"]
    assert all(task.cancelled() for task in tasks)
    assert not caplog.records


async def test_a_clean_up_that_fails_is_logged_and_the_nest_closes(caplog: pytest.LogCaptureFixture) -> None:
    started = asyncio.Event()

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            raise OSError("disk full")

    async with asyncio.timeout(5), Nest("house") as nest:
        nest.start(work(), "work")
        await bounded(started)
    assert [record.getMessage() for record in caplog.records] == ["background task failed"]


async def test_the_block_ends_its_tasks_when_it_fails() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    tasks: list[asyncio.Task[None]] = []

    async def block() -> None:
        async with Nest("house") as nest:
            tasks.append(nest.start(work(), "work"))
            raise LookupError

    with pytest.raises(LookupError):
        await block()
    assert [task.cancelled() for task in tasks] == [True]


@pytest.mark.filterwarnings("error")
async def test_a_task_that_is_cancelled_before_its_first_step_leaves_no_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    ran: list[int] = []

    async def work() -> None:
        ran.append(1)

    async with Nest("house") as nest:
        tasks = [nest.start(work(), "work") for _ in range(3)]
        tasks[0].cancel()
    gc.collect()
    assert all(task.cancelled() for task in tasks)
    assert not ran
    assert not recwarn.list


async def test_a_task_can_be_ended_alone() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    async with Nest("house") as nest:
        one, other = nest.start(work(), "one"), nest.start(work(), "other")
        one.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([one])
        assert one.cancelled()
        assert not other.done()


async def test_an_empty_nest_closes_at_once_and_twice() -> None:
    nest = Nest("house")
    await nest.close()
    await nest.close()


async def test_a_task_that_others_start_while_the_nest_closes_is_ended_too() -> None:
    late: list[asyncio.Task[None]] = []
    started = asyncio.Event()
    nest = Nest("house")

    async def forever() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            late.append(nest.start(forever(), "late"))

    async with asyncio.timeout(5):
        nest.start(work(), "work")
        await started.wait()
        await nest.close()
    try:
        assert [task.done() for task in late] == [True]
    finally:
        await nest.close()


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"),
    [
        (0, 0.5, 0.5), (1, 0.5, 1.0), (2, 0.5, 2.0), (3, 0.5, 4.0), (6, 0.5, 32.0), (7, 0.5, 60.0), (8, 0.5, 60.0),
        (16, 0.5, 60.0), (17, 0.5, 60.0), (10**9, 0.5, 60.0), (0, 0.0, 0.4), (0, 1.0, 0.6), (9, 0.0, 48.0), (9, 1.0, 72.0),
    ],
)  # fmt: skip
def test_the_pause_doubles_to_a_cap(attempt: int, jitter: float, seconds: float) -> None:
    assert math.isclose(backoff(attempt, jitter), seconds)


@pytest.mark.parametrize(("attempt", "seconds"), [(0, 3.0), (1, 6.0), (2, 10.0), (3, 10.0)])
def test_the_pause_has_a_first_and_a_cap_of_its_owner(attempt: int, seconds: float) -> None:
    assert math.isclose(backoff(attempt, 0.5, first=3.0, cap=10.0), seconds)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_no_pause_is_shorter_than_the_one_before(attempt: int, jitter: float) -> None:
    assert 0.4 <= backoff(attempt, jitter) <= backoff(attempt + 1, jitter) <= 72.0 + 1e-9
