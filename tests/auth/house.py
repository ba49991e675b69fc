"""``vmcp serve`` as a process with everything at DEBUG, and clients that show a token at its door.

The rule: what a client gets is looked at as it came: status, challenge, body; the process must end clean.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.real.processes import descendants, free_port, parents, ready, running, wait_for

Json = dict[str, Any]
AUDIENCE = "https://gateway.example/mcp"
BOTH = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
INFO = {"name": "tester", "version": "1"}


@dataclass
class House:
    """One vmcp that runs."""

    port: int
    pid: int
    folder: Path
    opened: contextlib.ExitStack
    """Closes the clients of the test at its end."""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def log(self) -> str:
        """What it said on stderr and stdout until now."""
        return (self.folder / "vmcp.log").read_text("utf-8", "replace")


@contextlib.contextmanager
def serving(config: Json, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[House]:
    """``vmcp serve --log-level debug``, ready; SIGTERM must end it with 0 and leave no process."""
    port, file, log = free_port(), folder / "vmcp.yaml", folder / "vmcp.log"
    whole = {"name": "guarded", **config, "server": {**config.get("server", {}), "port": port}}
    file.write_text(json.dumps(whole, indent=1), "utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "vmcp", "serve", "--config", file, "--log-level", "debug", "--log-format", "json"]
    with running(command, log, env) as child:

        def told() -> str:
            return f"vmcp, exit code {child.poll()}:\n{log.read_text(errors='replace')[-8000:]}"

        wait_for(lambda: child.poll() is not None or ready(f"http://127.0.0.1:{port}/readyz"), 40, told)
        assert child.poll() is None, told()
        with contextlib.ExitStack() as opened:
            yield House(port, child.pid, folder, opened)
        family = descendants(child.pid)
        child.terminate()
        assert child.wait(30) == 0, told()
        wait_for(lambda: not family & parents().keys(), 10, lambda: f"left: {family & parents().keys()}\n{told()}")


def bearer(token: str | None) -> dict[str, str]:
    """The header that shows it; none for nobody."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@dataclass
class Caller:
    """A client of 2025-11-25 with a token, whose answers are read as JSON whichever way they came."""

    house: House
    token: str | None
    path: str = "/mcp"
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))
    session: str | None = None

    def __post_init__(self) -> None:
        self.house.opened.enter_context(self.http)

    def headers(self) -> dict[str, str]:
        session = {} if self.session is None else {"Mcp-Session-Id": self.session}
        return BOTH | bearer(self.token) | session | {"MCP-Protocol-Version": "2025-11-25"}

    def post(self, method: str, params: Json | None = None, **headers: str) -> httpx.Response:
        """One request as it is answered."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        sent = self.headers() | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(f"{self.house.url}{self.path}", json=message, headers=sent)

    def open(self) -> "Caller":
        """The handshake."""
        told = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
        answer = self.post("initialize", told)
        assert answer.status_code == 200, f"{told_by(answer)}\n{self.house.log[-4000:]}"
        self.session = answer.headers["mcp-session-id"]
        message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert self.http.post(f"{self.house.url}{self.path}", json=message, headers=self.headers()).status_code == 202
        return self

    def asked(self, method: str, params: Json | None = None, **headers: str) -> Json:
        """The reply: ``result`` or ``error``."""
        return reply(self.post(method, params, **headers))

    def call(self, tool: str, **arguments: Any) -> Json:
        """The reply of a tool."""
        return self.asked("tools/call", {"name": tool, "arguments": arguments})

    def close(self) -> None:
        if self.session is not None:
            self.http.delete(f"{self.house.url}{self.path}", headers=self.headers())
        self.http.close()


def told_by(answer: httpx.Response) -> str:
    """What came, for a person who looks for the reason."""
    return f"{answer.status_code} {answer.headers} {answer.text}"


def failed(told: Json) -> bool:
    """Whether a call's reply says that it was not done."""
    return "error" in told or bool(told["result"].get("isError"))


def reply(answer: httpx.Response) -> Json:
    """The one JSON-RPC reply in an HTTP answer."""
    assert answer.status_code == 200, told_by(answer)
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:")]
        return dict(next(message for message in map(json.loads, filter(None, events)) if "method" not in message))
    return dict(answer.json())


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": INFO,
    "io.modelcontextprotocol/clientCapabilities": {},
}


async def call_once(
    http: httpx.AsyncClient, house: House, token: str | None, tool: str, *, path: str = "/mcp", **arguments: Any
) -> httpx.Response:
    """A tools/call of 2026-07-28, which needs no session."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    told = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
    return await http.post(f"{house.url}{path}", json=message, headers=BOTH | bearer(token) | told)
