"""``vmcp call``, ``tools``, ``prompt`` and ``read`` against all three kinds of targets.

Rule: a real server on standard streams; a terminal is a real one.
"""

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.cli.instances import TEXT, Site, started
from tests.cli.processes import PATIENCE, environment, serving


@pytest.fixture(autouse=True)
def own_logging(own_logs: None) -> None:
    """Commands say where logs go, for the whole process."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with started(tmp_path_factory.mktemp("house")) as made:
        yield made


def test_a_configuration_alone_is_enough(house: Site) -> None:
    assert house.process("call", "-c", "vmcp.yaml", "box_add", "a=1", "b=2").stdout == "3\n"


def test_a_running_instance_is_asked_as_a_client_asks(house: Site) -> None:
    ended = house.run("call", "box_count")
    assert ended.stdout == "counted\n"
    assert ended.stderr.splitlines() == ["progress 1/2 counting", "progress 2/2 counting"]


def test_a_url_is_enough_too(house: Site) -> None:
    url = house.json("status")["endpoints"][1]["url"]
    told = json.loads(house.run("call", "--url", url, "box_add", "--json", '{"a": 1, "b": 5}', "-o", "json").stdout)
    assert told["structuredContent"] == {"a": 1, "b": 5}
    assert house.run("tools", "--url", url, "numbers").stdout.splitlines() == [
        "box_add(a: integer, b: integer, note?: string)",
        "    Add two numbers.",
    ]


def test_a_tool_that_fails_has_its_code_and_does_not_paint(house: Site) -> None:
    ended = house.run("call", "-c", "vmcp.yaml", "box_fail", code=5)
    assert ended.stdout == "it is broken?[31m\n"
    assert house.run("call", "-c", "vmcp.yaml", "box_picture").stdout == "[image/png, 3 bytes]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["box_ad"], "did you mean box_add or"),
        (["box_add", "a=1"], "missing: b\nbox_add(a: integer, b: integer, note?: string)"),
        (["box_add", "a=1", "b=x"], "'b' must be integer"),
    ],
)
def test_what_cannot_be_meant_is_not_sent(house: Site, arguments: list[str], words: str) -> None:
    assert words in house.run("call", "-c", "vmcp.yaml", *arguments, code=2).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["call", "-c", "vmcp.yaml", "--url", "http://x", "t"],
        ["call", "-c", "vmcp.yaml", "-H", "a: b", "t"],
        ["call", "-c", "vmcp.yaml", "--endpoint", "/none", "t"],
        ["call", "--endpoint", "/none", "t"],
        ["call", "--url", "nonsense", "t"],
        ["call", "--url", "http://127.0.0.1:1/mcp", "-H", "nonsense", "t"],
        ["call", "-c", "vmcp.yaml", "--args-file", "none.json", "t"],
    ],
)
def test_a_wrong_command_line_is_told(house: Site, arguments: list[str]) -> None:
    assert "Error:" in house.run(*arguments, code=2).stderr


def test_prompts_and_resources_are_had_likewise(house: Site) -> None:
    assert house.run("prompt", "-c", "vmcp.yaml", "box_greet", "who=you").stdout == "user: Hello you\n"
    assert house.run("prompt", "-c", "vmcp.yaml", "-o", "name").stdout == "box_greet\n"
    assert house.run("read", "-c", "vmcp.yaml", "file:///page").stdout == "the page\n"
    assert house.run("read", "-c", "vmcp.yaml", "-o", "name").stdout == "file:///page\n"
    assert house.run("read", "-c", "vmcp.yaml", "file:///none", code=5).stderr.startswith("vmcp: ")


def test_who_is_not_there_or_does_not_let_us_in_has_his_code(house: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be used" in house.run("call", "--url", "http://127.0.0.1:1/mcp", "t", code=4).stderr
    digest = "8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918"
    text = TEXT + f"incomingAuth: {{type: local, local: {{keys: [{{subject: me, sha256: '{digest}'}}]}}}}\n"
    (house.folder / "closed.yaml").write_text(text)
    with serving("--config", str(house.folder / "closed.yaml")) as process:
        process.until('"msg":"ready"')
        url = f"http://127.0.0.1:{process.port()}/mcp"
        refused = house.run("call", "--url", url, "box_add", "a=1", "b=2", code=3)
        assert "set VMCP_TOKEN, or use --header" in refused.stderr
        shown = ["-H", "Authorization: Bearer admin"]
        assert house.run("call", "--url", url, *shown, "box_add", "a=1", "b=2").stdout == "3\n"
        monkeypatch.setenv("VMCP_TOKEN", "admin")
        assert house.run("call", "--url", url, "box_add", "a=1", "b=2").stdout == "3\n"


def test_without_a_terminal_nobody_is_asked(house: Site) -> None:
    ended = house.run("call", "-c", "vmcp.yaml", "box_ask")
    assert json.loads(ended.stdout) == {"action": "cancel"}
    assert ended.stderr == "the server asks, and there is no terminal: Who is there?\n"


def test_at_a_terminal_the_person_answers(house: Site) -> None:
    assert _typed([("Your name", "Ada"), ("age", "seven"), ("age", "7"), ("Send", "y")]) == {
        "action": "accept",
        "content": {"who": "Ada", "age": 7},
    }
    assert _typed([("Your name", "Ada"), ("age", "7"), ("Send", "n")]) == {"action": "decline"}


def _typed(answers: list[tuple[str, str]]) -> object:
    """What the tool was told, after a person typed these answers at a terminal."""
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "vmcp", "call", "-c", "vmcp.yaml", "box_ask"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment())
    os.close(theirs)
    try:
        for question, answer in answers:
            _until(terminal, question)
            os.write(terminal, answer.encode() + b"\n")
        out, _ = process.communicate(timeout=PATIENCE)
        return json.loads(out)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _until(terminal: int, words: str) -> None:
    deadline, text = time.monotonic() + PATIENCE, ""
    while not (words in text and text.rstrip().endswith((":", "]"))):
        assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], text
        with contextlib.suppress(OSError):
            text += os.read(terminal, 4096).decode()
