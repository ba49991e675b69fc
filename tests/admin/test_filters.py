"""The language of filters. Rule: a table of filters and of what they let through."""

from typing import Any

import pytest

from vmcp.admin.figures import WORDS
from vmcp.admin.filters import LONGEST, Unreadable, parsed

ROWS: list[dict[str, Any]] = [
    {"n": 1, "method": "tools/call", "target": "gh_Search", "backend": "github", "outcome": "ok", "ms": 12.0},
    {"n": 2, "method": "tools/call", "target": "gh_create", "backend": "github", "outcome": "tool_error", "ms": 700.0},
    {"n": 3, "method": "tools/call", "target": "read", "backend": "files", "outcome": "cancelled", "ms": 500.0},
    {"n": 4, "method": "ping", "target": "", "backend": "", "outcome": "ok", "ms": None},
]
REST = {"endpoint": "/mcp", "who": "Ann", "traceId": "", "bytes": 10}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [1, 2, 3, 4]),
        ("method:ping", [4]),
        ("-method:ping", [1, 2, 3]),
        ("tool:gh_*", [1, 2]),
        ("tool:GH_SEARCH", [1]),
        ("backend:f?les", [3]),
        ("outcome:error", [2]),
        ("-outcome:error", [1, 3, 4]),
        ("outcome:tool_error", [2]),
        ("ms:>500", [2]),
        ("ms:>=500", [2, 3]),
        ("ms:<1", [4]),
        ("ms:<=12", [1, 4]),
        ("ms:12", [1]),
        ("ms:=12.0 tool:gh_*", [1]),
        ("search", [1]),
        ("-search tool:gh_*", [2]),
        ("who:ann ms:>400 files", [3]),
        ("[a-z]", []),
        ("12", []),
    ],
)
def test_every_word_narrows(text: str, found: list[int]) -> None:
    fits = parsed(text, WORDS)
    assert [row["n"] for row in ROWS if fits({**REST, **row})] == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colour:red", "'colour:' is no word of a filter; there are method:, tool:,"),
        ("ms:soon", "'ms:' wants a number"),
        ("ms:>", "'ms:' wants a number"),
        ("x" * (LONGEST + 1), "at most"),
    ],
)
def test_what_is_no_filter_is_refused_with_why(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parsed(text, WORDS)
