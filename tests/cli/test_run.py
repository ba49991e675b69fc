"""``vmcp run -- COMMAND``. Rule: the command's end is the gateway's, however it comes about."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.cli.instances import TEXT, site
from tests.cli.processes import gone, serving

PYTHON = sys.executable
ASK = "import os, subprocess, sys; sys.exit(subprocess.run([sys.executable, '-m', 'vmcp', {}]).returncode)"
CALL = ASK.format("'call', 'box_add', 'a=2', 'b=3', '--url', os.environ['VMCP_URL']")
PID = "import os; print(os.environ['VMCP_URL'], flush=True); " + ASK.format("'status', '-o', 'json'")


def test_the_command_finds_the_gateway_and_takes_it_along(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        assert here.process("run", "--", PYTHON, "-c", CALL).stdout == "5\n"
        told = here.process(
            "run", "--endpoint", "/g/mcp", "--", PYTHON, "-c", "import os; print(os.environ['VMCP_URL'])"
        )
        assert told.stdout.endswith("/g/mcp\n")
        log = tmp_path / "kept.log"
        shown = here.process("run", "--log-file", str(log), "--", PYTHON, "-c", PID).stdout
        assert '"ready": true' in shown
        pid = next(int(line.split()[-1].rstrip(",")) for line in shown.splitlines() if '"pid"' in line)
        assert gone([pid])
        assert '"msg":"ready"' in log.read_text()
        assert log.stat().st_mode & 0o777 == 0o600
        assert not list((tmp_path / "run").glob("*.sock"))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ([PYTHON, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], 137),
        (["/no/such/program"], 127),
    ],
)
def test_the_exit_code_is_that_of_the_command(tmp_path: Path, command: list[str], code: int) -> None:
    with site(tmp_path) as here:
        here.process("run", "--", *command, code=code)


def test_what_cannot_be_served_is_said_and_the_command_not_begun(tmp_path: Path) -> None:
    made = [PYTHON, "-c", "open('begun', 'w')"]
    with site(tmp_path, "name: x\n") as here:
        assert "groups" in here.process("run", "--", *made, code=78).stderr
        here.file.write_text(TEXT)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert f"port {port} is taken" in here.process("run", "--port", port, "--", *made, code=69).stderr
        here.file.write_text(TEXT.replace("isolation: session", "isolation: session, required: true"))
        here.file.write_text(here.file.read_text().replace("toolbox.py", "nothing.py"))
        said = here.process("run", "--wait", "2", "--", *made, code=75).stderr
        assert "it waits for box" in said or "it said nothing" in said, "on a slow machine"
        here.file.write_text(TEXT)
        assert "name one of the endpoints" in here.process("run", "--endpoint", "/x", "--", *made, code=2).stderr
        here.run("run", code=2)
    assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_ends_it_leaves_no_gateway(tmp_path: Path, number: int) -> None:
    wait = "import os, time; print('up', os.getpid(), file=__import__('sys').stderr, flush=True); time.sleep(60)"
    with site(tmp_path) as here, serving("--config", str(here.file), "--", PYTHON, "-c", wait, verb="run") as process:
        child = int(process.until(r"up (\d+)").group(1))
        gateway = int(here.json("status")["pid"])
        process.signal(number)
        assert process.end() == (-number if number == signal.SIGKILL else 128 + number)
        assert gone([gateway])
        if number == signal.SIGKILL:
            os.kill(child, signal.SIGKILL)
        assert gone([child])


def test_a_terminals_interrupt_is_the_commands_own(tmp_path: Path) -> None:
    lines = (
        "import time",
        "try:",
        " print('up', flush=True)",
        " time.sleep(60)",
        "except KeyboardInterrupt:",
        " exit(9)",
    )
    wait = "\n".join(lines).replace("flush", "file=__import__('sys').stderr, flush")
    with site(tmp_path) as here, serving("--config", str(here.file), "--", PYTHON, "-c", wait, verb="run") as process:
        process.until("up")
        os.killpg(process.process.pid, signal.SIGINT)
        assert process.end() == 9
