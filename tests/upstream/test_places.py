"""Places for child processes: how many there are, whose, and how many start at a time.

Rule: whoever waits is let in one by one, and a place that was taken is free again whatever became of it.
"""

import asyncio

import pytest

from tests.upstream.badserver import until
from vmcp.config.model import Limits
from vmcp.errors import Code, Unavailable
from vmcp.upstream import places as module
from vmcp.upstream.places import Place, Places, places

FEW = Limits(processes=3, processes_per_principal=2, process_starts=2)


async def taken(counted: Places, whose: str = "") -> Place:
    return await counted.take("files", whose, FEW)


async def refused(counted: Places, whose: str = "") -> str:
    with pytest.raises(Unavailable) as full:
        await taken(counted, whose)
    assert full.value.vmcp_code == Code.SERVER_UNAVAILABLE
    return full.value.why


async def test_there_is_an_end_to_all_children_and_to_those_of_one_principal() -> None:
    counted = Places()
    mine = [await taken(counted, "me") for _ in range(2)]
    assert "server.limits.processesPerPrincipal is 2" in await refused(counted, "me")
    for place in mine:
        place.started()
    other = await taken(counted)
    assert counted.total == 3
    assert "server.limits.processes is 3" in await refused(counted, "you")
    mine[0].leave()
    mine[0].leave()
    await taken(counted, "me")
    other.leave()
    assert counted.total == 2


async def test_vmcp_itself_has_as_many_as_there_are() -> None:
    counted = Places()
    for _ in range(3):
        (await taken(counted)).started()
    assert counted.total == 3


async def test_who_starts_waits_until_another_one_has_spoken_or_ended() -> None:
    counted = Places()
    first, second = await taken(counted), await taken(counted)
    async with asyncio.TaskGroup() as group:
        third = group.create_task(taken(counted))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not third.done()
        second.started()
        second.started()  # only once for each
    second.leave()
    async with asyncio.TaskGroup() as group:
        fourth = group.create_task(taken(counted))
        await asyncio.sleep(0)
        assert not fourth.done()
        first.leave()
    for place in (third.result(), fourth.result()):
        place.leave()
    assert (counted.total, counted._starting) == (0, 0)


async def test_a_child_that_says_nothing_keeps_nobody_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.01)
    counted = Places()
    silent = [await taken(counted) for _ in range(3)]
    assert counted.total == len(silent)


async def test_who_does_not_wait_any_more_takes_nothing_with_him() -> None:
    counted, many = Places(), Limits(process_starts=2)
    first, second = [await counted.take("files", "", many) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        impatient, woken = (group.create_task(counted.take("files", name, many)) for name in ("a", "b"))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        first.leave()  # the turn goes to the one who still waits, and he is cancelled at the same moment
        woken.cancel()
    assert counted._starting == 1
    second.leave()
    assert (counted.total, counted._starting) == (0, 0)
    assert not counted._held


async def test_one_loop_has_one_count() -> None:
    assert places() is places()
    await until(lambda: places().total == 0)
