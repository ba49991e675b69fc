"""Wrong configurations give exactly the text that is written down beside them, and every rule has such an example.

The rule: a golden text changes only on purpose: ``REGOLD=1`` in the environment writes them anew, and the diff is reviewed.
"""

import os
from pathlib import Path

import pytest

from tests.config.samples import problems_of
from vmcp import __version__
from vmcp.config.report import render
from vmcp.config.rules import MEANING, Rule

WRONG = sorted((Path(__file__).parent / "wrong").glob("*.yaml"))
ENVIRON = {"GOOD": "fine"}
# Too much of something is made by a program, in test_source.py and test_load.py.
ELSEWHERE = {Rule.TOO_LARGE, Rule.TOO_DEEP, Rule.TOO_MANY}
# These need a lock file, or backends that answer: tests/server/test_locked.py and tests/routing/test_lints.py.
ELSEWHERE |= {Rule.LOCK_FILE, Rule.LOCK_DRIFT, Rule.UNANSWERED, Rule.NAME_LENGTH, Rule.TOOL_COUNT, Rule.TOKEN_BUDGET}
ELSEWHERE |= {Rule.SHADOWED, Rule.ALIKE, Rule.HIDDEN_CHARACTERS}


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_wrong_file_gives_exactly_this_text(path: Path) -> None:
    source = [(path.name, path.read_text("utf-8"))]
    made = render(problems_of(source, ENVIRON), source, "text").replace(__version__, "<version>")
    golden = path.with_suffix(".txt")
    if os.environ.get("REGOLD") == "1":
        golden.write_text(made, "utf-8")
    assert made == golden.read_text("utf-8")


def test_every_rule_has_a_wrong_file_and_a_meaning() -> None:
    seen = {each.rule for path in WRONG for each in problems_of([(path.name, path.read_text("utf-8"))], ENVIRON)}
    assert seen == {str(rule) for rule in Rule} - ELSEWHERE
    assert set(MEANING) == set(Rule)


def test_there_is_no_golden_text_without_a_file() -> None:
    assert {path.stem for path in (Path(__file__).parent / "wrong").glob("*.txt")} == {path.stem for path in WRONG}
