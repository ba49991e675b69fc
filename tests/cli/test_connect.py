"""``vmcp connect`` as a user runs it. Rule: a HOME of the test's own; whatever was there is there again after --remove."""

import json
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.processes import serving
from tests.clients.homes import place, put
from tests.clients.shapes import SECRETS, SHAPES
from tests.config.samples import SMALL
from vmcp.cli import clientfiles, main
from vmcp.cli.differing import difference
from vmcp.clients import edit
from vmcp.clients.table import BY_NAME, CLIENTS

URL = "http://127.0.0.1:4483/mcp"
FILES = {shape.client: shape.text for shape in SHAPES if shape.client}


def connect(*words: str) -> Result:
    return CliRunner().invoke(main, ["connect", *words])


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("client", FILES)
def test_connect_check_and_remove_leave_the_file_as_it_was(own_home: Path, client: str, replaced: bool) -> None:
    path = put(own_home, client, FILES[client])
    path.chmod(0o640)
    if replaced:
        assert CliRunner().invoke(main, ["init", "--from", client]).exit_code == 0
    done = connect(client, "--write", "--url", URL, *(["--replace"] if replaced else []))
    assert done.exit_code == 0, done.output
    assert path.read_text("utf-8") != FILES[client]
    assert connect(client, "--check", "--url", "http://127.0.0.1:9/mcp").exit_code == 1
    assert connect(client, "--check", "--url", URL).exit_code in (0, 69)
    again = connect(client, "--write", "--url", URL)
    assert f"{BY_NAME[client].title} has vmcp already" in again.stderr
    gone = connect(client, "--remove")
    assert gone.exit_code == 0
    assert path.read_text("utf-8") == FILES[client]
    assert path.stat().st_mode & 0o777 == 0o640
    assert not path.with_name(f"{path.name}.vmcp-bak").exists()
    assert connect(client, "--check", "--url", URL).exit_code == 1
    assert not [secret for secret in SECRETS if secret in done.output + gone.output]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_file_that_vmcp_made_is_gone_after_remove(own_home: Path, client: object) -> None:
    name = getattr(client, "name", "")
    assert connect(name, "--write").exit_code == 0
    path = place(own_home, name)
    assert path.stat().st_mode & 0o777 == 0o600
    assert connect(name, "--remove").exit_code == 0
    assert not path.exists()


def test_without_write_nothing_is_changed_and_the_entry_is_printed(own_home: Path) -> None:
    done = connect("claude-code", "--token-env", "VMCP_TOKEN")
    headers = {"Authorization": "Bearer ${VMCP_TOKEN}"}
    assert json.loads(done.stdout) == {"mcpServers": {"vmcp": {"type": "http", "url": URL, "headers": headers}}}
    assert f"claude mcp add --transport http vmcp {URL} --scope user --header" in done.stderr
    assert not place(own_home, "claude-code").exists()


def test_replace_takes_out_what_vmcp_serves_and_nothing_else(own_home: Path) -> None:
    path = put(own_home, "cursor", '{"mcpServers": {"a": {"command": "x", "env": {"KEY": "s3cr3t"}}}}')
    assert CliRunner().invoke(main, ["init", "--from", "cursor"]).exit_code == 0
    path.write_text('{"mcpServers": {"a": {"command": "x", "env": {"KEY": "s3cr3t"}}, "b": {"command": "y"}}}', "utf-8")
    done = connect("cursor", "--write", "--replace")
    assert done.exit_code == 0
    assert json.loads(path.read_text("utf-8")) == {"mcpServers": {"b": {"command": "y"}, "vmcp": {"url": URL}}}
    assert "s3cr3t" not in done.output
    assert "s3cr3t" in Path(f"{path}.vmcp-bak").read_text("utf-8")


def test_a_different_entry_of_this_name_is_replaced_only_on_demand(own_home: Path) -> None:
    path = put(own_home, "codex", '[mcp_servers.vmcp]\ncommand = "other"\n')
    refused = connect("codex", "--write")
    assert (refused.exit_code, "--replace puts this one in its place" in refused.stderr) == (1, True)
    assert connect("codex", "--write", "--replace").exit_code == 0
    assert tomllib.loads(path.read_text("utf-8")) == {"mcp_servers": {"vmcp": {"url": URL}}}


def test_what_was_there_before_vmcp_is_kept_through_a_change(own_home: Path) -> None:
    path = put(own_home, "cursor", '{"mcpServers": {}}')
    assert connect("cursor", "--write").exit_code == 0
    assert connect("cursor", "--write", "--replace", "--url", "http://127.0.0.1:1/mcp").exit_code == 0
    assert connect("cursor", "--remove").exit_code == 0
    assert path.read_text("utf-8") == '{"mcpServers": {}}'


