"""Token exchange with a real authorization server: a backend acts as the caller, or it is not called at all.

The rule: what a call was made as is read at the backend from the token that it got, never from what vmcp says.
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import uvloop

from tests.auth.house import AUDIENCE, Caller, House, Json, call_once, failed, reply, serving
from tests.auth.recorder import Recorder, recording
from tests.auth.settings import exchange, house, oidc
from tests.real.issuer import Issuer, claims, issuer

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

BACKENDS = tuple(f"b{number}" for number in range(10))
USERS = ("ada", "bob")
TOKENS = int(os.environ.get("VMCP_EXCHANGES", "1000")) // (len(BACKENDS) * len(USERS))
"""Of each user, so that with all backends there are as many exchanges as that."""
AT_ONCE = 60


class World(NamedTuple):
    issuer: Issuer
    recorder: Recorder
    house: House


def audience(name: str) -> str:
    return f"https://{name}.example"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made, recorder = stack.enter_context(issuer(tmp_path / "issuer")), stack.enter_context(recording())
        strategies = {name: exchange(made, audience(name)) for name in BACKENDS}
        config = house(oidc(made), recorder, *BACKENDS, outgoingAuth={"source": "inline", "backends": strategies})
        config["groups"]["all"]["backends"]["plain"] = {"url": recorder.url("plain")}
        env = {"STS_SECRET": made.secrets["gateway"]}
        yield World(made, recorder, stack.enter_context(serving(config, tmp_path, env)))


async def many(world: World, plan: list[tuple[str, str, str]]) -> list[tuple[str, Json]]:
    """Every planned call (user, token, backend), many at a time: who called, and as whom the backend was called."""
    gate = asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits) as http:

        async def one(user: str, token: str, backend: str) -> tuple[str, Json]:
            async with gate:
                answer = await call_once(http, world.house, token, f"{backend}_whoami", word=f"{user}/{backend}")
            told = reply(answer)
            assert "result" in told, told
            return user, told["result"]["structuredContent"]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*planned)) for planned in plan]
    return [task.result() for task in tasks]


def test_many_exchanges_for_two_users_at_once_reach_every_backend_as_the_caller(world: World) -> None:
    plans: dict[str, list[tuple[str, str, str]]] = {}
    for user in USERS:
        login = world.issuer.login(user, AUDIENCE)
        for number in range(TOKENS):
            login = login if number == 0 else world.issuer.refreshed(login["refresh_token"], AUDIENCE)
            plans.setdefault(user, []).extend((user, login["access_token"], backend) for backend in BACKENDS)
    plan = [one for pair in zip(*plans.values(), strict=True) for one in pair]  # the users take turns
    world.issuer.order(forget=True)
    found = uvloop.run(many(world, plan))
    wrong = [(user, told) for user, told in found if told["sub"] != user or not told["word"].startswith(f"{user}/")]
    assert wrong == []
    assert all(told["aud"] == audience(told["word"].partition("/")[2]) for _, told in found)
    assert all(told["act"] == {"sub": "gateway"} for _, told in found)
    exchanges = world.issuer.order()["exchanges"]
    asked = Counter((one["subject_token"], one["audience"]) for one in exchanges)
    assert len(asked) == len(plan)
    assert set(asked.values()) == {1}
    assert {one["scope"] for one in exchanges} == {"tools"}
    received = world.recorder.bytes_of()
    assert not [token for _, token, _ in plan if token.encode() in received]


def test_a_herd_of_calls_with_one_new_token_makes_one_exchange(world: World) -> None:
    token = world.issuer.login("ada", AUDIENCE)["access_token"]
    world.issuer.order(forget=True, delay=500)
    found = uvloop.run(many(world, [("ada", token, "b0")] * 200))
    assert {told["sub"] for _, told in found} == {"ada"}
    assert len(world.issuer.order()["exchanges"]) == 1


@pytest.mark.parametrize(
    "wrong", ["refuse", "broken", "garbage", "wrong audience", "wrong subject", "wrong type", "echo"]
)
def test_a_call_whose_exchange_fails_is_not_made(world: World, wrong: str) -> None:
    token = world.issuer.login("ada", AUDIENCE)["access_token"]
    caller = Caller(world.house, token).open()
    world.issuer.order(exchange=wrong)
    before = len(world.recorder.calls)
    answer = caller.post("tools/call", {"name": "b0_whoami", "arguments": {}})
    assert answer.status_code == 200
    assert "www-authenticate" not in answer.headers
    told = reply(answer)
    assert failed(told), told
    assert len(world.recorder.calls) == before
    assert token.encode() not in world.recorder.bytes_of()
    # What needs no exchange still works, and so does the backend as soon as the exchange does.
    assert caller.call("plain_whoami")["result"]["structuredContent"]["sub"] is None
    world.issuer.order(exchange="right")
    later = Caller(world.house, world.issuer.login("ada", AUDIENCE)["access_token"]).open()
    assert later.call("b0_whoami")["result"]["structuredContent"]["sub"] == "ada"
    caller.close()
    later.close()


def test_a_token_server_that_is_away_fails_the_call_in_time_and_falls_back_to_nothing(world: World) -> None:
    token = world.issuer.login("ada", AUDIENCE)["access_token"]
    caller = Caller(world.house, token).open()
    assert caller.call("b1_whoami")["result"]["structuredContent"]["sub"] == "ada"
    world.issuer.stop()
    assert caller.call("b1_whoami")["result"]["structuredContent"]["sub"] == "ada"  # the token it has is still good
    told = caller.call("b0_whoami")
    assert failed(told), told
    assert token.encode() not in world.recorder.bytes_of()
    caller.close()


@pytest.mark.parametrize("status", [401, 403])
def test_the_refusal_of_a_backend_is_not_told_as_ours(world: World, status: int) -> None:
    caller = Caller(world.house, world.issuer.login("ada", AUDIENCE)["access_token"]).open()
    world.recorder.refuse = status
    answer = caller.post("tools/call", {"name": "b0_whoami", "arguments": {}})
    assert answer.status_code == 200
    assert "www-authenticate" not in answer.headers
    assert "backend's own" not in answer.text
    told = reply(answer)
    assert failed(told), told
    caller.close()


def test_sessions_of_two_users_at_a_backend_are_two(world: World) -> None:
    callers = {user: Caller(world.house, world.issuer.login(user, AUDIENCE)["access_token"]).open() for user in USERS}
    for user, caller in callers.items():
        assert caller.call("b0_whoami")["result"]["structuredContent"]["sub"] == user
        caller.close()
    seen: dict[str, set[str]] = {}
    for raw in (raw.decode() for path, raw in world.recorder.received if path == "/b0/mcp"):
        session, shown = (
            re.search(rf"^{name}: (.*)$", raw, re.I | re.M) for name in ("mcp-session-id", "authorization")
        )
        if session and shown:
            token = shown[1].split()[1]
            seen.setdefault(session[1], set()).add(claims(token)["sub"] if token.count(".") == 2 else "vmcp itself")
    assert {subject for subjects in seen.values() for subject in subjects} >= set(USERS)
    assert {session: subjects for session, subjects in seen.items() if len(subjects) != 1} == {}
