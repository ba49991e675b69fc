"""Putting a backend into a text and taking it out. Rule: what is not concerned stays, to the character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.cli.edit import Uneditable, put, take
from vmcp.config.load import load

BLOCK = """\
# mine
name: house   # a name
groups:
  g:
    backends:
      # the first
      a: {url: https://a.example.com/mcp}   # kept
      b:
        command: [run, "x"]
        env:
          A: |
            one
            two
        # the end of b

  # below
other: 1
"""
URL = {"url": "https://n.example.com/mcp"}


def test_a_backend_is_put_behind_the_last() -> None:
    made = put(BLOCK, None, "new", {**URL, "tags": ["x"]})
    at = BLOCK.index("        # the end of b")
    added = '      new:\n        url: "https://n.example.com/mcp"\n        tags:\n          - "x"\n'
    assert made == BLOCK[:at] + added + BLOCK[at:]


def test_taken_out_it_is_as_it_was() -> None:
    assert take(put(BLOCK, "g", "n", URL), "n") == BLOCK
    assert take(BLOCK, "a") == BLOCK.replace("      a: {url: https://a.example.com/mcp}   # kept\n", "")
    without = take(BLOCK, "b")
    assert "run" not in without
    assert "# the end of b\n\n  # below\nother: 1\n" in without


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("groups: {g: {backends: {a: {url: x}}}}", 'groups: {g: {backends: {"new": {"url": "y"}, a: {url: x}}}}'),
        ("groups: {g: {backends: {}}}", 'groups: {g: {backends: {"new": {"url": "y"}}}}'),
        (
            "groups:\n g:\n  backends:\n   a: {url: x}",
            'groups:\n g:\n  backends:\n   a: {url: x}\n   new:\n     url: "y"',
        ),
    ],
)
def test_the_style_of_the_file_is_kept(text: str, made: str) -> None:
    assert put(text, None, "new", {"url": "y"}) == made


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("a", "groups: {g: {backends: {b: {x: 1}, c: 3}}}"),
        ("b", "groups: {g: {backends: {a: [1, 2], c: 3}}}"),
        ("c", "groups: {g: {backends: {a: [1, 2], b: {x: 1}}}}"),
    ],
)
def test_one_of_several_in_a_line_goes(name: str, left: str) -> None:
    assert take("groups: {g: {backends: {a: [1, 2], b: {x: 1}, c: 3}}}", name) == left


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("groups: {g: {backends: {n: 1}}}", "there is a backend 'n' already"),
        ("groups: {g: {backends: {}}, h: {backends: {}}}", "name the group with --group; there is g, h"),
        ("backends: [{name: a, url: x}]", "no group with a map of backends"),
        ("groups: {g: {backends: }}", "no group with a map of backends"),
        ("- 1", "cannot be read as YAML"),
        ("a: [", "cannot be read as YAML"),
        ("", "cannot be read as YAML"),
    ],
)
def test_what_has_to_be_done_by_hand_is_said(text: str, why: str) -> None:
    with pytest.raises(Uneditable, match=why):
        put(text, None, "n", {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("groups: {g: {backends: {a: 1, b: 2}}}", "there is no backend 'n'"),
        ("groups: {g: {backends: {n: 1}}}", "it is the last backend of its group"),
        (
            "groups:\n  g:\n    backends:\n      ? n\n      : {x: 1}\n      b: 2\n",
            "it does not begin on a line of its own",
        ),
    ],
)
def test_what_cannot_be_taken_out_is_said(text: str, why: str) -> None:
    with pytest.raises(Uneditable, match=why):
        take(text, "n")


def test_a_group_is_chosen_by_its_name() -> None:
    text = "groups:\n  g:\n    backends: {a: {url: x}}\n  h:\n    backends: {b: {url: y}}\n"
    assert 'h:\n    backends: {"n": {}, b:' in put(text, "h", "n", {})


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_whatever_a_value_is_it_comes_back(value: str) -> None:
    for text in (
        "name: h\ngroups:\n  g:\n    backends:\n      a: {command: [x]}\n",
        "name: h\ngroups: {g: {backends: {a: {command: [x]}}}}\n",
    ):
        if "$" in value or "\x00" in value:
            return
        made = put(text, None, "n", {"command": ["run", value]})
        config, _ = load([("f", made)], {})
        assert config.groups["g"].backends["n"].command == ("run", value)
        assert take(made, "n") == text
