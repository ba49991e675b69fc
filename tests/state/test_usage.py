"""Usage statistics on disk. Rule: real files and the real thread; the clock is the test's."""

import contextlib
import functools
import logging
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vmcp
from tests.server.peers import until
from vmcp.state import usage as module
from vmcp.state.histogram import Calls
from vmcp.state.usage import DAY, HOUR, MOST, NoUsage, Usage

ROOT = Path(vmcp.__file__).parent.parent
NOON = 1_800_014_400.0
THING = ("tools/call", "read", "files", "g")


def calls(when: float, count: int = 1, errors: int = 0) -> Calls:
    made = Calls(count, errors, 0.1 * count, 10 * count, {100: count})
    made.when = when
    return made


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def opened(path: Path | None, clock: Clock, rows: int = 1000, *, people: bool = True) -> Iterator[Usage]:
    made = Usage(path, 30, rows, people=people, now=clock)
    made.start()
    try:
        yield made
    finally:
        made.close(4.0)


async def counts(usage: Usage, days: int = 30) -> dict[tuple[int, int, str], int]:
    return {(key[0], key[1], key[6]): each.count for key, each in await usage.read(days * DAY)}


async def test_what_was_counted_outlives_the_process_and_adds_up(tmp_path: Path) -> None:
    path, clock = tmp_path / "state" / "usage.db", Clock()
    with opened(path, clock) as usage:
        usage.add(THING, "ann", calls(NOON + 1, 3, 1))
    with opened(path, clock) as usage:
        usage.add(THING, "ann", calls(NOON + 2, 2))
        usage.add(THING, "bob", calls(NOON + 2))
        rows = {key[6]: each for key, each in await usage.read(DAY)}
    assert (rows["ann"].count, rows["ann"].errors, rows["ann"].bytes, rows["ann"].times) == (5, 1, 50, {100: 5})
    assert rows["ann"].seconds == pytest.approx(0.5)
    assert rows["bob"].count == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path, clock = tmp_path / "usage.db", Clock()
    with opened(path, clock) as one, opened(path, clock) as other:
        one.add(THING, "ann", calls(NOON))
        other.add(THING, "ann", calls(NOON))
        await one.read(DAY)
        assert await counts(other) == {(HOUR, int(NOON), "ann"): 2}


WORKERS = """
import os, sys
from pathlib import Path
from vmcp.state.histogram import Calls
from vmcp.state import usage as module
from vmcp.state.usage import HOUR, Usage
module._BUSY = 20.0  # they do in a moment what takes hours
go, start = os.pipe()
def work():
    os.read(go, 1)
    usage = Usage(Path(sys.argv[1]), 30, 1000, now=lambda: 1_800_014_400.0 + HOUR)
    usage.start()
    for second in range(12):
        made = Calls(1, 0, 0.5, 10, {100: 1})
        made.when = 1_800_014_400.0 - second * HOUR * 8
        usage.add(("tools/call", "read", "files", "g"), "ann", made)
        usage.flush()
        usage._rolled = 0.0  # as if the hour were over
    usage.close(20.0)
    os._exit(0 if usage.failing is None else 1)
working = [pid for _ in range(3) if (pid := os.fork()) or work()]
os.write(start, b"go!")
sys.exit(sum(os.waitpid(pid, 0)[1] for pid in working))
"""


async def test_what_several_count_at_once_adds_up_and_is_tidied_by_each(tmp_path: Path) -> None:
    path, clock = tmp_path / "state" / "usage.db", Clock()
    code = [sys.executable, "-c", WORKERS, str(path)]
    subprocess.run(code, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=30)  # noqa: ASYNC221
    with opened(path, clock) as usage:
        found = await usage.read(30 * DAY)
    assert sum(each.count for _, each in found) == 36
    assert sum(each.times[100] for _, each in found) == 36
    assert {key[0] for key, _ in found} == {HOUR, DAY}


async def test_without_a_folder_it_is_in_memory(tmp_path: Path) -> None:
    with opened(None, Clock()) as usage:
        usage.add(THING, "ann", calls(NOON))
        assert await counts(usage) == {(HOUR, int(NOON), "ann"): 1}
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - a folder of the test


