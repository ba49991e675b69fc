"""The words for findings: every keyword of the schema has some, and they never repeat a hidden value."""

import pytest

from tests.config.samples import SMALL, problems
from vmcp.config.rules import Rule
from vmcp.config.tree import Document
from vmcp.config.wording import Finding, nearest, told
from vmcp.errors import Position


def said(text: str) -> tuple[str, str]:
    """Message and hint of the one problem."""
    (found,) = problems(SMALL + text)
    return found.message, found.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "groupRef: 5",
            "must be a name of letters, digits, '_' and '-', at most 63, not a number",
            "put quotes around it",
        ),
        (
            "groupRef: true",
            "must be a name of letters, digits, '_' and '-', at most 63, not true or false",
            "put quotes around it",
        ),
        ("groupRef: [code]", "must be a name of letters, digits, '_' and '-', at most 63, not a list", ""),
        ("groupRef:", "must be a name of letters, digits, '_' and '-', at most 63, not nothing", ""),
        ("server: {port: '80'}", "must be a whole number, not text", "write it without quotes"),
        ("server: {port: eighty}", "must be a whole number, not text", ""),
        ("server: {port: 1.5}", "must be a whole number, not a fraction", ""),
        ("server: {allowAnonymousNetwork: on}", "must be true or false, not text", "write true or false"),
        ("server: {allowAnonymousNetwork: maybe}", "must be true or false, not text", ""),
        ("server: {allowedHosts: gw}", "must be a list, not text", "write a list: [first, second]"),
        ("server: {allowedHosts: {a: b}}", "must be a list, not a map", ""),
        ("server: [port]", "must be a map, not a list", "write a map of names, without '-'"),
        ("server: port", "must be a map, not text", ""),
        (
            "server: {limits: {keepAlive: 60}}",
            "must be a duration such as 30s, 1m30s or 250ms, not a number",
            "give it a unit, as in 30s",
        ),
        (
            "server: {limits: {keepAlive: []}}",
            "must be a duration such as 30s, 1m30s or 250ms, not a list",
            "",
        ),
        (
            "server: {limits: {keepAlive: -5s}}",
            "'-5s' is not a duration such as 30s, 1m30s or 250ms",
            "",
        ),
        ("server: {limits: {bodyBytes: -1}}", "must be at least 0", ""),
        (
            "server: {limits: {bodyBytes: 1.5}}",
            "must be a size such as 64KiB or 1MiB, or a number of bytes, not a fraction",
            "",
        ),
        ("server: {limits: {pageSize: 0}}", "must be at least 1", ""),
        ("server: {host: ''}", "must not be empty", ""),
        (f"metadata: {{a: b}}\ngroupRef: {'x' * 70}", None, ""),
        ("aggregation: {maxNameLength: 200}", "must be at most 128", ""),
        ("aggregation: {conflictResolutionConfig: {priorityOrder: [a, a]}}", None, ""),
        (
            "operational: {logLevel: WARNING}",
            "'WARNING' is not one of debug, info, warning, error",
            "did you mean 'warning'?",
        ),
        ("operational: {logLevel: 7}", "must be text, not a number", "put quotes around it"),
        ("nonsense: 1", "unknown key", "'vmcp schema' has the keys that are known"),
        ("operational: {qq: 1}", "unknown key", "known here: logLevel, timeouts, failureHandling, listChanged"),
        ("mcpServers: {}", "unknown key", "vmcp's own form is groups: {<name>: {backends: {…}}}"),
        ("timeout: 5", "unknown key", "'vmcp schema' has the keys that are known"),
    ],
)
def test_messages_and_hints(text: str, message: str | None, hint: str) -> None:
    if message is not None:
        assert said(text) == (message, hint)
    else:
        assert problems(SMALL + text)


def test_a_secret_has_one_source() -> None:
    text = SMALL.replace("mcp}", "mcp, headers: {A: {env: B, file: c}, D: {}}}")
    assert [each.message for each in problems(text)] == ["must have one key only", "must not be empty"]


@pytest.mark.parametrize(
    "keyword", ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties"]
)
@pytest.mark.parametrize("limit", [1, 2])
def test_every_bound_has_words(keyword: str, limit: int) -> None:
    document = Document({}, values={(): Position("f", 1, 1)})
    found = told(Finding(("a",), keyword, limit, None, {}), document)
    assert found is not None
    assert found.message.startswith("must ")
    assert found.rule == Rule.BAD_VALUE


def test_a_hidden_value_is_neither_shown_nor_guessed_from() -> None:
    (found,) = problems(SMALL + "operational:\n  logLevel: ${L}\n", {"L": "infoo"})
    assert found.message == "the value (hidden) is not one of debug, info, warning, error"
    assert found.hint == ""


def test_the_nearest_word() -> None:
    assert nearest("PREFX", ["prefix", "manual"]) == "did you mean 'prefix'?"
    assert nearest("zzz", ["prefix", "manual"]) == ""
    assert nearest("x" * 100_000, ["prefix"]) == ""
