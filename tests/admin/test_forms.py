"""Forms made of schemas, and what was written into them. Rule: pure; what is sent is what was typed, to the digit."""

import json
from typing import Any

import pytest

from vmcp.admin.pages.forms import fields, filled, sample, whole

Json = dict[str, Any]
SCHEMA: Json = {
    "type": "object",
    "required": ["name", "count"],
    "properties": {
        "draft": {"type": "boolean", "default": False},
        "name": {"type": "string", "description": "What it is called"},
        "body": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": ["number", "null"]},
        "order": {"enum": ["up", 2, None]},
        "tags": {"type": "array", "items": {"type": "string"}, "default": ["a", 1]},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "filter": {"type": "object", "properties": {"since": {"type": "string"}}, "required": ["since"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "essay": {"type": "string", "maxLength": 9000},
    },
}


def test_each_kind_of_argument_has_its_field_and_what_is_required_comes_first() -> None:
    found = {field.name: field for field in fields(SCHEMA, {"a.count": "7x"}, {"count": "must be integer"})}
    assert list(found)[:2] == ["name", "count"]
    assert {name: field.kind for name, field in found.items()} == {
        "name": "text",
        "count": "number",
        "draft": "flag",
        "body": "long",
        "ratio": "number",
        "order": "choice",
        "tags": "list",
        "sizes": "list",
        "filter": "json",
        "either": "json",
        "essay": "long",
    }
    assert found["order"].choices == ("up", "2", "null")
    assert (found["draft"].example, found["tags"].example) == ("false", "a, 1")
    assert (found["count"].value, found["count"].wrong) == ("7x", "must be integer")


@pytest.mark.parametrize(
    ("name", "typed", "sent"),
    [
        ("name", "7", '"7"'),
        ("body", "a\r\nb", '"a\\nb"'),
        ("count", "12345678901234567890123", "12345678901234567890123"),
        ("ratio", "1.10", "1.10"),
        ("draft", "true", "true"),
        ("order", "up", '"up"'),
        ("order", "2", "2"),
        ("order", "null", "null"),
        ("tags", "one\n\n two ", '["one"," two "]'),
        ("sizes", "1\n2", "[1,2]"),
        ("filter", ' {"since": 1} ', '{"since": 1}'),
        ("either", '"x"', '"x"'),
    ],
)
def test_what_is_typed_is_sent_as_the_kind_that_is_wanted(name: str, typed: str, sent: str) -> None:
    found = filled(SCHEMA, {"a.name": "n", "a.count": "1", f"a.{name}": typed})
    assert not found.wrong
    told = bytes(found.arguments).decode()
    assert f'"{name}":{sent}' in told
    assert json.loads(told)


@pytest.mark.parametrize(
    ("name", "typed", "why"),
    [
        ("count", "", "is required"),
        ("count", "1.5", "must be integer"),
        ("count", "true", "must be integer"),
        ("ratio", "x", "must be number"),
        ("draft", "maybe", "must be boolean"),
        ("order", "sideways", "is none of the choices"),
        ("sizes", "1\nx", "must be integer"),
        ("filter", "[1]", "must be object"),
        ("filter", "{", "must be JSON"),
        ("either", "x", "must be JSON"),
    ],
)
def test_what_cannot_be_that_is_wrong_and_says_why(name: str, typed: str, why: str) -> None:
    assert filled(SCHEMA, {"a.name": "n", "a.count": "1", f"a.{name}": typed}).wrong == {name: why}


def test_what_is_empty_and_not_required_is_not_sent_and_a_required_text_may_be_empty() -> None:
    found = filled(SCHEMA, {"a.name": "", "a.count": "1", "a.body": "", "b.tags": "x"})
    assert bytes(found.arguments) == b'{"name":"","count":1}'


def test_the_arguments_may_be_one_json_text() -> None:
    assert bytes(whole('{"n": 1.10}').arguments) == b'{"n": 1.10}'
    assert bytes(whole("").arguments) == b"{}"
    assert whole("[1]").wrong == {"": "must be a JSON object"}
    assert whole("{").wrong[""]


def test_a_sample_has_what_is_required() -> None:
    schema: Json = {
        "required": ["a", "b", "c", "d", "e", "f"],
        "properties": {
            "a": {"type": "integer"},
            "b": {"enum": ["x"]},
            "c": {"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
            "d": {"default": 3},
            "e": {"type": "array"},
            "f": {"properties": {"z": {}}},
            "g": {},
        },
    }
    assert json.loads(sample(schema)) == {"a": 0, "b": "x", "c": {"k": 1}, "d": 3, "e": [], "f": {}}
    assert json.loads(sample(None)) == {}


@pytest.mark.parametrize("schema", [None, {}, {"properties": {"a": True, "b": {"type": []}}}])
def test_a_schema_may_be_anything(schema: Any) -> None:
    assert all(field.kind == "json" for field in fields(schema))
    assert filled(schema, {"a.a": "1"}).wrong == {}
