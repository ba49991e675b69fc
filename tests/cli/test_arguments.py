"""Arguments as people write them. Rule: what the schema asks for is what is sent, or nothing is."""

from typing import Any

import click
import pytest

from vmcp.cli.arguments import given, named, signature


def tool(**properties: Any) -> dict[str, Any]:
    required = properties.pop("required", [])
    return {"name": "t", "inputSchema": {"type": "object", "properties": properties, "required": required}}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, '"x"', '"x"'),
        ({"type": "integer"}, "5", 5),
        ({"type": "number"}, "5.5", 5.5),
        ({"type": "number"}, "5", 5),
        ({"type": "boolean"}, "TRUE", True),
        ({"type": "boolean"}, "false", False),
        ({"type": "array"}, "a,b", ["a", "b"]),
        ({"type": "array"}, '["a", 1]', ["a", 1]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({"type": ["string", "null"]}, "null", "null"),
        ({"type": ["integer", "string"]}, "x", "x"),
        ({"type": ["integer", "string"]}, "5", 5),
        ({"type": ["integer", "string"]}, "[1]", "[1]"),
        ({"type": ["integer", "null"]}, "5", 5),
        ({}, "5", 5),
        ({}, "some words", "some words"),
        (True, "5", 5),
    ],
)
def test_a_text_becomes_what_is_wanted(schema: Any, text: str, value: object) -> None:
    assert given([f"a={text}"], None, tool(a=schema)) == {"a": value}


@pytest.mark.parametrize(
    ("schema", "text", "words"),
    [
        ({"type": "integer"}, "x", "'a' must be integer"),
        ({"type": "integer"}, "5.5", "'a' must be integer"),
        ({"type": "integer"}, "true", "'a' must be integer"),
        ({"type": "boolean"}, "1", "'a' must be boolean"),
        ({"type": "object"}, "[1]", "'a' must be object"),
        ({"type": ["integer", "boolean"]}, "x", "'a' must be integer or boolean"),
    ],
)
def test_what_is_something_else_is_refused(schema: Any, text: str, words: str) -> None:
    with pytest.raises(click.UsageError, match=words):
        given([f"a={text}"], None, tool(a=schema))


def test_pairs_go_over_an_object() -> None:
    assert given(["a=2", "c=x=y"], '{"a": 1, "b": [1]}', tool(a={"type": "integer"}, b={}, c={})) == {
        "a": 2,
        "b": [1],
        "c": "x=y",
    }
    for text in ("[1]", "{", "5"):
        with pytest.raises(click.UsageError, match="must be a JSON object"):
            given([], text, tool())


def test_what_is_missing_or_unknown_shows_the_signature() -> None:
    wanted = tool(title={"type": "string"}, draft={"type": "boolean"}, required=["title"])
    with pytest.raises(click.UsageError, match=r"missing: title\nt\(title: string, draft\?: boolean\)"):
        given([], None, wanted)
    with pytest.raises(click.UsageError, match=r"there is no argument 'titel'; did you mean title\?"):
        given(["titel=x"], None, wanted)
    for pair in ("x", "=x"):
        with pytest.raises(click.UsageError, match="is not name=value"):
            given([pair], None, wanted)


def test_a_tool_that_takes_anything_gets_it() -> None:
    assert given(["x=1"], None, {"name": "t", "inputSchema": {"type": "object"}}) == {"x": 1}
    more = tool(a={})
    more["inputSchema"]["additionalProperties"] = True
    assert given(["x=1"], None, more) == {"x": 1}
    assert given(["x=1"], None, {"name": "t", "inputSchema": True}) == {"x": 1}


def test_a_name_is_found_or_what_is_near() -> None:
    tools = [{"name": "read_file"}, {"name": "write_file"}]
    assert named(tools, "read_file") is tools[0]
    with pytest.raises(click.UsageError, match=r"nothing named 'raed_file'; did you mean read_file"):
        named(tools, "raed_file")
    with pytest.raises(click.UsageError, match=r"nothing named 'zzz'$"):
        named(tools, "zzz")


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "string"}, "t(a?: string)"),
        ({"type": "array", "items": {"type": "integer"}}, "t(a?: integer[])"),
        ({"type": ["string", "null"]}, "t(a?: string | null)"),
        ({"enum": ["x", 1]}, 't(a?: "x" | 1)'),
        ({}, "t(a?: any)"),
        (True, "t(a?: any)"),
    ],
)
def test_a_signature_says_what_it_takes(schema: Any, shown: str) -> None:
    assert signature(tool(a=schema)) == shown


def test_a_tool_without_a_schema_has_a_signature_too() -> None:
    assert signature({"name": "t"}) == signature({"name": "t", "inputSchema": True}) == "t()"
