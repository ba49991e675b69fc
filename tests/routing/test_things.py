"""Routes as policies see them. Rule: an annotation of another type says nothing."""

import json
from typing import Any

import pytest

from vmcp.config.cedar.judge import Thing
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route
from vmcp.routing.things import thing


def route(kind: Kind, text: dict[str, Any]) -> Route:
    raw = json.dumps(text).encode()
    return Route(kind, "b_t", "b", "t", raw, raw)


@pytest.mark.parametrize(
    ("annotations", "hints"),
    [
        (
            {"annotations": {"readOnlyHint": True, "destructiveHint": False, "title": "T"}},
            {"readOnlyHint": True, "destructiveHint": False},
        ),
        ({"annotations": {"readOnlyHint": "true", "destructiveHint": 0, "idempotentHint": None}}, {}),
        ({"annotations": None}, {}),
        ({}, {}),
    ],
)
def test_a_tool_has_its_annotations(annotations: dict[str, Any], hints: dict[str, bool]) -> None:
    assert thing(route(Kind.TOOL, annotations)) == Thing("Tool", "b_t", "b", "t", hints)


@pytest.mark.parametrize(
    ("kind", "named"), [(Kind.PROMPT, "Prompt"), (Kind.RESOURCE, "Resource"), (Kind.TEMPLATE, "Resource")]
)
def test_everything_else_has_none(kind: Kind, named: str) -> None:
    assert thing(route(kind, {"annotations": {"readOnlyHint": False}})) == Thing(named, "b_t", "b", "t")
