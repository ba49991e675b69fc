"""Schemas as people read them. Rule: pure; a schema may be anything at all, and nothing of it is ever an error."""

from typing import Any

import pytest

from vmcp.admin.pages.schemas import DEEPEST, MOST, kind, resolved, rows

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["integer", "null"]}, "integer"),
        ({"type": "string", "format": "date"}, "string (date)"),
        ({"enum": ["a", 1]}, "choice"),
        ({"const": "a"}, 'always "a"'),
        ({"type": "array", "items": {"type": "number"}}, "list of number"),
        ({"type": "array"}, "array"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "string or integer"),
        ({"oneOf": [{"type": "string"}, {"type": "string"}]}, "string"),
        ({"properties": {"a": {}}}, "object"),
        ({"$ref": "#/$defs/Size"}, "integer"),
        ({"$ref": "#/$defs/Missing"}, "anything"),
        ({"$ref": "https://elsewhere.example.com/x"}, "anything"),
        ({"type": 7}, "anything"),
        ({}, "anything"),
        (True, "anything"),
        ("nonsense", "anything"),
    ],
)
def test_a_kind_is_told_in_words(schema: Any, words: str) -> None:
    assert kind(schema, {"$defs": {"Size": {"type": "integer"}}}) == words


def test_each_argument_has_a_line_and_so_has_what_is_in_it() -> None:
    schema: Json = {
        "type": "object",
        "required": ["query", 3],
        "properties": {
            "query": {"type": "string", "description": "Words\nto look for", "minLength": 1, "default": "x"},
            "order": {"enum": ["date", "size"]},
            "hits": {"type": "array", "items": {"$ref": "#/$defs/Hit"}, "maxItems": 3},
        },
        "$defs": {"Hit": {"type": "object", "properties": {"id": {"type": "integer"}}}},
    }
    found = rows(schema)
    assert [(row.depth, row.name, row.kind, row.required) for row in found] == [
        (0, "query", "string", True),
        (0, "order", "choice", False),
        (0, "hits", "list of object", False),
        (1, "id", "integer", False),
    ]
    assert found[0].description == "Words to look for"
    assert found[0].notes == ("at least 1 characters", 'default "x"')
    assert (found[1].notes, found[2].notes) == (('"date", "size"',), ("at most 3 elements",))


def test_what_refers_to_itself_ends() -> None:
    schema: Json = {"$ref": "#/$defs/Tree", "$defs": {"Tree": {"properties": {"child": {"$ref": "#/$defs/Tree"}}}}}
    assert [row.depth for row in rows({"properties": {"tree": schema["$defs"]["Tree"]}, **schema})] == [
        *range(DEEPEST + 1)
    ]
    circle: Json = {"$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert resolved({"$ref": "#/$defs/A"}, circle) == {"$ref": "#/$defs/A"}
    deep: Any = {"type": "string"}
    for _ in range(40):
        deep = {"type": "array", "items": deep}
    assert kind(deep, deep).endswith("…")


def test_there_are_only_so_many_lines() -> None:
    assert len(rows({"properties": {f"a{number}": {} for number in range(MOST + 9)}})) == MOST
    (row,) = rows({"properties": {"a": {"enum": list(range(90))}}})
    assert row.notes[0].endswith("…")


@pytest.mark.parametrize(
    "schema", [None, True, [], "x", {"properties": []}, {"properties": {"a": None}, "required": 1}]
)
def test_nonsense_is_no_error(schema: Any) -> None:
    assert len(rows(schema)) <= 1


def test_what_cannot_be_seen_is_an_escape() -> None:
    (row,) = rows({"properties": {"a\u202eb": {"description": "x\u200by", "pattern": "\u2066"}}})
    assert (row.name, row.description, row.notes) == ("a\\u202eb", "x\\u200by", ('like "\\u2066"',))
