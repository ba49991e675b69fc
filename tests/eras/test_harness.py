"""The scenarios are worth something: whoever loses or mixes up one thing between client and server is caught.

The rule: for each planted fault a named scenario fails, straight at a server, without vmcp.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from tests.eras.carriers import Carrier
from tests.eras.cells import Peers, Results, Tasks, run_cells
from tests.eras.clients import Client
from tests.eras.scenarios import Cell
from tests.eras.world import MODERN, Json

pytestmark = pytest.mark.timeout(120)

Change = Callable[[Json], Json | None]


class Leaky:
    """A carrier that lets ``change`` at everything that comes in; None loses it."""

    def __init__(self, carrier: Carrier, change: Change, tell: bool = True) -> None:
        self.carrier, self.change, self.tells, self.aborts = carrier, change, tell, carrier.aborts
        self.open, self.ready, self.close = carrier.open, carrier.ready, carrier.close

    @property
    def heard(self) -> Callable[[Json], None]:
        return self.carrier.heard

    @heard.setter
    def heard(self, heard: Callable[[Json], None]) -> None:
        def changed(message: Json) -> None:
            kept = self.change(message)
            if kept is not None:
                heard(kept)

        self.carrier.heard = changed

    async def exchange(self, message: Json) -> Json:
        reply = await self.carrier.exchange(message)
        return self.change(reply) or reply

    async def tell(self, message: Json) -> None:
        if self.tells or message["method"] != "notifications/cancelled":
            await self.carrier.tell(message)


def loses(method: str) -> Change:
    return lambda message: None if message.get("method") == method else message


def rewrites(old: str, new: str) -> Change:
    return lambda message: dict(json.loads(json.dumps(message).replace(old, new)))


FAULTS: dict[str, tuple[Change, set[str]]] = {
    "no progress": (loses("notifications/progress"), {"progress"}),
    "no log": (loses("notifications/message"), {"log"}),
    "no updates": (loses("notifications/resources/updated"), {"subscribe"}),
    "no list_changed": (loses("notifications/tools/list_changed"), {"list_changed"}),
    "numbers without a fraction": (rewrites("1.0", "1"), {"call", "log"}),
    "errors without data": (rewrites('"data": {"why"', '"date": {"why"'), {"error"}),
    "names of others": (rewrites("who=", "whose="), {"complete"}),
    "a shorter result": (rewrites("5" * 50, "5" * 49), {"large"}),
    "other answers of the user": (rewrites("faulty:", "other:"), {"elicit", "sample"}),
    "another root": (rewrites("file:///faulty", "file:///other"), {"roots"}),
    "another resource": (rewrites("note://", "nope://"), {"lists"}),
}


def faulty(side: str, change: Change, tell: bool = True) -> Results:
    """What the scenarios say of a client with a leak."""

    async def run() -> Results:
        tasks, opened = Tasks(), list[Leaky]()
        async with Peers(tasks, [side]).running() as peers:

            async def connect(client: str, backend: str) -> Cell:
                way: Any = Leaky(peers.direct(side), change, tell)
                opened.append(way)
                made = Client("faulty", client, way, tasks.spawn)
                await made.open()
                return Cell(made, peers.worlds[side], "", "cell-5")

            found = await run_cells(connect, [(side.partition("-")[2], side)], tasks)
            for way in opened:
                await way.close()
            await tasks.close()
        return dict(next(iter(found.values())))

    return uvloop.run(run())


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is not waited for long."""
    for module in ("clients", "world"):
        monkeypatch.setattr(f"tests.eras.{module}.SECONDS", 0.3)


@pytest.mark.parametrize("side", ["ws-2025-11-25", f"http-{MODERN}"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, side: str) -> None:
    change, scenarios = FAULTS[fault]
    found = faulty(side, change)
    assert {name for name, why in found.items() if why} >= scenarios, found


def test_a_cancellation_that_is_not_passed_on_is_seen() -> None:
    assert faulty("ws-2025-11-25", lambda message: message, tell=False)["cancel"]


def test_a_client_without_a_fault_passes() -> None:
    assert not any(faulty("ws-2025-11-25", lambda message: message).values())
