"""What an operator is shown. Rule: of a house with real layers, over the socket; planted secrets are looked for in all of it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.admin.offices import office
from tests.server.clients import Door as Client
from tests.server.peers import Server, echo, tool, until
from vmcp.admin.routes import BEFORE, WAYS
from vmcp.admin.views import nickname
from vmcp.config.health import BreakerSpec
from vmcp.config.load import load
from vmcp.config.model import Aggregation, Override, Selection
from vmcp.protocol.revisions import Revision
from vmcp.upstream.breaker import Breaker

SECRET = "hush-7c1d"


def two() -> dict[str, Server]:
    return {
        "a": Server(tools=[tool("read"), tool("write"), tool("drop")], script=echo),
        "b": Server(refusal=f"connection refused by http://10.0.0.7/?token={SECRET}"),
    }


async def test_the_status_says_how_all_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, two()) as here:
        found = await here.get("status")
        assert (found["name"], found["status"], found["ready"]) == ("test", "degraded", True)
        assert found["backends"] == {"total": 2, "up": 1, "healthy": 1}
        assert [each["url"] for each in found["endpoints"]] == [
            f"http://127.0.0.1:4483{path}" for path in ("/mcp", "/g/mcp")
        ]
        mcp = found["endpoints"][0]
        assert (mcp["tools"], mcp["missing"]) == (3, ["b"])
        here.running.drain()
        assert (await here.get("status"))["status"] == "stopping"


async def test_a_backend_says_what_becomes_of_all_that_it_offers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overrides = {"read": Override(name="look", description="Look at it.")}
    rules = Aggregation(strategy="prefix", tools={"a": Selection(exclude=("drop",), overrides=overrides)})
    async with office(monkeypatch, tmp_path, two(), aggregation=rules) as here:
        found = await here.get("backends/a")
        offers = [(each["original"], each["name"], each["state"]) for each in found["offers"]]
        assert offers == [("read", "a_look", "listed"), ("write", "a_write", "listed"), ("drop", "", "hidden")]
        assert [(each["prefix"], each["overrides"]) for each in found["offers"]] == [
            ("a_", ["name", "description"]),
            ("a_", []),
            ("", []),
        ]
        assert (found["state"], found["health"], found["isolation"]) == ("up", "healthy", "shared")
        assert "active" in found["facts"]
        assert (await here.ask("GET", "/admin/v1/backends/none")).status == 404
        line = (await here.get("backends"))["backends"][1]
        assert (line["name"], line["state"], line["protocolVersion"]) == ("b", "down", None)


async def test_what_lost_its_name_is_told_with_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = {name: Server(tools=[tool("same")], script=echo) for name in "ab"}
    async with office(monkeypatch, tmp_path, both) as here:
        (kept_out,) = (await here.get("status"))["endpoints"][0]["quarantined"]
        loser = kept_out["backend"]
        (offer,) = (await here.get(f"backends/{loser}"))["offers"]
        assert (offer["state"], offer["original"]) == ("quarantined", "same")
        assert offer["why"]


async def test_a_list_is_short_and_one_thing_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, two()) as here:
        found = (await here.get("tools"))["tools"]
        assert [each["name"] for each in found] == ["read", "write", "drop"], "once, though served at two paths"
        assert all(each["tokens"] > 0 and "definition" not in each for each in found)
        (one,) = (await here.get("tools?name=write&path=/g/mcp"))["tools"]
        assert one["definition"]["name"] == "write"
        assert (await here.get("prompts")) == {"prompts": []}
        assert (await here.ask("GET", "/admin/v1/tools?path=/none")).status == 404


async def test_a_session_is_named_and_not_betrayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, two()) as here:
        info = {"name": "desk\x1b[31m", "version": "3"}
        await Client(here.running.app, Revision.V2025_11_25).initialize(clientInfo=info)
        await until(lambda: len(here.running.sessions) == 1)
        (session,) = here.running.sessions
        (shown,) = (await here.get("sessions"))["sessions"]
        assert shown["id"] == nickname(session.id)
        assert session.id not in json.dumps(shown)
        assert (shown["client"], shown["path"], shown["protocolVersion"]) == ("desk[31m 3", "/mcp", "2025-11-25")


async def test_a_breaker_is_shown_and_reset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, two()) as here:
        assert (await here.get("backends/a"))["breakers"] == []
        vitals: Any = here.running.backends["a"].vitals  # type: ignore[union-attr]
        vitals.breaker = Breaker(BreakerSpec(failures=1))
        vitals.breaker.failed(0, asyncio.get_running_loop().time())
        assert (await here.get("backends/a"))["breakers"] == ["open"]
        assert await here.post("backends/a/reset") == {"reset": "a"}
        assert (await here.get("backends/a"))["breakers"] == ["closed"]
        assert (await here.ask("POST", "/admin/v1/backends/none/reset")).status == 404


async def test_no_answer_holds_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    text = (
        "name: test\ngroups: {g: {backends: {a: {url: 'http://x/?key=${PLANTED}', headers: {X-Key: literal-"
        + SECRET
        + "}, auth: {type: bearer, bearer: {token: '${PLANTED}'}}}}}}\n"
    )
    async with office(monkeypatch, tmp_path, two(), text=text) as here:
        object.__setattr__(here.running.config, "digest", load([("f", text)], os.environ)[0].digest)
        for way in WAYS:
            if way.method == "GET":
                answer = await here.ask("GET", BEFORE + way.path.replace("*", "b"))
                assert answer.status == 200
                assert SECRET not in json.dumps(answer.body), way.path
        shown = (await here.get("config"))["config"]["groups"]["g"]["backends"]["a"]
        assert shown["headers"] == {"X-Key": "***"}
        assert "http://x/" not in json.dumps(shown["url"]), "all of it came from the environment, as far as one knows"
