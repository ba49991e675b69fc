"""One event, two forms: a JSON line and a line on a screen.

Rule: an event is always one line, whatever a backend has put into it.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from vmcp.cli import logs, startup


def record(
    message: str, level: int = logging.INFO, error: BaseException | None = None, **extra: Any
) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error is not None else None
    found = logging.LogRecord("vmcp.test", level, __file__, 1, message, (), info)
    found.__dict__.update(extra)
    return found


EVIL = "a\nb\r\x1b[31mc\x07\u2028d\u202ee\x9b1m"


def test_a_json_line_has_time_level_logger_message_and_facts() -> None:
    line = logs.JsonLines().format(record("backend up", backend="b", tools=3, seconds=0.5))
    told = json.loads(line)
    assert told | {"ts": ""} == {
        "ts": "",
        "level": "info",
        "logger": "vmcp.test",
        "msg": "backend up",
        "backend": "b",
        "tools": 3,
        "seconds": 0.5,
    }
    assert len(told["ts"]) == len("2026-01-01T00:00:00.000Z")


@pytest.mark.parametrize("value", [EVIL, {1, 2}, object(), b"x", float("nan"), ValueError("x"), {"k": [EVIL]}, 10**30])
def test_whatever_is_said_is_one_json_line(value: object) -> None:
    line = logs.JsonLines().format(record("event", thing=value))
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    assert "thing" in json.loads(line)


def test_an_exception_is_in_its_line() -> None:
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        given = record("unexpected failure", logging.ERROR, error, incident="ab")
    line = logs.JsonLines().format(given)
    assert "\n" not in line
    assert "ZeroDivisionError: why" in json.loads(line)["exception"]
    shown = logs.Screen().format(given)
    assert shown.splitlines()[0].endswith("error   unexpected failure incident=ab")
    assert "Traceback" in shown


UP = {"backend": "notes", "transport": "stdio", "revision": "2025-11-25", "seconds": 0.0124}
GROUPS = {"g": {"paths": ["/mcp", "/g/mcp"], "tokens": 1200}, "e": {"paths": ["/e/mcp"], "tokens": 0}}
ONE = {"g": {"paths": ["/mcp"], "tokens": 99}}
DRAWN: list[tuple[str, dict[str, Any], list[str]]] = [
    ("backend up", {**UP, "tools": 2}, ["✓ notes", "stdio", "2025-11-25", "2 tools", "12 ms"]),
    ("backend up", {**UP, "tools": 1, "prompts": 1, "seconds": 2.04}, ["1 tool, 1 prompt", "2.0 s"]),
    ("backend up", {**UP, "resources": 3, "resourceTemplates": 1}, ["3 resources, 1 template"]),
    ("backend up", UP, ["nothing"]),
    ("backend down", {**UP, "why": "it is gone", "seconds": 0.5}, ["✗ notes", "it is gone", "(retry in 500 ms)"]),
    (
        "backend down",
        {**UP, "why": "its user has to consent first", "seconds": 2.0, "refused": True, "login": True},
        ["! notes", "consent first   → vmcp auth login notes"],
    ),
    (
        "backend down",
        {**UP, "why": "HTTP 401", "seconds": 2.0, "refused": True, "login": False},
        ["! notes", "HTTP 401   (retry in 2.0 s)"],
    ),
    ("listening", {"url": "http://h:1", "faces": ["/mcp", "/g/mcp"]}, ["Listen   http://h:1"]),
    (
        "ready",
        {"faces": {"/mcp": {"tools": 5}, "/e/mcp": {}}, "groups": GROUPS, "up": 1, "backends": 1},
        [
            "Group    g              5 tools (≈ 1.2k tokens)   /mcp\n",
            "e              nothing   /e/mcp\n",
            "Ready in ",
        ],
    ),
    (
        "ready",
        {"faces": {}, "groups": {}, "up": 1, "backends": 2},
        ["Degraded: 1 of 2 backends up after", "vmcp status"],
    ),
    (
        "not ready",
        {"faces": {}, "groups": {}, "up": 0, "backends": 1},
        ["Not ready: 0 of 1 backend up", "are required"],
    ),
    (
        "quarantined",
        {"face": "/mcp", "kind": "tools", "target": "t", "backend": "b", "winner": "a", "why": "a has it"},
        ["  ! b              t is kept out: a has it"],
    ),
    (
        "configuration reloaded",
        {"seconds": 0.03, "began": ("new",), "ended": ("old",), "faces": {"/mcp": {"tools": 1}}, "groups": ONE},
        ["Reloaded in 30 ms. -old +new\n", "g              1 tool (≈ 99 tokens)   /mcp"],
    ),
    ("configuration problem", {"at": "a:1:2", "key": "k", "what": "wrong", "hint": "h"}, ["  a:1:2: k: wrong (h)"]),
    ("configuration problem", {"at": "a:1:2", "key": "k", "what": "wrong", "hint": ""}, ["  a:1:2: k: wrong"]),
    ("configuration rejected; the one before goes on", {"why": "2 problems"}, ["Not reloaded", "2 problems"]),
    ("takes effect after a restart only", {"at": "a:1:2", "key": "server.port"}, ["a:1:2: server.port: takes"]),
    ("stopping", {}, ["Stopping"]),
    ("stopped", {}, ["Stopped."]),
]


@pytest.mark.parametrize(("message", "facts", "parts"), DRAWN)
def test_a_known_event_is_drawn(message: str, facts: dict[str, Any], parts: list[str]) -> None:
    line = logs.Screen().format(record(message, **facts))
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    "given",
    [
        record("something", logging.WARNING, line=EVIL),
        record("backend down", **{**UP, "why": EVIL}),
        record("quarantined", backend="b", target=EVIL, why=EVIL),
        record(EVIL),
    ],
)
def test_a_backend_cannot_paint_on_the_screen(given: logging.LogRecord) -> None:
    line = logs.Screen().format(given)
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_an_unknown_event_has_its_facts_behind_it() -> None:
    line = logs.Screen().format(record("breaker opened", logging.WARNING, backend="b", nothing=None))
    assert line.endswith("warning breaker opened backend=b")


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize(
    ("form", "terminal", "expected"),
    [
        ("auto", True, logs.Screen),
        ("auto", False, logs.JsonLines),
        ("text", False, logs.Screen),
        ("json", True, logs.JsonLines),
    ],
)
def test_people_get_a_screen_and_machines_get_json(
    monkeypatch: pytest.MonkeyPatch, form: str, terminal: bool, expected: type[logging.Formatter]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    logs.configure("warning", form)
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler.formatter, expected)
    assert logging.getLogger().level == logging.WARNING
    assert logging.getLogger("uvicorn").level == logging.WARNING


def test_the_screen_says_where_the_admin_listener_is() -> None:
    drawn = logs.Screen().format
    assert drawn(record("admin", socket="/run/a.sock")) == "Admin    unix:/run/a.sock"
    both = record("admin", socket="/run/a.sock", url="http://127.0.0.1:4484", token="/run/a.token", ui=True)
    assert drawn(both) == "Admin    unix:/run/a.sock   http://127.0.0.1:4484\nPage     vmcp ui"


def test_who_knows_where_it_listens_is_told_how_to_connect() -> None:
    drawn = logs.Screen()
    ready = record("ready", faces={"/mcp": {"tools": 1}}, groups=ONE, up=1, backends=1)
    assert "Connect" not in drawn.format(ready), "over stdio there is nothing to connect to"
    drawn.format(record("listening", url="http://h:1", faces=["/mcp"]))
    shown = drawn.format(ready)
    assert "http://h:1/mcp" in shown
    assert "Connect  vmcp connect claude-code   Reload   vmcp reload\n" in shown


def test_colour_is_for_terminals_and_takes_no_sign_away(monkeypatch: pytest.MonkeyPatch) -> None:
    up = record("backend up", **UP)
    plain, painted = logs.Screen().format(up), logs.Screen(colour=True).format(up)
    assert "\x1b[" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain != painted
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert startup.coloured()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not startup.coloured()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not startup.coloured()


def test_what_is_said_twice_is_shown_once() -> None:
    assert not startup.worth(record("process ended", backend="b"))
    assert startup.worth(record("process ended", logging.WARNING, backend="b"))
    assert startup.worth(record("backend down", backend="b"))
