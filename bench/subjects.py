"""The things that are measured, and how each is started: the backend alone, nginx, vmcp, FastMCP's proxy.

The one rule: every subject runs on the subject's core and every process started here ends with the run.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple, TypeAlias

from calls import ERAS, FRONT, KEY, Door

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PATIENCE = 180.0  # seconds for a subject to become ready: one migrates its database first

NGINX_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffers 16 64k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""

VMCP_CONFIG = """
name: bench
groups:
  bench:
    backends:
      cb: {{url: "http://127.0.0.1:{backend}/mcp"}}
incomingAuth: {{type: anonymous}}
aggregation:
  conflictResolution: priority
  conflictResolutionConfig: {{priorityOrder: [cb]}}
server: {{host: 127.0.0.1, port: {port}}}
operational: {{logLevel: warning}}
"""


VMCP_FULL = """
incomingAuth:
  type: local
  local: {{keys: [{{subject: bench, sha256: "{key}"}}]}}
  authz: {{type: cedar, policies: ['permit(principal == Client::"bench", action, resource in Backend::"cb");']}}
audit: {{logFile: {folder}/audit.jsonl}}
telemetry: {{enablePrometheusMetricsPath: true}}
"""


Command: TypeAlias = Sequence[str | Path]


class NotReadyError(Exception):
    """A subject did not come up; the text says which, and what it said."""


class Site(NamedTuple):
    """Where a run takes place: a folder for its files, the subject's core, the cores of everything else."""

    folder: Path
    subject_core: str
    other_cores: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One measured process tree, listening on a loopback port."""

    name: str
    port: int
    pid: int
    door: Door = FRONT
    eras: Sequence[str] = ERAS


class Recipe(NamedTuple):
    """How to start a subject: its command, from folder, own port and backend's port; the path that says it is ready; what
    to do then, which gives its door; the eras it speaks; whether it may use every core."""

    command: Callable[[Path, int, int], Command]
    ready: str | None = None
    door: Callable[[Path, int, int], Door] = lambda _folder, _port, _backend: FRONT
    eras: Sequence[str] = ERAS
    everywhere: bool = False


def find_program(name: str) -> str | None:
    """Looks where the system's daemons are, too: nginx is not on every user's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _direct(folder: Path, port: int, _backend: int) -> Command:
    return [folder.parent / "backend", str(port)]


def _nginx(folder: Path, port: int, backend: int) -> Command:
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, port=port, backend=backend, user=user))
    return [find_program("nginx") or "nginx", "-e", "stderr", "-p", folder, "-c", config]


def _vmcp(folder: Path, port: int, backend: int) -> Command:
    config = folder / "vmcp.yaml"
    config.write_text(VMCP_CONFIG.format(port=port, backend=backend))
    return [sys.executable, "-m", "vmcp", "serve", "--config", config]


def _vmcp_crew(folder: Path, port: int, backend: int) -> Command:
    config = folder / "vmcp.yaml"
    told = VMCP_CONFIG.format(port=port, backend=backend)
    config.write_text(told.replace(f"port: {port}}}", f"port: {port}, workers: 2}}"))
    return [sys.executable, "-m", "vmcp", "serve", "--config", config]


def _vmcp_full(folder: Path, port: int, backend: int) -> Command:
    config = folder / "vmcp-full.yaml"
    bare = VMCP_CONFIG.format(port=port, backend=backend).replace("incomingAuth: {type: anonymous}\n", "")
    config.write_text(bare + VMCP_FULL.format(folder=folder, key=sha256(KEY.encode()).hexdigest()))
    return [sys.executable, "-m", "vmcp", "serve", "--config", config]


def _fastmcp(mode: str) -> Callable[[Path, int, int], Command]:
    def command(_folder: Path, port: int, backend: int) -> Command:
        url = f"http://127.0.0.1:{backend}/mcp"
        return [BENCH_PYTHON, BENCH / "fastmcp_proxy.py", "--mode", mode, "--port", str(port), "--backend", url]

    return command


RECIPES = {
    "direct": Recipe(_direct),
    "nginx": Recipe(_nginx),
    "vmcp": Recipe(_vmcp, ready="/readyz"),
    "vmcp-2": Recipe(_vmcp_crew, ready="/readyz", everywhere=True),
    "vmcp-2-on-1": Recipe(_vmcp_crew, ready="/readyz"),
    "vmcp-full": Recipe(_vmcp_full, ready="/readyz"),
    "fastmcp": Recipe(_fastmcp("fastest")),
    "fastmcp-default": Recipe(_fastmcp("default")),
}


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, path: str | None) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
        if path is None:
            return True
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Stage:
    """Starts processes and keeps them until the `ExitStack` it was given unwinds."""

    def __init__(self, site: Site, keep: ExitStack) -> None:
        self._site = site
        self._keep = keep

    def backend(self) -> int:
        """Starts the backend that the proxies share, beside the generator; gives its port."""
        port = free_port()
        command = [self._site.folder / "backend", str(port)]
        self._start("backend", command, self._site.other_cores, port, None)
        return port

    def subject(self, name: str, backend: int, recipe: Recipe) -> Subject:
        """Starts a subject and waits until it is ready."""
        port = free_port()
        folder = self._site.folder / f"{name}-{port}"  # there may be several of one name
        folder.mkdir()
        command = recipe.command(folder, port, backend)
        cores = f"{self._site.subject_core},{self._site.other_cores}" if recipe.everywhere else self._site.subject_core
        pid = self._start(name, command, cores, port, recipe.ready)
        return Subject(name, port, pid, recipe.door(folder, port, backend), recipe.eras)

    def _start(self, name: str, command: Command, cores: str, port: int, ready: str | None) -> int:
        log = self._site.folder / f"{name}-{port}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                ["taskset", "-c", cores, *command], stdout=sink, stderr=sink, cwd=ROOT, start_new_session=True
            )
        self._keep.callback(_stop, process)
        until = time.monotonic() + PATIENCE
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() > until:
                raise NotReadyError(f"{name} did not become ready; its last words:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        return process.pid