async def test_hours_become_days_and_what_is_old_goes(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path / "usage.db", clock) as usage:
        usage.add(THING, "ann", calls(NOON))
        usage.add(THING, "ann", calls(NOON + HOUR))
        assert len(await counts(usage)) == 2
        clock.now = NOON + 4 * DAY
        usage.add(THING, "ann", calls(clock.now))
        today = (HOUR, int(clock.now), "ann")
        assert await counts(usage) == {(DAY, int(NOON // DAY * DAY), "ann"): 2, today: 1}
        clock.now = NOON + 33 * DAY
        usage.add(THING, "ann", calls(clock.now))
        assert (DAY, int(NOON // DAY * DAY), "ann") not in await counts(usage, 90)


async def test_there_is_a_bound_to_the_rows_and_the_oldest_go_first() -> None:
    clock = Clock()
    with opened(None, clock, rows=5) as usage:
        for hour in range(8):
            usage.add(THING, "ann", calls(NOON - hour * HOUR))
        await counts(usage)
        clock.now += HOUR
        usage.flush()
        assert sorted(await counts(usage)) == [(HOUR, int(NOON) - hour * HOUR, "ann") for hour in reversed(range(5))]


async def test_a_crowd_of_people_is_told_as_one() -> None:
    with opened(None, Clock(), rows=10_000) as usage:
        for number in range(MOST + 100):
            usage.add(THING, f"p{number}", calls(NOON))
        found = await counts(usage)
        assert len(found) == MOST + 1
        assert found[HOUR, int(NOON), "other"] == 100


async def test_whose_calls_they_were_is_kept_only_where_that_is_wanted() -> None:
    with opened(None, Clock(), people=False) as usage:
        usage.add(THING, "ann", calls(NOON))
        assert [key[2] for key in await counts(usage)] == [""]


async def test_a_disk_that_cannot_be_written_is_told_once_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file in the place of the folder")
    with caplog.at_level(logging.INFO, "vmcp.usage"), opened(folder / "usage.db", Clock()) as usage:
        for count in (1, 2, 3):
            usage.add(THING, "ann", calls(NOON))
            assert await counts(usage) == {(HOUR, int(NOON), "ann"): count}
            assert usage.failing is not None
        folder.unlink()
        assert await counts(usage) == {(HOUR, int(NOON), "ann"): 3}
        assert usage.failing is None
    assert [each.getMessage() for each in caplog.records] == [
        "usage statistics cannot be kept",
        "usage statistics are kept again",
    ]


async def test_what_was_kept_is_read_although_nothing_can_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "usage.db"
    with opened(path, Clock()) as usage:
        usage.add(THING, "ann", calls(NOON))
    monkeypatch.setattr(sqlite3, "connect", functools.partial(_read_only, sqlite3.connect))
    with caplog.at_level(logging.INFO, "vmcp.usage"), opened(path, Clock()) as usage:
        for count in (2, 3):
            usage.add(THING, "ann", calls(NOON))
            assert await counts(usage) == {(HOUR, int(NOON), "ann"): count}
        assert usage.failing == "attempt to write a readonly database"
    assert len(caplog.records) == 1


def _read_only(connect: Callable[..., sqlite3.Connection], path: Path, **more: Any) -> sqlite3.Connection:
    """As on a disk that is mounted so; root may write everywhere else."""
    return connect(f"file:{path}?mode=ro", uri=True, **more)


async def test_a_file_of_another_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with opened(path, Clock()) as usage:
        usage.add(THING, "ann", calls(NOON))
        assert await counts(usage) == {(HOUR, int(NOON), "ann"): 1}
        assert usage.failing == "it was written by another release"
    assert path.read_bytes() == before


async def test_a_file_that_does_not_answer_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "usage.db"
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "_BUSY", 30.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with opened(path, Clock()) as usage:
        usage.add(THING, "ann", calls(NOON))
        with pytest.raises(NoUsage, match="does not answer"):
            await usage.read(DAY)
        for _ in range(200):
            usage.add(THING, "ann", calls(NOON))
            usage.flush()
        with pytest.raises(NoUsage, match="too many"):
            await usage.read(DAY)
        other.close()
        monkeypatch.setattr(module, "PATIENCE", 5.0)
        await until(usage._jobs.empty)
        assert await counts(usage) == {(HOUR, int(NOON), "ann"): 201}


ROW = (HOUR, int(NOON) // HOUR * HOUR, *THING, "ann", 1, 0, 0.1, 5, '{"3":1}')


@pytest.mark.parametrize(
    ("place", "value"),
    [(11, "null"), (11, "xx"), (11, '{"-900":1}'), (11, '{"3":-1}'), (7, "many"), (7, (1 << 63) - 1), (3, b"\0\xff")],
    ids=["no times", "no JSON", "no bucket", "less than none", "no number", "too many", "no text"],
)
async def test_a_row_that_was_not_written_by_us_does_not_count(tmp_path: Path, place: int, value: object) -> None:
    path, clock = tmp_path / "usage.db", Clock()
    with opened(path, clock) as usage:
        assert await usage.read(DAY) == []
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            row = [value if at == place else each for at, each in enumerate(ROW)]
            file.execute("INSERT INTO usage VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", row)
        assert await usage.read(DAY) == []
        usage.add(THING, "ann", calls(NOON, 2))
        assert [each.count for _, each in await usage.read(DAY)] == [2]
        assert usage.failing is None


async def test_more_names_in_an_hour_than_there_are_rows_drive_out_the_least_used_only(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path / "usage.db", clock, 5) as usage:
        usage.add(THING, "ann", calls(NOON, 9))
        for number in range(20):
            usage.add(THING, f"guest{number}", calls(NOON))
        await usage.read(DAY)
        found = await counts(usage)
        assert (len(found), max(found.values())) == (5, 9)


def test_where_there_is_nothing_to_keep_nothing_is_opened(tmp_path: Path) -> None:
    code = "import sys, vmcp.state.usage; print('sqlite3' in sys.modules)"
    plain = {key: value for key, value in os.environ.items() if not key.startswith("COV")}  # coverage loads it, too
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=plain)
    assert done.stdout == "False\n"
    in_memory, on_disk = Usage(None, 30, 100), Usage(tmp_path / "usage.db", 30, 100)
    for usage in (in_memory, on_disk):
        usage._written({})
    assert in_memory._file is None
    assert on_disk._file is not None, "what is too old has to go"
    on_disk._file.close()
    in_memory._written({(HOUR, 0, "tools/call", "t", "b", "g", ""): Calls(count=1)})
    assert in_memory._file is not None
    in_memory._file.close()
