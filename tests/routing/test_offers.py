"""One entry becomes a route, or is refused with a reason."""

import json
from typing import Any

import pytest

from tests.routing.catalogs import NEW, OLD, catalog, entry
from vmcp.config.model import Aggregation, ArgumentOverride, Override, Selection
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Kind
from vmcp.routing.offers import offers
from vmcp.routing.table import HeaderParam, Quarantined, Route

MANUAL = Aggregation("manual")


def offer(kind: Kind, text: bytes, aggregation: Aggregation | None = None, modern: bool = False) -> Route | Quarantined:
    key = {Kind.TOOL: "tools", Kind.PROMPT: "prompts", Kind.RESOURCE: "resources", Kind.TEMPLATE: "templates"}[kind]
    lists: dict[str, Any] = {key: [text]}
    (made,) = offers(aggregation or Aggregation(), kind, catalog("fs", revision=NEW if modern else OLD, **lists))
    return made


def route(kind: Kind, text: bytes, aggregation: Aggregation | None = None, modern: bool = False) -> Route:
    made = offer(kind, text, aggregation, modern)
    assert isinstance(made, Route)
    return made


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("kind", list(Kind))
def test_an_entry_that_nobody_changes_is_listed_with_the_very_bytes(kind: Kind, modern: bool) -> None:
    text = entry(kind, "a://b", big=12345678901234567890123)
    made = route(kind, text, Aggregation("manual") if kind.name_key != "name" else None, modern)
    if kind.name_key != "name":
        assert made.modern is text
    assert made.handshake is made.modern


@pytest.mark.parametrize("kind", [Kind.TOOL, Kind.PROMPT])
def test_bare_names_leave_the_bytes_alone(kind: Kind) -> None:
    text = entry(kind, "read")
    made = route(kind, text, MANUAL)
    assert (made.name, made.modern, made.handshake) == ("read", text, text)
    assert made.modern is text
    assert made.handshake is text


@pytest.mark.parametrize("kind", [Kind.TOOL, Kind.PROMPT])
def test_only_the_name_changes_under_a_prefix(kind: Kind) -> None:
    text = b'{"x":1.0,"name":"read","inputSchema":{"type" : "object"},"_meta":{"a":1e2}}'
    made = route(kind, text)
    assert (made.name, made.original) == ("fs_read", "read")
    assert made.modern == text.replace(b'"read"', b'"fs_read"')
    assert made.handshake is made.modern


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Aggregation(tools={"fs": Selection(overrides={"read": Override(name="get")})}), "fs_get"),
        (Aggregation("manual", tools={"fs": Selection(overrides={"read": Override(name="get")})}), "get"),
        (
            Aggregation(
                "priority", priority_order=("fs",), tools={"fs": Selection(overrides={"read": Override(name="get")})}
            ),
            "get",
        ),
        (Aggregation(tools={"fs": Selection(overrides={"get": Override(name="read")})}), "fs_read"),
        (Aggregation(tools={"git": Selection(overrides={"read": Override(name="get")})}), "fs_read"),
    ],
)
def test_the_strategy_is_applied_to_the_overridden_name(aggregation: Aggregation, expected: str) -> None:
    assert route(Kind.TOOL, entry(Kind.TOOL, "read"), aggregation).name == expected


def test_overrides_change_what_they_name_and_keep_the_rest() -> None:
    override = Override(title="Read", description="Reads", annotations={"readOnlyHint": True})
    aggregation = Aggregation("manual", tools={"fs": Selection(overrides={"read": override})})
    made = route(Kind.TOOL, b'{"name":"read","annotations":{"k":1.0},"inputSchema":{"a":1e1}}', aggregation)
    expected = b'{"name":"read","annotations":{"k":1.0,"readOnlyHint":true},"inputSchema":{"a":1e1},"title":"Read",'
    expected += b'"description":"Reads"}'
    assert made.modern == expected


@pytest.mark.parametrize("kind", [Kind.RESOURCE, Kind.TEMPLATE])
def test_a_uri_is_never_rewritten_but_its_label_may_be(kind: Kind) -> None:
    override = Override(name="Readme", title="Read me")
    aggregation = Aggregation(resources={"fs": Selection(overrides={"a.b://c": override})})
    made = route(kind, entry(kind, "a.b://c"), aggregation)
    assert made.name == made.original == "a.b://c"
    assert json.loads(made.modern) == {"name": "Readme", kind.name_key: "a.b://c", "title": "Read me"}


def test_an_override_without_a_name_leaves_the_label_of_a_resource() -> None:
    aggregation = Aggregation(resources={"fs": Selection(overrides={"a://b": Override(title="t")})})
    made = route(Kind.RESOURCE, entry(Kind.RESOURCE, "a://b"), aggregation)
    assert json.loads(made.modern)["name"] == "label"


