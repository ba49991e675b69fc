"""The first ten minutes with vmcp beside the real Claude Code: import its servers, check, serve, connect, use, take out.

The rule: an empty home of the test's own; Claude Code itself says what it sees.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import environment, run, serving
from tests.real.processes import ROOT, script

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

CLAUDE = script("@anthropic-ai/claude-code", "cli-wrapper.cjs")
QUIET = {"DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
NOTES = str(ROOT / "examples" / "servers" / "notes.py")
SECRET = "s3cr3t-Notes-K3y"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.delenv("VMCP_CONFIG", raising=False)
    return tmp_path


def claude(home: Path, *words: str) -> str:
    command = [str(part) for part in (*CLAUDE, "mcp", *words)]
    done = subprocess.run(
        command, cwd=home, env={**os.environ, **QUIET}, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def states(home: Path) -> dict[str, str]:
    return dict(
        re.findall(r"^([\w-]+): .* - .*?(Connected|Failed|Needs|Pending).*$", claude(home, "list"), re.MULTILINE)
    )


def vmcp(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    done = run(*words, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done


def add(home: Path, name: str, entry: dict[str, object]) -> None:
    claude(home, "add-json", "--scope", "user", name, json.dumps(entry))


def test_three_servers_become_one_and_come_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(home, "notes", {"type": "stdio", "command": sys.executable, "args": [NOTES]})
    add(home, "more", {"command": sys.executable, "args": [NOTES], "env": {"NOTES_KEY": SECRET}})
    add(
        home,
        "third",
        {"command": sys.executable, "args": ["${NOTES_PY:-" + NOTES + "}"], "env": {"TOKEN": "${OTHER_TOKEN}"}},
    )
    vmcp(home, "init", "--from", "claude-code", "--env-file", "x.env")
    assert SECRET not in (home / "vmcp.yaml").read_text("utf-8")
    assert f"NOTES_KEY={SECRET}" in (home / "x.env").read_text("utf-8")
    vmcp(home, "validate", "--strict")
    monkeypatch.setenv("NOTES_KEY", SECRET)
    monkeypatch.setenv("OTHER_TOKEN", "other")
    with serving("--config", str(home / "vmcp.yaml"), "--log-format", "json") as gateway:
        url = f"http://127.0.0.1:{gateway.port()}/mcp"
        gateway.until('"msg":"ready"')
        vmcp(home, "connect", "claude-code", "--write", "--replace", "--url", url)
        assert states(home) == {"vmcp": "Connected"}
        shown = claude(home, "get", "vmcp")
        assert url in shown
        assert "http" in shown
        vmcp(home, "connect", "claude-code", "--check", "--url", url)
        assert "Milk" in vmcp(home, "call", "more_add", "title=Milk", "text=two", "--url", url).stdout
    vmcp(home, "connect", "claude-code", "--remove")
    assert states(home) == dict.fromkeys(("notes", "more", "third"), "Connected")


FILES = [str(part) for part in script("@modelcontextprotocol/server-filesystem")]
MEMORY = [str(part) for part in script("@modelcontextprotocol/server-memory")]


def test_three_real_servers_from_an_empty_home_to_a_call(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """init → validate → start → connect → call → status → stop, as the tutorial has it."""
    (home / "docs").mkdir()
    (home / "docs" / "hello.txt").write_text("hello from a file", "utf-8")
    (home / "run").mkdir(0o700)
    monkeypatch.setenv("VMCP_RUN_DIR", str(home / "run"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    add(home, "files", {"command": FILES[0], "args": [*FILES[1:], str(home / "docs")]})
    kept = {"MEMORY_FILE_PATH": str(home / "memory.json")}
    add(home, "memory", {"type": "stdio", "command": MEMORY[0], "args": MEMORY[1:], "env": kept})
    add(home, "time", {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]})
    assert states(home) == dict.fromkeys(("files", "memory", "time"), "Connected")

    assert "3 exact" in vmcp(home, "init", "--from", "claude-code").stderr
    vmcp(home, "validate", "--strict")
    url = vmcp(home, "start", "--port", "0").stdout.split()[0]
    try:
        vmcp(home, "connect", "claude-code", "--write", "--replace", "--url", url)
        assert states(home) == {"vmcp": "Connected"}
        told = vmcp(home, "call", "files_read_text_file", f"path={home / 'docs' / 'hello.txt'}").stdout
        assert "hello from a file" in told
        entity = {"name": "vmcp", "entityType": "gateway", "observations": ["ten become one"]}
        vmcp(home, "call", "memory_create_entities", "--json", json.dumps({"entities": [entity]}))
        assert "ten become one" in vmcp(home, "call", "memory_read_graph").stdout
        assert "UTC" in vmcp(home, "call", "time_get_current_time", "timezone=UTC").stdout
        assert "3 of 3 healthy" in vmcp(home, "status").stdout
        assert "files_read_text_file" in vmcp(home, "tools").stdout
    finally:
        vmcp(home, "stop")
    vmcp(home, "connect", "claude-code", "--remove")
    assert states(home) == dict.fromkeys(("files", "memory", "time"), "Connected")


def test_a_gateway_for_as_long_as_claude_code_runs(home: Path) -> None:
    """``vmcp run -- claude …``: the client finds it by the variable in its entry."""
    add(home, "vmcp", {"type": "http", "url": "${VMCP_URL}"})
    config = {"name": "demo", "groups": {"all": {"backends": {"notes": {"command": [sys.executable, NOTES]}}}}}
    (home / "vmcp.yaml").write_text(json.dumps(config), "utf-8")
    command = [sys.executable, "-m", "vmcp", "run", "--", *map(str, CLAUDE), "mcp", "list"]
    done = subprocess.run(
        command, cwd=home, env={**environment(), **QUIET}, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^vmcp: .* - .*Connected$", done.stdout, re.MULTILINE), done.stdout
    assert states(home).get("vmcp") != "Connected", "it is gone with the command"


def test_the_entry_is_the_one_that_claude_code_writes_itself(home: Path) -> None:
    done = run("connect", "claude-code", "--token-env", "VMCP_TOKEN", cwd=home)
    entry = json.loads(done.stdout)["mcpServers"]["vmcp"]
    claude(home, "add", "--transport", "http", "vmcp", entry["url"], "--scope", "user", "--header",
           f"Authorization: {entry['headers']['Authorization']}")  # fmt: skip
    assert json.loads((home / ".claude.json").read_text("utf-8"))["mcpServers"]["vmcp"] == entry
    checked = run("connect", "claude-code", "--check", "--token-env", "VMCP_TOKEN", cwd=home)
    assert "Claude Code has vmcp" in checked.stdout


def test_the_bridge_connects_with_a_token_of_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry of clients that put no variables into headers, started by Claude Code."""
    keys = [{"subject": "me", "sha256": hashlib.sha256(b"t0ken").hexdigest()}]
    config = {
        "name": "desk",
        "groups": {"all": {"backends": {"notes": {"command": [sys.executable, NOTES]}}}},
        "incomingAuth": {"type": "local", "local": {"keys": keys}},
    }
    (home / "desk.yaml").write_text(json.dumps(config), "utf-8")
    monkeypatch.setenv("VMCP_TOKEN", "t0ken")
    with serving("--config", str(home / "desk.yaml")) as gateway:
        url = f"http://127.0.0.1:{gateway.port()}/mcp"
        done = run("connect", "cline", "--url", url, "--token-env", "VMCP_TOKEN", cwd=home)
        entry = json.loads(done.stdout)["mcpServers"]["vmcp"]
        add(
            home,
            "vmcp",
            {"command": entry["command"], "args": entry["args"], "env": {"PYTHONPATH": environment()["PYTHONPATH"]}},
        )
        assert states(home) == {"vmcp": "Connected"}
        monkeypatch.setenv("VMCP_TOKEN", "wrong")
        assert states(home)["vmcp"] != "Connected"
        checked = run("connect", "cursor", "--write", "--url", url, cwd=home)
        assert checked.returncode == 0
        assert "wants to know who you are" in run("connect", "cursor", "--check", "--url", url, cwd=home).stdout