def test_what_the_user_changed_since_stays(own_home: Path) -> None:
    path = put(own_home, "cursor", '{"mcpServers": {}}')
    assert connect("cursor", "--write").exit_code == 0
    path.write_text(path.read_text("utf-8").replace('"vmcp"', '"new": {"command": "n"}, "vmcp"'), "utf-8")
    assert connect("cursor", "--remove").exit_code == 0
    assert json.loads(path.read_text("utf-8")) == {"mcpServers": {"new": {"command": "n"}}}


def test_what_was_replaced_comes_back_though_the_client_wrote_its_file_since(own_home: Path) -> None:
    """Claude Code writes its own file every day."""
    a = {"command": "x", "env": {"KEY": "s3cr3t"}}
    path = put(own_home, "claude-code", json.dumps({"mcpServers": {"a": a, "gone": {"command": "y"}}}))
    assert CliRunner().invoke(main, ["init", "--from", "claude-code"]).exit_code == 0
    assert connect("claude-code", "--write", "--replace").exit_code == 0
    path.write_text(json.dumps({"numStartups": 7, **json.loads(path.read_text("utf-8"))}), "utf-8")
    (own_home / "work/vmcp.yaml").write_text(
        "name: a\ngroups: {g: {backends: {a: {command: [x], env: {KEY: {env: K}}}}}}\n"
    )
    done = connect("claude-code", "--remove")
    assert done.exit_code == 0
    assert json.loads(path.read_text("utf-8")) == {"numStartups": 7, "mcpServers": {"a": a}}
    assert "s3cr3t" not in done.output


def test_a_file_that_changed_meanwhile_is_not_written(own_home: Path) -> None:
    path = put(own_home, "cursor", "{}")
    held = clientfiles.read(path)
    path.write_text('{"a": 1}', "utf-8")
    with pytest.raises(clientfiles.Stopped, match="was changed meanwhile"):
        clientfiles.write(held, '{"b": 2}')
    assert path.read_text("utf-8") == '{"a": 1}'


def test_a_folder_that_cannot_be_written_to_is_said(own_home: Path) -> None:
    (own_home / ".cursor").write_text("a file, no folder", "utf-8")
    done = connect("cursor", "--write")
    assert done.exit_code in (66, 73)
    assert "~/.cursor/mcp.json cannot be" in done.stderr


def test_the_difference_shows_nothing_that_others_wrote_in_the_same_line() -> None:
    old = '{"mcpServers": {"a": {"command": "x", "env": {"K": "s3cr3t"}}}}'
    new = edit.put(old, "json", ("mcpServers", "vmcp"), {"url": URL})
    shown = difference("f", old, new, edit.put("", "json", ("mcpServers", "vmcp"), {"url": URL}))
    assert "s3cr3t" not in shown
    assert "s3cr3t" not in difference("f", "[a]\nx = [\n  's3cr3t: ',\n]\n", "", "")
    assert "more\n" in difference("f", "", "x\n" * 500, "")


def test_a_link_stays_a_link(own_home: Path) -> None:
    real = own_home / "dotfiles.json"
    real.write_text("{}", "utf-8")
    path = place(own_home, "cursor")
    path.parent.mkdir()
    path.symlink_to(real)
    assert connect("cursor", "--write").exit_code == 0
    assert path.is_symlink()
    assert "vmcp" in real.read_text("utf-8")


def test_the_configuration_says_where_vmcp_is(own_home: Path) -> None:
    (own_home / "work/vmcp.yaml").write_text(SMALL + "server: {port: 9999}\n", "utf-8")
    assert json.loads(connect("cursor").stdout)["mcpServers"]["vmcp"]["url"] == "http://127.0.0.1:9999/mcp"
    group = json.loads(connect("cursor", "--group", "code").stdout)
    assert group["mcpServers"]["vmcp"]["url"] == "http://127.0.0.1:9999/code/mcp"
    assert connect("cursor", "--group", "nothing").exit_code == 2


def test_a_variable_that_is_not_set_here_does_not_matter(own_home: Path) -> None:
    text = "name: a\ngroups: {g: {backends: {b: {command: [x, '${NOT_SET}']}, c: {url: '${NOWHERE}'}}}}\n"
    (own_home / "work/vmcp.yaml").write_text(text, "utf-8")
    assert connect("cursor").exit_code == 0


