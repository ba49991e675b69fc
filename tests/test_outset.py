"""What is done before anything else. What only a frozen vmcp can show is in tests/binary.

Rule: real processes, real locks, and nothing but what these tests have made is removed.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmcp import outset
from vmcp.upstream import spawn

FIRST = """
import ctypes, os, signal, sys
from vmcp import outset
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # what has lost its parent below is ours, as it is the first process's
outset.be_first()
signal.signal(signal.SIGHUP, lambda *_: print("hung up", flush=True))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
if not os.fork():
    parent = os.getpid()
    if not os.fork():
        while os.getppid() == parent:
            os.sched_yield()
    os._exit(0)
os.wait()
print(os.getppid(), flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    words = list(outset._words)
    yield
    outset._words[:] = words
    outset.LOADER.clear()


@contextlib.contextmanager
def started(code: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()


def heard(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_it_starts_itself_as_it_was_started() -> None:
    assert outset.ourselves() == [sys.executable, "-m", "vmcp"]
    outset.from_archive("/opt/vmcp.pyz")
    assert outset.ourselves() == [sys.executable, "/opt/vmcp.pyz"]


def test_frozen_in_a_folder_it_is_its_own_program_and_its_environment_is_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vmcp"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path / "_internal"), raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    for name, value in {
        "LD_LIBRARY_PATH": "/opt/_internal:/mine",
        "LD_LIBRARY_PATH_ORIG": "/mine",
        "_PYI_LEVEL": "1",
    }.items():
        monkeypatch.setenv(name, value)
    outset.begin()
    assert outset.ourselves() == [str(program)]
    assert os.environ["LD_LIBRARY_PATH"] == "/mine"
    assert not {"LD_LIBRARY_PATH_ORIG", "_PYI_LEVEL"} & os.environ.keys()
    assert spawn.environment() == {"LD_LIBRARY_PATH": "/opt/_internal:/mine", "_PYI_LEVEL": "1"}


def test_as_it_is_in_a_checkout_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    before = dict(os.environ)
    outset.begin()
    assert dict(os.environ) == before
    assert outset.ourselves() == [sys.executable, "-m", "vmcp"]
    assert spawn.environment() == {"LD_LIBRARY_PATH": "/mine"}


def left(folder: Path) -> Path:
    """A folder as a killed vmcp leaves it, long ago."""
    (folder / "vmcp" / "deep").mkdir(parents=True)
    (folder / outset.MARK).touch()
    (folder / "link").symlink_to(folder.parent)
    os.utime(folder, (1, 1))
    return folder


def test_only_what_was_left_by_us_and_is_nobody_s_is_removed(tmp_path: Path) -> None:
    gone, held, strange = left(tmp_path / "_MEIa"), left(tmp_path / "_MEIb"), left(tmp_path / "_MEIc")
    fresh, other = left(tmp_path / "_MEId"), left(tmp_path / "other")
    outset.hold(held)
    (strange / outset.MARK).unlink()
    os.utime(strange, (1, 1))
    os.utime(fresh)
    link = tmp_path / "_MEIlink"
    link.symlink_to(other)
    outset.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {held, strange, fresh, other, link}
    assert not gone.exists()


def test_what_is_held_cannot_be_locked_by_who_cleans_up(tmp_path: Path) -> None:
    outset.hold(tmp_path)
    opened = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(opened)


def test_the_first_process_hands_signals_on_buries_whoever_dies_and_ends_as_its_child() -> None:
    with started(FIRST) as first:
        assert heard(first) == str(first.pid)
        first.send_signal(signal.SIGHUP)
        assert heard(first) == "hung up"
        deadline = time.monotonic() + 10
        while len(children(first.pid)) != 1 and time.monotonic() < deadline:
            os.sched_yield()
        (child,) = children(first.pid)
        first.send_signal(signal.SIGTERM)
        assert first.wait(10) == 7
        assert not Path(f"/proc/{child}").exists()


def test_a_child_that_was_killed_is_told_as_a_shell_tells_it() -> None:
    with started(
        "from vmcp import outset\noutset.be_first()\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    ) as first:
        assert first.wait(10) == 128 + signal.SIGKILL
