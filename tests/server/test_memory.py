"""How much memory there is and may be, as far as the system tells."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from vmcp.server import memory


def test_a_process_has_some() -> None:
    assert 1 << 20 < memory.resident() < 1 << 40


@pytest.mark.parametrize("text", [None, "", "1"])
def test_where_the_system_does_not_say_it_is_what_it_was_at_most(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "statm"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(memory, "_STATM", file)
    assert memory.resident() > 1 << 20


@pytest.mark.parametrize(
    ("said", "expected"), [("max\n", 1000), ("500\n", 500), ("9223372036854771712", 1000), (None, 1000), ("0", 1)]
)
def test_a_container_that_has_less_counts(said: str | None, expected: int, tmp_path: Path) -> None:
    file = tmp_path / "memory.max"
    if said is not None:
        file.write_text(said)
    assert memory.budget(1000, (file, tmp_path / "none")) == expected


def test_workers_share_what_a_container_has_and_each_may_have_what_is_configured(tmp_path: Path) -> None:
    file = tmp_path / "memory.max"
    file.write_text("500\n")
    assert memory.budget(1000, (file,), workers=2) == 250
    assert memory.budget(100, (file,), workers=2) == 100


def test_what_is_free_can_be_given_back() -> None:
    memory.give_back()


def test_what_comes_and_goes_is_not_given_back_each_time() -> None:
    script = """
import resource
from vmcp.server import memory
memory.keep_some()
def come_and_go():
    for _ in range(200):
        large = [bytes(1 << 20), bytes(1 << 20)]
come_and_go()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
come_and_go()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    assert not hasattr(ctypes.CDLL(None), "mallopt") or int(faults) < 2000
