"""Several workers of one ``vmcp serve``, as real processes: who dies is replaced, and what one is told all are told.

Rule: a worker is known by its lines in the log, and a process is gone when the system says so.
"""

import contextlib
import errno
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.cli.processes import PATIENCE, Process, environment, gone, run, serving
from tests.cli.systemd import ear, service
from tests.cli.test_serve import ask
from vmcp.config.load import load
from vmcp.server.reloading import Source
from vmcp.server.seats import Seat
from vmcp.server.supervisor import Supervisor, _needed
from vmcp.server.tether import Told

GATED = Path(__file__).with_name("gated.py")
CONFIG = f"""\
name: house
server: {{workers: 2}}
groups:
  g:
    backends:
      b: {{command: [{json.dumps(sys.executable)}, -S, {json.dumps(str(GATED))}]}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir(0o700)
    monkeypatch.setenv("VMCP_RUN_DIR", str(tmp_path / "run"))
    path = tmp_path / "vmcp.yaml"
    path.write_text(CONFIG)
    return path


def waited(holds: Callable[[], object]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def below(pid: int) -> list[int]:
    """The children of a process, by the system's word."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family(pid: int) -> list[int]:
    """All that descends from a process."""
    return [each for child in below(pid) for each in (child, *family(child))]


def ready(process: Process, workers: int = 2) -> list[int]:
    """Once all are ready: the processes of the workers, in their order."""
    for index in range(workers):
        process.until(rf'"msg":"ready".*"worker":{index}\b')
    return sorted(below(process.process.pid))


def call(port: int, path: Path | str = "") -> str:
    """A call on a connection of its own."""
    return json.dumps(ask(port, "tools/call", {"name": "b_wait", "arguments": {"path": str(path)}}))


@contextlib.contextmanager
def calling(port: int, gates: list[Path]) -> Iterator[list[str]]:
    """Calls that are in the hands of backends, one for each gate; opened at the end. What became of them."""
    ended: list[str] = []

    def one(gate: Path) -> None:
        try:
            ended.append(call(port, gate))
        except (OSError, http.client.HTTPException) as error:
            ended.append(type(error).__name__)

    threads = [threading.Thread(target=one, args=(gate,)) for gate in gates]
    for thread in threads:
        thread.start()
    waited(lambda: all(gate.with_name(f"{gate.name}.began").exists() for gate in gates))
    try:
        yield ended
    finally:
        for gate in gates:
            gate.touch()
        for thread in threads:
            thread.join(PATIENCE)


def lines(process: Process, message: str) -> list[int]:
    """The workers that have said so."""
    return [line["worker"] for line in process.lines() if line["msg"] == message and "worker" in line]


def test_all_serve_at_one_place_and_end_with_nothing_left(config: Path, tmp_path: Path) -> None:
    with serving("--config", str(config), "--workers", "3") as process:
        assert len(ready(process, 3)) == 3
        there = family(process.process.pid)
        assert len(there) >= 9, "a worker has a nursery, which has children"
        with calling(process.port(), [tmp_path / f"gate{number}" for number in range(6)]) as ended:
            assert ended == []
        assert len(ended) == 6
        assert all("done" in each for each in ended)
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert gone(there)
        assert sorted(lines(process, "stopped")) == [0, 1, 2]
        assert len(set(re.findall(r"http://127\.0\.0\.1:(\d+)", process.text))) == 1


def test_a_worker_that_is_killed_is_replaced_and_only_its_own_calls_are_lost(config: Path, tmp_path: Path) -> None:
    with serving("--config", str(config)) as process:
        workers = ready(process)
        port, gates = process.port(), [tmp_path / f"gate{number}" for number in range(8)]
        with calling(port, gates) as ended:
            os.kill(workers[1], signal.SIGKILL)
            process.until('"msg":"a worker has died","worker":1,"code":137')
            for _ in range(20):
                assert "done" in call(port), "the other one serves"
            waited(lambda: set(below(process.process.pid)) - set(workers))
            process.until(r'("msg":"listening".*"worker":1[^0-9](.|\n)*){2}')
            lost = list(ended)
        assert 0 < len(lost) < len(gates), "each had some of them"
        assert not any("done" in each for each in lost)
        assert sum("done" in each for each in ended) == len(gates) - len(lost)
        assert len(below(process.process.pid)) == 2
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_workers_whose_supervisor_is_killed_finish_what_they_have_in_hand_and_end(config: Path, tmp_path: Path) -> None:
    with serving("--config", str(config)) as process:
        ready(process)
        there, port = family(process.process.pid), process.port()
        with calling(port, [tmp_path / "a", tmp_path / "b"]) as ended:
            process.signal(signal.SIGKILL)
            process.until("(the supervisor is dead(.|\n)*){2}")
            waited(lambda: refused(port))
            assert ended == []
        assert [("done" in each) for each in ended] == [True, True]
        assert gone(there)


