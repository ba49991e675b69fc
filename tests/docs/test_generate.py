"""What is made of the program is as the program is: ``python docs/generate.py`` brings it up to date.

Rule: a page that drifted fails, by its name.
"""

import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from tests.cli.processes import environment
from tests.docs.pages import DOCS
from vmcp.config.rules import Rule
from vmcp.errors import Code


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_has_drifted() -> None:
    command = [sys.executable, DOCS / "generate.py", "--check"]  # of its own, as commands remember how they were used
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run: python docs/generate.py"


def test_every_rule_and_every_code_has_a_page_and_no_page_is_left_over() -> None:
    pages = {path.stem for path in (DOCS / "errors").glob("*.md")} - {"README"}
    assert pages == {*map(str, Rule), *(str(code.value).removeprefix("-") for code in Code)}


def test_every_page_of_a_rule_says_what_to_do() -> None:
    for path in (DOCS / "errors").glob("*.md"):
        assert path.stem == "README" or "**What to do.**" in path.read_text("utf-8"), path.name


def test_a_drift_is_seen_and_put_right(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = DOCS / "reference" / "metrics.md"
    monkeypatch.setattr(generate, "pages", lambda: iter([(kept, kept.read_text("utf-8") + "more")]))
    assert generate.drifted(write=False) == ["docs/reference/metrics.md"]
