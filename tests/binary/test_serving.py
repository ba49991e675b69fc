"""The frozen vmcp serves: both eras, both kinds of backends, keys, reload, drain, and what is left when it is killed.

Rule: each is asked of the file and of the folder; whatever is said to be gone is gone, children and what was unpacked too.
"""

import hashlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn

from examples.servers import units
from tests.binary.conftest import FORMS, NOTES, Client, Place, alive, below, until

pytestmark = [pytest.mark.binary, pytest.mark.timeout(300)]

ONE = f"""\
name: frozen
groups:
  desk:
    backends:
      notes: {{command: [{sys.executable}, {NOTES}], required: true}}
"""
KEY = "k-of-a-test"
LOCAL = f"""\
incomingAuth:
  type: local
  local: {{keys: [{{subject: ci, sha256: {hashlib.sha256(KEY.encode()).hexdigest()}}}]}}
"""
TELLING = """\
import json, os, sys
with open(sys.argv.pop(1), "w") as file:
    json.dump(dict(os.environ), file)
with open(sys.argv.pop(1)) as file:
    exec(file.read())
"""
SLOW = """\
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {}
    if asked["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "slow", "version": "1"}}
    if asked["method"] == "tools/list":
        result = {"tools": [{"name": "wait", "inputSchema": {"type": "object"}}]}
    if asked["method"] == "tools/call":
        open(sys.argv[1], "w").close()
        while not __import__("os").path.exists(sys.argv[2]):
            time.sleep(0.01)
        result = {"content": [{"type": "text", "text": "it was worth it"}]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


@pytest.fixture
def units_url() -> Iterator[str]:
    """The example's HTTP server, in this process."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(units.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_it_serves_clients_of_both_eras_from_backends_of_both_kinds(
    place: Place, revision: str, units_url: str
) -> None:
    text = f"{ONE}      units: {{url: {units_url}, required: true}}\n"
    with place.serving(text) as served:
        client = Client(f"{served.ready()}/mcp", revision)
        if revision < "2026":
            client.greet()
        names = {each["name"] for each in client.ask("tools/list")["tools"]}
        assert {"notes_search", "units_search"} <= names
        found = client.ask("tools/call", name="notes_search", arguments={"query": "endpoint"})
        assert found["content"][0]["text"] == "welcome"
        assert client.ask("tools/call", name="units_search", arguments={"query": "metre"})["content"]
        assert served.end() == 0


def test_without_a_key_nobody_comes_in(place: Place) -> None:
    with place.serving(ONE + LOCAL) as served:
        url = f"{served.ready()}/mcp"
        stranger, friend = Client(url, "2026-07-28"), Client(url, "2026-07-28", {"Authorization": f"Bearer {KEY}"})
        assert stranger.post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, "tools/list", {}).status_code == 401
        assert friend.ask("tools/list")["tools"]


def test_a_child_gets_nothing_of_what_the_loader_was_told(place: Place) -> None:
    place.more = {"LD_LIBRARY_PATH": "/opt/of-the-operator", "SECRET_OF_OURS": "x"}
    telling, told = place.folder / "telling.py", place.folder / "told.json"
    telling.write_text(TELLING, "utf-8")
    with place.serving(ONE.replace(str(NOTES), f"{telling}, {told}, {NOTES}")) as served:
        served.ready()
    environment = json.loads(told.read_text("utf-8"))
    assert environment["PATH"] == place.environment["PATH"]
    assert not [name for name in environment if name.startswith(("_PYI", "_MEI", "LD_", "SECRET"))]
    assert "_MEI" not in str(environment)


def test_a_hangup_at_the_outer_process_reloads(place: Place) -> None:
    with place.serving(ONE, "--no-watch") as served:
        client = Client(f"{served.ready()}/mcp", "2026-07-28")
        place.config(ONE.replace("notes:", "papers:") + "aggregation: {conflictResolution: prefix}\n")
        served.process.send_signal(signal.SIGHUP)
        assert until(lambda: "papers_search" in {each["name"] for each in client.ask("tools/list")["tools"]})


