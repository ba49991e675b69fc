"""What the migration pages say comes out of a foreign file comes out of it.

Rule: the block after a ``from`` block is what ``vmcp init --from`` prints, but for its comments and blank lines.
"""

import itertools
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.docs.pages import PAGES, Block, blocks
from vmcp.cli import main


def pairs() -> list[tuple[Block, Block]]:
    return [
        (one, after)
        for page in PAGES
        for one, after in itertools.pairwise(blocks(page))
        if one.word == "from" and one.language in ("json", "yaml")
    ]


def bare(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(("before", "after"), pairs(), ids=str)
def test_a_foreign_file_becomes_what_the_page_shows(
    before: Block, after: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    name = f"before.{before.language}"
    (tmp_path / name).write_text(before.text, "utf-8")
    done = CliRunner().invoke(main, ["init", "--from", name, "--output", "-", "--name", "mine"])
    assert done.exit_code == 0, done.output
    assert bare(done.stdout) == bare(after.text)


def test_each_migration_page_has_such_a_pair() -> None:
    assert {before.page.stem for before, _ in pairs()} == {"clients", "toolhive", "agentgateway"}
