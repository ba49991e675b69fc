"""Secrets of environment and files become text, or are missed by name, all at once.

Rule: no value of a secret is in any error.
"""

from pathlib import Path

import pytest

from vmcp.config.model import SecretRef, Text
from vmcp.errors import Code, Unavailable
from vmcp.upstream.secrets import resolve


def test_plain_text_passes_and_secrets_are_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  grüße\n")
    values: dict[str, Text] = {
        "plain": "a b ",
        "var": SecretRef(env="KEY"),
        "file": SecretRef(file=str(file)),
        "empty": SecretRef(env="NO"),
    }
    assert resolve("time", values, {"KEY": " k ", "NO": ""}) == {
        "plain": "a b ",
        "var": " k ",
        "file": "grüße",
        "empty": "",
    }
    assert resolve("time", {}, {}) == {}


def test_all_that_is_missing_is_told_at_once_and_no_value_is(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    values = {
        "a": SecretRef(env="ONE"),
        "b": SecretRef(file=str(tmp_path / "none")),
        "c": SecretRef(file=str(binary)),
        "d": SecretRef(file=str(tmp_path)),
        "e": SecretRef(env="HERE"),
        "f": SecretRef(),
    }
    with pytest.raises(Unavailable) as failed:
        resolve("time", values, {"HERE": "hunter2"})
    files = "".join(f", file {tmp_path / name} cannot be read" for name in ("none", "binary"))
    expected = f"missing secret: environment variable ONE is not set{files}, file {tmp_path} cannot be read"
    assert failed.value.why == f"{expected}, file None cannot be read"
    assert failed.value.vmcp_code == Code.CONFIGURATION_ERROR
    assert "hunter2" not in str(failed.value)


def test_an_empty_file_is_an_empty_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    assert resolve("time", {"a": SecretRef(file=str(tmp_path / "key"))}, {}) == {"a": ""}
