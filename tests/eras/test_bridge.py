"""``vmcp stdio --url``: a client that only starts processes, at a running vmcp, whatever revision it speaks.

The rule: the bridge passes messages and adds nothing, so every scenario of the matrix works through it.
"""

from pathlib import Path

import pytest
import uvloop

from tests.eras.carriers import Stdio
from tests.eras.cells import Peers, Results, Tasks, run_cells, wrong
from tests.eras.clients import Client
from tests.eras.house import command, one_group_each, serving
from tests.eras.scenarios import SCENARIOS, Cell
from tests.eras.world import MODERN, REVISIONS

pytestmark = pytest.mark.timeout(120)

BACKENDS = ("http-2025-11-25", f"ws-{MODERN}")
CELLS = [(revision, backend) for revision in REVISIONS for backend in BACKENDS]


async def bridged(folder: Path) -> tuple[dict[tuple[str, str], Results], list[str]]:
    """Every scenario of every cell, a bridge of its own for each."""
    tasks, opened = Tasks(), list[Client]()
    async with Peers(tasks, BACKENDS).running() as peers, serving(one_group_each(peers), folder) as port:

        async def connect(revision: str, backend: str) -> Cell:
            url = f"http://127.0.0.1:{port}/{backend}/mcp"
            way = Stdio(command("stdio", "--url", url), tasks.spawn, folder / f"{revision}-{backend}.log")
            made = Client(f"bridge-{revision}-{backend}", revision, way, tasks.spawn)
            opened.append(made)
            await made.open()
            return Cell(made, peers.worlds[backend], f"{backend}_", made.name)

        found = await run_cells(connect, CELLS, tasks)
        for client in opened:
            await client.carrier.close()
        await tasks.close()
    return found, [line for world in peers.worlds.values() for line in world.complaints]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[tuple[str, str], Results], list[str]]:
    return uvloop.run(bridged(tmp_path_factory.mktemp("bridge")))


@pytest.mark.parametrize(("revision", "backend"), CELLS, ids=["-to-".join(cell) for cell in CELLS])
def test_every_scenario_works_through_the_bridge(
    revision: str, backend: str, found: tuple[dict[tuple[str, str], Results], list[str]]
) -> None:
    results = found[0][revision, backend]
    assert results.keys() == SCENARIOS.keys()
    assert wrong(results) == {}


def test_backends_had_no_complaint(found: tuple[dict[tuple[str, str], Results], list[str]]) -> None:
    assert found[1] == []
