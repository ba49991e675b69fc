"""What lies on disk: sealed, bounded, gone with the process; and that a broken disk breaks nothing else."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.state.test_cache import Clock, kept
from vmcp.state.disk import Disk, NoRoom

SECRET = b"a-secret-nobody-shall-read"


def test_what_is_put_is_got_until_it_expires(tmp_path: Path) -> None:
    clock = Clock()
    disk = Disk(str(tmp_path / "made"), 1 << 20, clock)
    disk.put(b"k", kept(size=50_000))
    assert disk.holds(b"k")
    assert disk.get(b"k") == kept(size=50_000)
    assert disk.get(b"other") is None
    clock.time = 10.0
    assert disk.get(b"k") is None
    assert (len(disk), disk.size) == (0, 0)


def test_it_takes_no_more_than_it_may_and_forgets_the_oldest(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), 10_000, Clock())
    for number in range(8):
        disk.put(b"%d" % number, kept(size=3_000))
        assert disk.size <= 10_000
        assert disk.get(b"0") is not None or number > 2
    assert not disk.holds(b"1")
    disk.put(b"large", kept(size=20_000))
    assert not disk.holds(b"large")


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), 1 << 20, Clock())
    disk.put(b"1", kept("one", "r://1"))
    disk.put(b"2", kept("two", "r://1"))
    assert disk.forget(lambda backend, name: (backend, name) == ("one", "r://1")) == 1
    assert disk.get(b"1") is None
    assert disk.get(b"2") is not None


def test_nothing_of_it_has_a_name_or_can_be_read(tmp_path: Path) -> None:
    script = """
import sys
from vmcp.state.cache import Kept
from vmcp.state.disk import Disk
disk = Disk(sys.argv[1], 1 << 20, lambda: 0.0)
for number in range(50):
    disk.put(b"%d" % number, Kept("b", "n", sys.argv[2].encode() * 40, "2026-07-28", 0.0, 9.0))
handles = [open(f"/proc/self/fd/{fd}", "rb").read() for fd in range(3, 12) if __import__("os").path.exists(f"/proc/self/fd/{fd}")]
print(sum(map(len, handles)) > 10_000, any(sys.argv[2].encode() in each for each in handles))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), SECRET.decode()],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == ["True", "False"]
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_was_moved_to_another_key_is_no_value(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), 1 << 20, Clock())
    disk.put(b"mine", kept())
    disk.put(b"yours", kept(name="other"))
    opened = disk._open
    assert opened is not None
    (body,) = opened.execute("SELECT body FROM kept WHERE key = ?", (b"mine",)).fetchone()
    opened.execute("UPDATE kept SET body = ? WHERE key = ?", (body, b"yours"))
    assert disk.get(b"yours") is None
    assert disk.get(b"mine") == kept()


def test_a_broken_disk_is_given_up_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(str(tmp_path), 1 << 20, Clock())
    disk.put(b"k", kept())
    opened = disk._open
    assert opened is not None
    opened.execute("DROP TABLE kept")
    with caplog.at_level(logging.WARNING):
        assert disk.get(b"k") is None
        disk.put(b"k", kept())
        assert disk.forget(lambda *_: True) == 0
    assert [record.message for record in caplog.records] == ["cache on disk given up"]
    disk.close()


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(NoRoom, match=r"cache\.disk\.path cannot be used"):
        Disk(str(tmp_path / "file" / "below"), 1 << 20, Clock())
