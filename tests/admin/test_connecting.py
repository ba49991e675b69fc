"""What clients need. Rule: the same entries as ``vmcp connect`` prints, and a token is never one but its variable's name."""

import base64
import json
from typing import Any
from urllib.parse import unquote

import pytest

from vmcp.admin.connecting import address, connections
from vmcp.clients.table import CLIENTS, NAME, entry
from vmcp.config.load import load
from vmcp.config.model import Config

SMALL = "name: x\ngroups: {g: {backends: {a: {url: 'http://127.0.0.1/'}}}}\n"
KEYS = "incomingAuth: {type: local, local: {keys: [{subject: a, sha256: '" + "0" * 64 + "'}]}}\n"
URL = "http://127.0.0.1:4483"


def config(more: str = "") -> Config:
    return load([("vmcp.yaml", SMALL + more)], {})[0]


def told(more: str = "", path: str | None = None) -> Any:
    found = connections(config(more), ["/mcp", "/g/mcp"], URL, path, "linux")
    assert found is not None
    return found


def test_each_client_has_its_entry_in_its_own_form() -> None:
    found = {each["name"]: each for each in told()["clients"]}
    assert list(found) == [client.name for client in CLIENTS]
    assert json.loads(found["claude-code"]["entry"]) == {"mcpServers": {"vmcp": {"type": "http", "url": f"{URL}/mcp"}}}
    assert found["codex"]["entry"] == f'[mcp_servers.vmcp]\nurl = "{URL}/mcp"\n'
    assert found["codex"]["command"] == f"codex mcp add vmcp --url {URL}/mcp"
    assert found["cursor"]["connect"] == f"vmcp connect cursor --url {URL}/mcp --write"
    assert (found["claude-desktop"]["way"], found["claude-code"]["way"]) == ("program", "url")
    assert found["claude-code"]["file"] == "~/.claude.json"


def test_a_key_is_the_name_of_a_variable() -> None:
    found = told(KEYS)
    assert found["token"] == "VMCP_TOKEN"
    for each in found["clients"]:
        assert "VMCP_TOKEN" in each["entry"], each["name"]
        assert "--token-env VMCP_TOKEN" in each["connect"]


def test_the_endpoint_is_the_one_that_is_asked_for() -> None:
    assert told(path="/g/mcp")["url"] == f"{URL}/g/mcp"
    assert [each["path"] for each in told()["endpoints"]] == ["/mcp", "/g/mcp"]
    assert connections(config(), ["/mcp"], URL, "/none", "linux") is None
    assert connections(config(), [], URL, None, "linux") is None


@pytest.mark.parametrize(
    ("more", "url", "base"),
    [
        ("", "http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("", "http://0.0.0.0:5000", "http://127.0.0.1:5000"),
        ("", "http://[::]:5000", "http://[::1]:5000"),
        ("server: {publicUrl: 'https://gw.example.com/'}\n", "http://0.0.0.0:5000", "https://gw.example.com"),
    ],
)
def test_the_address_is_one_that_clients_reach(more: str, url: str, base: str) -> None:
    assert address(config(more), url) == base


def test_a_link_that_opens_a_client_holds_the_same_entry() -> None:
    found = {each["name"]: each["link"] for each in told()["clients"]}
    clients = {client.name: client for client in CLIENTS}
    cursor = unquote(found["cursor"].partition("config=")[2])
    assert json.loads(base64.b64decode(cursor)) == entry(clients["cursor"], f"{URL}/mcp", None, None)
    code = json.loads(unquote(found["vscode"].partition("?")[2]))
    assert code == {"name": NAME, **entry(clients["vscode"], f"{URL}/mcp", None, None)}
    assert found["zed"] == ""
    assert found["claude-desktop"] == ""
