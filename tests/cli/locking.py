"""A folder with a configuration and a backend that can be told what to offer, for the tests of plan, diff and lock."""

import contextlib
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from vmcp.cli import main

SERVER = Path(__file__).with_name("changing.py")
NOTES = Path(__file__).parents[2] / "examples" / "servers" / "notes.py"

ADD = {"name": "add", "description": "Add a note.", "inputSchema": {"type": "object"}}
FIND = {"name": "find", "description": "Find a note.", "inputSchema": {"type": "object"}}
OFFERED: dict[str, Any] = {
    "instructions": "Keeps notes.",
    "tools": [ADD, FIND],
    "prompts": [{"name": "ask"}],
    "resourceTemplates": [{"uriTemplate": "note:///{title}", "name": "note"}],
}


def offer(folder: Path, **changed: Any) -> None:
    """Let the backend offer this from now on."""
    (folder / "offered.json").write_text(json.dumps({**OFFERED, **changed}), "utf-8")


def configure(folder: Path, more: str = "", name: str = "vmcp.yaml", **backends: list[str]) -> Path:
    """A configuration with that backend (``a``) and others by their commands; ``more`` stands below."""
    mine = {"a": [sys.executable, "-S", str(SERVER), str(folder / "offered.json")], **backends}
    lines = "".join(f"      {key}: {{command: {json.dumps(command)}}}\n" for key, command in mine.items())
    path = folder / name
    path.write_text(f"name: house\ngroups:\n  g:\n    backends:\n{lines}{more}", "utf-8")
    return path


NOTES_COMMAND = [sys.executable, "-S", str(NOTES)]
GONE = ["no-such-program-anywhere"]


@dataclass(frozen=True)
class Done:
    """How a verb ended."""

    returncode: int
    stdout: str
    stderr: str


def vmcp(folder: Path, *arguments: str) -> Done:
    """Run a verb in this process, from ``folder``; backends are real processes all the same."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        with contextlib.chdir(folder):
            done = CliRunner().invoke(main, arguments)
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)
