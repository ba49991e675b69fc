"""n-th fault enumeration: every scenario is cut at every await of its request, and at the bytes that come from its backend.

Rule: after each cut there was exactly one outcome, it was nobody else's, nothing of the request is left, and the next is served.
``VMCP_LONG=1`` cuts at every byte; else some of them are left out.
"""

import asyncio
import itertools
import os

import pytest

from tests.faults.brain import LATEST, MODERN
from tests.faults.scenes import SCENARIOS, at_rest, settled, visiting
from tests.faults.seams import Seams
from tests.faults.worlds import Census, until, world

LONG = bool(os.environ.get("VMCP_LONG"))
pytestmark = pytest.mark.timeout(1200 if LONG else 120)
STEP = 1 if LONG else 89
"""Of how many bytes one is cut at."""
ALL = list(itertools.product(("http", "stdio"), (MODERN, LATEST), (MODERN, LATEST)))
WORLDS = ALL if LONG else [ALL[0], ALL[3], ALL[5], ALL[6]]
"""Every two of transport, backend's era and client's era meet."""
CUTS = {"http": ("fin", "rst", "hang", "garbage"), "stdio": ("die", "mute", "short", "garbage")}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("transport", "backend", "client"), WORLDS)
async def test_who_leaves_at_any_await_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, transport: str, backend: str, client: str, scenario: str
) -> None:
    """R-CANCEL-2."""
    act = SCENARIOS[scenario]
    with Census():
        # No limit ends what was left: somebody must have taken it back.
        async with world(monkeypatch, transport, backend, "60s") as found:
            before, left = await settled(found, act, client), 0
            for late in (False, True):
                for at in itertools.count(1):
                    seams = Seams(at, lambda: visitor.strike(), late=late)  # noqa: PLW0108 - he is not there yet
                    async with visiting(found, client, seams) as visitor:
                        await act(visitor)
                    left += len(visitor.cut)
                    await at_rest(found, before)
                    if seams.count < at:
                        break
            assert left or scenario in ("list", "subscription"), "nobody has left: nothing was proved"


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "list"])
@pytest.mark.parametrize(("transport", "backend", "client"), WORLDS)
async def test_a_wire_that_is_cut_at_any_byte_costs_one_request_at_most(
    monkeypatch: pytest.MonkeyPatch, transport: str, backend: str, client: str, scenario: str
) -> None:
    act = SCENARIOS[scenario]
    with Census():
        async with world(monkeypatch, transport, backend, "100ms") as found:
            before = await settled(found, act, client)
            async with visiting(found, client) as visitor:
                found.scissors.arm(None)
                await act(visitor)
                whole = found.scissors.passed
            struck = 0
            for number, at in enumerate(range(0, whole, STEP)):
                for how in CUTS[transport] if LONG else CUTS[transport][number % 4 :][:1]:
                    async with visiting(found, client) as visitor:
                        found.scissors.arm(at, how)
                        await act(visitor)
                    struck += found.scissors.struck
                    await at_rest(found, before)
            assert struck or not whole


@pytest.mark.parametrize("backend", [MODERN, LATEST])
async def test_who_leaves_the_line_for_a_connection_leaves_it_to_the_next(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """The one connection is free in the very moment in which he goes."""
    with Census():
        async with world(monkeypatch, "http", backend, "60s", pool=1) as found:
            before, left = await settled(found, SCENARIOS["call"], MODERN), 0
            for late, at in itertools.product((False, True), range(1, 6)):
                async with visiting(found, MODERN) as first, asyncio.TaskGroup() as group:
                    calls = next(pool for pool in found.pools() if pool._spec.max_size == 1)
                    holder = group.create_task(first.call("stuck"))
                    await until(lambda: calls.active == 1)  # noqa: B023 - this very turn
                    seams = Seams(at, lambda: second.strike(), late=late)  # noqa: PLW0108 - he is not there yet
                    async with visiting(found, MODERN, seams) as second:
                        waiting = group.create_task(second.call("probe", seams=True))
                        await until(lambda: calls.waiting or waiting.done())  # noqa: B023 - the same
                        first.strike()
                        await holder
                        await waiting
                    left += len(second.cut)
                await at_rest(found, before)
            assert left


@pytest.mark.parametrize("client", [MODERN, LATEST])
async def test_an_answer_gets_through_though_the_call_that_waits_for_it_has_the_last_connection(
    monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    async with world(monkeypatch, "http", LATEST, "5s", pool=1) as found, visiting(found, client) as visitor:
        told = await visitor.call("ask")
        assert told is not None
        assert told["result"]["said"]["action"] == "accept"
        await at_rest(found, None)
