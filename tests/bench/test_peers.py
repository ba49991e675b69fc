"""peers.py and its locks: what is compared with is pinned, hashed, and told with the version that runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
LOCKS = [BENCH / "requirements.lock", *sorted((BENCH / "peers").glob("*.lock"))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_host_and_hashes_everything(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert not [entry for entry in re.split(r"\n(?=\S)", text) if "--hash=sha256:" not in entry]


def test_the_node_lock_names_no_registry() -> None:
    packages = json.loads((BENCH / "peers" / "package-lock.json").read_text("utf-8"))["packages"]
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not [name for name, package in packages.items() if name and "integrity" not in package]


def test_each_peer_has_a_lock_and_the_version_in_it(program: Callable[[str], ModuleType]) -> None:
    peers = program("peers").PEERS
    assert {"fastmcp", "mcp-hub", "1xn-vmcp", "litellm", "contextforge"} <= peers.keys()
    assert not [name for name, peer in peers.items() if not re.match(r"\d+\.\d+", peer.version)]


@pytest.mark.parametrize(
    ("marker", "holds"),
    [(" ; python_full_version >= '3.11' \\", True), (" ; python_full_version < '3.11' \\", False), (" \\", True)],
)
def test_a_lock_for_several_pythons_is_read_for_this_one(
    program: Callable[[str], ModuleType], marker: str, holds: bool
) -> None:
    assert program("peers")._holds(marker) is holds