def test_arguments_are_shown_and_mapped() -> None:
    changed = Override(arguments={"path": ArgumentOverride(name="file"), "token": ArgumentOverride(fixed=b"1")})
    aggregation = Aggregation(tools={"fs": Selection(overrides={"read": changed})})
    properties = {name: {"type": "string", "x-mcp-header": name} for name in ("path", "token")}
    made = route(
        Kind.TOOL, entry(Kind.TOOL, "read", inputSchema={"type": "object", "properties": properties}), aggregation
    )
    assert json.loads(made.modern)["inputSchema"]["properties"] == {"file": {"type": "string", "x-mcp-header": "path"}}
    assert made.header_params == (HeaderParam("path", ("path",)), HeaderParam("token", ("token",)))
    assert made.shown_header_params == (HeaderParam("path", ("file",)),)
    assert made.arguments is not None
    assert made.arguments.names == {"file": "path"}


def test_a_tool_of_the_new_era_is_shown_to_older_clients_as_they_take_it() -> None:
    text = entry(Kind.TOOL, "read", outputSchema={"type": "array"})
    made = route(Kind.TOOL, text, MANUAL, modern=True)
    assert made.modern is text
    assert "outputSchema" not in json.loads(made.handshake)
    assert route(Kind.TOOL, text, MANUAL, modern=False).handshake is text


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (Kind.TOOL, entry(Kind.TOOL, "vmcp_x"), "for vmcp itself"),
        (Kind.PROMPT, entry(Kind.PROMPT, "vmcp_x"), "for vmcp itself"),
        (Kind.TEMPLATE, entry(Kind.TEMPLATE, "a://{b"), "not a URI template"),
        (Kind.TOOL, entry(Kind.TOOL, "t", inputSchema={"x-mcp-header": "A"}), "x-mcp-header"),
        (Kind.TOOL, entry(Kind.TOOL, "odd", inputSchema=[]), "inputSchema is not understood"),
    ],
)
def test_what_cannot_be_offered_is_refused_alone_and_says_why(kind: Kind, text: bytes, why: str) -> None:
    overrides = {"odd": Override(arguments={"a": ArgumentOverride(hide=True)})}
    made = offer(kind, text, Aggregation("manual", tools={"fs": Selection(overrides=overrides)}))
    assert isinstance(made, Quarantined)
    assert why in made.why
    assert (made.backend, made.winner) == ("fs", None)


def test_a_prefix_makes_a_reserved_name_harmless_and_a_backend_cannot_make_one() -> None:
    assert route(Kind.TOOL, entry(Kind.TOOL, "vmcp_x")).name == "fs_vmcp_x"
    assert isinstance(offer(Kind.TOOL, entry(Kind.TOOL, "x"), Aggregation(prefix_format="vmcp_")), Quarantined)


def test_a_hidden_entry_is_a_route_that_is_not_listed_whatever_its_name() -> None:
    hidden = Aggregation("manual", tools={"fs": Selection(exclude=("vmcp_*",))})
    assert not route(Kind.TOOL, entry(Kind.TOOL, "vmcp_x"), hidden).listed
    assert route(Kind.TOOL, entry(Kind.TOOL, "read"), hidden).listed


def test_tools_without_a_schema_pass() -> None:
    text = b'{"name":"read","d":"\\u0041"}'
    assert route(Kind.TOOL, text, MANUAL).modern is text


@pytest.mark.parametrize(("revision", "expected"), [(OLD, True), (NEW, False), (Revision.V2025_06_18, False)])
def test_a_tool_that_runs_as_a_task_only_is_known_as_such(revision: Revision, expected: bool) -> None:
    strict = entry(Kind.TOOL, "t", execution={"taskSupport": "required"})
    (first, second) = offers(Aggregation(), Kind.TOOL, catalog("a", tools=[strict, "u"], revision=revision))
    assert isinstance(first, Route)
    assert isinstance(second, Route)
    assert (first.tasked, second.tasked) == (expected, False)


@pytest.mark.parametrize(
    ("annotations", "override", "expected"),
    [
        (None, None, False),
        ({"idempotentHint": True}, None, True),
        ({"idempotentHint": False}, None, False),
        ({"idempotentHint": "true"}, None, False),
        ({"readOnlyHint": True, "title": "idempotentHint"}, None, False),
        ({"idempotentHint": True}, {"idempotentHint": False}, False),
        ({}, {"idempotentHint": True}, True),
    ],
)
def test_a_tool_that_may_be_called_twice_is_known_as_such(
    annotations: dict[str, Any] | None, override: dict[str, Any] | None, expected: bool
) -> None:
    text = entry(Kind.TOOL, "t") if annotations is None else entry(Kind.TOOL, "t", annotations=annotations)
    changed = Selection(overrides={"t": Override(annotations=override)} if override else {})
    (found,) = offers(Aggregation(tools={"a": changed}), Kind.TOOL, catalog("a", tools=[text]))
    assert isinstance(found, Route)
    assert found.idempotent is expected
