"""``${…}``: what is put in, what is missing, what stays literal."""

import pytest

from vmcp.config.source import compose
from vmcp.config.substitute import Missing, substitute
from vmcp.config.tree import Hole, Node, Scalar, Table

ENVIRON = {"A": "one", "B": "two", "EMPTY": "", "PORT": "8080", "NEST": "${A}", "BAD": "\udcff", "NUL": "a\0b"}


def substituted(text: str) -> tuple[Node, tuple[Missing, ...]]:
    root, _ = compose("f", f"a: {text}\n")
    assert root is not None
    tree, problems = substitute(root, ENVIRON)
    assert isinstance(tree, Table)
    return tree.entries["a"][1], problems


@pytest.mark.parametrize(
    ("text", "value", "hidden"),
    [
        ("${A}", "one", True),
        ("x${A}y${B}z", "xoneytwoz", True),
        ("${PORT}", 8080, True),
        ('"${PORT}"', "8080", True),
        ("${NONE:-8080}", 8080, False),
        ("${NONE:-}", None, False),
        ("${EMPTY}", None, True),
        ('"${EMPTY}"', "", True),
        ("${EMPTY:-x}", "x", False),
        ("${A:-x}", "one", True),
        ("${A:?why}", "one", True),
        ("${NEST}", "${A}", True),
        ("$${A}", "${A}", False),
        ("$${A}${A}", "${A}one", True),
        ("$A", "$A", False),
        ("cost $5 {A}", "cost $5 {A}", False),
        ("${NONE:-$B}", "$B", False),
    ],
)
def test_variables_are_put_in(text: str, value: object, hidden: bool) -> None:
    node, problems = substituted(text)
    assert not problems
    assert isinstance(node, Scalar)
    assert (node.value, node.hidden) == (value, hidden)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NONE}", "environment variable NONE is not set"),
        ("${NONE:?set it to a port}", "environment variable NONE is not set: set it to a port"),
        ("${EMPTY:?}", "environment variable EMPTY is empty"),
        ("${1X}", "'${' does not begin a variable"),
        ("${A", "'${' does not begin a variable"),
        ("${A-x}", "'${' does not begin a variable"),
        ("${BAD}", "environment variable BAD is not UTF-8 text"),
        ("${NUL}", "environment variable NUL is not UTF-8 text"),
    ],
)
def test_what_cannot_be_put_in_is_told(text: str, message: str) -> None:
    node, problems = substituted(text)
    assert isinstance(node, Hole)
    assert [problem.message for problem in problems] == [message]


def test_all_missing_variables_are_told_together() -> None:
    root, _ = compose("f", "a: ${X} ${Y}\nb: [1, '${Z}', {c: 1}]\n")
    assert root is not None
    _, problems = substitute(root, {})
    assert [(str(each.at), each.path) for each in problems] == [
        ("f:1:4", ("a",)),
        ("f:1:4", ("a",)),
        ("f:2:8", ("b", 1)),
    ]
    assert problems[0].hint == "set X, or write ${X:-default}"


def test_keys_and_holes_are_left_alone() -> None:
    root, _ = compose("f", "${A}: *x\n")
    assert root is not None
    tree, problems = substitute(root, ENVIRON)
    assert isinstance(tree, Table)
    assert list(tree.entries) == ["${A}"]
    assert not problems
