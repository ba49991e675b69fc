"""The demonstration of ``compose.yaml`` without containers: its authorization server, its configuration, and a caller.

Rule: the provider is the file that the image runs, with the package of the version that it names.
"""

import http.client
import json
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.cli.systemd import service
from tests.deploy.manifests import DEPLOY, document
from tests.deploy.test_served import local
from tests.real.processes import PEERS, connects, free_port, node, running, wait_for

pytestmark = pytest.mark.real
IDENTITY = DEPLOY / "compose" / "identity"


def initialized(port: int, token: str | None) -> int:
    """The status of an ``initialize``."""
    asked = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "robot", "version": "1"}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Host": "localhost:4483",
    }
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        line.request(
            "POST", "/mcp", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked}), headers
        )
        return line.getresponse().status
    finally:
        line.close()


def test_a_token_of_its_provider_opens_it_and_nothing_else_does(tmp_path: Path) -> None:
    """With the client and the resource that the comment of ``compose.yaml`` names."""
    (tmp_path / "provider.mjs").write_text((IDENTITY / "provider.mjs").read_text())
    (tmp_path / "node_modules").symlink_to(PEERS / "node_modules")
    issuer = f"http://localhost:{free_port()}"
    port = int(issuer.rpartition(":")[2])
    config = tmp_path / "vmcp.yaml"
    config.write_text(local((DEPLOY / "compose" / "vmcp.yaml").read_text(), tmp_path))
    told = (DEPLOY / "compose" / "compose.yaml").read_text()
    found = re.search(r"-u (\w+):(\S+) -d grant_type=(\w+) -d resource=(\S+)", told)
    assert found is not None
    given = {"ISSUER": issuer, "HOST": "127.0.0.1"}
    with running([node(), tmp_path / "provider.mjs"], tmp_path / "log", given) as provider:
        wait_for(lambda: connects(port) or provider.poll() is not None, 20, (tmp_path / "log").read_text)
        form = {"grant_type": found[3], "resource": found[4]}
        answer = httpx.post(f"{issuer}/token", data=form, auth=(found[1], found[2]), timeout=15)
        assert answer.status_code == 200, answer.text
        token = answer.json()["access_token"]
        environ = {"OIDC_ISSUER": issuer, "VMCP_RUN_DIR": str(tmp_path / "run")}
        with service("--config", str(config), "--port", "0", environ=environ) as process:
            at = int(process.until(r"http://0\.0\.0\.0:(\d+)")[1])
            assert initialized(at, token) == 200
            assert initialized(at, None) == 401
            assert initialized(at, f"{token[:-4]}AAAA") == 401
            process.signal(signal.SIGTERM)
            assert process.end() == 0
        assert token not in process.text


def test_the_provider_is_the_one_that_is_tested() -> None:
    wanted = document(IDENTITY / "package.json")["dependencies"]
    locked = json.loads((PEERS / "package.json").read_text())["dependencies"]
    assert wanted == {"oidc-provider": locked["oidc-provider"]}
