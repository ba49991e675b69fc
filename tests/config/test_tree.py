"""Merging, flattening, labels: what a document says about its places."""

import pytest

from vmcp.config.rules import Rule
from vmcp.config.source import compose
from vmcp.config.tree import Document, Node, Path, flatten, label, merge, printable


def tree(name: str, text: str) -> Node:
    root, problems = compose(name, text)
    assert root is not None
    assert not problems
    return root


def merged(*texts: str) -> Document:
    root, *others = [tree(f"f{number}", text) for number, text in enumerate(texts, 1)]
    for other in others:
        root = merge(root, other)
    return flatten(root)


@pytest.mark.parametrize(
    ("base", "over", "result"),
    [
        ("a: {b: 1, c: 2}", "a: {c: 3, d: 4}", {"a": {"b": 1, "c": 3, "d": 4}}),
        ("a: [1, 2]", "a: [3]", {"a": [3]}),
        ("a: {b: 1}", "a: 5", {"a": 5}),
        ("a: 5", "a: {b: 1}", {"a": {"b": 1}}),
        ("a: 1", "b: 2", {"a": 1, "b": 2}),
        ("a: {b: 1}", "a: null", {"a": None}),
    ],
)
def test_maps_merge_and_all_else_is_replaced(base: str, over: str, result: object) -> None:
    assert merged(base, over).data == result


def test_each_value_keeps_the_file_it_came_from() -> None:
    document = merged("a: {b: 1, c: 2}\n", "\na:\n  c: 3\n")
    assert str(document.at_value(("a", "b"))) == "f1:1:8"
    assert str(document.at_value(("a", "c"))) == "f2:3:6"
    assert str(document.at_key(("a", "c"))) == "f2:3:3"
    assert str(document.at_key(("a",))) == "f2:2:1"
    assert str(document.at_key(("none",))) == "f1:1:1", "what no file says is missing where the first one begins"


def test_a_place_that_is_not_there_is_told_at_its_parent() -> None:
    document = merged("a: {b: [x]}\n")
    assert str(document.at_key(("a", "none", "deeper"))) == "f1:1:1"
    assert str(document.at_value(("a", "b", 7))) == "f1:1:5"
    assert str(document.at_key(("a", "b", 0))) == "f1:1:9"
    assert str(document.at_key(("none",))) == "f1:1:1"


def test_unreadable_values_are_broken_and_their_maps_partial() -> None:
    root, _ = compose("f", "a: *x\nb: {<<: *y, c: 1}\n")
    assert root is not None
    document = flatten(merge(root, tree("g", "d: 1")))
    assert document.broken == {("a",)}
    assert document.partial == {("b",)}
    assert document.data == {"a": None, "b": {"c": 1}, "d": 1}


def test_a_document_without_a_map_is_empty() -> None:
    root = tree("f", "a: 1")
    assert flatten(merge(root, root.entries["a"][1])).data == {}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("a", "b"), "a.b"),
        (("a", 0, "b"), "a[0].b"),
        (("a", "b.c", "d"), 'a["b.c"].d'),
        (("a-b_c",), "a-b_c"),
        (("a", ""), 'a[""]'),
        (("a", "x\x1b[2J"), 'a["x?[2J"]'),
    ],
)
def test_labels_of_paths(path: Path, text: str) -> None:
    assert label(path) == text


def test_printed_text_is_short_and_harmless() -> None:
    assert printable("a\nb\x1b\u202ec") == "a?b??c"
    assert printable("x" * 60) == "x" * 60
    assert printable("x" * 61) == "x" * 60 + "…"


@pytest.mark.parametrize(("value", "shown"), [("x", "'x'"), (5, "'5'"), (True, "'true'"), ([], "the value")])
def test_values_are_shown_in_words(value: object, shown: str) -> None:
    assert merged("a: 1").show(("a",), value) == shown


def test_a_hidden_value_is_never_shown() -> None:
    document = merged("a: 1")
    document.hidden.add(("a",))
    assert document.show(("a",), "hush") == "the value (hidden)"


def test_a_problem_stands_at_the_value_or_at_the_key() -> None:
    document = merged("a: 1\n")
    assert document.problem(Rule.BAD_VALUE, ("a",), "wrong").position.column == 4
    assert document.problem(Rule.BAD_VALUE, ("a",), "wrong", key=True).position.column == 1
