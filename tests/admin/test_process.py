"""What the kernel says of processes. Rule: a real one beside those that are none."""

import os
from pathlib import Path

from vmcp.admin import process


def test_a_process_that_runs_has_memory_and_an_age() -> None:
    found = process.vitals(os.getpid())
    assert found["rssBytes"] > 1_000_000
    assert found["cpuSeconds"] > 0
    assert found["ageSeconds"] > 0


def test_what_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert process.vitals(None) == {}
    assert process.vitals(1 << 30) == {}
    assert process.vitals(1, tmp_path) == {}
    (tmp_path / "1").mkdir()
    (tmp_path / "uptime").write_text("9 9")
    (tmp_path / "1" / "stat").write_text("1 (a) b) S 1 2")
    assert process.vitals(1, tmp_path) == {}


def test_a_name_with_brackets_is_only_a_name(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "uptime").write_text("100.5 9")
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    fields = ["0"] * 30
    fields[11], fields[12], fields[19], fields[21] = str(tick), str(tick), str(90 * tick), "3"
    (tmp_path / "7" / "stat").write_text(f"7 (a ) b) {' '.join(fields)}")
    assert process.vitals(7, tmp_path) == {"rssBytes": 3 * page, "cpuSeconds": 2.0, "ageSeconds": 10.5}