def refused(port: int) -> bool:
    """Whether the place is free for the next one."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was closed while we came
        return False
    return False


@contextlib.contextmanager
def idle(port: int) -> Iterator[Callable[[], None]]:
    """Connections to all workers on which nothing goes on. It waits until they are closed: then all have begun to end."""
    with contextlib.ExitStack() as stack:
        there = [
            stack.enter_context(contextlib.closing(http.client.HTTPConnection("127.0.0.1", port))) for _ in range(8)
        ]
        for each in there:
            each.request("GET", "/livez")
            each.getresponse().read()

        def closed() -> None:
            for each in there:
                assert each.sock is not None
                each.sock.settimeout(PATIENCE)
                assert each.sock.recv(1) == b""

        yield closed


def test_a_signal_to_all_processes_is_one_signal(config: Path, tmp_path: Path) -> None:
    with serving("--config", str(config)) as process:
        ready(process)
        with idle(process.port()) as closed, calling(process.port(), [tmp_path / "a", tmp_path / "b"]) as ended:
            os.killpg(process.process.pid, signal.SIGTERM)
            closed()
            os.killpg(process.process.pid, signal.SIGHUP)
            waited(lambda: refused(process.port()))
            assert ended == []
        assert [("done" in each) for each in ended] == [True, True]
        assert process.end() == 0


def test_a_second_one_ends_all_at_once(config: Path, tmp_path: Path) -> None:
    with serving("--config", str(config)) as process:
        ready(process)
        with idle(process.port()) as closed, calling(process.port(), [tmp_path / "a", tmp_path / "b"]) as ended:
            os.killpg(process.process.pid, signal.SIGINT)  # a Ctrl-C
            closed()
            os.killpg(process.process.pid, signal.SIGINT)
            assert process.end() == 0, "the gates are closed still"
        assert not any("done" in each for each in ended)


def test_what_people_see_is_drawn_once(config: Path) -> None:
    with serving("--config", str(config), terminal=True) as process:
        process.until("Ready in")
        process.signal(signal.SIGINT)
        assert process.end() == 0
        assert "2 workers" in process.text
        for words in ("Listen ", "Ready in", "  ✓ b ", "Stopped."):
            assert process.text.count(words) == 1, process.text


def test_what_is_wrong_at_the_start_is_said_once_with_the_code_of_one_process(config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG + f"admin: {{socket: {tmp_path}/none/there.sock}}\n")
    one = run("serve", "--port", "0", "--config", str(config), "--workers", "1")
    two = run("serve", "--port", "0", "--config", str(config))
    assert one.returncode == two.returncode != 0
    complaint = next(line for line in one.stderr.splitlines() if line.startswith("vmcp: "))
    assert two.stderr.count(complaint) == 1
    assert "Traceback" not in two.stderr


def test_all_reload_and_one_that_is_replaced_gets_what_counts(config: Path, tmp_path: Path) -> None:
    with serving("--config", str(config), "--no-watch") as process:
        workers = ready(process)
        config.write_text(CONFIG + "operational: {logLevel: debug}\n")
        process.signal(signal.SIGHUP)
        process.until('("msg":"configuration reloaded"(.|\n)*){2}')
        assert sorted(lines(process, "configuration reloaded")) == [0, 1]
        config.write_text("name: [\n")
        process.signal(signal.SIGHUP)
        process.until('("msg":"configuration rejected(.|\n)*){2}')
        os.kill(workers[0], signal.SIGKILL)
        process.until(r'("msg":"ready".*"worker":0[^0-9](.|\n)*){2}')
        with calling(process.port(), [tmp_path / f"gate{number}" for number in range(8)]):
            pass
        process.until(r'"msg":"call served".*"worker":0\b')  # at the level that the configuration says
        config.write_text(CONFIG)
        os.kill(max(below(process.process.pid)), signal.SIGHUP)  # a worker hears what the supervisor says alone
        process.signal(signal.SIGHUP)
        process.until('("msg":"configuration reloaded"(.|\n)*){4}')
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert "workers have different configurations" not in process.text


def test_a_change_of_a_file_is_seen_by_one_and_told_to_all(config: Path) -> None:
    with serving("--config", str(config)) as process:
        ready(process)
        config.write_text(CONFIG.replace("backends:", "backends:\n      c: {url: http://127.0.0.1:1/mcp}"))
        process.until('("msg":"configuration reloaded"(.|\n)*){2}')
        told = [line for line in process.lines() if line["msg"] == "configuration reloaded"]
        assert {(line["cause"], tuple(line["began"])) for line in told} == {("file", ("c",))}
        os.kill(min(below(process.process.pid)), signal.SIGKILL)  # who looks at the files
        config.write_text(CONFIG)
        process.until('("msg":"configuration reloaded"(.|\n)*){4}')
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_systemd_is_told_of_the_whole_and_once(config: Path, tmp_path: Path) -> None:
    with ear(tmp_path) as told, socket.create_server(("127.0.0.1", 0)) as given:
        wanted = {"NOTIFY_SOCKET": str(told.path), "WATCHDOG_USEC": "600000"}
        with service("-c", str(config), environ=wanted, given=given) as process:
            told.until("STATUS=ready: 1 of 1 backends up; 2 of 2 workers")
            workers = ready(process)
            assert "done" in call(given.getsockname()[1])
            for pid in {*family(process.process.pid)} - {
                *workers
            }:  # theirs is what the system keeps of the first process
                assert not re.search(rb"NOTIFY_SOCKET|LISTEN_|WATCHDOG_", Path(f"/proc/{pid}/environ").read_bytes())
            process.signal(signal.SIGHUP)
            at = len(told.heard)
            told.until("RELOADING=1", at)
            told.until("READY=1", at)
            told.until("WATCHDOG=1", at)
            os.kill(workers[1], signal.SIGSTOP)
            told.quiet(0.7)
            os.kill(workers[1], signal.SIGCONT)
            told.until("WATCHDOG=1", len(told.heard))
            process.signal(signal.SIGTERM)
            told.until("STOPPING=1")
            assert process.end() == 0
    heard = "\n".join(told.heard).splitlines()
    assert [word for word in heard if word in ("READY=1", "RELOADING=1", "STOPPING=1")] == [
        "READY=1",
        "RELOADING=1",
        "READY=1",
        "STOPPING=1",
    ]


@contextlib.contextmanager
def impatient(*arguments: str) -> Iterator[Process]:
    """``vmcp serve`` that does not wait as long as others do."""
    haste = "import vmcp.server.supervisor as it; it.MARGIN = 0.5; it.DELAYS = 0.01, 1.0; it.TRIES = 3; it.HANGS = 2.0"
    command = [sys.executable, "-c", f"{haste}; from vmcp.cli import main; main()", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment(), start_new_session=True) as started:
        assert started.stderr is not None
        try:
            yield Process(started, started.stderr.fileno())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)


def test_a_worker_that_hangs_is_replaced_and_so_is_one_that_somebody_ends(config: Path) -> None:
    with impatient("--config", str(config)) as process:
        workers = ready(process)
        held = len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))
        os.kill(workers[1], signal.SIGSTOP)
        process.until('"msg":"a worker hangs and is killed","worker":1}')
        os.kill(workers[0], signal.SIGTERM)
        process.until('"msg":"a worker has died","worker":0,"code":0')
        for index in range(2):
            process.until(rf'("msg":"ready".*"worker":{index}\b(.|\n)*){{2}}')
        assert len(list(Path(f"/proc/{process.process.pid}/fd").iterdir())) == held
        assert len(list(Path(f"/proc/{process.process.pid}/task").iterdir())) == 1, "who forks has no threads"
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_worker_that_does_not_end_is_killed_in_the_end(config: Path) -> None:
    config.write_text(CONFIG.replace("workers: 2", "workers: 2, limits: {shutdownGrace: 1s}"))
    with impatient("--config", str(config)) as process:
        workers = ready(process)
        os.kill(workers[0], signal.SIGSTOP)
        process.signal(signal.SIGTERM)
        process.until('"msg":"a worker does not end and is killed","worker":0')
        assert process.end() == 137
        assert gone(workers)


def test_workers_that_die_before_they_serve_are_given_up_in_the_end(config: Path) -> None:
    with impatient("--config", str(config)) as process:
        ready(process)
        while process.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                for pid in below(process.process.pid):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        assert process.end() == 137
        assert "no worker can be started" in process.text
        told = [line for line in process.lines() if line["msg"] == "a worker has died" and line["worker"] == 0]
        assert [line["again_in"] for line in told] == [min(1.0, 0.01 * 2**times) for times in range(len(told))]


def test_commands_know_the_whole_by_its_supervisor(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    started = run("start", "--port", "0", "--workers", "3", "--config", str(config))
    assert started.returncode == 0, started.stderr
    status = json.loads(run("status", "-o", "json").stdout)
    pid = status["pid"]
    workers = below(pid)
    assert [(each["pid"], each["status"]) for each in status["workers"]] == [
        (each, "ready") for each in sorted(workers)
    ]
    assert os.getsid(workers[0]) == pid
    assert run("stop").stdout == f"stopped house (pid {pid})\n"
    assert gone([pid, *workers])


def test_what_all_workers_would_load_is_loaded_before_there_are_any() -> None:
    more = """\
