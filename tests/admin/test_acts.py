"""What an operator may do. Rule: each act is proved by what is different afterwards in the house."""

import json
import logging
import os
from pathlib import Path

import pytest

from tests.admin.offices import office
from tests.admin.visitors import visitor
from tests.server.clients import Door as Client
from tests.server.peers import Server, echo, tool
from vmcp.config.audit import AuditSpec
from vmcp.config.cache import from_data
from vmcp.config.load import load
from vmcp.protocol.revisions import Revision

TEXT = "name: house\ngroups: {g: {backends: {a: {url: http://127.0.0.1:1/mcp}}}}\n"


@pytest.fixture(autouse=True)
def level() -> object:
    before = logging.getLogger().level
    yield None
    logging.getLogger().setLevel(before)


def backends() -> dict[str, Server]:
    return {"a": Server(tools=[tool("t")], script=echo), "b": Server(tools=[tool("u")], script=echo)}


async def test_a_reload_says_how_it_has_ended_and_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, backends(), text=TEXT) as here:
        assert await here.post("reload") == {"result": "applied", "problems": []}
        assert await here.post("reload") == {"result": "unchanged", "problems": []}
        (tmp_path / "vmcp.yaml").write_text(TEXT + "nonsense: 1\n")
        told = await here.post("reload")
        assert told["result"] == "rejected"
        assert "vmcp.yaml:3:1: nonsense: unknown key" in told["problems"][0]
        (tmp_path / "vmcp.yaml").unlink()
        assert await here.post("reload") == {"result": "rejected", "problems": ["no such file"]}
        assert (await here.get("status"))["config"]["reloads"] == {"applied": 1, "unchanged": 1, "rejected": 2}


async def test_the_configuration_is_that_which_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "vmcp.yaml"
    async with office(monkeypatch, tmp_path, backends(), text=TEXT) as here:
        assert "config" not in await here.get("config"), "it was made by hand, and nobody knows where it stands"
        await here.post("reload")
        found = await here.get("config")
        assert (found["disk"], found["config"]["name"], found["files"]) == ("same", "house", [str(file)])
        assert found["origins"]["name"].endswith("vmcp.yaml:1:7")
        file.write_text(TEXT.replace("house", "other"))
        found = await here.get("config")
        assert (found["disk"], found["config"]["name"]) == ("differs", "house")
        file.write_text("nonsense: 1")
        found = await here.get("config")
        assert (found["disk"][:7], found["config"]["name"]) == ("invalid", "house")
        file.unlink()
        assert (await here.get("config"))["disk"] == "unreadable: no such file"


async def test_a_configuration_from_the_start_is_shown_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, backends(), text=TEXT) as here:
        object.__setattr__(here.running.config, "digest", load([("f", TEXT)], {})[0].digest)
        assert (await here.get("config"))["config"]["name"] == "house"
        (tmp_path / "vmcp.yaml").write_text("nonsense: 1")
        assert (await here.get("config"))["config"]["name"] == "house", "it is remembered"


async def test_drained_it_is_not_ready_and_still_answers_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, backends()) as here:
        client = Client(here.running.app)
        assert (await client.http("GET", "/readyz")).status == 200
        assert await here.post("drain") == {"status": "stopping"}
        assert (await client.http("GET", "/readyz")).status == 503
        assert (await here.get("status"))["status"] == "stopping"


async def test_a_session_is_ended_by_the_name_in_the_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, backends()) as here:
        stays, goes = [Client(here.running.app, Revision.V2025_11_25) for _ in range(2)]
        await goes.initialize()
        await stays.initialize()
        name = (await here.get("sessions"))["sessions"][0]["id"]
        answer = await here.ask("DELETE", f"/admin/v1/sessions/{name}")
        assert (answer.status, answer.body) == (200, {"ended": name})
        assert (await goes.ask("ping")).status == 404
        assert (await stays.ask("ping")).status == 200
        assert (await here.ask("DELETE", f"/admin/v1/sessions/{name}")).status == 404


