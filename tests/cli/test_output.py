"""How things are printed. Rule: programs get all of it in a form they can read, and nobody paints on a terminal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from vmcp.cli import output

ROWS: list[dict[str, Any]] = [
    {"name": "a", "state": "up", "none": None, "protocolVersion": "1", "more": [1, 2]},
    {"name": "longer\x1b[31m", "state": "down", "none": "", "protocolVersion": "2", "more": []},
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=6), below, max_size=3),
    max_leaves=8,
)


def test_a_table_leaves_out_what_is_empty_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows(ROWS, ["name", "state", "none", "protocolVersion", "more"], "table")
    assert capsys.readouterr().out == (
        "NAME         STATE  PROTOCOL VERSION  MORE\na            up     1                 1, 2\nlonger [31m  down   2\n"
    )
    output.rows([], ["name"], "table")
    assert capsys.readouterr() == ("", "none\n")


def test_the_other_forms_have_all(capsys: pytest.CaptureFixture[str]) -> None:
    output.rows(ROWS, ["name"], "name")
    assert capsys.readouterr().out == "a\nlonger [31m\n"
    output.rows(ROWS, ["name"], "json")
    assert json.loads(capsys.readouterr().out) == ROWS
    output.rows(ROWS, ["name"], "yaml")
    assert YAML(typ="safe").load(capsys.readouterr().out) == ROWS


def test_colours_are_for_terminals_that_want_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.painted("healthy", 8) == "\x1b[32mhealthy \x1b[0m"
    assert output.painted("down", 0) == "\x1b[31mdown\x1b[0m"
    assert output.painted("degraded", 0) == "\x1b[33mdegraded\x1b[0m"
    assert output.painted("anything", 0) == "anything"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.painted("healthy", 0) == "healthy"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert output.painted("healthy", 0) == "healthy"


def test_values_are_one_line() -> None:
    assert [output.plain(each) for each in (True, False, None, [1, True], "a\nb", 1.5)] == [
        "yes",
        "no",
        "",
        "1, yes",
        "a b",
        "1.5",
    ]


@given(JSON)
def test_yaml_says_what_json_says(value: object) -> None:
    text = "\n".join(output.block_style(value))
    assert YAML(typ="safe", pure=True).load(text) == json.loads(json.dumps(value))
