"""What is shipped, built once for all tests here: of these very sources, whoever comes first.

Rule: these tests run what lies in ``dist/``, from a folder and with an environment that know nothing of this tree.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.binary import contents

PATIENCE = 20.0
NOTES = contents.ROOT / "examples" / "servers" / "notes.py"
FORMS = {"file": contents.OUT / "vmcp", "folder": contents.OUT / "vmcp-onedir" / "vmcp"}


@pytest.fixture(scope="session", autouse=True)
def shipped() -> Path:
    """The folder with everything; made if it is not there or not of these sources. ``VMCP_AS_IS=1`` takes what is there."""
    if os.environ.get("VMCP_AS_IS"):
        return contents.OUT
    contents.WORK.parent.mkdir(exist_ok=True)
    with (contents.WORK.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run([sys.executable, "-m", "deploy.binary", "needed"], cwd=contents.ROOT, check=False)
    assert made.returncode == 0, "what is shipped could not be built"
    return contents.OUT


@dataclass
class Place:
    """A folder of a test's own, an environment of four variables, and a program there."""

    folder: Path
    program: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {name: str(self.folder / name.lower()) for name in ("HOME", "TMPDIR", "VMCP_RUN_DIR")}
        return {"PATH": os.environ["PATH"], **own, **self.more}

    def run(self, *words: str, code: int = 0) -> str:
        """Run it to its end, which has to be ``code``; what it said."""
        done = subprocess.run(
            [self.program, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stdout + done.stderr

    def config(self, text: str) -> Path:
        path = self.folder / "vmcp.yaml"
        path.write_text(text, "utf-8")
        return path

    def unpacked(self) -> list[Path]:
        """The folders that it has unpacked itself to."""
        return list((self.folder / "tmpdir").glob("_MEI*"))

    @contextlib.contextmanager
    def serving(self, text: str, *words: str) -> Iterator["Served"]:
        """``vmcp serve`` on a free port, with this configuration."""
        log = self.folder / "log"
        command = [self.program, "serve", "--port", "0", "--log-format", "json", "--config", self.config(text), *words]
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, cwd="/", env=self.environment, stderr=stderr, start_new_session=True)
        try:
            yield Served(process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            assert until(lambda: not any(map(alive, below_session(process.pid)))), "a process is left"


@dataclass
class Served:
    """A running one, from outside."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self, pattern: str) -> "re.Match[str]":
        """Wait until that is in the log."""
        until(lambda: re.search(pattern, self.log.read_text("utf-8")) is not None or self.process.poll() is not None)
        found = re.search(pattern, self.log.read_text("utf-8"))
        assert found is not None, f"no {pattern!r} in:\n{self.log.read_text('utf-8')}"
        return found

    @property
    def url(self) -> str:
        return self.said(r'"msg":"listening","url":"([^"]+)"')[1]

    def ready(self) -> str:
        url = self.url
        self.said(r'"msg":"ready"')
        return url

    def family(self) -> list[int]:
        """All processes that belong to it; each of its children has a session of its own."""
        return [self.process.pid, *below(self.process.pid)]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code, after a signal."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def until(holds: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Look until it holds; whether it does."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)  # other processes: there is nothing to wait on but the clock
    return True


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


def below(pid: int) -> list[int]:
    """All that descend from a process."""
    with contextlib.suppress(OSError):
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        return [each for child in children for each in (child, *below(child))]
    return []


def below_session(session: int) -> list[int]:
    """All processes of a session."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if (place / "stat").read_text("utf-8").rpartition(")")[2].split()[3] == str(session):
                found.append(int(place.name))
    return found


@dataclass
class Client:
    """Speaks MCP in a revision, over HTTP."""

    url: str
    revision: str
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a request, of either era."""
        answer = self.post(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": self._params(params)}, method, params
        )
        assert answer.status_code == 200, answer.text
        text = answer.text
        if "event-stream" in answer.headers["content-type"]:
            text = next(line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {"))
        return json.loads(text)["result"]

    def greet(self) -> None:
        """What comes first in the handshake era."""
        hello = {"protocolVersion": self.revision, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        answer = self.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}, "initialize", {})
        assert answer.status_code == 200, answer.text
        self.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, "", {})

    def _params(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.revision < "2026":
            return params
        meta = {
            "protocolVersion": self.revision,
            "clientInfo": {"name": "test", "version": "1"},
            "clientCapabilities": {},
        }
        return {**params, "_meta": {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()}}

    def post(self, message: Any, method: str, params: Mapping[str, Any]) -> httpx.Response:
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": self.revision,
            **self.headers,
        }
        if self.revision >= "2026":
            headers |= {"Mcp-Method": method} | ({"Mcp-Name": params["name"]} if "name" in params else {})
        return httpx.post(self.url, json=message, headers=headers, timeout=PATIENCE)


@pytest.fixture(params=FORMS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """For each form that is frozen."""
    return made(tmp_path, FORMS[request.param])


def made(folder: Path, program: Path) -> Place:
    """A place with its folders."""
    found = Place(folder, program)
    for name in ("HOME", "TMPDIR", "VMCP_RUN_DIR"):
        Path(found.environment[name]).mkdir(0o700)
    return found
