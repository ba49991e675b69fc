"""The texts that the two eras of clients see."""

import json
from typing import Any

import pytest

from vmcp.config.model import Override
from vmcp.routing import fragments, members


def parts_of(value: dict[str, Any]) -> dict[str, Any]:
    found = members.split(json.dumps(value).encode())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("entry", "override", "expected"),
    [
        ({}, Override(), {}),
        ({"title": "old"}, Override(title="new", description=""), {"title": "new", "description": ""}),
        ({}, Override(name="elsewhere"), {}),
        (
            {"annotations": {"title": "t", "readOnlyHint": False}},
            Override(annotations={"readOnlyHint": True}),
            {"annotations": {"title": "t", "readOnlyHint": True}},
        ),
        ({}, Override(annotations={"title": "t"}), {"annotations": {"title": "t"}}),
        ({"annotations": 7}, Override(annotations={"title": "t"}), {"annotations": {"title": "t"}}),
    ],
)
def test_an_override_replaces_members(entry: dict[str, Any], override: Override, expected: dict[str, Any]) -> None:
    made = fragments.edits(parts_of(entry), override)
    assert {key: json.loads(bytes(value)) for key, value in made.items()} == expected


def handshake(tool: dict[str, Any]) -> tuple[bytes, bytes]:
    text = json.dumps(tool).encode()
    return text, fragments.for_handshake(parts_of(tool), text)


@pytest.mark.parametrize(
    "tool",
    [
        {"name": "t", "inputSchema": {"type": "object"}},
        {"name": "t"},
        {"inputSchema": {"type": "object", "additionalProperties": False, "properties": {"a": {"default": True}}}},
        {"inputSchema": {"additionalProperties": False}},
        {"inputSchema": {"properties": True}},
        {"inputSchema": True},
        {"outputSchema": {"type": "object", "properties": {"a": {"items": True}}}},
    ],
)
def test_a_tool_that_older_clients_take_is_listed_with_the_same_bytes(tool: dict[str, Any]) -> None:
    text, made = handshake(tool)
    assert made is text


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": ["object", "null"]}, {"anyOf": []}, True, False, []])
def test_an_output_schema_that_is_no_object_is_dropped(schema: Any) -> None:
    _, made = handshake({"name": "t", "outputSchema": schema, "inputSchema": {"type": "object"}, "x": 1})
    assert json.loads(made) == {"name": "t", "inputSchema": {"type": "object"}, "x": 1}


def test_boolean_properties_become_objects_that_mean_the_same() -> None:
    schema = {"type": "object", "properties": {"a": True, "b": False, "c": {"type": "number", "maximum": 1.0}}}
    plain = {"type": "object", "properties": {"a": {}, "b": {"not": {}}, "c": {"type": "number", "maximum": 1.0}}}
    _, made = handshake({"outputSchema": schema, "name": "t", "inputSchema": schema})
    assert json.loads(made) == {"outputSchema": plain, "name": "t", "inputSchema": plain}
    assert list(json.loads(made)) == ["outputSchema", "name", "inputSchema"]
