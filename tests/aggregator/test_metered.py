"""The limits that many share, through the whole house: what reaches a backend counts, and nothing else does.

Rule: beside every limit stands a call that it does not touch.
"""

from typing import Any

import pytest

from tests.middleware.calls import call as made
from tests.server.clients import Answer, Door
from tests.server.peers import Server, echo, house, tool
from vmcp.aggregator.metered import Meter, Metered, per_user
from vmcp.call import Identity
from vmcp.config.limits import Bucket, Limited, RateLimits
from vmcp.errors import Throttled
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route
from vmcp.state.buckets import Buckets
from vmcp.upstream.ask import Outgoing

HOUR = 3600.0
ONE, TWO = Bucket(1, HOUR), Bucket(2, HOUR)


def server(*names: str) -> Server:
    return Server(tools=[tool(name) for name in names], script=echo)


async def call(door: Door, name: str) -> Answer:
    return await door.ask("tools/call", {"name": name})


def limits(answer: Answer) -> Any:
    """None when it was served."""
    return answer.error["data"] if "error" in answer.message else None


async def many(monkeypatch: pytest.MonkeyPatch, rates: RateLimits, names: list[str]) -> list[bool]:
    """Whether each call was served."""
    backends = {"a": server("read", "write"), "b": server("search")}
    async with house(monkeypatch, backends, rate_limits=rates) as running:
        door = Door(running.app)
        return [limits(await call(door, name)) is None for name in names]


async def test_a_refusal_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = server("read")
    async with house(monkeypatch, {"a": backend}, rate_limits=RateLimits(shared=ONE)) as running:
        door = Door(running.app)
        assert limits(await call(door, "read")) is None
        answer = await call(door, "read")
        assert answer.error["code"] == -32603
        assert answer.error["message"] == "'read' is asked for too often; try again in 3600 s"
        assert answer.error["data"].items() >= {"retryAfter": 3600, "vmcpCode": 5000}.items()
        assert [asked.method for asked in backend.asked].count("tools/call") == 1, "the refused never got there"


async def test_the_shared_limit_counts_what_is_served_and_not_what_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["nothing", "nothing", "read", "search", "read"]
    assert await many(monkeypatch, RateLimits(shared=TWO), asked) == [False, False, True, True, False]


async def test_the_users_own_limit_counts_guesses_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["nothing", "nothing", "read"]
    assert await many(monkeypatch, RateLimits(per_user=TWO), asked) == [False, False, False]
    assert await many(monkeypatch, RateLimits(per_user=TWO), asked[1:]) == [False, True]


async def test_a_tool_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = RateLimits(tools=(Limited("read", shared=ONE),))
    assert await many(monkeypatch, rates, ["read", "read", "write", "write"]) == [True, False, True, True]


async def test_tools_of_one_glob_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = RateLimits(tools=(Limited("*r*d", per_user=ONE), Limited("*", shared=TWO)))
    assert await many(monkeypatch, rates, ["read", "read", "write", "write"]) == [True, False, True, False]


async def test_a_backend_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = RateLimits(backends=(Limited("a", shared=ONE, per_user=TWO),))
    asked = ["read", "write", "search", "search"]
    assert await many(monkeypatch, rates, asked) == [True, False, True, True]


class Ways:
    async def send(self, call: Any, route: Any, outgoing: Any) -> Any:
        return "sent"


def metered(rates: RateLimits) -> Metered:
    return Metered(Ways(), Meter(rates), Buckets(lambda: 0.0))


T = Route(Kind.TOOL, "t", "a", "t", b"", b"")


async def test_what_spares_a_backend_work_is_free_and_a_task_is_no_tool() -> None:
    rates = RateLimits(shared=TWO, tools=(Limited("t", per_user=ONE),))
    ways = metered(rates)
    for _ in range(3):
        assert await ways.send(made(method="tasks/cancel", name="t"), T, Outgoing({})) == "sent"
    poll = made(method="tasks/get", name="t")
    assert await ways.send(poll, T, Outgoing({})) == "sent", "a task that is called like a tool is no tool"
    assert await ways.send(made(name="t"), T, Outgoing({})) == "sent"
    refused = made(name="t")
    with pytest.raises(Throttled):
        await ways.send(refused, T, Outgoing({}))
    assert refused.trail.limited == "rateLimiting.tools[t].perUser", "of two, the one that takes longer is told"
    assert per_user(rates) is None


async def test_each_user_has_his_own_of_a_tool_and_one_abuser_cannot_use_up_the_others() -> None:
    ways = metered(RateLimits(tools=(Limited("t", per_user=ONE),), backends=(Limited("a", shared=TWO),)))
    eve, ann = (made(name="t", identity=Identity("https://idp", who)) for who in ("eve", "ann"))
    await ways.send(eve, T, Outgoing({}))
    for _ in range(10):
        with pytest.raises(Throttled):
            await ways.send(eve, T, Outgoing({}))
    assert eve.trail.limited == "rateLimiting.tools[t].perUser"
    assert await ways.send(ann, T, Outgoing({})) == "sent", "what was refused took nothing of what is shared"


@pytest.mark.parametrize("revision", [Revision.V2024_11_05, Revision.V2025_11_25])
async def test_a_new_session_is_no_way_around(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    async with house(monkeypatch, {"a": server("t")}, rate_limits=RateLimits(per_user=ONE)) as running:
        served = []
        for _ in range(3):
            door = Door(running.app, revision)
            await door.initialize()
            served.append(limits(await call(door, "t")) is None)
        assert served == [True, False, False]
