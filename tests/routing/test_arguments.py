"""Arguments renamed, filled, fixed and hidden: what the backend gets, and what clients are shown."""

import json
from typing import Any

import pytest
from msgspec import Raw

from vmcp.config.model import ArgumentOverride
from vmcp.errors import Code, McpError
from vmcp.routing.arguments import ArgumentMap, mapping, shown_schema

OVERRIDES = {
    "path": ArgumentOverride(name="file"),
    "limit": ArgumentOverride(default=b"10"),
    "token": ArgumentOverride(fixed=b'"secret"'),
    "debug": ArgumentOverride(hide=True),
    "mode": ArgumentOverride(hide=True, default=b'"fast"'),
    "root": ArgumentOverride(name="base", fixed=b'"/srv"'),
    "query": ArgumentOverride(description="What to look for"),
}
ALWAYS = {"limit": 10, "token": "secret", "mode": "fast", "root": "/srv"}


def applied(arguments: dict[str, Any], overrides: dict[str, ArgumentOverride] | None = None) -> dict[str, Any]:
    made = mapping(OVERRIDES if overrides is None else overrides)
    assert isinstance(made, ArgumentMap)
    raws = {name: Raw(json.dumps(value).encode()) for name, value in arguments.items()}
    return {name: json.loads(bytes(value)) for name, value in made.apply(raws).items()}


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({}, {}),
        ({"file": "a"}, {"path": "a"}),
        ({"limit": 3}, {"limit": 3}),
        ({"limit": None}, {"limit": None}),
        ({"query": "q", "other": [1]}, {"query": "q", "other": [1]}),
    ],
)
def test_the_backend_gets_its_own_names_and_the_fixed_values(given: dict[str, Any], got: dict[str, Any]) -> None:
    assert applied(given) == {**ALWAYS, **got}


@pytest.mark.parametrize("name", ["path", "token", "debug", "mode", "root", "base"])
def test_what_clients_are_not_shown_is_unknown_to_them(name: str) -> None:
    with pytest.raises(McpError, match=f"unknown argument '{name}'") as caught:
        applied({name: "x"})
    assert caught.value.code == Code.INVALID_PARAMS


def test_two_arguments_may_change_places() -> None:
    swapped = {"a": ArgumentOverride(name="b"), "b": ArgumentOverride(name="a")}
    assert applied({"a": 1, "b": 2}, swapped) == {"b": 1, "a": 2}


def test_values_pass_byte_for_byte() -> None:
    made = mapping({"a": ArgumentOverride(name="b")})
    assert made is not None
    assert bytes(made.apply({"b": Raw(b"1.0")})["a"]) == b"1.0"


@pytest.mark.parametrize("overrides", [{}, {"a": ArgumentOverride(description="d")}, {"a": ArgumentOverride(name="a")}])
def test_overrides_that_only_show_need_no_map(overrides: dict[str, ArgumentOverride]) -> None:
    assert mapping(overrides) is None


def shown(schema: dict[str, Any]) -> Any:
    made = shown_schema(Raw(json.dumps(schema).encode()), OVERRIDES)
    return made if isinstance(made, str) else json.loads(bytes(made))


def test_the_schema_shows_the_advertised_arguments_in_their_places() -> None:
    properties = {
        name: {"type": "string"} for name in ("query", "path", "limit", "token", "debug", "mode", "root", "other")
    }
    seen = shown(
        {"type": "object", "properties": properties, "required": ["path", "token", "limit", "other"], "$defs": {}}
    )
    assert seen == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for"},
            "file": {"type": "string"},
            "limit": {"type": "string", "default": 10},
            "other": {"type": "string"},
        },
        "required": ["file", "other"],
        "$defs": {},
    }
    assert list(seen["properties"]) == ["query", "file", "limit", "other"]


def test_required_vanishes_when_nothing_is_left_in_it() -> None:
    assert shown({"properties": {"limit": True}, "required": ["limit"]}) == {"properties": {"limit": {"default": 10}}}


def test_a_schema_without_properties_stays() -> None:
    assert shown({"type": "object"}) == {"type": "object"}


def test_untouched_properties_keep_their_bytes() -> None:
    schema = Raw(b'{"type":"object","properties":{"n":{"maximum" : 1.0},"path":{"x":1e3}}}')
    made = shown_schema(schema, OVERRIDES)
    assert isinstance(made, Raw)
    assert bytes(made) == b'{"type":"object","properties":{"n":{"maximum" : 1.0},"file":{"x":1e3}}}'


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"properties": {"path": {}, "file": {}}}, "'file'"),
        ({"properties": []}, "inputSchema is not understood"),
        ([], "inputSchema is not understood"),
        ({"required": "path"}, "no list of names"),
    ],
)
def test_a_schema_that_cannot_be_shown_says_why(schema: Any, why: str) -> None:
    assert why in shown(schema)
