"""The lock file of a configuration. Rule: without the file that it wants, a configuration does not come about."""

import os
from pathlib import Path

import pytest

from vmcp.config.lock import MOST, text
from vmcp.config.rules import Rule
from vmcp.errors import ConfigError
from vmcp.server import locked

CONFIG = "name: a\nbackends: [{{name: b, command: [x]}}]\nlock: {{policy: {policy}, file: {file}}}\n"
DIGEST = "sha256:" + "0" * 64


def files(folder: Path, policy: str = "warn", file: str = "my.lock") -> list[tuple[str, str]]:
    return [(str(folder / "vmcp.yaml"), CONFIG.format(policy=policy, file=file))]


def test_what_the_file_approves_is_part_of_the_configuration(tmp_path: Path) -> None:
    locked.write(str(tmp_path / "my.lock"), text({}))
    found = locked.load(files(tmp_path), {}).config.lock
    assert (found.policy, found.pins.backends, len(found.pins.digest)) == ("warn", {}, 64)


def test_without_a_policy_the_file_is_not_even_looked_at(tmp_path: Path) -> None:
    (tmp_path / "my.lock").write_text("nonsense", "utf-8")
    assert locked.load(files(tmp_path, "off"), {}).config.lock.pins.digest == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "there is no such file"), (b"nonsense", "it is no lock file: "), (b" " * (MOST + 1), "it is larger than ")],
)
def test_a_file_that_is_missing_or_wrong_is_told_with_its_place(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "my.lock").write_bytes(content)
    with pytest.raises(ConfigError) as told:
        locked.load(files(tmp_path), {})
    (problem,) = told.value.problems
    assert (problem.rule, problem.path, problem.position.line) == (str(Rule.LOCK_FILE), "lock.file", 3)
    assert words in problem.message
    assert problem.hint


def test_a_file_that_cannot_be_read_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it cannot be read: Is a directory"):
        locked.load(files(tmp_path, file="."), {})


def test_it_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my.lock"
    locked.write(str(path), "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        locked.write(str(path), "new")
    assert path.read_text("utf-8") == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["my.lock"]
