"""``vmcp selfcheck``. Rule: what is missing is named, and changes the exit code."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.processes import ROOT, run
from vmcp.cli import main, selfcheck


def test_a_whole_one_says_so() -> None:
    ended = run("selfcheck", "-o", "json")
    assert ended.returncode == 0, ended.stdout
    found = json.loads(ended.stdout)
    assert [each["what"] for each in found] == [*selfcheck.CHECKS]
    assert {each["state"] for each in found} == {"ok"}


def test_it_looks_at_every_module_and_every_file_of_the_pages() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "vmcp").rglob("*.py")}
    assert {*selfcheck.names()} == {name for name in modules if not name.endswith(("__init__", "__main__"))} | {
        name.removesuffix(".__init__") for name in modules if name.endswith(".__init__") and name != "vmcp.__init__"
    }


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_here.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(selfcheck, "names", lambda: iter(["broken_here"]))
    shown = CliRunner().invoke(main, ["selfcheck"])
    assert shown.exit_code == 1
    assert "ImportError: broken_here: No module named 'no_such_module'" in shown.output


def test_modules_that_are_left_out_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "names", lambda: iter(["vmcp.errors"]))
    assert "only 1 modules are there" in CliRunner().invoke(main, ["selfcheck"]).output


def test_a_file_of_the_pages_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "FILES", ("admin/pages/none.html",))
    assert "none.html" in CliRunner().invoke(main, ["selfcheck", "-o", "json"]).output


def test_a_nursery_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    shown = CliRunner().invoke(main, ["selfcheck"])
    assert shown.exit_code == 1
    assert "non-zero exit status" in shown.output