def test_what_is_in_flight_is_answered_before_the_end(place: Place, tmp_path: Path) -> None:
    slow, began, go = tmp_path / "slow.py", tmp_path / "began", tmp_path / "go"
    slow.write_text(SLOW, "utf-8")
    text = ONE.replace(str(NOTES), f"{slow}, {began}, {go}")
    answers: list[object] = []
    with place.serving(text) as served:
        client = Client(f"{served.ready()}/mcp", "2026-07-28")
        call = threading.Thread(
            target=lambda: answers.append(client.ask("tools/call", name="notes_wait", arguments={}))
        )
        call.start()
        assert until(began.exists)
        for inner in below(served.process.pid)[:1] if place.program == FORMS["file"] else ():
            assert os.getpgid(inner) == inner, "what a group is sent would come twice: the outer process hands it on"
        os.killpg(served.process.pid, signal.SIGTERM)
        assert until(lambda: not _listens(client.url)), "it lets nobody in any more"
        assert not until(lambda: served.process.poll() is not None, seconds=0.7), "it waits for who is here"
        go.touch()
        call.join(20)
        assert served.process.wait(20) == 0
    assert "it was worth it" in json.dumps(answers)


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as tried:
        return tried.connect_ex((parts.hostname, parts.port)) == 0


def test_killed_it_leaves_no_process(place: Place) -> None:
    with place.serving(ONE) as served:
        url = served.ready()
        family = served.family()
        assert len(family) >= 4  # itself, nursery, nurse, child
        served.process.kill()
        assert until(lambda: not any(map(alive, family)))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/livez")


def test_with_workers_it_serves_and_killed_it_leaves_no_process(place: Place) -> None:
    with place.serving(ONE, "--workers", "2") as served:
        client = Client(f"{served.ready()}/mcp", "2026-07-28")
        keeper = json.loads(place.run("status", "-o", "json"))["pid"]
        served.said(r'"msg":"ready".*"worker":0')
        served.said(r'"msg":"ready".*"worker":1')
        first, second = _children(keeper)
        os.kill(first, signal.SIGKILL)
        assert client.ask("tools/list")["tools"]
        assert until(lambda: len(_children(keeper)) == 2 and first not in _children(keeper))
        assert second in _children(keeper)
        assert until(lambda: len(below(keeper)) >= 8)
        family = served.family()
        assert len(family) >= 9, "itself, two workers, and of each a nursery, a nurse and a child"
        served.process.kill()
        assert until(lambda: not any(map(alive, family)))
    with place.serving(ONE, "--workers", "2") as served:
        served.ready()
        assert served.end() == 0


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_a_killed_one_had_unpacked_is_removed_later_by_the_next(place: Place) -> None:
    with place.serving(ONE) as served:
        served.ready()
        served.end(signal.SIGKILL)
    for folder in place.unpacked():
        assert folder.stat().st_mode & 0o777 == 0o700
        os.utime(folder, (1, 1))
    strange = place.folder / "tmpdir" / "_MEIstrange"
    strange.mkdir()
    os.utime(strange, (1, 1))
    with place.serving(ONE) as first:
        first.ready()
        held = [folder for folder in place.unpacked() if folder != strange]
        for folder in held:
            os.utime(folder, (1, 1))
        with place.serving(ONE.replace("frozen", "another")) as second:
            second.ready()
            assert set(held) <= set(place.unpacked()), "who lives keeps what is his"
            assert second.end() == 0
        assert first.end() == 0
    assert place.unpacked() == [strange]


def test_the_inner_process_killed_the_outer_one_ends_and_cleans_up(place: Place) -> None:
    with place.serving(ONE) as served:
        served.ready()
        inner = json.loads(place.run("status", "-o", "json"))["pid"]
        family = served.family()
        os.kill(inner, signal.SIGKILL)
        assert served.process.wait(20) != 0
        assert until(lambda: not any(map(alive, family)))
    assert not place.unpacked()


