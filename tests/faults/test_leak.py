"""R-LEAK per feature: after ten times as much of a thing as many objects of vmcp's own types are alive as before.

Rule: the house is one and the same all the time, and what is counted is everything that it has made, by type. ``VMCP_LONG=1``
is the figure of the reference: 200 and 2000.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.brain import LATEST, MODERN
from tests.faults.scenes import SCENARIOS, Client, at_rest, visiting
from tests.faults.worlds import Census, HttpStage, World, until, world
from vmcp.server.listener import GONE

LONG = bool(os.environ.get("VMCP_LONG"))
pytestmark = pytest.mark.timeout(600 if LONG else 60)
FEW, MANY = (200, 2000) if LONG else (4, 40)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


async def sessions(client: Client) -> None:
    """One more that comes and goes."""
    async with visiting(client.world, client.revision) as other:
        await other.call("probe")


async def streams(client: Client) -> None:
    """A standing stream that is left, where there is such a thing."""
    if client.revision.modern:
        return
    exchanged = client.door.listen()
    async with exchanged.running():
        await until(lambda: exchanged.answer.status)
    assert exchanged.answer.status == 200


async def unanswered(client: Client) -> None:
    """A question that nobody answers."""
    params = {"name": "ask", "arguments": {}, "_meta": {}}
    raw, headers = client.door.message("tools/call", params)
    exchanged = client.door.begin("POST", None, raw, **headers)
    async with exchanged.running():
        await until(lambda: exchanged.answer.body)
        if not client.revision.modern:
            await client.door.tell("notifications/cancelled", {"requestId": 1})


async def cancelled(client: Client) -> None:
    """A call that would never end."""
    raw, headers = client.door.message("tools/call", {"name": "stuck", "arguments": {}}, "s")
    exchanged = client.door.begin("POST", None, raw, **headers)
    before = client.world.brain.log.count("tools/call")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(exchanged.run())
        await until(lambda: client.world.brain.log.count("tools/call") > before)
        if client.revision.modern:
            exchanged._scope[GONE] = True
            task.cancel()
        else:
            await client.door.tell("notifications/cancelled", {"requestId": "s"})


async def broken(client: Client) -> None:
    """An answer that breaks off."""
    client.world.scissors.arm(10, "rst" if isinstance(client.world.stage, HttpStage) else "die")
    await client.call("probe")
    assert client.world.scissors.struck
    await client.world.up()


FEATURES: dict[str, Callable[[Client], Awaitable[object]]] = {
    **SCENARIOS,
    **{each.__name__: each for each in (sessions, streams, unanswered, cancelled, broken)},
}
PAIRS = [("http", MODERN, MODERN), ("http", LATEST, LATEST), ("stdio", LATEST, MODERN), ("stdio", MODERN, LATEST)]


async def again(found: World, client: Client, act: Callable[[Client], Awaitable[object]], times: int) -> None:
    """So many times; then nothing is underway."""
    for _ in range(times):
        await act(client)
    await at_rest(found, None)


async def calm() -> Counter[str]:
    """What lives once nothing changes any more."""
    before, found = Counter[str](), Census.count()
    async with asyncio.timeout(5):
        while before != found:
            await asyncio.sleep(0.05)
            before, found = found, Census.count()
    return found


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize(("transport", "backend", "client"), PAIRS if LONG else PAIRS[1::2])
async def test_ten_times_as_much_leaves_no_more(
    monkeypatch: pytest.MonkeyPatch, transport: str, backend: str, client: str, feature: str
) -> None:
    monkeypatch.setattr("vmcp.server.journal.TRACKS", 4)
    act = FEATURES[feature]
    with Census():
        async with world(monkeypatch, transport, backend, "5s") as found, visiting(found, client) as visitor:
            await again(found, visitor, act, FEW)
            few = await calm()
            await again(found, visitor, act, MANY)
            more = few

            def none() -> bool:
                nonlocal more
                more = Census.count() - few
                return not more

            await until(none, lambda: more)
