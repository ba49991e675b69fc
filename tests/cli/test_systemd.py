"""``vmcp serve`` under systemd: what it reports, and how it takes over a socket that was opened for it.

Rule: a real process and real sockets, in the places of systemd's.
"""

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import alive
from tests.cli.systemd import Ear, ear, service
from tests.cli.test_serve import CONFIG, ask, children, written
from vmcp.server.serving import BACKLOG


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Ear]:
    with ear(tmp_path) as found:
        yield found


@pytest.fixture
def given() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as found:
        yield found


def environ_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def sockets_of(pid: int) -> set[str]:
    return {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}


def test_it_reports_its_start_its_state_its_reloads_and_its_end(tmp_path: Path, told: Ear) -> None:
    config = Path(written(tmp_path, CONFIG))
    with service("-c", str(config), "--port", "0", environ={"NOTIFY_SOCKET": str(told.path)}) as process:
        told.until("EXTEND_TIMEOUT_USEC=")
        told.until("READY=1")
        told.until("STATUS=ready: 2 of 2 backends up")
        process.until('"msg":"ready"')
        now, at = time.monotonic_ns() // 1000, len(told.heard)
        process.signal(signal.SIGHUP)
        found = re.search(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", told.until("RELOADING=1", at))
        assert found is not None
        assert int(found[1]) >= now
        told.until("READY=1", at)
        at = len(told.heard)
        config.write_text("name: [\n")
        told.until("RELOADING=1", at)
        told.until("READY=1", at)
        told.until("STATUS=ready: 2 of 2 backends up; the last reload was rejected", at)
        at = len(told.heard)
        process.signal(signal.SIGTERM)
        assert "EXTEND_TIMEOUT_USEC=" in told.until("STOPPING=1\n", at)
        assert process.end() == 0
    assert "WATCHDOG=1" not in "\n".join(told.heard), "nobody asked for it"


def test_a_watchdog_hears_that_the_loop_turns(tmp_path: Path, told: Ear) -> None:
    config = written(tmp_path, CONFIG)
    wanted = {"NOTIFY_SOCKET": str(told.path), "WATCHDOG_USEC": "300000"}
    with service("-c", config, "--port", "0", environ=wanted) as process:
        told.until("READY=1")
        at = len(told.heard)
        for _ in range(3):
            told.until("WATCHDOG=1", at)
            at = len(told.heard)
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_client_that_came_before_the_start_is_served_and_children_learn_nothing(
    tmp_path: Path, told: Ear, given: socket.socket
) -> None:
    """The port that the file says is not the one, and is not opened."""
    config = written(tmp_path, CONFIG)
    port = given.getsockname()[1]
    early = socket.create_connection(("127.0.0.1", port), 15)
    early.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    inode = str(Path(f"/proc/self/fd/{given.fileno()}").readlink())
    with service("-c", config, environ={"NOTIFY_SOCKET": str(told.path)}, given=given) as process, early:
        assert early.recv(12) == b"HTTP/1.1 200"
        told.until("STATUS=ready: 2 of 2")
        assert process.port() == port
        assert ask(port, "tools/list")["result"]["tools"]
        pids = children(process)
        assert pids
        assert all(map(alive, pids))
        for pid in pids:
            assert inode not in sockets_of(pid)
            assert not re.search(rb"NOTIFY_SOCKET|LISTEN_|WATCHDOG_", environ_of(pid))
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    again = socket.create_connection(("127.0.0.1", port), 15)
    again.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    with service("-c", config, environ={}, given=given) as process, again:
        assert again.recv(12) == b"HTTP/1.1 200", "who came between the two waited, and was served"
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_socket_for_the_network_passes_the_checks_of_an_address(tmp_path: Path) -> None:
    config = written(tmp_path, CONFIG)
    with socket.create_server(("0.0.0.0", 0)) as given, service("-c", config, environ={}, given=given) as process:
        assert process.end() == 78
    assert "socket of systemd:1:" in process.text
    assert "anyone on the network could come in" in process.text


def test_what_is_no_listening_tcp_socket_is_refused(tmp_path: Path) -> None:
    config = written(tmp_path, CONFIG)
    with socket.socket(socket.AF_UNIX) as given, service("-c", config, environ={}, given=given, names="x") as process:
        assert process.end() == 78
    assert process.text == "vmcp: x is no listening TCP socket; use ListenStream= with a port\n"


def test_an_address_of_the_command_line_contradicts_it(tmp_path: Path, given: socket.socket) -> None:
    with service("-c", written(tmp_path, CONFIG), "--port", "0", environ={}, given=given) as process:
        assert process.end() == 2
    assert "--host and --port have no meaning" in process.text


def test_a_credential_of_systemd_is_a_file_like_any_other(tmp_path: Path, told: Ear) -> None:
    """One line serves systemd, Compose and Kubernetes: only the folder differs."""
    (tmp_path / "key").write_text("secret-of-systemd\n")
    text = CONFIG.replace("]}}\n", '], env: {{KEY: {{file: "${{CREDENTIALS_DIRECTORY:-/run/secrets}}/key"}}}}}}\n', 1)
    config = written(tmp_path, text)
    wanted = {"NOTIFY_SOCKET": str(told.path), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with service("-c", config, "--port", "0", environ=wanted) as process:
        told.until("STATUS=ready: 2 of 2")
        assert b"KEY=secret-of-systemd\0" in environ_of(children(process)[0])
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert "secret-of-systemd" not in process.text