incomingAuth: {type: oidc, oidc: {issuer: "https://idp.example.com", audience: vmcp}}
telemetry: {endpoint: "localhost:4318", tracingEnabled: true, enablePrometheusMetricsPath: true}
cache: {enabled: true, disk: {path: /var/cache/vmcp}}
"""
    assert _needed(load([("vmcp.yaml", CONFIG)], {})[0]) == []
    needed = _needed(load([("vmcp.yaml", CONFIG + more)], {})[0])
    assert needed == ["vmcp.middleware.oidc", "vmcp.server.otel", "vmcp.server.exposition", "vmcp.state.disk"]
    assert all(map(importlib.util.find_spec, needed))


@contextlib.contextmanager
def keeping(now: list[float], workers: int) -> Iterator[tuple[Supervisor, contextlib.ExitStack]]:
    """A supervisor that has forked nobody, at the time ``now``."""
    file = [("vmcp.yaml", CONFIG.replace("workers: 2", f"workers: {workers}"))]
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        made = Supervisor(load(file, {})[0], listening, Source(["vmcp.yaml"], lambda: file), clock=lambda: now[0])
        for each in (*made._ends, *(end for box in made._common.inboxes for end in box)):
            stack.enter_context(each)
        yield made, stack


def test_a_worker_that_serves_another_configuration_is_told_to_read_it_again_ever_less_often() -> None:
    now = [100.0]
    with keeping(now, 3) as (keeper, stack):
        ends = [
            _end(keeper, seat, stack, digest) for seat, digest in enumerate((keeper._digest, "old", keeper._digest))
        ]
        for told in ("", "others", "", "others"):
            keeper._look()
            assert [_cause(end) for end in ends] == ["", told, ""]
            if told:
                keeper._on_told(keeper._seats[1], *_reloads(keeper._seats[1], "rejected"))
            now[0] += 1.0
        now[0] += 0.5
        keeper._look()
        assert _cause(ends[1]) == "", "it was tried twice, and now it takes longer"
        keeper._stop()
        assert keeper._align is None


def test_who_stood_still_with_all_others_does_not_take_them_for_dead() -> None:
    now = [100.0]
    waiting = [sys.executable, "-c", "input()"]
    with keeping(now, 2) as (keeper, stack), subprocess.Popen(waiting, stdin=subprocess.PIPE) as worker:
        _end(keeper, 0, stack, keeper._digest)
        keeper._seats[0].pid = worker.pid
        now[0] += 1000.0
        keeper._look()
        for _ in range(12):
            now[0] += 5.0
            keeper._look()
        assert worker.poll() is None
        now[0] += 5.0
        keeper._look()
        assert worker.wait(PATIENCE) == -signal.SIGKILL


def test_when_no_process_or_line_can_be_had_it_is_tried_again_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    now = [100.0]
    with keeping(now, 2) as (keeper, _):
        seat = keeper._seats[1]
        seat.ever, seat.due = True, 100.0
        open_before = len(list(Path("/proc/self/fd").iterdir()))
        for what, after in ((os, 0.1), (socket, 0.2), (os, 0.4)):
            with monkeypatch.context() as patched:
                patched.setattr(what, "fork" if what is os else "socketpair", short)
                assert keeper._fork_due() is None
            assert (seat.pid, seat.line, seat.due) == (0, None, pytest.approx(now[0] + after))
            now[0] = seat.due
        assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def _end(keeper: Supervisor, index: int, stack: contextlib.ExitStack, digest: str) -> socket.socket:
    """The other end of the line to a worker that serves, with this configuration."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    seat = keeper._seats[index]
    seat.take(os.getpid(), ours, 100.0)
    for each in (ours, theirs):
        stack.enter_context(each)
        each.setblocking(False)
    before, seat.told = seat.told, Told(listening=True, digest=digest)
    keeper._on_told(seat, before, seat.told)
    return theirs


def _cause(end: socket.socket) -> str:
    try:
        return str(json.loads(end.recv(4096)).get("cause", ""))
    except BlockingIOError:
        return ""


def _reloads(seat: Seat, result: str) -> tuple[Told, Told]:
    """What was told before and after a reload that was ordered."""
    before = seat.told
    seat.told = msgspec.structs.replace(
        before, result=result, reloads=before.reloads + 1, obeyed=seat.ordered, reloading=False
    )
    return before, seat.told
