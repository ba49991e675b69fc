"""Commands that do something to a running instance: reset, cache, sessions, drain.

Rule: what they say is proved by what the instance does afterwards, and the audit log says who it was.
"""

import http.client
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cli.instances import TEXT, Site, started

MORE = "cache: {enabled: true, tools: {box_add: 60s}}\naudit: {logFile: %s}\n"
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tester", "version": "1"}}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("house")
    with started(folder, TEXT + MORE % json.dumps(str(folder / "audit.log"))) as made:
        yield made


def ask(here: Site, method: str, params: dict[str, Any], session: str = "") -> tuple[int, str, Any]:
    """One request of a client: status, session and answer."""
    connection = http.client.HTTPConnection(urlsplit(here.json("status")["url"]).netloc, timeout=10)
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if session:
        headers |= {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    connection.request("POST", "/mcp", body, headers)
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    return answer.status, answer.headers.get("mcp-session-id", ""), told


def acts(here: Site) -> list[dict[str, Any]]:
    """What the audit log has of operators, once it is all there."""
    here.run("stop")
    lines = [json.loads(line) for line in (here.folder / "audit.log").read_text().splitlines()]
    return [line for line in lines if line["type"] == "admin_act"]


def test_sessions_are_listed_and_ended(house: Site) -> None:
    _, session, _ = ask(house, "initialize", HELLO)
    (name,) = house.run("sessions", "-o", "name").stdout.split()
    assert session != name
    assert "tester" in house.run("sessions").stdout
    assert house.run("sessions", "end", name).stdout == f"ended {name}\n"
    assert ask(house, "ping", {}, session)[0] == 404
    assert house.run("sessions", "end", name, code=1).stderr == "vmcp: there is nothing of this name\n"
    assert house.run("sessions").stderr == "none\n"


def test_the_cache_is_shown_and_cleared(house: Site) -> None:
    _, session, _ = ask(house, "initialize", HELLO)
    for _ in range(2):
        assert ask(house, "tools/call", {"name": "box_add", "arguments": {"a": 1, "b": 2}}, session)[0] == 200
    assert house.json("cache")["size"] == 1
    assert "hit_rate" in house.run("cache").stdout
    assert house.run("cache", "clear", "other/*").stdout == "cleared 0\n"
    assert house.run("cache", "clear").stdout == "cleared 1\n"
    assert house.json("cache")["size"] == 0


def test_a_breaker_is_reset_by_the_name_of_its_backend(house: Site) -> None:
    assert house.run("reset", "box").stdout == "reset box\n"
    assert house.run("reset", "no/such thing", code=1).stderr == "vmcp: there is nothing of this name\n"
    assert house.run("reset", code=2)


def test_drained_it_is_not_ready_and_the_audit_log_knows_who_did_what(house: Site) -> None:
    assert house.run("drain", "--wait", "5").stdout == "drained\n"
    assert house.json("health", code=1)["status"] == "stopping"
    done = acts(house)
    assert {act["subjects"]["user_id"] for act in done} == {f"uid:{os.geteuid()}"}
    assert {act["outcome"] for act in done} == {"success"}
    said = [(act["target"]["method"], {**act["metadata"]["extra"]}) for act in done]
    assert ("drain", {"transport": "unix"}) in said
    assert ("reset", {"transport": "unix", "backend": "box"}) in said
    assert ("clear", {"transport": "unix", "pattern": "*", "cleared": "1"}) in said
    assert [method for method, _ in said] == ["end", "clear", "clear", "reset", "drain"]