def test_an_interrupt_from_a_terminal_counts_once(place: Place) -> None:
    log = place.folder / "log"
    config = place.config(ONE)
    pid, terminal = pty.fork()
    if not pid:
        words = [str(place.program), "serve", "--port", "0", "-c", str(config)]
        os.execve(place.program, words, place.environment)  # noqa: S606 - there is a terminal now
    shown: list[bytes] = []

    def reading() -> None:
        try:
            while piece := os.read(terminal, 4096):
                shown.append(piece)
                log.write_bytes(b"".join(shown))
        except OSError:
            return

    reader = threading.Thread(target=reading)
    reader.start()
    assert until(lambda: b"Ready" in b"".join(shown)), shown
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    reader.join(10)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"Stopped." in b"".join(shown)
    assert b"Traceback" not in b"".join(shown)


def test_replaced_while_it_runs_it_goes_on_as_it_was(place: Place) -> None:
    """What is loaded later, as the web pages and the exposition are, comes from the file that runs."""
    place.program = _copied(place)
    text = (
        ONE + "admin: {listen: 127.0.0.1:PORT, ui: {enabled: true}}\ntelemetry: {enablePrometheusMetricsPath: true}\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        text = text.replace("PORT", str(free.getsockname()[1]))
    with place.serving(text) as served:
        url = served.ready()
        link = place.run("ui", "--print").strip()
        beside = place.program.with_name("new")
        beside.write_bytes(b"\x7fELF" + bytes(1000))
        beside.replace(place.program)
        assert "vmcp_build_info" in httpx.get(f"{url}/metrics").text
        _look_at(link)


def _copied(place: Place) -> Path:
    target = place.folder / "program"
    if place.program.with_name("_internal").exists():
        shutil.copytree(place.program.parent, target, symlinks=True)
        return target / "vmcp"
    target.mkdir()
    return Path(shutil.copy2(place.program, target))


def _look_at(link: str) -> None:
    """The page, as a browser with a one-time link gets it."""
    assert parse_qs(urlsplit(link).query)["code"]
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(link)
        assert page.status_code == 200, page.text
        assert "notes" in browser.get(str(page.url.join("backends"))).text
        for asset in re.findall(r'(?:href|src)="([^"]+\.(?:css|js|svg))"', page.text):
            assert browser.get(str(page.url.join(asset))).status_code == 200


def test_started_in_the_background_it_is_there_and_stopped_it_is_gone(place: Place) -> None:
    place.config(ONE)
    url = place.run("start", "--port", "0").splitlines()[0]
    pid = json.loads(place.run("status", "-o", "json"))["pid"]
    assert Client(url, "2026-07-28").ask("tools/list")["tools"]
    assert place.run("call", "notes_search", "query=endpoint").strip() == "welcome"
    family = [pid, *below(pid)]
    place.run("stop")
    assert until(lambda: not any(map(alive, family)) and not place.unpacked())


def test_over_standard_streams_it_answers_and_ends_with_its_input(place: Place) -> None:
    config = place.config(ONE)
    lines = [
        {
            "id": 0,
            "method": "initialize",
            "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}},
        },
        {"method": "notifications/initialized"},
        {"id": 1, "method": "tools/call", "params": {"name": "notes_search", "arguments": {"query": "endpoint"}}},
    ]
    lines[0]["params"]["clientInfo"] = {"name": "test", "version": "1"}  # type: ignore[index]
    process = subprocess.Popen(
        [place.program, "stdio", "-c", config],
        env=place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for line in lines:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **line}) + "\n")
            process.stdin.flush()
            if "id" in line:
                answer = json.loads(process.stdout.readline())
                assert answer["id"] == line["id"]
        process.stdin.close()
        assert process.wait(20) == 0
    assert answer["result"]["content"][0]["text"] == "welcome"
