"""What the tests of verbs share. Rule: a fixture here never touches what is outside of the test's own folder."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

LEADS_OUT = ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "APPDATA", "VMCP_CONFIG")


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME without any client, and a folder ``work`` in it to be in."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in LEADS_OUT:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def own_logs() -> Iterator[None]:
    """A command that runs in this process leaves its logging as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
