"""Characters that people do not see. Rule: every sort is found, and what scripts and emoji need is not."""

import json

import pytest

from vmcp.routing.hidden import found, sorts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("send \u202eelif", ("bidirectional controls",)),
        ("a\u2066b\u2069", ("bidirectional controls",)),
        ("\u200fa", ("bidirectional controls",)),
        ("hello\U000e0069\U000e0067", ("tag characters",)),
        ("ig\u200bnore", ("zero-width characters",)),
        ("ig\u200dnore", ("zero-width characters",)),
        ("\u200cstart", ("zero-width characters",)),
        ("\ufeffstart", ("zero-width characters",)),
        ("so\u00adft", ("zero-width characters",)),
        ("a\ufe00\ufe01\ufe02", ("variation selectors",)),
        ("a\U000e0101", ("variation selectors",)),
        ("\x1b[8mgone", ("control characters",)),
        ("a\x85b", ("control characters",)),
        ("a\u2028b", ("control characters",)),
        ("a\u200b\u202e", ("bidirectional controls", "zero-width characters")),
    ],
)
def test_every_sort_is_found(text: str, expected: tuple[str, ...]) -> None:
    assert sorts(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "plain words: 100 %, a_b-c <d>",
        "lines\nand\r\n\ttabs",
        "grün, naïve, 漢字, עברית, العربية",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937",
        "👩\u200d💻 and ❤\ufe0f\u200d🔥",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        "葛\U000e0100",
    ],
)
def test_what_scripts_and_emoji_need_is_no_finding(text: str) -> None:
    assert sorts(text) == ()


def test_it_is_found_wherever_it_is_in_a_definition() -> None:
    entry = {
        "name": "t",
        "description": "a\u200bb",
        "inputSchema": {"properties": {"x": {"enum": ["ok", "\u202eb"]}, "y\u200b": {}}},
        "n": 5,
    }
    assert list(found(json.dumps(entry).encode())) == [
        ("description", "zero-width characters"),
        ("inputSchema.properties.x.enum", "bidirectional controls"),
        ("inputSchema.properties", "zero-width characters"),
    ]


def test_a_place_is_told_once_and_what_cannot_be_read_has_none() -> None:
    assert list(found(b'{"a":["x\\u200b","y\\u200b"]}')) == [("a", "zero-width characters")]
    assert list(found(b'{"a"')) == []
    assert list(found(b"\xff")) == []
    assert list(found(b"[" * 100_000)) == []
    assert list(found(b'{"a":' * 70 + b'"\\u200b"' + b"}" * 70)) == [], "deeper than anybody looks"
    assert list(found(b"[" * 70 + b'"\\u200b"' + b"]" * 70)) == []
