"""``vmcp init`` as a user runs it. Rule: a HOME of the test's own; what is written is loaded; no secret is seen."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.processes import environment, run
from tests.clients.homes import put
from tests.clients.shapes import SECRETS, SHAPES
from vmcp.cli import main
from vmcp.clients.trial import stand_ins
from vmcp.config.load import load


def init(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["init", *words], input=stdin)


def written(folder: Path) -> str:
    text = (folder / "work/vmcp.yaml").read_text("utf-8")
    load([("vmcp.yaml", text)], stand_ins(text))
    return text


def test_without_a_terminal_a_plain_file_is_written_that_is_valid(own_home: Path) -> None:
    assert init().exit_code == 0
    assert "name: work\n" in written(own_home)


def test_auto_takes_all_clients_and_lifts_their_secrets(own_home: Path) -> None:
    for shape in SHAPES:
        if shape.client:
            put(own_home, shape.client, shape.text)
    done = init("--from", "auto", "--env-file", "secrets.env")
    assert done.exit_code == 0, done.output
    text = written(own_home)
    assert not [secret for secret in SECRETS if secret in text + done.output]
    assert "  exact         github\n" in done.stderr
    assert "  GITHUB_TOKEN=  # ~/" in done.stderr
    secrets = own_home / "work/secrets.env"
    assert "GITHUB_TOKEN=ghp_S3cretS3cretS3cret\n" in secrets.read_text("utf-8")
    assert secrets.stat().st_mode & 0o777 == 0o600


def test_the_result_passes_validate_with_the_secrets_that_were_lifted(own_home: Path) -> None:
    put(own_home, "cursor", next(shape.text for shape in SHAPES if shape.client == "cursor"))
    assert init("--from", "cursor", "--env-file", "x.env").exit_code == 0
    work = own_home / "work"
    shell = f"set -a; . ./x.env; exec '{sys.executable}' -m vmcp validate --strict"
    done = subprocess.run(["sh", "-c", shell], cwd=work, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_files_of_this_folder_are_found_too(own_home: Path) -> None:
    (own_home / "work/.mcp.json").write_text('{"mcpServers": {"p": {"command": "x"}}}', "utf-8")
    assert init("--from", "claude-code").exit_code == 0
    assert "p:\n        command: [x]" in written(own_home)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.client], ids=lambda shape: shape.name)
def test_a_file_is_known_by_its_shape(own_home: Path, shape: object) -> None:
    assert isinstance(shape, tuple)
    (own_home / shape[0]).write_text(shape[2], "utf-8")
    done = init("--from", str(own_home / shape[0]))
    assert done.exit_code == 0, done.output
    assert not [secret for secret in SECRETS if secret in written(own_home) + done.output]


def test_several_files_are_merged_and_stdin_is_one(own_home: Path) -> None:
    (own_home / "a.json").write_text('{"mcpServers": {"a": {"command": "x"}}}', "utf-8")
    done = init(
        "--from", "~/a.json", "--from", "-", "-o", "-", "--name", "both", stdin='{"servers": {"b": {"command": "y"}}}'
    )
    assert done.exit_code == 0
    config, _ = load([("x", done.stdout)], {})
    assert (config.name, list(config.groups["default"].backends)) == ("both", ["a", "b"])
    assert not (own_home / "work/vmcp.yaml").exists()


def test_a_file_that_is_there_stays_unless_that_is_asked_for(own_home: Path) -> None:
    (own_home / "work/vmcp.yaml").write_text("mine", "utf-8")
    put(own_home, "cursor", '{"mcpServers": {"a": {"command": "x"}}}')
    refused = init("--from", "auto")
    assert (refused.exit_code, refused.stderr) == (73, "Error: vmcp.yaml is there already; --force replaces it\n")
    assert (own_home / "work/vmcp.yaml").read_text("utf-8") == "mine"
    assert init("--from", "auto", "--force").exit_code == 0
    assert "command: [x]" in written(own_home)


def test_a_link_that_leads_nowhere_is_not_replaced(own_home: Path) -> None:
    (own_home / "work/vmcp.yaml").symlink_to(own_home / "nowhere")
    assert init().exit_code == 73
    assert not (own_home / "nowhere").exists()


def test_the_file_of_secrets_is_not_replaced_either(own_home: Path) -> None:
    (own_home / "work/s.env").write_text("mine", "utf-8")
    assert init("--env-file", "s.env").exit_code == 73


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--from", "auto"], 66, "no client was found here"),
        (["--from", "zed"], 66, "Zed has no file here"),
        (["--from", "nothing.json"], 66, "no such file or client: nothing.json"),
        (["--from", "/"], 66, "is not a file"),
        (["--from", "off.json"], 66, "nothing was written"),
        (["--from", "bad.json"], 78, "bad.json:2:8: error: a JSON value is expected here"),
        (["--from", "odd.json"], 78, "no MCP servers are recognised in this file"),
        (["--from", "latin.json"], 78, "the file is not UTF-8 text"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_code(own_home: Path, words: list[str], code: int, message: str) -> None:
    (own_home / "work/off.json").write_text('{"mcpServers": {"a": {"command": "x", "disabled": true}}}', "utf-8")
    (own_home / "work/bad.json").write_text('{"mcpServers": {"k": "s3cr3t",\n  "a": }', "utf-8")
    (own_home / "work/odd.json").write_text('{"secret": "s3cr3t"}', "utf-8")
    (own_home / "work/latin.json").write_bytes(b'{"a": "\xe9"}')
    done = init(*words)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert "s3cr3t" not in done.output
    assert not (own_home / "work/vmcp.yaml").exists()


def test_one_broken_file_does_not_stop_auto(own_home: Path) -> None:
    put(own_home, "cursor", "{")
    put(own_home, "zed", '{"context_servers": {"a": {"command": "x"}}}')
    done = init("--from", "auto")
    assert done.exit_code == 0
    assert "mcp.json:1:2: error: a string in double quotes is expected here" in done.stderr
    assert "command: [x]" in written(own_home)


def test_on_a_terminal_it_asks(own_home: Path) -> None:
    put(own_home, "cursor", '{"mcpServers": {"a": {"command": "x"}}}')
    put(own_home, "zed", '{"context_servers": {"b": {"command": "y"}}}')
    answers = ["y", "n", "desk"]
    master, slave = pty.openpty()
    command, place = [sys.executable, "-m", "vmcp", "init"], own_home / "work"
    ends = {"stdin": slave, "stdout": slave, "stderr": slave}
    process = subprocess.Popen(command, cwd=place, env=environment(), start_new_session=True, **ends)
    os.close(slave)
    seen, asked, deadline = "", 0, time.monotonic() + 15
    try:
        while time.monotonic() < deadline and select.select([master], [], [], 15)[0]:
            try:
                seen += os.read(master, 4096).decode()
            except OSError:  # its end is closed
                break
            while asked < len(answers) and seen.count("]: ") > asked:
                os.write(master, f"{answers[asked]}\n".encode())
                asked += 1
        assert process.wait(15) == 0, seen
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "Import 1 MCP server from ~/.cursor/mcp.json?" in seen
    text = written(own_home)
    assert "name: desk" in text
    assert "[x]" in text
    assert "[y]" not in text


@pytest.mark.parametrize("verb", ["init", "connect"])
def test_help_loads_nothing_that_is_dear(verb: str) -> None:
    program = (
        "import sys\nfrom vmcp.cli import main\n"
        f"try: main(['{verb}', '--help'])\nexcept SystemExit: pass\n"
        "dear = ('msgspec', 'ruamel.yaml', 'asyncio', 'httpx', 'vmcp.config.load', 'vmcp.clients')\n"
        "print([name for name in dear if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.endswith("[]\n")


def test_the_verb_runs_as_a_process(own_home: Path) -> None:
    (own_home / "a.json").write_text(json.dumps({"mcpServers": {"a": {"command": "x"}}}), "utf-8")
    done = run("init", "--from", str(own_home / "a.json"), "-o", "-", cwd=own_home)
    assert done.returncode == 0
    assert "command: [x]" in done.stdout
