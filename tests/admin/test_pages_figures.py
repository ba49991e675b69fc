"""The pages of traffic, statistics and the audit log. Rule: as a browser gets them, by their sockets."""

from pathlib import Path

import pytest

from tests.admin.visitors import visitor
from tests.server.clients import Door
from tests.server.peers import Server, echo, tool, until
from vmcp.config.audit import AuditSpec
from vmcp.config.oauth import StateSpec
from vmcp.config.usage import UsageSpec
from vmcp.protocol.revisions import Revision

SECRET = "hush-7c1d"
EVIL = '<script>alert("1")</script>'


def one() -> dict[str, Server]:
    return {"a": Server(tools=[tool("read")], script=echo)}


async def work(app: object) -> None:
    client = Door(app, Revision.V2025_11_25)
    await client.initialize(clientInfo={"name": EVIL, "version": "3"})
    for name in ("read", EVIL):
        await client.call(name, {"password": SECRET})


async def test_traffic_shows_names_and_numbers_and_what_others_said_is_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with visitor(monkeypatch, tmp_path, one()) as who:
        assert "No call has ended yet" in (await who.see("traffic"))[1]
        await work(who.here.running.app)
        status, text = await who.see("traffic")
        assert (status, text.count("<tr data-status=")) == (200, 3)
        assert "routing failed" in text
        assert EVIL not in text
        assert SECRET not in text
        _, text = await who.see("traffic?q=backend:a")
        assert (text.count("<tr data-status="), "1 of 3 calls fit" in text) == (1, True)
        status, text = await who.see("traffic?q=colour:red")
        assert (status, text.count("<tr data-status=")) == (200, 3)
        assert "This filter cannot be read: &#39;colour:&#39; is no word" in text


async def test_statistics_show_days_and_what_was_since_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with visitor(monkeypatch, tmp_path, one()) as who:
        assert (await who.see("statistics"))[0] == 200
        await work(who.here.running.app)
        for days in (1, 7, 30, 90):
            status, text = await who.see(f"statistics?days={days}")
            assert status == 200
            assert "2 with an error" not in text
            assert f"3 calls in {24 if days == 1 else days}" in text
        assert "names that nobody offers" in text
        assert EVIL not in text
        assert (await who.see("statistics?days=x"))[0] == 400
    async with visitor(monkeypatch, tmp_path, one(), usage=UsageSpec(enabled=False)) as who:
        assert "Usage is not kept here" in (await who.see("statistics"))[1]
    (tmp_path / "state").write_text("a file in the place of the folder")
    async with visitor(monkeypatch, tmp_path, one(), state=StateSpec(str(tmp_path / "state"))) as who:
        await work(who.here.running.app)
        _, text = await who.see("statistics")
        assert "they cannot be written" in text
        assert "3 calls in 7 days" in text


async def test_the_audit_log_is_shown_with_how_it_hangs_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with visitor(monkeypatch, tmp_path, one()) as who:
        assert "Nothing is recorded" in (await who.see("audit"))[1]
    log = tmp_path / "audit.log"
    async with visitor(monkeypatch, tmp_path, one(), audit=AuditSpec(str(log), requests=True)) as who:
        await work(who.here.running.app)
        await until(lambda: log.read_text().count("mcp_tool_call") == 2)
        _, text = await who.see("audit?q=type:mcp_tool_call")
        assert text.count("<tr data-status=") == 2
        assert "these records are whole" in text
        assert SECRET not in text
        assert EVIL not in text
        assert "cannot be read" in (await who.see("audit?q=colour:red"))[1]
        log.write_text(log.read_text().replace('"read"', '"reap"'))
        assert "not whole" in (await who.see("audit"))[1]
