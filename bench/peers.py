"""Gateways that others wrote, as subjects of the benchmark: how each is installed, started and entered.

The one rule: a peer runs as its own README shows it, with a setting changed only where it could not be measured otherwise, and
then a comment says which and why. Each has an environment of its own, made from a lock in ``peers/`` when it is first asked for.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import prepare
import subjects
from calls import HANDSHAKE, SIZES, Door
from subjects import BENCH, ROOT, Command, Recipe

LOCKS = BENCH / "peers"
CHILD = BENCH / "child.py"
OLD = (HANDSHAKE,)
GATEWAY, BRIDGE = "gateway", "bridge"


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them. A bridge carries one stdio server over HTTP; a gateway stands before servers that are there already."""

    title: str
    package: str
    environment: str
    """The name of its lock, or ``npm``."""
    recipe: Recipe
    kind: str = GATEWAY

    @property
    def version(self) -> str:
        """The one that its lock names for this Python."""
        if self.environment == "npm":
            told = json.loads((LOCKS / "package-lock.json").read_text())["packages"]
            return str(told[f"node_modules/{self.package}"]["version"])
        lock = prepare.LOCK if self.environment == "" else LOCKS / f"{self.environment}.lock"
        pins = re.findall(rf"(?m)^{re.escape(self.package)}(?:\[\S*\])?==(\S+)(.*)", lock.read_text())
        return str(next((pin for pin, when in pins if _holds(when)), "?"))


def _holds(marker: str) -> bool:
    """Whether what a lock says after a version is true here; of all markers, those about the Python are enough."""
    told = re.search(r"python_full_version (<|>=) '3\.(\d+)'", marker)
    if told is None:
        return True
    older = sys.version_info < (3, int(told[2]))
    return older if told[1] == "<" else not older


def _program(environment: str, name: str) -> Path:
    return ROOT / f".venv-bench-{environment}" / "bin" / name


def _node(name: str) -> Command:
    return [shutil.which("node") or "node", LOCKS / "node_modules" / ".bin" / name]


def _url(backend: int) -> str:
    return f"http://127.0.0.1:{backend}/mcp"


def _within(folder: Path, **told: str) -> Command:
    """What makes a command run there, with these variables, and find its home there."""
    return ["env", "-C", folder, f"HOME={folder}", *(f"{name}={value}" for name, value in told.items())]


def _api(port: int, path: str, body: Any = None, token: str = "") -> Any:
    """Asks a peer's own API: with a body by POST. Raises ``NotReadyError`` with what it said."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise subjects.NotReadyError(f"{path} was answered with {answer.status}: {said[:500]!r}")
    return json.loads(said)


# ---- LiteLLM ----

LITELLM_KEY = "sk-bench-0123456789abcdef"
LITELLM_CONFIG = """
mcp_servers:
  cb: {{url: "{url}", transport: http}}
