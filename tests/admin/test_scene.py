"""How all hangs together. Rule: a house with real layers; whatever wants a look is told with its reason."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.admin.offices import Office, office
from tests.server.clients import Door as Client
from tests.server.peers import Server, echo, tool, until
from vmcp.admin import scene
from vmcp.config.authz import Authz
from vmcp.config.health import BreakerSpec
from vmcp.config.limits import Bucket, RateLimits
from vmcp.config.lock import LockSpec
from vmcp.protocol.revisions import Revision
from vmcp.upstream.breaker import Breaker

TEXT = "name: test\ngroups: {g: {backends: {a: {url: 'http://x/'}}}}\n"


def two() -> dict[str, Server]:
    return {"a": Server(tools=[tool("read")], script=echo), "b": Server(refusal="connection refused")}


def wants(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["severity"], each["what"], each["why"]) for each in told["attention"]]


async def test_the_whole_is_told_in_a_sentence_and_in_its_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with office(monkeypatch, tmp_path, two()) as here:
        found = await here.get("overview")
        assert found["summary"].startswith("1 of 2 backends healthy · 1 tools · config ")
        assert [each["name"] for each in found["backends"]] == ["a", "b"]
        assert {(each["endpoint"], each["backend"]) for each in found["edges"]} == {
            (path, name) for path in ("/mcp", "/g/mcp") for name in "ab"
        }
        assert {len(found["history"][key]) for key in ("requests", "errors", "p95", "inFlight")} == {60}
        assert (await here.get("overview?span=hour"))["history"]["span"] == "hour"
        assert ("bad", "b is down", "connection refused") in wants(found)


async def test_what_passes_is_seen_on_its_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, two()) as here:
        modern = Client(here.running.app)
        old = Client(here.running.app, Revision.V2025_11_25)
        await old.initialize(clientInfo={"name": "desk", "version": "3"})
        for client in (modern, old):
            await client.ask("tools/call", {"name": "read", "arguments": {}})
        await until(lambda: len(here.running.recent.exchanges()) >= 2)
        clients = (await here.get("overview"))["clients"]
        assert {(each["name"], each["sessions"]) for each in clients} >= {("desk 3", 1), ("anonymous", 0)}
        assert (await here.get("backends/a"))["usage"]["count"] == 2
        assert (await here.get("backends/b"))["usage"] is None


async def test_circuits_and_the_end_want_a_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, two()) as here:
        vitals: Any = here.running.backends["a"].vitals  # type: ignore[union-attr]
        vitals.breaker = Breaker(BreakerSpec(failures=1))
        vitals.breaker.failed(0, asyncio.get_running_loop().time())
        here.running.drain()
        told = wants(await here.get("overview"))
        assert ("bad", "the circuit of a is open", "it failed too often") in told
        assert told[0] == ("bad", "vmcp is draining", "no new traffic is let in until it is stopped")
        assert (await here.get("backends/a"))["facts"]["breaker"]["waitSeconds"] > 0


async def test_names_that_clash_are_told_once_for_each_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = {name: Server(tools=[tool("same")], script=echo) for name in "ab"}
    async with office(monkeypatch, tmp_path, both) as here:
        told = [each for each in (await here.get("overview"))["attention"] if each["about"] == "endpoint"]
        assert [each["what"] for each in told] == ["1 thing is kept out of g"]
        found = await here.get("endpoints")
        assert found["endpoints"][0]["behind"] == ["a", "b"]
        assert (found["access"], found["checks"]) == ("whoever reaches it", [])


async def _disk(here: Office) -> list[tuple[str, str, str]]:
    told = await here.get("overview")
    return [each for each in wants(told) if "files" in each[1] or "reload" in each[1]]


async def test_files_that_say_something_else_want_a_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, two(), text=TEXT) as here:
        assert await _disk(here) == [("warn", "the files say something else than what runs", "reload to apply them")]
        (tmp_path / "vmcp.yaml").write_text("wrong: 1\n")
        ((severity, what, why),) = await _disk(here)
        assert (severity, what) == ("bad", "the files cannot take over")
        assert why.startswith("invalid: ")
        assert (await here.post("reload"))["result"] == "rejected"
        ((severity, what, why),) = await _disk(here)
        assert (severity, what) == ("bad", "the last reload was rejected")
        assert "wrong" in why


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        ({"health": "unknown"}, []),
        ({"health": "degraded", "why": "slow"}, [("warn", "x is degraded", "slow")]),
        ({"health": "unhealthy", "why": "silent"}, [("bad", "x is unhealthy", "silent")]),
        (
            {"breakers": ["open", "closed"]},
            [("bad", "the circuit of x is open at 1 of 2 places", "it failed too often")],
        ),
    ],
)
def test_a_backend_that_is_not_well_is_told(backend: dict[str, Any], told: list[tuple[str, str, str]]) -> None:
    usual = {"name": "x", "state": "up", "health": "healthy", "why": "", "breakers": []}
    assert wants({"attention": list(scene._of_backends([{**usual, **backend}]))}) == told


async def test_an_endpoint_says_what_a_call_has_to_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "authz": Authz(("permit (principal, action, resource);",)),
        "rate_limits": RateLimits(shared=Bucket(100, 1.0)),
        "lock": LockSpec(policy="warn"),
    }
    async with office(monkeypatch, tmp_path, two(), **more) as here:
        assert (await here.get("endpoints"))["checks"] == ["Cedar policies", "rate limits", "the lock file"]


def test_many_names_are_cut() -> None:
    assert scene._some(["a"]) == "a"
    assert scene._some([*"abcdefg"]) == "a, b, c, d, e and 2 more"
