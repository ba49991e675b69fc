"""What an error may tell, and what not.

Rule: beside each thing that is taken out stands something alike that stays, byte for byte.
"""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from vmcp.errors import McpError
from vmcp.protocol import jsonrpc, scrub

STAY = [
    "",
    "Unknown tool: search",
    "Resource not found: test://static-text",
    "Resource not found: file:///data/notes.txt",
    "ENOENT: no such file or directory, open '/data/notes.txt'",
    "see https://example.com/docs?page=2#part for help",
    "the request failed at 10:30 with HTTP 500",
    "config.yaml:10 is wrong",
    "version 2.0.1 is too old",
    "the token has expired; ask for a new one",
    "key: missing",
    "meet at noon\nat the station: platform 3",
    "urn:isbn:0451450523 is unknown",
    "goroutine leak",
    "basic auth is needed",
]
GONE = [
    ("connect ECONNREFUSED 10.1.2.3:5432", "connect ECONNREFUSED [host]"),
    ("dial tcp [fd00::1]:6379: refused", "dial tcp [host]: refused"),
    ("getaddrinfo ENOTFOUND db.prod.internal", "getaddrinfo ENOTFOUND [host]"),
    ("cannot reach api.example.com:8443", "cannot reach [host]"),
    ("cannot reach localhost:8080 now", "cannot reach [host] now"),
    ("GET http://localhost:9000/a/b?c=d failed", "GET [url] failed"),
    ("GET http://search/a failed", "GET [url] failed"),
    ("GET https://metrics.svc/a failed", "GET [url] failed"),
    ("at postgres://app:hunter2@db.example.com/app", "at [url]"),
    ("see https://example.com/x?access_token=abc", "see [url]"),
    ("sent Authorization: Bearer abcdefgh1234", "sent Authorization: Bearer ***"),
    ("bad api_key=sk-123456, sorry", "bad api_key=***, sorry"),
    ("boom in /srv/app/main.py:17", "boom in [path]"),
    ('bad: File "/srv/app/main.py", line 3', "bad: [path]"),
    (
        'It failed\nTraceback (most recent call last):\n  File "/a/b.py", line 3, in f\n    g()\n    ^^^\nValueError: odd',
        "It failed\nValueError: odd",
    ),
    ("Error: odd\n    at f (/srv/x.js:3:14)\n    at async node:internal/x:1:2\n    at <anonymous>", "Error: odd"),
    ("odd\n\tat com.x.Y.z(Y.java:12)\n\t... 12 more\nCaused by: it", "odd\nCaused by: it"),
    ("panic: odd\n\ngoroutine 1 [running]:\n\t/srv/main.go:12 +0x1d", "panic: odd"),
    ('  File "/a/b.py", line 3\n    x', "[stack trace]"),
]


@pytest.mark.parametrize("said", STAY)
def test_what_gives_nothing_away_stays_as_it_was_said(said: str) -> None:
    assert scrub.text(said) == said
    raw = Raw(msgspec.json.encode({"why": [said], "n": 1.0}))
    assert scrub.data(raw) is raw


@pytest.mark.parametrize(("said", "shown"), GONE)
def test_what_belongs_to_the_backends_own_house_is_taken_out(said: str, shown: str) -> None:
    assert scrub.text(said) == shown
    assert scrub.text(shown) == shown
    told = msgspec.json.decode(scrub.data(Raw(msgspec.json.encode({"why": [said], "n": None, "big": 2**70}))))
    assert told == {"why": [shown], "n": None, "big": 2**70}


def test_letters_in_disguise_are_seen_through() -> None:
    assert bytes(scrub.data(Raw(b'"http:\\/\\/localhost\\/x"'))) == b'"[url]"'
    assert bytes(scrub.data(Raw(b'"\\u0068ttp://\\u006cocalhost/x"'))) == b'"[url]"'


def test_the_clients_own_uri_stays() -> None:
    raw = Raw(b'{"uri":"http://localhost/x","at":"10.0.0.1"}')
    assert bytes(scrub.data(raw)) == b'{"uri":"http://localhost/x","at":"[host]"}'


@pytest.mark.parametrize(
    "raw", [b'"' + b"x" * scrub.LARGEST + b'"', b"10.0.0.1", b"[" * 5000 + b'"//localhost://"' + b"]" * 5000]
)
def test_data_that_cannot_be_looked_through_is_dropped(raw: bytes) -> None:
    assert bytes(scrub.data(Raw(raw))) == b"null"


def test_what_is_nested_too_deeply_is_dropped() -> None:
    told = bytes(scrub.data(Raw(b"[" * 40 + b'"http://localhost/"' + b"]" * 40)))
    assert b"localhost" not in told
    assert b"null" in told


def test_no_text_takes_long() -> None:
    began = time.perf_counter()
    for piece in (
        "a",
        "a.",
        "1.",
        ":1",
        "at :1:1",
        "\n at x:",
        "http://a",
        "token=",
        "[::",
        "/a.b:",
        'File "',
        " ",
        "?token",
    ):
        scrub.text("localhost " + piece * (40_000 // len(piece)))
    assert time.perf_counter() - began < 3


@given(st.text())
def test_any_text_can_be_scrubbed_and_is_clean_then(said: str) -> None:
    shown = scrub.text(said)
    assert scrub.text(shown) == shown


def test_a_backends_error_is_scrubbed_where_it_is_read() -> None:
    error = jsonrpc.fault(b'{"code":-32050,"message":"no db.internal","data":{"a":"10.0.0.1","b":1.0}}')
    assert isinstance(error, McpError)
    assert (error.code, error.message) == (-32050, "no [host]")
    assert bytes(error.data) == b'{"a":"[host]","b":1.0}'  # type: ignore[call-overload]


def test_a_page_that_the_user_must_visit_stays() -> None:
    raw = b'{"code":-32042,"message":"visit","data":{"elicitations":[{"url":"https://a.example/x?token=1"}]}}'
    assert b"?token=1" in bytes(jsonrpc.fault(raw).data)  # type: ignore[call-overload]
