"""``vmcp stdio`` as a real process: what is on stdout, how it ends, and what is left. Rule: stdout is read to its last byte."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import CHILD, PATIENCE, environment, gone, run, serving
from tests.server.clients import modern_meta

CONFIG = """\
name: house
groups:
  g:
    backends:
      old: {{command: [{python}, -S, {child}, "2025-06-18"]}}
      new: {{command: [{python}, -S, {child}, "2026-07-28"]}}
  h:
    backends:
      third: {{command: [{python}, -S, {child}, "2024-11-05"]}}
"""
REF = "groupRef: g\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    return written(tmp_path, CONFIG + REF)


def written(folder: Path, text: str) -> str:
    path = folder / "vmcp.yaml"
    path.write_text(text.format(python=json.dumps(sys.executable), child=json.dumps(str(CHILD))))
    return str(path)


def message(method: str, id: object = None, **params: Any) -> str:
    told = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(told if id is None else {**told, "id": id}) + "\n"


HELLO = message("initialize", 0, protocolVersion="2025-11-25", capabilities={}) + message("notifications/initialized")


def talk(text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``vmcp stdio`` with ``text`` on its stdin, run to its end."""
    command = [sys.executable, "-m", "vmcp", "stdio", "--log-format", "json", *arguments]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=PATIENCE, env=environment(), check=False
    )


def answers(ended: "subprocess.CompletedProcess[str]") -> dict[object, Any]:
    assert ended.returncode == 0, ended.stderr
    return {told.get("id"): told for told in map(json.loads, ended.stdout.splitlines())}


def text_of(answer: Any) -> str:
    text: str = answer["result"]["content"][0]["text"]
    return text


@pytest.mark.parametrize("meta", [{}, {"_meta": modern_meta()}])
def test_a_configuration_is_served_until_stdin_ends_and_no_child_is_left(config: str, meta: dict[str, Any]) -> None:
    calls = "".join(message("tools/call", name, name=name, **meta) for name in ("old_pid", "new_pid"))
    ended = talk(("" if meta else HELLO) + message("tools/list", 1, **meta) + calls, "--config", config)
    found = answers(ended)
    assert {entry["name"] for entry in found[1]["result"]["tools"]} >= {"old_echo", "new_hang"}
    assert gone([int(text_of(found[name])) for name in ("old_pid", "new_pid")])
    assert all(json.loads(line)["msg"] for line in ended.stderr.splitlines()), "logs go to stderr"


def test_a_group_is_chosen_by_name_and_must_be_where_there_is_no_default(config: str, tmp_path: Path) -> None:
    listed = message("tools/list", 1, _meta=modern_meta())
    found = answers(talk(listed, "--config", config, "--group", "h"))
    assert {entry["name"].partition("_")[0] for entry in found[1]["result"]["tools"]} == {"third"}
    bare = written(tmp_path, CONFIG)
    for arguments in (["--config", bare], ["--config", bare, "--group", "nonsense"]):
        refused = run("stdio", *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "--group: g, h" in refused.stderr


def test_a_bridge_speaks_for_a_running_instance(config: str) -> None:
    with serving("--config", config) as process:
        url = f"http://127.0.0.1:{process.port()}/mcp"
        process.until('"ready"|Ready')
        modern = message("tools/call", 2, name="old_echo", arguments={"x": 2**60}, _meta=modern_meta())
        words = HELLO + message("tools/call", "1", name="new_echo", arguments={"x": "\u2028"}) + modern
        found = answers(talk(words, "--url", url, "--header", "X-Some: thing"))
        assert found[0]["result"]["protocolVersion"] == "2025-11-25"
        assert json.loads(text_of(found["1"])) == {"x": "\u2028"}
        assert json.loads(text_of(found[2])) == {"x": 2**60}
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_signal_ends_it_with_its_children(config: str) -> None:
    command = [sys.executable, "-m", "vmcp", "stdio", "--config", config]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(message("tools/call", 1, name="old_pid", _meta=modern_meta()).encode())
        process.stdin.flush()
        pid = int(text_of(json.loads(process.stdout.readline())))
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b""
        assert process.wait(PATIENCE) == 0
    assert gone([pid])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--url", "http://x/mcp", "--config", "f"], 2, "leave --config out"),
        (["--url", "ftp://x"], 2, "--url cannot be used"),
        (["--url", "http://x/mcp", "--header", "nonsense"], 2, "Name: value"),
        (["--header", "A: b"], 2, "--header goes with --url"),
        (["--token-env", "A"], 2, "--token-env goes with --url"),
        (["--url", "http://127.0.0.1:1/mcp", "--token-env", "NOT_SET_HERE"], 2, "NOT_SET_HERE is not set"),
        (["--config", "/no/such/file.yaml"], 66, "no such file"),
    ],
)
def test_what_cannot_be_is_said_on_stderr(arguments: list[str], code: int, words: str) -> None:
    refused = run("stdio", *arguments)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert words in refused.stderr


def test_a_wrong_configuration_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: house\nnonsense: 1\n")
    refused = run("stdio", "--config", str(path))
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "unknown key" in refused.stderr
