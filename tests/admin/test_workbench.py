"""The JSON behind the pages for working with what is served. Rule: over the socket, of a whole house."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.admin.offices import Office, office
from tests.server.clients import Door as Client
from tests.server.peers import Server, echo, tool
from vmcp.config.administration import Ui
from vmcp.config.load import load
from vmcp.config.lock import LockSpec, Pin, Pinned, Pins
from vmcp.config.overrides import Override
from vmcp.config.personas import Persona

SMALL = "name: test\ngroups: {g: {backends: {a: {url: 'http://127.0.0.1:9/'}}}}\n"
Json = dict[str, Any]


def one() -> dict[str, Server]:
    return {"a": Server(tools=[tool("read", annotations={"readOnlyHint": True}), tool("write")], script=echo)}


def settle(here: Office, text: str) -> None:
    """What runs is what the file says."""
    object.__setattr__(here.running.config, "digest", load([("f", text)], os.environ)[0].digest)


async def test_a_list_says_how_each_tool_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one()) as here:
        here.running.recent.on = True
        client = Client(here.running.app)
        await client.call("read", {})
        used = {each["name"]: each["usage"] for each in (await here.get("tools"))["tools"]}
        assert used["read"]["calls"] == 1
        assert used["read"]["errorPercent"] == 0.0
        assert used["read"]["p95Seconds"] > 0
        assert used["write"] is None


async def test_at_an_endpoint_of_a_persona_is_what_the_persona_sees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = {"read": Override("look", description="Only look.")}
    reader = Persona("reader", include=("read",), overrides=shown)
    ui = Ui(enabled=True, try_it=True)
    async with office(monkeypatch, tmp_path, one(), personas={"reader": reader}, listen=True, ui=ui) as here:
        path = "/persona/reader/mcp"
        (only,) = (await here.get(f"tools?path={path}"))["tools"]
        assert (only["name"], only["original"], only["description"]) == ("look", "read", "Only look.")
        names = [(each["group"], each["name"]) for each in (await here.get("tools"))["tools"]]
        assert names == [("g", "read"), ("g", "write"), ("persona/reader", "look")]
        assert "result" in (await here.post("call", {"path": path, "name": "look"}))["message"]
        assert "error" in (await here.post("call", {"path": path, "name": "write"}))["message"]


async def test_what_is_not_as_it_was_locked_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pins = Pins({"a": Pinned(tools={"read": Pin("sha256:" + "0" * 64, {"description": "0" * 16})})})
    async with office(monkeypatch, tmp_path, one(), lock=LockSpec("x.lock", "quarantine", pins)) as here:
        found = await here.get("lock")
        assert (found["policy"], found["pinned"]) == ("quarantine", 1)
        assert [(each["name"], each["change"]) for each in found["drifts"]] == [("read", "changed"), ("write", "added")]
        assert [each["name"] for each in found["quarantined"]] == ["read", "write"]
        assert all(each["why"] for each in found["quarantined"])
    async with office(monkeypatch, tmp_path, one(), lock=LockSpec("x.lock", "warn", pins)) as here:
        locked = {each["name"]: each["locked"] for each in (await here.get("tools"))["tools"]}
        assert locked["read"]["change"] == "changed"
        assert "description" in locked["read"]["fields"]


async def test_every_value_has_its_origin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one(), text=SMALL) as here:
        settle(here, SMALL)
        found = await here.get("settings")
        values = {each["path"]: each for each in found["values"]}
        assert found["disk"] == "same"
        assert values["name"] == {
            "path": "name",
            "value": "test",
            "source": "file",
            "at": f"{tmp_path / 'vmcp.yaml'}:1:7",
            "hidden": False,
        }
        assert values["server.port"]["source"] == "default"
        (tmp_path / "vmcp.yaml").write_text("name: [\n")
        found = await here.get("settings")
        assert found["disk"].startswith("invalid")
        assert found["problems"]
        assert {each["path"]: each for each in found["values"]}["name"]["value"] == "test", "what runs is still known"


async def test_of_files_that_changed_before_anybody_looked_nothing_is_made_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with office(monkeypatch, tmp_path, one(), text=SMALL) as here:
        found = await here.get("settings")
        assert (found["disk"], found["values"]) == ("differs", None)


async def test_what_a_reload_would_change_is_told_and_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backends = one()
    text = SMALL.replace("a: {url", "b: {url: 'http://127.0.0.1:9/'}, a: {url") + "server: {port: 1234}\n"
    async with office(monkeypatch, tmp_path, backends, text=text) as here:
        before = len(backends["a"].asked)
        found = await here.get("difference")
        assert found["disk"] == "differs"
        assert {"name": "b", "change": "added", "because": []} in found["plan"]["backends"]
        assert set(found["plan"]["unanswered"]) == {"a", "b"}, (
            "one is reached otherwise, one is new: what they offer is unknown"
        )
        assert "server.port" in found["plan"]["restart"]
        assert "backends" in found["text"]
        settle(here, text)
        assert (await here.get("difference"))["plan"] is None
        (tmp_path / "vmcp.yaml").unlink()
        assert (await here.get("difference"))["disk"].startswith("unreadable")
        assert len(backends["a"].asked) == before


async def test_reloads_are_remembered_with_how_they_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one(), text=SMALL) as here:
        assert await here.get("reloads") == {"reloads": []}
        (tmp_path / "vmcp.yaml").write_text("name: 1\n")
        await here.post("reload")
        (tmp_path / "vmcp.yaml").unlink()
        await here.post("reload")
        later, first = (await here.get("reloads"))["reloads"]
        assert (first["result"], first["cause"]) == ("rejected", "admin")
        assert any("groups" in problem for problem in first["problems"])
        assert later["at"] >= first["at"]
        assert later["problems"] == ["no such file"]


async def test_clients_and_known_servers_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one()) as here:
        assert (await here.get("connect"))["url"] == "http://127.0.0.1:4483/mcp"
        assert (await here.get("connect?path=/g/mcp"))["path"] == "/g/mcp"
        assert (await here.ask("GET", "/admin/v1/connect?path=/none")).status == 404
        assert [each["name"] for each in (await here.get("discovery?q=jira"))["servers"]] == ["atlassian"]


async def test_a_call_is_made_only_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = {"path": "/mcp", "name": "read", "arguments": {"a": 1}}
    async with office(monkeypatch, tmp_path, one()) as here:
        assert (await here.ask("POST", "/admin/v1/call", body)).status == 403
    ui = Ui(enabled=True, try_it=True)
    async with office(monkeypatch, tmp_path, one(), listen=True, ui=ui) as here:
        here.running.recent.on = True
        found = await here.post("call", body)
        assert (found["status"], found["cut"], found["backend"]) == (200, False, "a")
        assert 0 <= (found["backendSeconds"] or 0) <= found["seconds"]
        assert json.loads(found["message"]["result"]["content"][0]["text"]) == {"a": 1}
        for wrong in ({"path": "/livez"}, {"arguments": [1]}, {"kind": "resourceTemplates"}, {"name": 3}):
            assert (await here.ask("POST", "/admin/v1/call", {**body, **wrong})).status == 400, wrong
