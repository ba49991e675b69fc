"""``vmcp top``, ``vmcp audit tail`` and the numbers of ``vmcp metrics``, of an instance that has served calls.

Rule: one real process for all of them; the screen is that of a real terminal.
"""

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from tests.cli.instances import TEXT, Site, started
from tests.cli.processes import PATIENCE, environment
from vmcp.cli.screen import drawn, spark
from vmcp.cli.top import View

AUDIT = "audit: {logFile: %s, includeRequestData: true}\nstate: {directory: %s}\n"
SECRET = "hush-top-7"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("top")
    more = AUDIT % (json.dumps(str(folder / "audit.log")), json.dumps(str(folder / "kept")))
    with started(folder, TEXT + more) as made:
        made.run("call", "box_add", "a=1", "b=2", f"note={SECRET}")
        made.run("call", "box_fail", code=5)
        yield made


def test_once_it_says_how_all_does(house: Site) -> None:
    found = house.json("top", "--once")
    assert (found["name"], found["status"], len(found["seconds"])) == ("house", "ready", 60)
    assert {each["tool"]: (each["count"], each["errors"]) for each in found["tools"]} == {
        "box_add": (1, 0),
        "box_fail": (1, 1),
    }
    assert [(each["name"], each["calls"]["count"]) for each in found["backends"]] == [("box", 2)]
    assert [(each["target"], each["outcome"]) for each in found["errors"]] == [("box_fail", "tool_error")]
    assert SECRET not in json.dumps(found)
    assert "requests/s" in house.run("top").stdout, "without a terminal it is told once"
    assert house.run("top", "-o", "name", "--sort", "errors").stdout == "box_fail\nbox_add\n"


def test_the_numbers_are_printed_with_percentiles_and_by_days(house: Site) -> None:
    assert re.search(r"box_fail +g +box +1 +1 +0.0", house.run("metrics", "--statistics").stdout)
    assert house.run("metrics", "--statistics", "--by", "backend", "-o", "name").stdout == "box\n"
    assert house.run("metrics", "--usage", "--by", "who", "-o", "name").stdout == "anonymous\n"
    assert house.json("metrics", "--usage", "--days", "1")["where"] == "file"
    assert (house.folder / "kept" / "usage.db").exists()
    assert "choose one" in house.run("metrics", "--usage", "--statistics", code=2).stderr
    assert "--by who is not of these numbers" in house.run("metrics", "--statistics", "--by", "who", code=2).stderr


def test_the_last_records_of_the_audit_log_are_printed(house: Site) -> None:
    lines = house.run("audit", "tail", "type:mcp_tool_call").stdout.splitlines()
    assert [re.findall(r"success|application_error|box_\w+  at box", line) for line in lines] == [
        ["success", "box_add  at box"],
        ["application_error", "box_fail  at box"],
    ]
    told = house.run("audit", "tail", "type:mcp_tool_call", "outcome:error", "-o", "json").stdout
    assert [json.loads(line)["outcome"] for line in told.splitlines()] == ["application_error"]
    assert SECRET not in house.run("audit", "tail", "-o", "json").stdout
    assert "'colour:' is no word" in house.run("audit", "tail", "colour:red", code=1).stderr
    assert "verify" in house.run("audit").stdout


def test_what_comes_is_printed_as_it_comes(house: Site) -> None:
    command = [sys.executable, "-m", "vmcp", "audit", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), cwd=house.folder) as following:
        assert following.stdout is not None
        try:
            _read(following.stdout.fileno(), "box_fail")
            house.run("prompt", "box_greet", "who=ada")
            assert "mcp_prompt_get" in _read(following.stdout.fileno(), "box_greet")
        finally:
            following.kill()


def test_on_a_terminal_it_is_a_screen_that_keys_change_and_that_leaves_no_trace(house: Site) -> None:
    terminal, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "vmcp", "top"]
    more = {"TERM": "xterm-256color", "COLUMNS": "140", "LINES": "50"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment() | more)
    try:
        _read(terminal, "box_add")
        os.write(terminal, b"s")
        _read(terminal, "by errors")
        os.write(terminal, b"p")
        _read(terminal, "PAUSED")
        os.write(terminal, b"q")
        _read(terminal, "\x1b[?1049l")
        assert process.wait(PATIENCE) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(theirs)


def _read(source: int, words: str) -> str:
    """What comes, until ``words`` are in it."""
    deadline, text = time.monotonic() + PATIENCE, ""
    while words not in text:
        assert select.select([source], [], [], max(0.0, deadline - time.monotonic()))[0], text
        text += os.read(source, 65536).decode()
    return text


def test_a_key_changes_what_is_looked_at() -> None:
    view = View("count")
    for key in ("s", "s", "p", "e", "x", ""):
        view.pressed(key)
    assert (view.sort, view.paused, view.only_errors, view.over) == ("p95", True, True, False)
    view.pressed("\x03")
    assert view.over


def test_what_others_have_said_is_no_markup() -> None:
    number = {"count": 1, "errors": 1, "successRate": 0.0, "median": 0.2, "p95": 2.0, "p99": None}
    told = {
        "name": "[red]n[/]",
        "status": "ready",
        "uptimeSeconds": 1.0,
        "sessions": 0,
        "loopLagSeconds": None,
        "now": {"requests": 0.0, "errors": 1.0, "p95": None, "inFlight": 0},
        "seconds": [0, 1],
        "total": number,
        "workers": [
            {"index": 0, "status": "ready", "connections": 12, "requestsInFlight": 3},
            {"index": 1, "status": "away", "connections": 0},
        ],
        "backends": [],
        "errors": [],
        "tools": [{"tool": "[bold]x[/bold]\x1b[31m", "backend": "", **number}],
    }
    sheet = StringIO()
    console = Console(file=sheet, width=120)
    console.print(drawn(told, View("count")))
    shown = sheet.getvalue()
    assert "[red]n[/]" in shown
    assert "[bold]x[/bold] [31m" in shown
    assert "\x1b" not in shown
    assert "0 ready 12 connections, 3 in flight    1 away 0 connections" in shown


def test_a_line_of_blocks_is_highest_for_the_most() -> None:
    assert (spark([0, 4, 8]), spark([0, 0]), spark([])) == ("▁▅█", "▁▁", "")
