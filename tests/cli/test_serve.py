"""``vmcp serve`` as a real process: what it prints, what it answers, how it ends and with which code.

Rule: an exit is proved by its code and by the children that are not there any more.
"""

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import CHILD, Process, alive, gone, run, serving
from tests.server.clients import modern_meta

CONFIG = """\
name: house
groups:
  g:
    backends:
      old: {{command: [{python}, -S, {child}, "2025-06-18"]}}
      new: {{command: [{python}, -S, {child}, "2026-07-28"]}}
"""
BROKEN = """\
      dead: {{command: [{python}, -S, {child}, "2025-06-18", "cannot open \\x1b[31mthe database"]}}
      absent: {{command: [no-such-program-anywhere]}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    return written(tmp_path, CONFIG)


def written(folder: Path, text: str) -> str:
    path = folder / "vmcp.yaml"
    path.write_text(text.format(python=json.dumps(sys.executable), child=json.dumps(str(CHILD))))
    return str(path)


def ask(port: int, method: str, params: dict[str, object] | None = None) -> dict[str, dict[str, object]]:
    """One modern request over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        "Mcp-Name": str((params or {}).get("name", "")),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": modern_meta()}}
    try:
        connection.request("POST", "/mcp", json.dumps(body), headers)
        answer: dict[str, dict[str, object]] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def children(process: Process) -> list[int]:
    """The processes of the backends, by their own word."""
    pids = []
    for name in ("old_pid", "new_pid"):
        content = ask(process.port(), "tools/call", {"name": name, "arguments": {}})["result"]["content"]
        assert isinstance(content, list)
        pids.append(int(content[0]["text"]))
    return pids


def test_it_serves_and_ends_with_nothing_left(config: str) -> None:
    with serving("--config", config) as process:
        process.until('"msg":"ready"')
        tools = ask(process.port(), "tools/list")["result"]["tools"]
        assert isinstance(tools, list)
        assert [entry["name"] for entry in tools] == [
            "old_echo",
            "old_pid",
            "old_hang",
            "new_echo",
            "new_pid",
            "new_hang",
        ]
        pids = children(process)
        assert all(map(alive, pids))
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert gone(pids)
        messages = [line["msg"] for line in process.lines()]
        assert messages[0] == "listening"
        assert messages.count("backend up") == 2
        assert messages[-2:] == ["stopping", "stopped"]
        assert process.process.stdout is not None
        assert process.process.stdout.read() == b"", "everything is on stderr"


def test_every_line_is_json_with_time_level_and_logger(config: str) -> None:
    with serving("--config", config, "--log-level", "debug") as process:
        process.until('"msg":"ready"')
        ask(process.port(), "tools/call", {"name": "old_echo", "arguments": {"password": "hunter2"}})
        process.until('"msg":"call served"')
        process.signal(signal.SIGINT)
        assert process.end() == 0
        for line in process.lines():
            assert {"ts", "level", "logger", "msg"} <= line.keys()
            assert line["ts"].endswith("Z")
        assert "hunter2" not in process.text


def test_a_call_in_flight_is_waited_for_and_a_second_signal_is_not_patient(config: str) -> None:
    with serving("--config", config) as process:
        process.until('"msg":"ready"')
        port = process.port()
        pids = children(process)
        with socket.create_connection(("127.0.0.1", port)) as hanging:
            body = json.dumps(
                {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "tools/call",
                    "params": {"name": "new_hang", "_meta": modern_meta()},
                }
            )
            hanging.sendall(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28"
                f"\r\nMcp-Method: tools/call\r\nMcp-Name: new_hang\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            ask(port, "tools/list")
            process.signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                process.process.wait(0.7)
            process.signal(signal.SIGTERM)
            assert process.end() == 0
        assert gone(pids)


def test_a_signal_before_the_backends_are_there_is_obeyed(tmp_path: Path) -> None:
    silent = (
        'name: n\ngroups: {{g: {{backends: {{a: {{command: [{python}, -S, -c, "import time; time.sleep(60)"]}}}}}}}}\n'
    )
    with serving("--config", written(tmp_path, silent)) as process:
        process.port()
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_taken_port_says_what_to_do(config: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = run("serve", "--config", config, "--port", port)
    assert ended.returncode == 69
    assert f"port {port} is taken" in ended.stderr
    assert "--port 0" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_another_vmcp_has_says_which(config: str) -> None:
    with serving("--config", config) as process:
        process.until('"msg":"admin"')
        ended = run("serve", "--config", config, "--port", str(process.port()))
        assert ended.returncode == 69
        assert f"it is vmcp 'house', pid {process.process.pid}; end it with: vmcp stop --admin /" in ended.stderr


def test_an_address_that_is_not_ours_is_refused(config: str, tmp_path: Path) -> None:
    ended = run("serve", "--config", config, "--host", "203.0.113.7", "--port", "0")
    assert ended.returncode in (69, 78), "78: no anonymous clients on the network"
    assert ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--config", "no/such/file.yaml"], 66),
        (["--config", "."], 66),
        ([], 66),
        (["--port", "x"], 2),
        (["--port", "65536"], 2),
        (["--nonsense"], 2),
        (["--log-level", "loud"], 2),
    ],
)
def test_a_wrong_command_line_has_its_code(arguments: list[str], code: int, tmp_path: Path) -> None:
    ended = run("serve", *arguments, cwd=tmp_path)
    assert ended.returncode == code
    assert ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_configuration_is_shown_and_not_served(tmp_path: Path) -> None:
    path = written(tmp_path, CONFIG.replace("command", "comand", 1))
    ended = run("serve", "--config", path)
    assert ended.returncode == 78
    assert "vmcp.yaml:5:" in ended.stderr
    assert "comand" in ended.stderr


def test_the_command_line_passes_the_checks_of_the_file(config: str) -> None:
    ended = run("serve", "--config", config, "--host", "0.0.0.0", "--port", "0")
    assert ended.returncode == 78
    assert "allowAnonymousNetwork" in ended.stderr
    assert "command line" in ended.stderr


def test_the_screen_shows_every_backend_and_why_one_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, CONFIG + BROKEN)
    with serving("--config", path, terminal=True) as process:
        process.until(r"Degraded: 2 of 4")
        screen = process.text
        assert process.until(r"vmcp \d+\.\d+\.\d+.*vmcp\.yaml.*pid \d+")
        assert process.until(r"Group +g +6 tools \(≈ \d+ tokens\) +http://127\.0\.0\.1:\d+/mcp")
        assert process.until(r"old +stdio +2025-06-18 +3 tools +\d+(\.\d)? m?s")
        assert process.until(r"new +stdio +2026-07-28 +3 tools +\d+(\.\d)? m?s")
        assert process.until(r'dead +stdio .*exited with status 1.*"cannot open +\[31mthe database"')
        assert process.until(r"absent +stdio .*'no-such-program-anywhere' was not found")
        assert "\x1b" not in screen, "a backend does not paint on our screen"
        process.signal(signal.SIGINT)
        process.until(r"Stopped\.")
        assert process.end() == 0


def test_a_terminal_may_want_json_and_a_pipe_text(config: str) -> None:
    with serving("--config", config, "--log-format", "json", terminal=True) as process:
        process.until('"msg":"ready"')
        assert all(line.startswith("{") for line in process.text.splitlines())
    with serving("--config", config, "--log-format", "text") as process:
        process.until(r"Ready in ")
