"""How two definitions differ. Rule: a table of what is told; what says the same is told as nothing."""

import json
from typing import Any

import pytest

from vmcp.routing.changes import fields


def differ(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str | None, str | None, tuple[str, ...]]]:
    found = fields(json.dumps(before).encode(), json.dumps(after).encode())
    return [(each.name, each.before, each.after, each.notes) for each in found]


def schema(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"properties": properties, "required": list(required), **more}


def notes(before: Any, after: Any, member: str = "inputSchema") -> tuple[str, ...]:
    ((name, _, _, told),) = differ({member: before}, {member: after})
    assert name == member
    return told


def test_the_same_is_told_as_nothing() -> None:
    text = b'{"name":"a","inputSchema":{"a":1,"b":2}}'
    assert fields(text, text) == ()
    assert fields(text, b'{"inputSchema": {"b": 2, "a": 1.0}, "name": "a"}') == ()


def test_words_are_told_as_they_stand_and_the_rest_as_json() -> None:
    before, after = (
        {"name": "t", "description": "Old.", "icons": [1]},
        {"name": "t", "description": "New.", "title": "T"},
    )
    assert differ(before, after) == [
        ("description", "Old.", "New.", ()),
        ("icons", "[1]", None, ()),
        ("title", None, "T", ()),
    ]


def test_a_member_can_be_left_out() -> None:
    assert fields(b'{"name":"a"}', b'{"name":"b"}', "name") == ()


S, N = {"type": "string"}, {"type": "number"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (schema({}), schema({"a": S}), ("argument a added",)),
        (schema({}), schema({"a": S}, "a"), ("argument a added, required",)),
        (schema({"a": S}), schema({}), ("argument a removed",)),
        (schema({"a": S}), schema({"a": N}), ("argument a: type",)),
        (schema({"a": S}), schema({"a": {**S, "maxLength": 3}}), ("argument a: maxLength",)),
        (schema({"a": True}), schema({"a": False}), ("argument a changed",)),
        (schema({"a": S}), schema({"a": S}, "a"), ("argument a is required now",)),
        (schema({"a": S}, "a"), schema({"a": S}), ("argument a is not required any more",)),
        (schema({}), schema({}, additionalProperties=False), ("additionalProperties changed",)),
        (schema({}), {"properties": 5, "required": "x", "type": "object"}, ("type changed",)),
        (schema({}), [], ()),
        ({"required": [1]}, {"required": ["a"]}, ()),
    ],
)
def test_a_schema_is_told_by_its_arguments(before: Any, after: Any, expected: tuple[str, ...]) -> None:
    assert notes(before, after) == expected


def test_the_schema_of_results_speaks_of_results() -> None:
    assert notes(schema({}), schema({"a": S}), "outputSchema") == ("result a added",)


def test_hints_are_told_with_both_values() -> None:
    before = {"readOnlyHint": True, "title": "x", "openWorldHint": None}
    assert notes(before, {"readOnlyHint": False, "title": "x", "destructiveHint": True}, "annotations") == (
        "destructiveHint: not said -> true",
        "openWorldHint: null -> not said",
        "readOnlyHint: true -> false",
    )


def test_arguments_of_prompts_are_told_by_name() -> None:
    before = [{"name": "a"}, {"name": "b"}, {"name": "c", "required": True}, 5, {"name": 5}]
    after = [
        {"name": "b", "description": "B"},
        {"name": "c", "required": True},
        {"name": "d", "required": True},
        {"name": "e"},
    ]
    assert notes(before, after, "arguments") == (
        "argument a removed",
        "argument b: description",
        "argument d added, required",
        "argument e added",
    )
    assert notes({}, [{"name": "a"}], "arguments") == ("argument a added",)


def test_what_cannot_be_read_is_told_all_the_same() -> None:
    deep = b"[" * 2000 + b"]" * 2000
    assert fields(b'{"a":' + deep + b"}", b'{"a":1}')[0].name == "a"
    assert fields(b'{"a":"\xff"}', b'{"a":1}')[0].name == "a"