def test_a_gateway_with_keys_wants_a_token(own_home: Path) -> None:
    keys = "incomingAuth: {type: local, local: {keys: [{subject: ci, sha256: {env: HASH}}]}}\n"
    (own_home / "work/vmcp.yaml").write_text(SMALL + keys, "utf-8")
    entry = json.loads(connect("cursor").stdout)["mcpServers"]["vmcp"]
    assert entry["headers"] == {"Authorization": "Bearer ${env:VMCP_TOKEN}"}
    assert "--token-env" in json.loads(connect("cline").stdout)["mcpServers"]["vmcp"]["args"]


def test_stdio_lets_the_client_start_vmcp(own_home: Path) -> None:
    assert connect("cursor", "--stdio").exit_code == 2
    (own_home / "work/vmcp.yaml").write_text(SMALL, "utf-8")
    entry = json.loads(connect("cursor", "--stdio", "--group", "code").stdout)["mcpServers"]["vmcp"]
    assert entry["args"][-4:] == ["--config", str(own_home / "work/vmcp.yaml"), "--group", "code"]
    bridge = json.loads(connect("cursor", "--stdio", "--url", URL).stdout)["mcpServers"]["vmcp"]
    assert bridge["args"][-2:] == ["--url", URL]
    assert Path(bridge["command"]).is_absolute()


def test_a_frozen_vmcp_names_itself(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/vmcp-linux")
    entry = json.loads(connect("claude-desktop").stdout)["mcpServers"]["vmcp"]
    assert entry == {"command": "/opt/vmcp-linux", "args": ["stdio", "--url", URL]}


def test_claude_desktop_gets_a_bridge(own_home: Path) -> None:
    assert json.loads(connect("claude-desktop").stdout)["mcpServers"]["vmcp"]["args"][-3:] == ["stdio", "--url", URL]


def test_a_project_has_a_file_of_its_own(own_home: Path) -> None:
    assert connect("vscode", "--write", "--scope", "project").exit_code == 0
    assert json.loads((own_home / "work/.vscode/mcp.json").read_text("utf-8"))["servers"]["vmcp"] == {
        "type": "http",
        "url": URL,
    }
    assert connect("windsurf", "--scope", "project").exit_code == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["netscape"], 2, "no client of this name; there are claude-code"),
        (["cursor", "--write", "--remove"], 2, "give one of"),
        (["cursor", "--replace"], 2, "--replace goes with --write"),
        (["cursor", "--url", URL, "--group", "g"], 2, "leave --group out"),
        (["cursor", "--write"], 78, "~/.cursor/mcp.json:1:2: error: a string in double quotes is expected here"),
        (["zed", "--write"], 73, "put the entry there by hand"),
        (["cursor", "--config", "wrong.yaml"], 78, "wrong.yaml:1:1"),
        (["windsurf", "--remove"], 0, "Windsurf does not have vmcp"),
        (["windsurf", "--check"], 1, "Windsurf does not have vmcp"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(own_home: Path, words: list[str], code: int, message: str) -> None:
    put(own_home, "cursor", "{s3cr3t")
    put(own_home, "zed", '{"context_servers": "s3cr3t"}')
    (own_home / "work/wrong.yaml").write_text("nam: x\n", "utf-8")
    done = connect(*words)
    assert done.exit_code == code, done.output
    assert message in " ".join(done.stderr.split())
    assert "s3cr3t" not in done.output


def test_all_clients_are_listed_with_what_they_have(own_home: Path) -> None:
    put(own_home, "cursor", "{}")
    put(own_home, "zed", "{")
    assert connect("codex", "--write").exit_code == 0
    lines = {line.split()[0]: line for line in connect().stdout.splitlines()}
    assert set(lines) == set(BY_NAME)
    assert "has vmcp" in lines["codex"]
    assert "no file" in lines["goose"]
    assert "cannot be read" in lines["zed"]


def test_check_asks_whether_vmcp_answers(own_home: Path) -> None:
    child = [sys.executable, str(Path(__file__).parent.parent / "server" / "child.py")]
    (own_home / "c.yaml").write_text(
        json.dumps({"name": "c", "groups": {"g": {"backends": {"b": {"command": child}}}}}), "utf-8"
    )
    with serving("--config", str(own_home / "c.yaml")) as process:
        url = f"http://127.0.0.1:{process.port()}/mcp"
        assert connect("cursor", "--write", "--url", url).exit_code == 0
        done = connect("cursor", "--check", "--url", url)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"{url} answers")
    assert connect("cursor", "--check", "--url", url).exit_code == 69
