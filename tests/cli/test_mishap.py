"""What nobody thought of: one line for somebody at a terminal, all of it for whoever keeps a log.

Rule: the process is real, and so is its terminal.
"""

import contextlib
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import PATIENCE, environment

BREAKS = "import vmcp.cli, vmcp.cli.version as it; it.platform = None; vmcp.cli.main(['version'])"


def seen(script: str, folder: Path, *, terminal: bool = True, **more: str) -> str:
    """What comes out of its stderr, after which it has ended with 1."""
    here, there = os.openpty() if terminal else os.pipe()
    bare = {key: value for key, value in environment().items() if key != "VMCP_DEBUG"}
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stderr=there, env={**bare, "TMPDIR": str(folder), **more})
    os.close(there)
    text = b""
    with contextlib.suppress(OSError):  # the other end of a terminal is closed
        while piece := os.read(here, 1 << 16):
            text += piece
    os.close(here)
    assert process.wait(PATIENCE) == 1
    return text.decode().replace("\r\n", "\n")


def test_one_line_is_said_and_the_rest_kept_for_this_user(tmp_path: Path) -> None:
    said = seen(BREAKS, tmp_path)
    found = re.fullmatch(r"vmcp: something unexpected happened \(\w+\); the traceback is in (.+)\n", said)
    assert found is not None, said
    report = Path(found[1])
    assert "Traceback" in report.read_text()
    assert stat.S_IMODE(report.stat().st_mode) == 0o600


@pytest.mark.parametrize(("terminal", "more"), [(True, {"VMCP_DEBUG": "1"}), (False, {})])
def test_who_mends_it_and_who_keeps_a_log_see_all_of_it(tmp_path: Path, terminal: bool, more: dict[str, str]) -> None:
    assert "Traceback" in seen(BREAKS, tmp_path, terminal=terminal, **more)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_kept_it_is_shown(tmp_path: Path) -> None:
    assert "Traceback" in seen("import tempfile; tempfile.tempdir = '/nowhere/at/all'; " + BREAKS, tmp_path)
