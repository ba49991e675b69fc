"""The envelope of 2026-07-28: who carries one, what is refused in which order, and with which HTTP status.

Rule: the ladder is tried rung by rung; a request that breaks several rules is told about the first.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from vmcp.errors import Code, McpError
from vmcp.protocol import envelope
from vmcp.protocol.envelope import CAPABILITIES, CLIENT_INFO, LEVELS, LOG_LEVEL, SERVER_INFO, VERSION, Malformed

NOW = "2026-07-28"
META: dict[str, Any] = {VERSION: NOW, CAPABILITIES: {}}
HEADERS = {"mcp-protocol-version": NOW, "mcp-method": "tools/call", "mcp-name": "echo"}
GONE = object()


def changed(members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**members, **changes}.items() if value is not GONE}


def refusal(headers: dict[str, str], method: str, tree: dict[str, Any]) -> McpError:
    with pytest.raises(McpError) as raised:
        envelope.admit(headers, method, tree)
    return raised.value


@pytest.mark.parametrize(
    ("headers", "tree", "modern"),
    [
        ({}, {}, False),
        ({}, {"_meta": {}}, False),
        ({}, {"_meta": {VERSION: NOW}}, True),
        ({}, {"_meta": {VERSION: "2024-11-05"}}, True),
        ({}, {"_meta": {VERSION: None}}, True),
        ({}, {"_meta": {CAPABILITIES: {}}}, False),
        ({}, {"_meta": [VERSION]}, False),
        ({}, {"_meta": VERSION}, False),
        ({"mcp-protocol-version": NOW}, {}, True),
        ({"mcp-protocol-version": "2027-01-01"}, {}, True),
        ({"mcp-protocol-version": ""}, {}, True),
        ({"mcp-protocol-version": "2025-11-25"}, {}, False),
        ({"mcp-protocol-version": "2025-11-25"}, {"_meta": {VERSION: NOW}}, True),
        ({"mcp-method": "initialize"}, {}, False),
    ],
)
def test_the_era_of_a_message_is_in_its_body(headers: dict[str, str], tree: dict[str, Any], modern: bool) -> None:
    assert envelope.is_modern(headers, tree) is modern


@pytest.mark.parametrize(
    ("headers", "method", "tree"),
    [
        (HEADERS, "tools/call", {"_meta": META, "name": "echo"}),
        (HEADERS, "tools/call", {"_meta": {**META, LOG_LEVEL: "debug", CLIENT_INFO: {}, "own": 1}, "name": "echo"}),
        (HEADERS, "tools/call", {"_meta": {**META, LOG_LEVEL: None}, "name": "echo"}),
        ({**HEADERS, "mcp-name": "=?base64?ZWNobw==?="}, "tools/call", {"_meta": META, "name": "echo"}),
        ({**HEADERS, "mcp-name": "=?base64?w6k=?="}, "tools/call", {"_meta": META, "name": "é"}),
        ({**HEADERS, "mcp-method": "prompts/get"}, "prompts/get", {"_meta": META, "name": "echo"}),
        (
            {**HEADERS, "mcp-method": "resources/read", "mcp-name": "a:b"},
            "resources/read",
            {"_meta": META, "uri": "a:b"},
        ),
        ({**HEADERS, "mcp-method": "tools/list", "mcp-name": "stray"}, "tools/list", {"_meta": META}),
        ({**HEADERS, "mcp-method": "no/such"}, "no/such", {"_meta": META, "name": "other"}),
        # Whether a call without a name is one is for the method to say, not for the envelope.
        (HEADERS, "tools/call", {"_meta": META}),
        (HEADERS, "tools/call", {"_meta": META, "name": 1}),
    ],
)
def test_a_whole_envelope_is_admitted(headers: dict[str, str], method: str, tree: dict[str, Any]) -> None:
    envelope.admit(headers, method, tree)


@pytest.mark.parametrize(
    "meta",
    [
        GONE,
        None,
        [],
        "x",
        {},
        {CAPABILITIES: {}},
        *({VERSION: bad, CAPABILITIES: {}} for bad in (None, 1, [], {}, True)),
    ],
)
def test_a_request_without_a_version_lacks_it(meta: Any) -> None:
    refused = refusal(HEADERS, "tools/call", changed({"name": "echo"}, _meta=meta))
    assert (refused.code, refused.vmcp_code) == (Code.INVALID_PARAMS, Code.INVALID_MESSAGE)
    assert VERSION in refused.message
    assert envelope.status(refused) == 400


@pytest.mark.parametrize("version", ["", "2025-11-25", "2024-11-05", "2026-07-29", "2026-07-28 ", "draft"])
def test_an_unsupported_version_is_told_what_is_supported(version: str) -> None:
    refused = refusal({"mcp-protocol-version": version}, "tools/call", {"_meta": {VERSION: version}})
    assert (refused.code, refused.vmcp_code) == (Code.UNSUPPORTED_VERSION, Code.VERSION_NOT_SUPPORTED)
    assert refused.data == {"supported": [NOW], "requested": version}
    assert envelope.status(refused) == 400


@pytest.mark.parametrize("declared", [GONE, None, [], "x", True])
def test_capabilities_are_an_object(declared: Any) -> None:
    refused = refusal(HEADERS, "tools/call", {"_meta": changed(META, **{CAPABILITIES: declared})})
    assert (refused.code, envelope.status(refused)) == (Code.INVALID_PARAMS, 400)
    assert CAPABILITIES in refused.message


@pytest.mark.parametrize(
    ("header", "value"),
    [
        *((header, GONE) for header in HEADERS),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-protocol-version", ""),
        ("mcp-method", "tools/list"),
        ("mcp-method", "Tools/Call"),
        ("mcp-name", "Echo"),
        ("mcp-name", "echo "),
        ("mcp-name", ""),
        ("mcp-name", "=?base64?ZWNobw?="),
        ("mcp-name", "=?base64?b3RoZXI=?="),
        ("mcp-name", "=?base64?!!!?="),
        ("mcp-name", "=?base64?/w==?="),
    ],
)
def test_a_header_only_confirms_what_the_body_says(header: str, value: Any) -> None:
    refused = refusal(changed(HEADERS, **{header: value}), "tools/call", {"_meta": META, "name": "echo"})
    assert (refused.code, refused.vmcp_code) == (Code.HEADER_MISMATCH, Code.INVALID_MESSAGE)
    assert header in refused.message
    assert envelope.status(refused) == 400


@pytest.mark.parametrize("value", ["=?base64?é?=", "é", "=?base64?Zñ==?="])
def test_a_header_of_other_characters_is_a_mismatch(value: str) -> None:
    """HTTP hands bytes above 127 on as Latin-1 characters, in which base64 is not written."""
    assert refusal({**HEADERS, "mcp-name": value}, "tools/call", {"_meta": META, "name": "echo"}).code == -32020


@pytest.mark.parametrize("level", ["", "trace", "DEBUG", 1, [], ["debug"], {}, False])
def test_a_level_that_is_none_is_refused(level: Any) -> None:
    refused = refusal(HEADERS, "tools/call", {"_meta": {**META, LOG_LEVEL: level}, "name": "echo"})
    assert (refused.code, envelope.status(refused)) == (Code.INVALID_PARAMS, 400)
    assert LOG_LEVEL in refused.message


RUNGS: list[tuple[str, str, Any, str]] = [
    ("meta", VERSION, 1, VERSION),
    ("headers", "mcp-protocol-version", "x", "mcp-protocol-version"),
    ("meta", VERSION, "2025-11-25", "Unsupported"),
    ("meta", CAPABILITIES, GONE, CAPABILITIES),
    ("headers", "mcp-method", "x", "mcp-method"),
    ("headers", "mcp-name", "x", "mcp-name"),
    ("meta", LOG_LEVEL, "x", LOG_LEVEL),
]


@pytest.mark.parametrize("first", range(len(RUNGS)))
def test_of_several_faults_the_first_on_the_ladder_is_told(first: int) -> None:
    headers, meta = HEADERS, META
    for where, key, value, _ in reversed(RUNGS[first:]):
        if where == "meta":
            meta = changed(meta, **{key: value})
        else:
            headers = changed(headers, **{key: value})
    if first > 1:  # the version is said twice alike, be it a wrong one
        headers = changed(headers, **{"mcp-protocol-version": meta[VERSION]})
    assert RUNGS[first][3] in refusal(headers, "tools/call", {"_meta": meta, "name": "echo"}).message


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("echo", "echo"),
        ("a b:c/d?e", "a b:c/d?e"),
        ("~!", "~!"),
        ("", "=?base64??="),
        (" echo", "=?base64?IGVjaG8=?="),
        ("echo ", "=?base64?ZWNobyA=?="),
        ("a\tb", "=?base64?YQli?="),
        ("a\r\nx: y", "=?base64?YQ0KeDogeQ==?="),
        ("\x00", "=?base64?AA==?="),
        ("\x7f", "=?base64?fw==?="),
        ("é", "=?base64?w6k=?="),
        ("😀", "=?base64?8J+YgA==?="),
        ("=?base64?ZWNobw==?=", "=?base64?PT9iYXNlNjQ/WldOb2J3PT0/PQ==?="),
        ("=?base64?", "=?base64?PT9iYXNlNjQ/?="),
        ("?=", "?="),
    ],
)
def test_a_value_that_a_header_cannot_carry_is_sent_as_base64(value: str, encoded: str) -> None:
    assert envelope.encode_value(value) == encoded
    assert envelope.decode_value(encoded) == value


@given(st.text() | st.from_regex(r"=\?base64\?.*", fullmatch=True))
def test_every_text_survives_a_header(value: str) -> None:
    encoded = envelope.encode_value(value)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert encoded == encoded.strip() != ""
    assert envelope.decode_value(encoded) == value


@pytest.mark.parametrize(
    "value", ["=?base64?a?=", "=?base64?a===?=", "=?base64?Y Q==?=", "=?base64?YQ==\n?=", "=?base64?/w==?="]
)
def test_broken_base64_says_nothing(value: str) -> None:
    assert envelope.decode_value(value) is None


@pytest.mark.parametrize("value", ["", "echo", "=?BASE64?YQ==?=", "=?base64?YQ==", "=?utf-8?YQ==?=", "base64?YQ==?="])
def test_what_is_not_in_the_base64_form_is_taken_as_it_is(value: str) -> None:
    assert envelope.decode_value(value) == value


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (McpError(Code.HEADER_MISMATCH, ""), 400),
        (McpError(Code.MISSING_CAPABILITY, ""), 400),
        (McpError(Code.UNSUPPORTED_VERSION, ""), 400),
        (McpError(Code.METHOD_NOT_FOUND, ""), 404),
        (McpError(Code.INVALID_PARAMS, ""), 200),
        (Malformed(Code.INVALID_PARAMS, ""), 400),
        (McpError(Code.INTERNAL_ERROR, ""), 200),
        (McpError(Code.RESOURCE_NOT_FOUND, ""), 200),
        (McpError(-32000, ""), 200),
        (McpError(-32023, ""), 200),
        (McpError(1000, ""), 200),
    ],
)
def test_the_status_goes_with_the_code(error: McpError, status: int) -> None:
    assert envelope.status(error) == status


@pytest.mark.parametrize(
    ("level", "minimum", "passes"),
    [
        ("error", None, False),
        ("emergency", None, False),
        (None, None, False),
        ("debug", "info", False),
        ("info", "info", True),
        ("error", "info", True),
        ("warning", "error", False),
        ("made up", "emergency", True),
        (None, "emergency", True),
        (3, "emergency", True),
        ({}, "emergency", True),
    ],
)
def test_a_log_message_passes_from_the_level_that_was_asked_for(
    level: object, minimum: str | None, passes: bool
) -> None:
    assert envelope.allows(level, minimum) is passes


def test_the_levels_are_ordered_by_severity() -> None:
    for index, minimum in enumerate(LEVELS):
        assert [envelope.allows(level, minimum) for level in LEVELS] == [i >= index for i in range(len(LEVELS))]


def test_own_meta_keeps_what_is_not_the_protocols() -> None:
    meta = {key: Raw(b"1") for key in (VERSION, SERVER_INFO, "io.modelcontextprotocol/related-task", "progressToken")}
    own = {key: Raw(b"1.0") for key in ("traceparent", "com.example/x", "io.modelcontextprotocol", "progresstoken", "")}
    assert envelope.own_meta({**meta, **own}) == own


def test_the_meta_of_a_modern_request_is_admitted_by_a_modern_server() -> None:
    meta = envelope.modern_meta(b'{"name":"c"}', b'{"roots":{}}')
    assert meta == {VERSION: NOW, CLIENT_INFO: Raw(b'{"name":"c"}'), CAPABILITIES: Raw(b'{"roots":{}}')}
    decoded = {key: json.loads(bytes(value)) if isinstance(value, Raw) else value for key, value in meta.items()}
    envelope.admit(HEADERS, "tools/call", {"_meta": decoded, "name": "echo"})


def test_where_there_are_no_headers_none_are_missed() -> None:
    envelope.admit(None, "tools/call", {"_meta": META, "name": "x"})
    with pytest.raises(McpError) as refused:
        envelope.admit(None, "tools/call", {"_meta": {**META, VERSION: "2099-01-01"}})
    assert refused.value.code == Code.UNSUPPORTED_VERSION
    with pytest.raises(McpError):
        envelope.admit(None, "tools/call", {})


def test_a_method_of_another_revision_names_nothing() -> None:
    headers = {"mcp-protocol-version": NOW, "mcp-method": "tasks/result"}
    envelope.admit(headers, "tasks/result", {"_meta": META, "taskId": "x"})
    with pytest.raises(McpError):
        envelope.admit({**headers, "mcp-method": "tasks/get"}, "tasks/get", {"_meta": META, "taskId": "x"})
