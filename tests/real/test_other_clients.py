"""Codex and Gemini CLI, at pinned versions and without a login: what they write themselves is what ``connect`` writes, and what
they are given works.

The rule: an empty home of the test's own; they connect to a real vmcp with a key, and say themselves what they see.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import run, serving
from tests.real.processes import ROOT, node, script

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

CODEX = script("@openai/codex", "bin/codex.js")
GEMINI = script("@google/gemini-cli", "bundle/gemini.js")
NOTES = str(ROOT / "examples" / "servers" / "notes.py")
TOKEN = "t0ken-of-the-test"
QUIET = {"GEMINI_CLI_NO_RELAUNCH": "true", "GEMINI_TELEMETRY_ENABLED": "false"}
SECRETS = ("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "CODEX_HOME", "VMCP_CONFIG")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a folder in it that is trusted."""
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VMCP_TOKEN", TOKEN)
    (tmp_path / "work").mkdir()
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".gemini").mkdir()
    (tmp_path / ".gemini" / "trustedFolders.json").write_text(json.dumps({str(tmp_path / "work"): "TRUST_FOLDER"}))
    return tmp_path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vmcp that wants a key."""
    keys = [{"subject": "me", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}]
    config = {
        "name": "desk",
        "groups": {"all": {"backends": {"notes": {"command": [sys.executable, NOTES]}}}},
        "incomingAuth": {"type": "local", "local": {"keys": keys}},
    }
    file = tmp_path_factory.mktemp("desk") / "vmcp.yaml"
    file.write_text(json.dumps(config), "utf-8")
    with serving("--config", str(file), "--log-format", "json") as gateway:
        gateway.until('"msg":"ready"')
        yield f"http://127.0.0.1:{gateway.port()}/mcp"


def ask(home: Path, command: list[str | Path], *words: str) -> str:
    """What a client says; Gemini says much of it on stderr."""
    path = f"{node().parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in (*command, *words)],
        cwd=home / "work",
        env={**os.environ, **QUIET, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout if command is CODEX else done.stdout + done.stderr


def vmcp(home: Path, *words: str) -> str:
    done = run(*words, cwd=home / "work")
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_codex_reads_what_connect_writes_and_writes_the_same(home: Path, url: str) -> None:
    file = home / ".codex" / "config.toml"
    ask(home, CODEX, "mcp", "add", "vmcp", "--url", url, "--bearer-token-env-var", "VMCP_TOKEN")
    theirs = file.read_text("utf-8")
    assert "Codex has vmcp" in vmcp(home, "connect", "codex", "--check", "--url", url, "--token-env", "VMCP_TOKEN")
    file.write_text("", "utf-8")
    vmcp(home, "connect", "codex", "--write", "--url", url, "--token-env", "VMCP_TOKEN")
    assert file.read_text("utf-8").split() == theirs.split()
    (entry,) = json.loads(ask(home, CODEX, "mcp", "list", "--json"))
    assert (entry["name"], entry["enabled"], entry["transport"]["url"]) == ("vmcp", True, url)
    assert entry["transport"]["bearer_token_env_var"] == "VMCP_TOKEN"
    vmcp(home, "connect", "codex", "--remove")
    assert json.loads(ask(home, CODEX, "mcp", "list", "--json")) == []


def codex_sees(home: Path) -> dict[str, Any]:
    """What it finds at its servers, as an editor asks it that has Codex inside."""
    hello = {"clientInfo": {"name": "test", "title": "test", "version": "1"}}
    said = [
        {"id": 0, "method": "initialize", "params": hello},
        {"method": "initialized"},
        {"id": 1, "method": "mcpServerStatus/list", "params": {}},
    ]
    process = subprocess.Popen(
        [str(part) for part in (*CODEX, "app-server")],
        cwd=home / "work",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(f"{json.dumps(each)}\n" for each in said))
        process.stdin.flush()
        try:
            for line in process.stdout:
                told = json.loads(line)
                if told.get("id") == 1:
                    return {each["name"]: each for each in told["result"]["data"]}
        finally:
            process.terminate()
    raise AssertionError("it has ended without an answer")


def test_codex_connects_with_the_token_of_its_environment(
    home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmcp(home, "connect", "codex", "--write", "--url", url, "--token-env", "VMCP_TOKEN")
    found = codex_sees(home)["vmcp"]
    assert found["serverInfo"]["name"] == "desk"
    assert {"notes_search", "notes_add"} <= found["tools"].keys()
    assert found["authStatus"] == "bearerToken"
    assert [each["uri"] for each in found["resources"]] == ["note:///welcome"]
    monkeypatch.setenv("VMCP_TOKEN", "wrong")
    assert codex_sees(home)["vmcp"]["tools"] == {}


def test_what_codex_has_is_imported(home: Path) -> None:
    ask(home, CODEX, "mcp", "add", "notes", "--env", "NOTES_KEY=s3cr3t-of-notes", "--", sys.executable, NOTES)
    ask(home, CODEX, "mcp", "add", "far", "--url", "https://far.example.com/mcp", "--bearer-token-env-var", "FAR_TOKEN")
    told = vmcp(home, "init", "--from", "codex", "--env-file", "x.env")
    assert "s3cr3t" not in told
    text = (home / "work" / "vmcp.yaml").read_text("utf-8")
    assert "s3cr3t" not in text
    assert "https://far.example.com/mcp" in text
    assert "FAR_TOKEN" in text
    assert "s3cr3t-of-notes" in (home / "work" / "x.env").read_text("utf-8")


def test_gemini_reads_what_connect_writes_and_writes_the_same(home: Path, url: str) -> None:
    file = home / ".gemini" / "settings.json"
    header = "Authorization: Bearer ${VMCP_TOKEN}"
    ask(home, GEMINI, "mcp", "add", "--transport", "http", "--scope", "user", "vmcp", url, "--header", header)
    theirs = json.loads(file.read_text("utf-8"))["mcpServers"]
    assert "Gemini CLI has vmcp" in vmcp(
        home, "connect", "gemini", "--check", "--url", url, "--token-env", "VMCP_TOKEN"
    )
    file.unlink()
    vmcp(home, "connect", "gemini", "--write", "--url", url, "--token-env", "VMCP_TOKEN")
    assert json.loads(file.read_text("utf-8"))["mcpServers"] == theirs
    vmcp(home, "connect", "gemini", "--remove")
    assert "vmcp" not in ask(home, GEMINI, "mcp", "list")


def test_gemini_connects_with_the_token_of_its_environment(
    home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vmcp(home, "connect", "gemini", "--write", "--url", url, "--token-env", "VMCP_TOKEN")
    assert f"vmcp: {url} (http) - Connected" in ask(home, GEMINI, "mcp", "list")
    monkeypatch.setenv("VMCP_TOKEN", "wrong")
    assert f"vmcp: {url} (http) - Disconnected" in ask(home, GEMINI, "mcp", "list")


def test_what_gemini_has_is_imported(home: Path) -> None:
    ask(
        home, GEMINI, "mcp", "add", "--scope", "user", "-e", "NOTES_KEY=s3cr3t-of-notes", "notes", sys.executable, NOTES
    )
    ask(home, GEMINI, "mcp", "add", "--scope", "user", "--transport", "sse", "far", "https://far.example.com/sse")
    told = vmcp(home, "init", "--from", "gemini", "--env-file", "x.env")
    assert "s3cr3t" not in told
    text = (home / "work" / "vmcp.yaml").read_text("utf-8")
    assert "s3cr3t" not in text
    assert "https://far.example.com/sse" in text
    assert "transport: sse" in text