async def test_the_level_of_the_log_changes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logging.getLogger().setLevel("WARNING")
    async with office(monkeypatch, tmp_path) as here:
        assert await here.post("log/level", {"level": "debug"}) == {"level": "debug", "before": "warning"}
        logging.getLogger("vmcp.test").debug("a small thing")
        assert "a small thing" in (await here.get("log"))["lines"]
        for body in ({"level": "loud"}, {"level": 3}, {}):
            assert (await here.ask("POST", "/admin/v1/log/level", body)).status == 400
        assert logging.getLogger().level == logging.DEBUG


async def test_the_log_goes_on_where_one_has_read_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path) as here:
        logging.getLogger().setLevel("INFO")
        log = logging.getLogger("vmcp.test")
        for number in range(5):
            log.info(f"line {number}")  # noqa: G004 - as tests do
        told = await here.get("log?lines=2")
        assert told["lines"] == ["line 3", "line 4"]
        log.info("line 5")
        assert (await here.get(f"log?since={told['last']}"))["lines"] == ["line 5"]
        for query in ("lines=x", "since=-1", "lines=1234567890"):
            assert (await here.ask("GET", f"/admin/v1/log?{query}")).status == 400


async def test_what_is_kept_of_results_is_cleared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, backends()) as here:
        assert await here.post("cache/clear") == {"cleared": 0}, "nothing is kept at all"
    cached = from_data({"enabled": True, "tools": {"t": "60s"}}, str)
    async with office(monkeypatch, tmp_path, backends(), cache=cached) as here:
        client = Client(here.running.app)
        for _ in range(2):
            await client.call("t")
        assert (await here.get("metrics"))["metrics"]["vmcp_requests_cached_total"] == 1
        assert await here.post("cache/clear", {"pattern": "b/*"}) == {"cleared": 0}
        assert await here.post("cache/clear", {"pattern": "a/*"}) == {"cleared": 1}


async def test_the_audit_log_says_who_has_done_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    async with office(
        monkeypatch, tmp_path, backends(), listen=True, audit=AuditSpec(str(log)), text="nonsense"
    ) as here:
        shown = {"Authorization": f"Bearer {here.token.read_text().strip()}"}
        assert (await here.ask("POST", "/admin/v1/backends/a/reset", headers=shown, port=True)).status == 200
        assert (await here.ask("POST", "/admin/v1/backends/none/reset", headers=shown, port=True)).status == 404
        assert (
            await here.ask("POST", "/admin/v1/drain", headers={"Authorization": "Bearer x"}, port=True)
        ).status == 401
        assert (await here.ask("GET", "/admin/v1/status", port=True)).status == 401
        assert (await here.post("log/level", {"level": "error"}))["level"] == "error"
        assert (await here.post("reload"))["result"] == "rejected"
        await here.get("status")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    told = [
        (each["subjects"]["user_id"], each["outcome"], each["target"]["method"], each["metadata"]["extra"])
        for each in records
        if each["type"] == "admin_act"
    ]
    me = f"uid:{os.geteuid()}"
    assert [each[:3] for each in told] == [
        ("token", "success", "reset"),
        ("nobody", "denied", "refused"),
        (me, "success", "level"),
        (me, "failure", "reload"),
    ]
    assert told[0][3] == {"backend": "a", "transport": "http"}
    assert told[1][3]["reason"] == "show the token of admin.tokenFile"
    assert {each["subjects"]["issuer"] for each in records if each["type"] == "admin_act"} == {"vmcp admin"}


async def test_what_is_done_on_a_page_is_there_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    async with visitor(monkeypatch, tmp_path, backends(), audit=AuditSpec(str(log))) as guest:
        assert (await guest.send("backends/a/reset", {}))[0] == 303
        assert (await guest.send("backends/a/reset", {}, csrf="x"))[0] == 403
        assert (await guest.raw("GET", "/ui/?code=guessed"))[0] == 403
    found = [json.loads(line) for line in log.read_text().splitlines()]
    acts = [
        (each["subjects"]["user_id"], each["outcome"], each["target"]["method"])
        for each in found
        if each["type"] == "admin_act"
    ]
    (who,) = {name for name, _, _ in acts if name.startswith("page:")}
    assert acts == [
        (f"uid:{os.geteuid()}", "success", "login"),
        (who, "success", "reset"),
        ("nobody", "denied", "refused"),
        ("nobody", "denied", "refused"),
    ]