general_settings: {{master_key: {key}}}
"""


def _litellm(folder: Path, port: int, backend: int) -> Command:
    (folder / "config.yaml").write_text(LITELLM_CONFIG.format(url=_url(backend), key=LITELLM_KEY))
    options = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    return [*_within(folder), _program("litellm", "litellm"), *options]


def _litellm_door(_folder: Path, _port: int, _backend: int) -> Door:
    return Door("/mcp/", "cb-{}", {"Authorization": f"Bearer {LITELLM_KEY}"})


# ---- ContextForge ----


def _contextforge(**more: str) -> Callable[[Path, int, int], Command]:
    def command(folder: Path, port: int, _backend: int) -> Command:
        told = {
            "JWT_SECRET_KEY": "bench-0123456789-abcdefghijklmnopqrstuvwxyz-ABCD",
            "AUTH_ENCRYPTION_SECRET": "bench-9876543210-abcdefghijklmnopqrstuvwxyz-ABCD",
            "SSRF_ALLOW_LOCALHOST": "true",  # the backend is on this machine
            "RATE_LIMITING_ENABLED": "false",  # 100 calls a minute are not a measurement
        }
        program = _program("contextforge", "mcpgateway")
        (folder / "env.json").write_text(json.dumps(told))
        return [*_within(folder, **told, **more), program, "--host", "127.0.0.1", "--port", str(port)]

    return command


def _contextforge_door(folder: Path, port: int, backend: int) -> Door:
    """As its README: make a token, register the server, bundle its tools in a virtual server."""
    known = json.loads((folder / "env.json").read_text())
    make = [_program("contextforge", "python"), "-m", "mcpgateway.utils.create_jwt_token", "--exp", "10080"]
    options = ["--username", "admin@example.com", "--secret", known["JWT_SECRET_KEY"]]
    command = [*_within(folder, **known), *make, *options]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    gateway = {"name": "cb", "url": _url(backend), "transport": "STREAMABLEHTTP"}
    _api(port, "/gateways", gateway, token)
    tools = [tool["id"] for tool in _api(port, "/tools", token=token)]
    server = {"server": {"name": "bench", "description": "bench", "associated_tools": tools}}
    made = _api(port, "/servers", server, token)
    return Door(f"/servers/{made['id']}/mcp", "cb-{}", {"Authorization": f"Bearer {token}"})


# ---- 1xn-vmcp ----


def _1xn(folder: Path, port: int, _backend: int) -> Command:
    program = _program("1xn-vmcp", "vmcp")
    return [*_within(folder), program, "run", "--no-open", "--host", "127.0.0.1", "--port", str(port)]


def _1xn_door(_folder: Path, port: int, backend: int) -> Door:
    made = _api(port, "/api/vmcps/create", {"name": "bench"})["vMCP"]["id"]
    server = {"server_data": {"name": "cb", "transport": "http", "url": _url(backend)}}
    _api(port, f"/api/vmcps/{made}/add-server", server)
    return Door("/private/bench/vmcp", "cb_{}", {"Authorization": ""}, handshake="2025-06-18")


# ---- mcp-hub ----


def _mcp_hub(folder: Path, port: int, backend: int) -> Command:
    (folder / "servers.json").write_text(json.dumps({"mcpServers": {"cb": {"url": _url(backend)}}}))
    return [*_within(folder), *_node("mcp-hub"), "--port", str(port), "--config", "servers.json"]


def _mcp_hub_door(_folder: Path, port: int, _backend: int) -> Door:
    until = time.monotonic() + subjects.PATIENCE
    while not any(server["status"] == "connected" for server in _api(port, "/api/health")["servers"]):
        if time.monotonic() > until:
            raise subjects.NotReadyError("mcp-hub did not connect to its server")
        time.sleep(0.05)
    return Door("/mcp", "cb__{}", handshake="2024-11-05", stream=True)


# ---- bridges ----


def _child() -> list[str | Path]:
    return [sys.executable, CHILD, SIZES["200"].text]


def _mcp_proxy(folder: Path, port: int, _backend: int) -> Command:
    return [*_within(folder), _program("mcp-proxy", "mcp-proxy"), "--port", str(port), "--", *_child()]


def _mcp_proxy_npm(folder: Path, port: int, _backend: int) -> Command:
    options = ["--host", "127.0.0.1", "--port", str(port), "--server", "stream", "--"]
    return [*_within(folder), *_node("mcp-proxy"), *options, *_child()]


def _supergateway(folder: Path, port: int, _backend: int) -> Command:
    child = " ".join(f"'{word}'" for word in _child())
    # Without --stateful it starts a child for each request.
    options = ["--stdio", child, "--outputTransport", "streamableHttp", "--stateful", "--port", str(port)]
    return [*_within(folder), *_node("supergateway"), *options]


def _vmcp_stdio(folder: Path, port: int, backend: int) -> Command:
    config = folder / "vmcp.yaml"
    told = subjects.VMCP_CONFIG.format(port=port, backend=backend)
    http = f'url: "{_url(backend)}"'
    config.write_text(told.replace(http, f"command: {json.dumps([str(word) for word in _child()])}"))
    return [sys.executable, "-m", "vmcp", "serve", "--config", config]


PEERS: Mapping[str, Peer] = {
    "fastmcp": Peer("FastMCP, the fastest way", "fastmcp", "", subjects.RECIPES["fastmcp"]),
    "fastmcp-default": Peer("FastMCP, as documented", "fastmcp", "", subjects.RECIPES["fastmcp-default"]),
    "mcp-hub": Peer("mcp-hub", "mcp-hub", "npm", Recipe(_mcp_hub, "/api/health", _mcp_hub_door, OLD)),
    "1xn-vmcp": Peer("1xn-vmcp", "1xn-vmcp", "1xn-vmcp", Recipe(_1xn, "/health", _1xn_door, OLD)),
    "litellm": Peer("LiteLLM", "litellm", "litellm", Recipe(_litellm, "/health/liveliness", _litellm_door, OLD)),
    "contextforge": Peer(
        "ContextForge",
        "mcp-contextforge-gateway",
        "contextforge",
        Recipe(_contextforge(), "/health", _contextforge_door, OLD),
    ),
    "contextforge-stateful": Peer(
        "ContextForge, with sessions",
        "mcp-contextforge-gateway",
        "contextforge",
        Recipe(_contextforge(USE_STATEFUL_SESSIONS="true"), "/health", _contextforge_door, OLD),
    ),
    "mcp-proxy": Peer("mcp-proxy (Python)", "mcp-proxy", "mcp-proxy", Recipe(_mcp_proxy, eras=OLD), BRIDGE),
    "mcp-proxy-npm": Peer("mcp-proxy (Node)", "mcp-proxy", "npm", Recipe(_mcp_proxy_npm), BRIDGE),
    "supergateway": Peer("supergateway", "supergateway", "npm", Recipe(_supergateway, eras=OLD), BRIDGE),
}
RECIPES: Mapping[str, Recipe] = {
    **subjects.RECIPES,
    "vmcp-stdio": Recipe(_vmcp_stdio, ready="/readyz"),
    **{name: peer.recipe for name, peer in PEERS.items()},
}
"""Everything that can be measured."""


def install(names: "list[str]") -> None:
    """Makes the environments of those peers that are among these subjects."""
    wanted = dict.fromkeys(PEERS[name].environment for name in names if name in PEERS)
    for environment in wanted:
        if environment == "":
            prepare.fastmcp_environment()
        elif environment == "npm":
            prepare.node_packages(LOCKS)
        else:
            prepare.environment(ROOT / f".venv-bench-{environment}", LOCKS / f"{environment}.lock")
