"""The audit log as an operator looks at it. Rule: records that a real house wrote to a real file."""

import json
import os
from pathlib import Path

import pytest

from tests.admin.offices import office
from tests.server.clients import Door
from tests.server.peers import Server, echo, tool, until
from vmcp.config.audit import AuditSpec
from vmcp.config.values import SecretRef
from vmcp.protocol.revisions import Revision

SECRET = "hush-audit-77"


def spec(folder: Path, **more: object) -> AuditSpec:
    return AuditSpec(file=str(folder / "audit.log"), requests=True, responses=True, **more)  # type: ignore[arg-type]


async def work(app: object) -> None:
    client = Door(app, Revision.V2025_11_25)
    await client.initialize(clientInfo={"name": "desk", "version": "3"})
    for name in ("read", "read", "none"):
        await client.call(name, {"words": SECRET})


async def test_the_last_records_are_told_without_what_was_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    servers = {"a": Server(tools=[tool("read")], script=echo)}
    async with office(monkeypatch, tmp_path, servers, audit=spec(tmp_path)) as here:
        await work(here.running.app)
        log = tmp_path / "audit.log"
        await until(lambda: log.read_text().count("mcp_tool_call") == 3)
        assert SECRET in log.read_text(), "it is there, and yet it is not shown"
        found = await here.get("audit")
        assert SECRET not in json.dumps(found)
        newest = found["records"][0]
        assert (newest["type"], newest["outcome"], newest["target"]) == ("mcp_tool_call", "failure", "none")
        assert (newest["client"], newest["who"], newest["endpoint"]) == ("desk 3", "anonymous", "/mcp")
        assert (found["chain"]["state"], found["chain"]["first"]) == ("whole", 1)
        tools = await here.get("audit?q=type:mcp_tool_call%20outcome:success&limit=1")
        assert ([each["backend"] for each in tools["records"]], tools["matching"]) == (["a"], 2)
        last = found["last"]
        assert [each["seq"] for each in (await here.get(f"audit?since={last - 1}"))["records"]] == [last]
        assert (await here.ask("GET", "/admin/v1/audit?q=colour:red")).status == 400


async def test_a_record_that_was_changed_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    servers = {"a": Server(tools=[tool("read")], script=echo)}
    async with office(monkeypatch, tmp_path, servers, audit=spec(tmp_path)) as here:
        await work(here.running.app)
        log = tmp_path / "audit.log"
        await until(lambda: log.read_text().count("mcp_tool_call") == 3)
        log.write_text(log.read_text().replace('"desk"', '"disk"'))
        chain = (await here.get("audit"))["chain"]
        assert chain["state"] == "broken"
        assert "was changed" in chain["faults"][0]


async def test_records_that_were_cut_off_are_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    async with office(
        monkeypatch, tmp_path, {"a": Server(tools=[tool("read")], script=echo)}, audit=spec(tmp_path)
    ) as here:
        await work(here.running.app)
        await until(lambda: log.read_text().count("mcp_tool_call") == 3)
        last = (await here.get("audit"))["last"]
        await until(lambda: f'"seq":{last},' in (tmp_path / "audit.log.head").read_text())
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
        chain = (await here.get("audit"))["chain"]
        assert (chain["state"], chain["last"]) == ("broken", last - 1)
        assert f"there was a record {last}" in chain["faults"][0]


async def test_a_key_that_is_gone_is_no_reason_to_call_the_log_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUDIT_KEY", "k" * 32)
    keyed = spec(tmp_path, key=SecretRef(env="AUDIT_KEY"))
    async with office(monkeypatch, tmp_path, audit=keyed) as here:
        await until(lambda: (tmp_path / "audit.log.head").read_text().strip())
        await until(lambda: "audit_start" in (tmp_path / "audit.log").read_text())
        assert (await here.get("audit"))["chain"]["state"] == "whole"
        monkeypatch.delenv("AUDIT_KEY")
        assert (await here.get("audit"))["chain"] | {"hash": ""} == {
            "state": "unknown",
            "checked": 1,
            "first": 1,
            "last": 1,
            "hash": "",
            "faults": [],
        }


async def test_a_log_that_cannot_be_read_here_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path) as here:
        assert await here.get("audit") == {"enabled": False, "records": [], "last": 0}
    async with office(monkeypatch, tmp_path, audit=spec(tmp_path)) as here:
        await until((tmp_path / "audit.log.head").exists)
        (tmp_path / "audit.log.head").unlink()
        assert "No such file" in (await here.get("audit"))["unreadable"]


async def test_what_is_no_file_is_waited_for_by_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, {"a": Server()}, audit=spec(tmp_path)) as here:
        head = tmp_path / "audit.log.head"
        head.unlink()
        os.mkfifo(head)
        try:
            assert (await here.get("audit"))["unreadable"] == "the file cannot be read: it is no plain file"
        finally:
            os.close(os.open(head, os.O_RDWR))


async def test_records_that_somebody_else_wrote_are_told_as_far_as_they_can_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with office(monkeypatch, tmp_path, {"a": Server()}, audit=spec(tmp_path)) as here:
        extra = {"policies": 7, "duration_ms": "long", "jsonrpc_error_code": [1], "backend_name": {}}
        odd = json.dumps({"seq": 99, "metadata": {"extra": extra}, "subjects": [], "source": "x", "logged_at": 5})
        deep = "[" * 900 + "]" * 900
        for line in (odd, '{"seq":98,"x":' + deep * 2, '{"seq":97,"x":' + "[" * 5000, "\xff", "7"):
            with (tmp_path / "audit.log").open("a") as log:
                log.write(f"{line}\n")
        found = await here.get("audit?q=ms:%3C5")
        assert found["chain"]["state"] == "broken"
        (told,) = (each for each in found["records"] if each["seq"] == 99)
        assert (told["policies"], told["ms"], told["code"], told["backend"]) == ([], None, None, "")
