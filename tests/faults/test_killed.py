"""R-KILL9 and its neighbours: a gateway that is killed, or hears a Ctrl-C with everybody else, leaves no process of its children.

Rule: the children are such that would stay by themselves: daemons, and those that hear no signal.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Process, alive, gone, serving
from tests.upstream.child import answers
from tests.upstream.fakes import CHILD, journal_of, scripted
from tests.upstream.fakes_backend import LATEST

STAYS = [["orphan"], ["escapee"], ["offspring"]]


@contextmanager
def gateway(tmp_path: Path, **script: Any) -> Iterator[tuple[Process, list[int]]]:
    """A gateway with one child, and all that descends from that."""
    journal, config = tmp_path / "journal", tmp_path / "vmcp.yaml"
    script = scripted(answers(LATEST)) | {"start": STAYS} | script
    words = [sys.executable, "-I", "-S", CHILD, str(journal), json.dumps(script)]
    config.write_text(json.dumps({"name": "n", "groups": {"g": {"backends": {"a": {"command": words}}}}}))
    with serving("--config", str(config)) as process:
        process.until('"msg":"ready"')
        pids = [*journal_of(journal, "pid"), *journal_of(journal, "grandchild")]
        assert len(pids) == 1 + len(STAYS)
        assert all(map(alive, pids))
        yield process, pids


def helpers(pid: int) -> list[int]:
    """The nursery of a gateway, and its nurses."""
    return [int(place.name) for place in Path("/proc").glob("[0-9]*") if _family(place) == pid]


def _family(place: Path) -> int:
    """The session of who bears the name of a nursery or a nurse; the nursery founded it."""
    try:
        name, _, rest = (place / "stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    if not name.partition("(")[2].startswith("vmcp-"):
        return 0
    session = int(rest.split()[3])
    return _parent(session)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_a_gateway_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with gateway(tmp_path) as (process, pids):
        ours = helpers(process.process.pid)
        assert len(ours) == 2
        process.signal(signal.SIGKILL)
        process.process.wait()
        assert gone([*pids, *ours])


def test_children_that_are_slow_to_end_hold_nothing_of_a_gateway_that_was_killed(tmp_path: Path) -> None:
    with gateway(tmp_path, end=[["stubborn"], ["deaf"]]) as (process, pids):
        process.signal(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL, "its stderr ends with it"
        assert alive(pids[0]), "it still has a second or two"
        os.kill(pids[0], signal.SIGKILL)
        assert gone(pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_for_the_whole_group_ends_all_in_order(number: int, tmp_path: Path) -> None:
    with gateway(tmp_path) as (process, pids):
        ours = helpers(process.process.pid)
        os.killpg(process.process.pid, number)
        assert process.end() == 0
        assert gone([*pids, *ours])
        ends = [line for line in process.lines() if line["msg"] == "process ended"]
        assert not ends, "it was stopped, and did not end by itself"


def test_the_nursery_knows_nothing_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_SECRET", "sesame-open-42")
    with gateway(tmp_path) as (process, _):
        for pid in helpers(process.process.pid):
            assert b"sesame" not in Path(f"/proc/{pid}/environ").read_bytes()
