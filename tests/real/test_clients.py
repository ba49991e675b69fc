"""Programs that people use, in front of vmcp: Claude Code's health check and the bridge mcp-remote, each by all its ways.

The rule: they are processes of other people's at pinned versions, in a home of their own; nothing of theirs reaches the network.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop

from tests.eras.carriers import Stdio
from tests.eras.cells import Peers, Results, Tasks, run_cells, wrong
from tests.eras.clients import Client
from tests.eras.house import one_group_each, serving
from tests.eras.scenarios import SCENARIOS, Cell
from tests.real.processes import ROOT, backend, free_port, gateway, script

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

CLAUDE = script("@anthropic-ai/claude-code", "cli-wrapper.cjs")
MCP_REMOTE = script("mcp-remote", "dist/proxy.js")
NOTES = backend([sys.executable, ROOT / "examples" / "servers" / "notes.py"])
QUIET = {"DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
LOST = ["call", "error", "log"]
"""Scenarios with numbers that a program in JavaScript cannot keep as they are: 1.0, and integers of more than 53 bits."""
BACKENDS = ("http-2025-11-25", "http-2026-07-28", "stdio-2025-11-25")


class Site(NamedTuple):
    """A vmcp and its configuration."""

    url: str
    config: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("claude")
    config = {"name": "desk", "groups": {"all": {"backends": {"notes": NOTES}}}}
    with gateway(config, folder) as url:
        yield Site(url.removesuffix("/mcp"), folder / "vmcp.yaml")


def claude(home: Path, *words: str | Path) -> str:
    """What Claude Code's command line says."""
    command = [str(part) for part in (*CLAUDE, "mcp", *words)]
    done = subprocess.run(
        command,
        cwd=home,
        env={**os.environ, **QUIET, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_claude_code_connects_over_every_transport(site: Site, tmp_path: Path) -> None:
    claude(tmp_path, "add", "--transport", "http", "by-http", f"{site.url}/mcp")
    claude(tmp_path, "add", "--transport", "sse", "by-sse", f"{site.url}/sse")
    vmcp = [sys.executable, "-m", "vmcp", "stdio"]
    claude(tmp_path, "add", "by-stdio", "--", *vmcp, "--config", site.config)
    claude(tmp_path, "add", "by-bridge", "--", *vmcp, "--url", f"{site.url}/mcp")
    listed = claude(tmp_path, "list")
    found = re.findall(r"^(by-\w+): .* - (.*)$", listed, re.MULTILINE)
    assert {name: state for name, state in found if "Connected" not in state} == {}, listed
    assert {name for name, _ in found} == {"by-http", "by-sse", "by-stdio", "by-bridge"}


async def remote(folder: Path, strategy: str, place: str) -> dict[str, Results]:
    """Every scenario through mcp-remote, which relays between its standard streams and our HTTP."""
    tasks, opened = Tasks(), []
    async with Peers(tasks, BACKENDS).running() as peers, serving(one_group_each(peers), folder) as port:

        async def connect(client: str, side: str) -> Cell:
            url, callback = f"http://localhost:{port}/{side}/{place}", str(free_port())
            command = [*MCP_REMOTE, url, callback, "--allow-http", "--transport", strategy]
            way = Stdio([str(part) for part in command], tasks.spawn, folder / f"remote-{side}.log")
            made = Client(f"{client}-{side}", "2025-11-25", way, tasks.spawn)
            opened.append(made)
            await made.open()
            return Cell(made, peers.worlds[side], f"{side}_", f"{client}-{side}")

        cells = await run_cells(connect, [("mcp-remote", side) for side in BACKENDS], tasks)
        for client in opened:
            await client.carrier.close()
        await tasks.close()
    return {side: results for (_, side), results in cells.items()}


@pytest.mark.parametrize(("strategy", "place"), [("http-only", "mcp"), ("sse-only", "sse")])
def test_everything_works_through_mcp_remote_but_for_what_javascript_cannot_count(
    tmp_path: Path, strategy: str, place: str
) -> None:
    found = uvloop.run(remote(tmp_path, strategy, place))
    lost = {side: sorted(wrong(results)) for side, results in found.items()}
    assert lost == dict.fromkeys(BACKENDS, LOST), {side: wrong(results) for side, results in found.items()}
    assert all(results.keys() == SCENARIOS.keys() for results in found.values())
