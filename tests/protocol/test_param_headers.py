"""``Mcp-Param-*``: the headers that repeat arguments, checked when they come in and computed when they go out.

Rule: what vmcp sends to a server of 2026-07-28, vmcp itself would take (basic/transports, "Server Validation").
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.errors import Code, McpError
from vmcp.protocol.envelope import confirm_params, params_as_headers

WANTED = (("Region", ("region",)), ("Deep", ("a", "b")))


def said(arguments: dict[str, Any]) -> dict[str, str]:
    """The headers of a call as the server at the other end finds them."""
    return {name.decode().lower(): value.decode() for name, value in params_as_headers(WANTED, arguments)}


def prefixed(headers: dict[str, str]) -> dict[str, str]:
    return {f"mcp-param-{name}": value for name, value in headers.items()}


@pytest.mark.parametrize(
    ("headers", "arguments"),
    [
        ({}, {}),
        ({}, {"region": None}),
        ({}, {"a": 1}),
        ({}, {"a": {"b": None}}),
        ({"region": "eu"}, {"region": "eu"}),
        ({"region": "=?base64?ZXU=?="}, {"region": "eu"}),
        ({"region": "=?base64?w6k=?="}, {"region": "é"}),
        ({"region": "=?base64??="}, {"region": ""}),
        ({"region": "", "other": "ignored"}, {"region": ""}),
        ({"region": "true"}, {"region": True}),
        ({"region": "false"}, {"region": False}),
        ({"region": "42"}, {"region": 42}),
        ({"region": "42.0"}, {"region": 42}),
        ({"region": "42"}, {"region": 42.0}),
        ({"region": "4.2e1"}, {"region": 42}),
        ({"region": "-0"}, {"region": 0}),
        ({"deep": "x"}, {"a": {"b": "x"}}),
        ({"deep": "x", "region": "1"}, {"a": {"b": "x"}, "region": 1}),
    ],
)
def test_headers_that_say_what_the_arguments_say_are_confirmed(
    headers: dict[str, str], arguments: dict[str, Any]
) -> None:
    confirm_params(WANTED, prefixed(headers), arguments)


@pytest.mark.parametrize(
    ("headers", "arguments", "why"),
    [
        ({}, {"region": "eu"}, "is missing"),
        ({}, {"region": ""}, "is missing"),
        ({}, {"region": False}, "is missing"),
        ({}, {"region": 0}, "is missing"),
        ({}, {"a": {"b": "x"}}, "Mcp-Param-Deep is missing"),
        ({"Region": "eu"}, {"region": "eu"}, "is missing"),
        ({"region": "eu"}, {}, "no argument"),
        ({"region": ""}, {}, "no argument"),
        ({"region": "null"}, {"region": None}, "no argument"),
        ({"deep": "x"}, {"a": "x"}, "no argument"),
        ({"deep": "x"}, {"a": [{"b": "x"}]}, "no argument"),
        ({"region": "us"}, {"region": "eu"}, "does not say"),
        ({"region": "EU"}, {"region": "eu"}, "does not say"),
        ({"region": "=?base64?dXM=?="}, {"region": "eu"}, "does not say"),
        ({"region": "=?base64?Z?="}, {"region": "eu"}, "does not say"),
        ({"region": "True"}, {"region": True}, "does not say"),
        ({"region": "1"}, {"region": True}, "does not say"),
        ({"region": "0"}, {"region": False}, "does not say"),
        ({"region": "true"}, {"region": 1}, "does not say"),
        ({"region": "43"}, {"region": 42}, "does not say"),
        ({"region": "forty-two"}, {"region": 42}, "does not say"),
        ({"region": ""}, {"region": 0}, "does not say"),
        ({"region": "42"}, {"region": "42.0"}, "does not say"),
        ({"region": "{}"}, {"region": {}}, "does not say"),
        ({"region": "inf"}, {"region": 1}, "does not say"),
        ({"region": "nan"}, {"region": 1}, "does not say"),
    ],
)
def test_headers_that_say_anything_else_are_refused(
    headers: dict[str, str], arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(McpError, match=why) as refused:
        confirm_params(WANTED, prefixed(headers), arguments)
    assert refused.value.code == Code.HEADER_MISMATCH


def test_other_headers_do_not_speak_for_an_argument() -> None:
    others = {"region": "eu", "mcp-name": "eu", "x-mcp-param-region": "eu", "mcp-param-": "eu", "mcp-param-area": "eu"}
    confirm_params(WANTED, others, {})
    with pytest.raises(McpError, match="Mcp-Param-Region is missing"):
        confirm_params(WANTED, others, {"region": "eu"})


@pytest.mark.parametrize("text", ["9007199254740992", "9007199254740993.5", "1e400", "inf", "4_2", "٤٢", " 42", "0x2a"])
def test_another_number_is_not_taken_for_the_argument(text: str) -> None:
    """What floats cannot tell apart, and what only Python reads as a number, would mean something else to others."""
    for argument in (9007199254740993, 42):
        with pytest.raises(McpError) as refused:
            confirm_params(WANTED, prefixed({"region": text}), {"region": argument})
        assert refused.value.code == Code.HEADER_MISMATCH


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({}, []),
        ({"region": None, "a": {"b": None}}, []),
        ({"region": [], "a": "x"}, []),
        ({"region": "eu"}, [(b"mcp-param-Region", b"eu")]),
        ({"region": ""}, [(b"mcp-param-Region", b"=?base64??=")]),
        ({"region": "a\r\nb"}, [(b"mcp-param-Region", b"=?base64?YQ0KYg==?=")]),
        ({"region": True}, [(b"mcp-param-Region", b"true")]),
        ({"region": False}, [(b"mcp-param-Region", b"false")]),
        ({"region": -1}, [(b"mcp-param-Region", b"-1")]),
        ({"region": 1, "a": {"b": "é"}}, [(b"mcp-param-Region", b"1"), (b"mcp-param-Deep", b"=?base64?w6k=?=")]),
    ],
)
def test_arguments_go_out_as_headers(arguments: dict[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    assert params_as_headers(WANTED, arguments) == headers


SCALARS = st.none() | st.booleans() | st.integers() | st.text()


@given(st.fixed_dictionaries({}, optional={"region": SCALARS, "a": SCALARS | st.dictionaries(st.just("b"), SCALARS)}))
def test_what_goes_out_would_be_confirmed(arguments: dict[str, Any]) -> None:
    confirm_params(WANTED, said(arguments), arguments)


@pytest.mark.parametrize("value", [2**53 + 1, -(2**63), 2**64, 10**400, 42.0, -0.0])
def test_an_unusual_number_that_goes_out_would_be_confirmed(value: float) -> None:
    """42.0 is an integer to JSON Schema; a header must go with it as with 42."""
    assert said({"region": value})
    confirm_params(WANTED, said({"region": value}), {"region": value})
