"""A running instance for commands to be about. Rule: a run folder of its own, and no process is left."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.processes import ROOT, run
from vmcp.cli import main

TOOLBOX = Path(__file__).with_name("toolbox.py")
PYTHON = json.dumps(sys.executable)
BOX = f"{{command: [{PYTHON}, -S, {json.dumps(str(TOOLBOX))}], isolation: session}}"
TEXT = f"name: house\ngroups:\n  g:\n    backends:\n      box: {BOX}\nserver: {{port: 0}}\n"


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


@dataclass
class Site:
    """A folder with ``vmcp.yaml``, in which commands are run."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "vmcp.yaml"

    def run(self, *arguments: str, code: int = 0) -> Ended:
        """Run a command in this process, as a hundred of them would take long; ``code`` is how it has to end."""
        done = CliRunner().invoke(main, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return self._ended(code, done.exit_code, done.stdout, done.stderr)

    def process(self, *arguments: str, code: int = 0) -> Ended:
        """Run a command as a process."""
        ended = run(*arguments, cwd=self.folder)
        return self._ended(code, ended.returncode, ended.stdout, ended.stderr)

    def _ended(self, code: int, returncode: int, stdout: str, stderr: str) -> Ended:
        assert returncode == code, (returncode, stdout, stderr)
        assert "Traceback" not in stderr, stderr
        return Ended(returncode, stdout, stderr)

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "-o", "json", code=code).stdout)


@contextlib.contextmanager
def site(folder: Path, text: str = TEXT) -> Iterator[Site]:
    """A place with its own run and state folders."""
    (folder / "run").mkdir(0o700)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("VMCP_ADMIN", "VMCP_CONFIG", "VMCP_TOKEN", "VMCP_ADMIN_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("VMCP_RUN_DIR", str(folder / "run"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.chdir(folder)
        made = Site(folder)
        made.file.write_text(text)
        try:
            yield made
        finally:
            for path in (folder / "run").glob("*.sock"):
                run("stop", "--force", "--admin", str(path))


@contextlib.contextmanager
def started(folder: Path, text: str = TEXT) -> Iterator[Site]:
    """The same with an instance that runs."""
    with site(folder, text) as made:
        made.process("start")
        yield made
