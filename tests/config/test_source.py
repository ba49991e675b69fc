"""YAML text → nodes: the core types, positions, refusals, and files made to hurt."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.samples import told
from vmcp.config import source
from vmcp.config.source import MAX_PROBLEMS, compose, typed
from vmcp.config.tree import Listing, Scalar, Table


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("No", "No"),
        ("2025-11-25", "2025-11-25"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("42", 42),
        ("-7", -7),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("007", 7),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1e9999", "1e9999"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("0b1", "0b1"),
        ("-", "-"),
        ("9" * 30, "9" * 30),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars_have_the_types_of_the_core_schema(text: str, value: object) -> None:
    found = typed(text)
    assert found == value
    assert type(found) is type(value)


def scalar(text: str) -> Scalar:
    root, problems = compose("f", text)
    assert root is not None
    assert not problems
    node = root.entries["a"][1]
    assert isinstance(node, Scalar)
    return node


def test_a_quoted_scalar_is_text() -> None:
    assert scalar('a: "42"').value == "42"
    assert scalar("a: '42'").value == "42"
    assert scalar("a: |\n  42\n").value == "42\n"


def test_keys_and_values_know_where_they_stand() -> None:
    root, _ = compose("f.yaml", "a:\n  - {b: 'quoted'}\n")
    assert root is not None
    at, listing = root.entries["a"]
    assert (str(at), at.length) == ("f.yaml:1:1", 1)
    assert isinstance(listing, Listing)
    table = listing.items[0]
    assert isinstance(table, Table)
    assert str(table.at) == "f.yaml:2:5"
    key, value = table.entries["b"]
    assert str(key) == "f.yaml:2:6"
    assert isinstance(value, Scalar)
    assert (str(value.at), value.at.length, value.end) == ("f.yaml:2:9", 8, (2, 17))


def test_a_value_of_several_lines_is_underlined_at_its_first_character() -> None:
    found = scalar("a: |\n  one\n  two\n")
    assert found.at.length == 1
    assert found.end == (4, 1)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    root, problems = compose("f", "\ufeffname: x\n")
    assert root is not None
    assert list(root.entries) == ["name"]
    assert not problems


def test_keys_are_text_whatever_they_look_like() -> None:
    root, _ = compose("f", "1: a\ntrue: b\n~: c\n'': d\n")
    assert root is not None
    assert list(root.entries) == ["1", "true", "~", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\na: 4\n", ["3:1 duplicate-key", "4:1 duplicate-key"]),
        ("a: &x 1\n", ["1:4 no-anchors"]),
        ("a: *x\n", ["1:4 no-anchors"]),
        ("a: {<<: *x, b: &y [1]}\n", ["1:5 no-anchors", "1:16 no-anchors"]),
        ("a: {<<: {b: 1}}\n", ["1:5 no-anchors"]),
        ("*x : 1\n", ["1:1 no-anchors"]),
        ("a: !!str 1\nb: !local {}\nc: ! x\n", ["1:4 no-tags", "2:4 no-tags", "3:4 no-tags"]),
        ("%YAML 1.1\n---\na: 1\n", ["2:1 no-tags"]),
        ("%TAG !e! tag:example.com:\n---\na: 1\n", ["2:1 no-tags"]),
        ("a: 1\n---\nb: 1\n", ["2:1 one-document"]),
        ("[1, 2]\n", ["1:1 one-document"]),
        ("just text\n", ["1:1 one-document"]),
        ("", ["1:1 one-document"]),
        ("---\n", ["1:1 one-document"]),
        ("? [a]\n: 1\n", ["1:3 bad-key"]),
        ("? {a: b}\n: 1\n", ["1:3 bad-key"]),
        ("a: [1\n", ["2:1 bad-yaml"]),
        ("a:\n\tb: 1\n", ["2:1 bad-yaml"]),
        ("a: b: c\n", ["1:5 bad-yaml"]),
        ("a: 'x\n", ["2:1 bad-yaml"]),
        ("a: \x01\n", ["1:4 bad-yaml"]),
        ("x: 1\na: \udcff\n", ["2:4 bad-yaml"]),
        ('a: "\\ud800"\n', ["1:4 bad-yaml"]),
        ('a: "\\U0011FFFF"\n', ["1:1 bad-yaml"]),
        ("a: {b: ${X}}\n", ["1:9 bad-yaml"]),
    ],
)
def test_what_is_refused_is_told_with_its_place(text: str, expected: list[str]) -> None:
    _, problems = compose("f", text)
    assert told(problems) == expected


def test_yaml_1_2_may_say_so() -> None:
    root, problems = compose("f", "%YAML 1.2\n---\na: 1\n")
    assert root is not None
    assert not problems


def test_a_merge_key_in_quotes_is_a_key() -> None:
    root, problems = compose("f", "'<<': 1\n")
    assert root is not None
    assert not problems
    assert not root.partial


def test_both_places_of_a_duplicate_key_are_told() -> None:
    _, problems = compose("f", "a: 1\na: 2\n")
    assert problems[0].hint == "it is already given at f:1:1"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a: {b: ${X}}\n", 'inside {…} and […], put quotes around a value with ${…}: "${VAR}"'),
        ("a:\n\tb: 1\n", "indent with spaces; YAML allows no tabs there"),
        ("a: b: c\n", "put quotes around a value that has ': ' in it, or look at the indentation"),
        ("a: [1\n", "look at the indentation, the quotes and the brackets here and on the line before"),
    ],
)
def test_bad_syntax_comes_with_what_to_do(text: str, hint: str) -> None:
    _, problems = compose("f", text)
    assert [problem.hint for problem in problems] == [hint]


MILLION = 1 << 20
HOSTILE = {
    "too many bytes": "a" * (MILLION + 1),
    "too many bytes in few characters": "é" * (MILLION // 2 + 1),
    "brackets": "[" * MILLION,
    "short lines of brackets": "[\n" * (MILLION // 2),
    "braces": "{a: " * 5000,
    "dashes": "- " * 50_000,
    "bangs": "!" * MILLION,
    "questions": "? " * 50_000,
    "question lines": "? \n" * (MILLION // 3),
    "digits": "a: " + "9" * 100_000,
    "anchors": "&a " * 40_000,
    "aliases": "[" + "*a, " * 20_000 + "]",
    "tags": "a: !x b\n" * 2000,
    "same keys": "a: 1\n" * 5000,
    "documents": "---\n" * 50_000,
    "bomb": "a: &a [x, x]\n" + "".join(f"k{i}: &b{i} [*a, *a]\n" for i in range(200)),
    "NUL": "a: \0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_bounded_time(name: str) -> None:
    began = time.process_time()
    _, problems = compose("f", HOSTILE[name])
    if name != "digits":
        assert problems
    assert len(problems) <= MAX_PROBLEMS
    assert time.process_time() - began < 10


def test_more_values_than_the_budget_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_NODES", 10)
    assert compose("f", "a: [b, c, d, e, f, g, h]")[1] == ()
    root, problems = compose("f", "a: [b, c, d, e, f, g, h, i]")
    assert root is None
    assert told(problems) == ["1:26 too-large"]


def test_the_deepest_nesting_that_is_read() -> None:
    assert not compose("f", "a: " + "[" * 30 + "1" + "]" * 30)[1]
    assert told(compose("f", "a: " + "[" * 31 + "1" + "]" * 31)[1]) == ["1:35 too-deep"]


@given(st.text(alphabet=st.sampled_from("ab:- \n[]{}&*!|>'\"%@`#,?<\t~0\\${}"), max_size=60))
def test_no_text_raises(text: str) -> None:
    root, problems = compose("f", text)
    assert root is not None or problems
