"""A gateway with web pages, as a process, and who calls its tools.

Rule: everything is in one folder of the test, and every port is a free one.
"""

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.cli.processes import Process, serving

BACKEND = Path(__file__).with_name("backend.py")
SECRETS = {
    "environment": "hush-env-5b21",
    "header": "hush-header-9c40",
    "child": "hush-child-77aa",
    "argument": "hush-argument-13f9",
}
"""Planted; in no answer to a browser may be any of them."""


@dataclass
class Gateway:
    """One that runs. ``sessions`` are the ids of those of clients, which are secrets too."""

    process: Process
    folder: Path
    port: int
    admin: str
    sessions: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str) -> Any:
        """An answer of the admin socket."""
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(10)
            made.connect(str(self.folder / "a.sock"))
            made.sendall(f"{method} /admin/v1/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            text = b""
            while piece := made.recv(1 << 16):
                text += piece
        return json.loads(text.partition(b"\r\n\r\n")[2])

    def link(self) -> str:
        found: str = self.ask("POST", "login")["url"]
        return found

    def client(self, name: str, path: str) -> "Client":
        made = Client(self.port, path, name)
        self.sessions.append(made.session)
        return made


class Client:
    """A client of the handshake era."""

    def __init__(self, port: int, path: str, name: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=10)
        self._path = path
        self._headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        info = {"name": name, "version": "2.1"}
        self.session = ""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        self.session = self._post({"id": 1, "method": "initialize", "params": params}) or ""
        self._headers |= {"Mcp-Session-Id": self.session, "Mcp-Protocol-Version": "2025-11-25"}
        self._post({"method": "notifications/initialized"})

    def _post(self, message: dict[str, Any]) -> str | None:
        text = json.dumps({"jsonrpc": "2.0", **message})
        self._connection.request("POST", self._path, text, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.getheader("mcp-session-id")

    def close(self) -> None:
        self._connection.close()

    def call(self, tool: str, path: str = "/") -> None:
        arguments = {"path": path, "note": SECRETS["argument"]}
        self._post({"id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})


def stdio(kind: str, *more: object) -> dict[str, Any]:
    return {"command": [sys.executable, str(BACKEND), kind, *map(str, more)]}


def small(folder: Path) -> dict[str, Any]:
    """A backend that is well, a slow one, one that fails, one that is hostile."""
    office = {
        "files": {**stdio("files", folder / "once"), "env": {"TOKEN": SECRETS["child"]}},
        "reports": stdio("reports"),
        "hostile": stdio("hostile"),
        "broken": {"command": [sys.executable, "-c", "import sys; sys.exit('FATAL: no such database')"]},
    }
    places = [{"url": f"http://127.0.0.1:{port}/mcp?key=${{PLANTED}}"} for port in (9, 11)]
    remote = {
        "endpoints": places,
        "headers": {"X-Key": SECRETS["header"]},
        "tags": ["far"],
        "metadata": {"team": "blue"},
    }
    return {"office": {"backends": office}, "home": {"backends": {"weather": stdio("weather"), "remote": remote}}}


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """While the block runs, the environment has a secret."""
    before = os.environ.get("PLANTED", "")
    os.environ["PLANTED"] = SECRETS["environment"]
    try:
        yield
    finally:
        os.environ["PLANTED"] = before


@contextlib.contextmanager
def gateway(
    folder: Path, groups: dict[str, Any], name: str = "test", aggregation: dict[str, Any] | None = None
) -> Iterator[Gateway]:
    """One with all that pages may do."""
    admin = {"socket": "a.sock", "listen": "127.0.0.1:0", "ui": {"enabled": True, "tryIt": True, "operate": True}}
    audit = {"enabled": True, "logFile": str(folder / "audit.log")}
    file = folder / "vmcp.yaml"
    operational = {"failureHandling": {"circuitBreaker": {"enabled": True, "failureThreshold": 1, "timeout": "60s"}}}
    whole = {
        "operational": operational,
        "name": name,
        "groups": groups,
        "aggregation": aggregation or {},
        "admin": admin,
        "audit": audit,
    }
    file.write_text(json.dumps(whole, indent=1))
    with planted(), serving("-c", str(file), "--log-format", "json", "--no-watch") as process:
        port = process.port()
        admin_url = process.until(r'"msg":"admin".*?"url":"([^"]+)"')[1]
        yield Gateway(process, folder, port, admin_url)


@contextlib.contextmanager
def traffic(here: Gateway, *who: tuple[str, str, tuple[str, ...], float]) -> Iterator[None]:
    """While the block runs, clients (name, endpoint, tools, seconds between calls) are at work."""
    over = threading.Event()

    def work(name: str, path: str, tools: tuple[str, ...], pause: float) -> None:
        client = here.client(name, path)
        with contextlib.closing(client):
            for number in range(100_000):
                client.call(tools[number % len(tools)], "/nowhere" if number % 17 == 16 else "/")
                if over.wait(pause):
                    return

    threads = [threading.Thread(target=work, args=each) for each in who]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(10)
