"""Recent numbers as an operator asks for them. Rule: of a house with real layers, over the socket."""

from pathlib import Path

import pytest

from tests.admin.offices import Office, office
from tests.server.clients import Door
from tests.server.peers import Server, echo, tool
from vmcp.admin.figures import summary
from vmcp.config.oauth import StateSpec
from vmcp.config.usage import UsageSpec
from vmcp.protocol.revisions import Revision
from vmcp.state.histogram import Calls
from vmcp.state.usage import DAY, HOUR


def one() -> dict[str, Server]:
    return {"a": Server(tools=[tool("read"), tool("write")], script=echo)}


async def busy(here: Office, times: int = 3) -> None:
    client = Door(here.running.app, Revision.V2025_11_25)
    await client.initialize()
    for _ in range(times):
        await client.call("read", {"password": "hush"})
    await client.call("none")


async def test_rates_are_told_by_the_second_and_the_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one()) as here:
        await busy(here)
        found = await here.get("rates")
        assert (len(found["seconds"]), len(found["minutes"])) == (60, 60)
        assert sum(each["requests"] for each in found["minutes"]) == 5
        assert sum(each["errors"] for each in found["minutes"]) == 1
        assert found["minutes"][-1]["endpoints"]["/mcp"] == [5, 1]
        assert found["now"]["inFlight"] == 0


async def test_traffic_is_filtered_and_goes_on_from_where_one_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with office(monkeypatch, tmp_path, one()) as here:
        await busy(here)
        found = await here.get("traffic")
        assert [each["outcome"] for each in found["exchanges"]] == ["routing_failed", "ok", "ok", "ok", "ok"]
        assert (found["matching"], found["of"], found["last"]) == (5, 5, 5)
        tools = await here.get("traffic?q=tool:r*%20-outcome:error&limit=2")
        assert ([each["number"] for each in tools["exchanges"]], tools["matching"]) == ([4, 3], 3)
        assert [each["number"] for each in (await here.get("traffic?since=4"))["exchanges"]] == [5]
        for wrong in ("q=colour:red", "since=x", "limit=-1"):
            assert (await here.ask("GET", f"/admin/v1/traffic?{wrong}")).status == 400
        assert "hush" not in str(found)


async def test_statistics_are_ranked_by_how_often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one()) as here:
        assert (await here.get("statistics"))["total"]["count"] == 0
        await busy(here)
        found = await here.get("statistics")
        assert [(each["method"], each["count"]) for each in found["methods"]] == [("tools/call", 4), ("initialize", 1)]
        assert [(each["tool"], each["backend"]) for each in found["tools"]] == [("read", "a"), ("other", "")]
        assert [each["backend"] for each in found["backends"]] == ["a"]
        assert found["total"]["successRate"] == 0.8
        assert {"mean", "median", "p95", "p99"} <= found["groups"][0].keys()


async def test_usage_is_kept_where_something_may_be_and_for_the_next_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = StateSpec(str(tmp_path / "state"))
    for times in (4, 8):
        async with office(monkeypatch, tmp_path, one(), state=state) as here:
            await busy(here)
            found = await here.get("usage?days=1")
            assert (found["enabled"], found["where"], found["spanSeconds"]) == (True, "file", HOUR)
            assert sum(each["count"] for each in found["series"]) == found["total"]["count"] == times + times // 4
            assert {each["tool"]: each["count"] for each in found["tools"]} == {
                "read": 3 * times // 4,
                "other": times // 4,
            }
            assert [each["who"] for each in found["people"]] == ["anonymous"]


async def test_usage_is_in_memory_without_a_folder_and_nowhere_if_it_is_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with office(monkeypatch, tmp_path, one()) as here:
        await busy(here)
        found = await here.get("usage")
        assert (found["where"], found["total"]["count"]) == ("memory", 5)
    async with office(monkeypatch, tmp_path, one(), usage=UsageSpec(enabled=False)) as here:
        await busy(here)
        assert await here.get("usage") == {"enabled": False, "days": 7}
        assert (await here.get("statistics"))["total"]["count"] == 5


async def test_a_folder_that_cannot_be_had_disturbs_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    async with office(monkeypatch, tmp_path, one(), state=StateSpec(str(tmp_path / "state"))) as here:
        await busy(here)
        found = await here.get("usage")
        assert "cannot be written" in found["failing"]
        assert found["total"]["count"] == 5, "they are in memory as long as that"
        assert (await here.get("statistics"))["total"]["count"] == 5


def test_what_was_kept_is_told_by_time_and_by_what_and_whose_it_was() -> None:
    def row(
        span: int, start: int, name: str, who: str, count: int
    ) -> tuple[tuple[int, int, str, str, str, str, str], Calls]:
        return (span, start, "tools/call", name, "a", "g", who), Calls(count, 1, 0.1 * count, 5, {100: count})

    rows = [row(DAY, 0, "read", "ann", 3), row(HOUR, DAY, "read", "bob", 2), row(HOUR, DAY + HOUR, "write", "bob", 9)]
    found = summary(rows, 7)
    assert found["series"] == [{"at": 0, "count": 3, "errors": 1}, {"at": DAY, "count": 11, "errors": 2}]
    assert [(each["tool"], each["count"]) for each in found["tools"]] == [("write", 9), ("read", 5)]
    assert [(each["who"], each["errors"]) for each in found["people"]] == [("bob", 2), ("ann", 1)]
    assert [each["at"] for each in summary(rows[1:], 1)["series"]] == [DAY, DAY + HOUR]
