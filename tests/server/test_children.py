"""What child processes take. Rule: real processes, whose numbers are compared with those of one alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmcp.server import children
from vmcp.server.children import taken
from vmcp.server.readings import processes

ALONE = "import sys; print('up', flush=True); sys.stdin.read()"
WITH_ANOTHER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ALONE!r}])"


@contextmanager
def child(code: str) -> Iterator[int]:
    """Leader of a session, as those of the nursery are."""
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process.pid


def test_what_a_child_has_started_counts_as_its_own() -> None:
    with child(ALONE) as one, child(WITH_ANOTHER) as two:
        found = taken([one, two])
        assert found.keys() == {one, two}
        assert found[two].memory > 1.5 * found[one].memory > 1 << 20
        assert found[two].seconds >= 0
        (memory, seconds) = processes({"a": [one, two], "gone": [1 << 30]})
    assert [labels for labels, _ in memory.points] == [labels for labels, _ in seconds.points] == [("a",)]
    assert memory.points[0][1] > found[two].memory
    assert taken([one, two]) == {}


def test_where_nothing_can_be_known_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert taken([]) == {}
    monkeypatch.setattr(children, "_PROC", tmp_path / "proc")
    assert taken([1]) == {}
    (tmp_path / "proc" / "77").mkdir(parents=True)
    (tmp_path / "proc" / "self").mkdir()
    assert taken([77]) == {}
    assert [reading.points for reading in processes({"a": [77]})] == [[], []]
