"""Arguments that travel in headers as well, and annotations that make a tool unfit."""

import json
from typing import Any

import pytest
from msgspec import Raw

from vmcp.config.model import ArgumentOverride
from vmcp.routing import headers
from vmcp.routing.table import HeaderParam

REGION = {"type": "string", "x-mcp-header": "Region"}


def read(schema: Any) -> tuple[HeaderParam, ...] | str:
    return headers.read(Raw(json.dumps(schema).encode()))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"properties": {"region": REGION}}, [("Region", ("region",))]),
        ({"properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}, [("N", ("n",))]),
        ({"properties": {"b": {"type": "boolean", "x-mcp-header": "B!"}}}, [("B!", ("b",))]),
        (
            {"properties": {"where": {"type": "object", "properties": {"region": REGION}}}},
            [("Region", ("where", "region"))],
        ),
        (
            {"properties": {"z": {"type": "string", "x-mcp-header": "Z"}, "a": REGION}},
            [("Z", ("z",)), ("Region", ("a",))],
        ),
        ({"properties": {"x-mcp-header": {"type": "string"}}}, []),
        ({"properties": {"a": {"default": {"x-mcp-header": 1}, "enum": [{"x-mcp-header": 1}]}}}, []),
        ({"properties": {"a": True}, "allOf": "no list", "$defs": []}, []),
        ({"properties": []}, []),
        (True, []),
    ],
)
def test_annotated_arguments_are_found(schema: Any, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert read(schema) == tuple(HeaderParam(header, path) for header, path in expected)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"properties": {"a": {"type": "string", "x-mcp-header": ""}}}, "'a' is no header name"),
        ({"properties": {"a": {"type": "string", "x-mcp-header": "A B"}}}, "'a' is no header name"),
        ({"properties": {"a": {"type": "string", "x-mcp-header": "A\r\nB"}}}, "'a' is no header name"),
        ({"properties": {"a": {"type": "string", "x-mcp-header": "A\n"}}}, "'a' is no header name"),
        ({"properties": {"a": {"type": "string", "x-mcp-header": 7}}}, "'a' is no header name"),
        ({"properties": {"a": {"type": "number", "x-mcp-header": "A"}}}, "no string, integer or boolean"),
        ({"properties": {"a": {"type": ["string"], "x-mcp-header": "A"}}}, "no string, integer or boolean"),
        ({"properties": {"a": {"x-mcp-header": "A"}}}, "no string, integer or boolean"),
        ({"properties": {"a": REGION, "b": {"type": "string", "x-mcp-header": "REGION"}}}, "twice"),
        ({"x-mcp-header": "A", "type": "string"}, "no chain of properties"),
        ({"properties": {"a": {"type": "array", "items": REGION}}}, "no chain of properties"),
        ({"properties": {"a": {"items": {"properties": {"b": REGION}}}}}, "no chain of properties"),
        ({"oneOf": [{"properties": {"a": REGION}}]}, "no chain of properties"),
        ({"$defs": {"a": REGION}}, "no chain of properties"),
        ({"additionalProperties": REGION}, "no chain of properties"),
        ({"items": [REGION]}, "no chain of properties"),
    ],
)
def test_a_wrong_annotation_is_named(schema: Any, why: str) -> None:
    found = read(schema)
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize("text", [b"{", b'{"items":' * 100_000])
def test_a_schema_that_cannot_be_read_is_named(text: bytes) -> None:
    assert headers.read(Raw(text)) == "its inputSchema cannot be read"


def test_deep_schemas_are_walked_without_recursion() -> None:
    schema: Any = REGION
    for _ in range(300):
        schema = {"properties": {"p": schema}}
    assert read(schema) == (HeaderParam("Region", ("p",) * 300),)


@pytest.mark.parametrize("text", [b'{"x-mcp-header":"A"}', b'{"x-mcp-heade\\u0072":"A"}'])
def test_the_key_is_noticed_however_it_is_spelt(text: bytes) -> None:
    assert headers.mentioned(text)


def test_a_text_without_the_key_is_not_looked_at() -> None:
    assert not headers.mentioned(b'{"x-mcp":"header"}')


def test_clients_see_the_parameters_under_advertised_names() -> None:
    params = tuple(HeaderParam(name.upper(), (name, "deep")) for name in ("kept", "renamed", "hidden", "fixed"))
    overrides = {
        "renamed": ArgumentOverride(name="new"),
        "hidden": ArgumentOverride(hide=True),
        "fixed": ArgumentOverride(fixed=b"1"),
    }
    assert headers.shown(params, overrides) == (
        HeaderParam("KEPT", ("kept", "deep")),
        HeaderParam("RENAMED", ("new", "deep")),
    )
    assert headers.shown(params, {}) is params
