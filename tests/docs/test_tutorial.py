"""The tutorial, from its first line to its last, in an empty folder and an empty HOME.

Rule: whoever follows it sees what it shows. A line of ``…`` stands for any lines, and ``…`` in a line for anything.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import PROGRAM, environment
from tests.docs.pages import DOCS, ROOT, blocks

PATIENCE = 60


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "gateway"
    for each in (made, tmp_path / "bin", tmp_path / "home"):
        each.mkdir()
    (tmp_path / "run").mkdir(0o700)
    shutil.copy(ROOT / "examples" / "servers" / "notes.py", made)
    program = tmp_path / "bin" / "vmcp"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    yield made
    bash(made, "vmcp stop --force || true")


def bash(folder: Path, text: str) -> str:
    """What it prints. A port of its own, as others may have the usual one."""
    around = folder.parent
    own = {"HOME": str(around / "home"), "VMCP_RUN_DIR": str(around / "run"), "XDG_STATE_HOME": str(around / "state")}
    path = f"{around / 'bin'}{os.pathsep}{os.environ['PATH']}"
    text = re.sub(r"^vmcp start$", "vmcp start --port 0", text, flags=re.MULTILINE)
    with (around / "said").open("w+b") as said:  # no pipe: what runs in the background would keep it open
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=folder,
            env={**environment(), **own, "PATH": path},
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        said.seek(0)
        shown = said.read().decode()
    assert done.returncode == 0, shown
    return shown


def fits(shown: str, expected: str) -> bool:
    """Whether all lines of ``expected`` come in this order, those between two ``…`` together."""
    lines = [".*".join(map(re.escape, line.split("…"))) for line in expected.splitlines()]
    pattern = "".join(r"(?:.*\n)*?" if line == ".*" else rf"{line} *\n" for line in lines)
    return re.search(f"^{pattern}", shown, re.MULTILINE) is not None


def test_the_tutorial_shows_what_is_seen(folder: Path) -> None:
    shown = ""
    for block in blocks(DOCS / "tutorial.md"):
        if block.language == "yaml":
            (folder / "vmcp.yaml").write_text(block.text)
        elif (block.language, block.word) == ("sh", "run"):
            shown = bash(folder, block.text)
        elif block.language == "text":
            assert fits(shown, block.text), f"{block}: it is\n{shown}"


@pytest.mark.parametrize(
    ("shown", "expected", "right"),
    [
        ("a\nb\nc\n", "a\nb\n", True),
        ("a\nb\nc\n", "a\nc\n", False),
        ("a\nb\nc\n", "a\n…\nc\n", True),
        ("port 4711 is\n", "port … is\n", True),
        ("port 4711 is\n", "port … was\n", False),
    ],
)
def test_what_is_left_out_may_be_anything(shown: str, expected: str, right: bool) -> None:
    assert fits(shown, expected) is right
