"""Every revision over every transport on both sides of vmcp: all that works directly works through it.

The rule: one run for all cells, one test for each cell; what the protocol itself makes impossible is named with its reason,
and is answered with a clear error.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.eras.carriers import LegacySse, Streamable
from tests.eras.cells import IMPOSSIBLE, SIDES, TRANSPORTS, Peers, Results, Tasks, run_direct, wrong
from tests.eras.clients import Client, FailedError
from tests.eras.house import one_for_all, one_group_each, run_through, serving, told
from tests.eras.scenarios import SCENARIOS, lacks, refused
from tests.eras.world import HANDSHAKE, MODERN, REVISIONS

pytestmark = pytest.mark.timeout(240)

Found = tuple[dict[tuple[str, str], Results], list[str]]
CELLS = [(client, backend) for client in SIDES for backend in SIDES]


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What came of the cells that are asked for; side by side, in one vmcp."""
    items = [item for item in request.session.items if getattr(item, "originalname", "") == CELL_TEST]
    wanted = [item.callspec.params for item in items]  # type: ignore[attr-defined]
    cells = [(params["client"], params["backend"]) for params in wanted] or CELLS
    return uvloop.run(run_through(cells, tmp_path_factory.mktemp("matrix")))


@pytest.fixture(scope="module")
def direct() -> dict[str, Results]:
    return uvloop.run(run_direct(SIDES))


@pytest.mark.parametrize("side", SIDES)
def test_without_vmcp_every_scenario_works(side: str, direct: dict[str, Results]) -> None:
    assert wrong(direct[side]) == {}


CELL_TEST = "test_what_works_directly_works_through_vmcp"


@pytest.mark.parametrize(("client", "backend"), CELLS, ids=["-to-".join(cell) for cell in CELLS])
def test_what_works_directly_works_through_vmcp(client: str, backend: str, found: Found) -> None:
    assert wrong(found[0][client, backend]) == {}


def test_nobody_had_a_complaint(found: Found) -> None:
    """Backends got nothing that their revision forbids; stdio processes ended by themselves."""
    assert not found[1]


def test_the_matrix_is_whole() -> None:
    """Five revisions by four transports on each side, but for what is impossible; eleven things to do and two more."""
    assert len(SIDES) + len(IMPOSSIBLE) == len(TRANSPORTS) * len(REVISIONS)
    assert set(SCENARIOS) == {
        *("lists", "call", "progress", "cancel", "elicit", "sample", "subscribe", "list_changed", "log"),
        *("complete", "large", "error", "roots"),
    }


def test_what_the_protocol_lacks_is_written_down() -> None:
    gaps = {
        (name, client, backend)
        for name in SCENARIOS
        for client in REVISIONS
        for backend in REVISIONS
        if lacks(name, client, backend)
    }
    old = HANDSHAKE[:2]
    assert gaps == {("elicit", c, b) for c in REVISIONS for b in REVISIONS if c in old or b in old}


def through(work: Any, tmp_path: Path) -> Any:
    """Run ``work(port, tasks)`` with a vmcp before one server."""

    async def run() -> Any:
        tasks = Tasks()
        async with (
            Peers(tasks, ["http-2025-11-25"]).running() as peers,
            serving(one_group_each(peers), tmp_path) as port,
        ):
            try:
                return await asyncio.wait_for(work(port, tasks), 20)
            finally:
                await tasks.close()

    return uvloop.run(run())


def test_a_client_of_2026_is_told_that_http_and_sse_is_not_for_it(tmp_path: Path) -> None:
    async def work(port: int, tasks: Tasks) -> FailedError:
        way = LegacySse(port, "/http-2025-11-25/sse", tasks.spawn)
        client = Client("late", MODERN, way, tasks.spawn)
        await way.open()
        told = await refused(client.request("server/discover"))
        await way.close()
        return told

    told = through(work, tmp_path)
    assert told.code == -32022
    assert told.data["requested"] == MODERN
    assert told.data["supported"] == list(HANDSHAKE)
    assert "HTTP+SSE" in told.message


def test_a_server_of_2026_behind_http_and_sse_is_down_with_the_reason(tmp_path: Path) -> None:
    """It is asked to greet in the handshake era, refuses, and is not ready; nobody else suffers."""

    async def run() -> str:
        tasks = Tasks()
        side = f"sse-{MODERN}"
        async with Peers(tasks, [side, "http-2025-11-25"]).running() as peers:
            config = one_for_all(peers)
            config["groups"]["all"]["backends"][side]["required"] = False
            async with serving(config, tmp_path) as port:
                way = Streamable(port, "/mcp", MODERN, tasks.spawn)
                client = Client("c", MODERN, way, tasks.spawn)
                await client.open()
                tools = await client.request("tools/list")
                await way.close()
            await tasks.close()
        assert {tool["name"].partition("_")[0] for tool in tools["tools"]} == {"http-2025-11-25"}
        return told(tmp_path / "serve.log")

    log = uvloop.run(run())
    (down,) = [line for line in log.splitlines() if "backend down" in line]
    assert f"sse-{MODERN}" in down
    assert "_meta lacks" in down, "what the server said to initialize"
