"""A session belongs to the person who opened it: everybody else who knows its id finds nothing there, by any verb and transport.

The rule: what a stranger is told is what is told about a session that never was; the owner's session lives on.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.auth.house import AUDIENCE, BOTH, INFO, Caller, House, Json, bearer, serving
from tests.auth.recorder import recording
from tests.auth.settings import house, oidc
from tests.real.issuer import Issuer, claims, issuer
from tests.server.clients import unnamed

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

STRANGERS = ("another user", "the same name elsewhere", "a machine", "nobody")
VERBS = ("POST", "GET", "DELETE")
UNKNOWN = "x" * 43
SHORT, LATE = 6, 6
"""Seconds that a token lives, and that its streams may outlive it: one of leeway, and five."""
HELLO = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": INFO}


class World(NamedTuple):
    """vmcp, and the tokens of everybody."""

    house: House
    issuer: Issuer
    tokens: dict[str, str | None]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sessions")
    with ExitStack() as stack:
        made, other = (stack.enter_context(issuer(folder / name)) for name in ("issuer", "other"))
        recorder = stack.enter_context(recording())
        login = made.login("ada", AUDIENCE)
        tokens = {
            "owner": login["access_token"],
            "refreshed": made.refreshed(login["refresh_token"], AUDIENCE)["access_token"],
            "another user": made.login("bob", AUDIENCE)["access_token"],
            "the same name elsewhere": other.login("ada", AUDIENCE)["access_token"],
            "a machine": made.token_of("robot", AUDIENCE),
            "nobody": None,
        }
        assert tokens["owner"] != tokens["refreshed"]
        both = oidc(made, leeway="1s") | {"issuers": [oidc(other)["oidc"]]}
        yield World(stack.enter_context(serving(house(both, recorder), folder)), made, tokens)


@pytest.mark.parametrize("who", ["owner", "refreshed", *STRANGERS[:-1]])
def test_everybody_who_has_a_token_may_open_a_session_of_his_own(world: World, who: str) -> None:
    caller = Caller(world.house, world.tokens[who]).open()
    assert caller.call("notes_say")["result"]
    caller.close()


def ping(caller: Caller, verb: str) -> httpx.Response:
    """One request of this verb; of a stream only its head."""
    if verb == "POST":
        return caller.post("tools/list")
    url, headers = f"{caller.house.url}{caller.path}", caller.headers()
    if verb == "DELETE":
        return caller.http.delete(url, headers=headers)
    with caller.http.stream("GET", url, headers=headers | {"Accept": "text/event-stream"}) as answer:
        if answer.status_code != 200:
            answer.read()
        return answer


@pytest.mark.parametrize("verb", VERBS)
class TestStreamableHttp:
    """The session id is in a header."""

    @pytest.mark.parametrize("who", STRANGERS)
    def test_a_stranger_finds_no_session(self, world: World, who: str, verb: str) -> None:
        owner = Caller(world.house, world.tokens["owner"]).open()
        stranger = Caller(world.house, world.tokens[who], session=owner.session)
        nowhere = Caller(world.house, world.tokens[who], session=UNKNOWN)
        found, never = ping(stranger, verb), ping(nowhere, verb)
        assert found.status_code == never.status_code == (401 if who == "nobody" else 404)
        assert unnamed(found.content) == unnamed(never.content)
        assert owner.call("notes_say", word="still here")["result"]
        owner.close()

    def test_a_refreshed_token_of_the_owner_finds_it(self, world: World, verb: str) -> None:
        owner = Caller(world.house, world.tokens["owner"]).open()
        assert ping(Caller(world.house, world.tokens["refreshed"], session=owner.session), verb).is_success
        owner.close()


def test_a_stranger_does_not_displace_the_stream_of_the_owner(world: World) -> None:
    owner = Caller(world.house, world.tokens["owner"]).open()
    url, headers = f"{world.house.url}/mcp", {"Accept": "text/event-stream"}
    with owner.http.stream("GET", url, headers=owner.headers() | headers) as stream:
        assert stream.status_code == 200
        stranger = Caller(world.house, world.tokens["another user"], session=owner.session)
        assert ping(stranger, "GET").status_code == 404
        assert ping(stranger, "DELETE").status_code == 404
        assert not stream.is_closed
    assert owner.call("notes_say")["result"]
    owner.close()


@contextlib.asynccontextmanager
async def legacy(world: World, who: str) -> AsyncIterator[tuple[httpx.AsyncClient, str, AsyncIterator[str]]]:
    """The event stream of HTTP+SSE: a client, where its messages go, and what comes."""
    headers = {"Accept": "text/event-stream"} | bearer(world.tokens[who])
    url = f"{world.house.url}/sse"
    async with (
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
        http.stream("GET", url, headers=headers) as stream,
    ):
        assert stream.status_code == 200, stream.status_code
        data = (line.removeprefix("data:").strip() async for line in stream.aiter_lines() if line.startswith("data:"))
        yield http, f"{world.house.url}{await anext(data)}", data


def message(number: int, method: str, params: Json | None = None) -> Json:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}


@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger_cannot_post_to_the_event_stream_of_another(world: World, who: str) -> None:
    async def story() -> tuple[int, int, Json]:
        async with legacy(world, "owner") as (http, endpoint, data):
            own = BOTH | bearer(world.tokens["owner"])
            assert (await http.post(endpoint, json=message(1, "initialize", HELLO), headers=own)).status_code == 202
            assert json.loads(await anext(data))["id"] == 1
            foreign = BOTH | bearer(world.tokens[who])
            found = await http.post(endpoint, json=message(666, "tools/list"), headers=foreign)
            nowhere = endpoint.partition("=")[0] + "=" + UNKNOWN
            never = await http.post(nowhere, json=message(667, "tools/list"), headers=foreign)
            renewed = BOTH | bearer(world.tokens["refreshed"])
            assert (await http.post(endpoint, json=message(2, "ping"), headers=renewed)).status_code == 202
            async with asyncio.timeout(10):
                return found.status_code, never.status_code, json.loads(await anext(data))

    found, never, heard = uvloop.run(story())
    assert found == never == (401 if who == "nobody" else 404)
    assert heard["id"] == 2, f"the stranger's request was answered to the owner: {heard}"


@pytest.mark.parametrize("who", ["owner", "nobody"])
def test_a_websocket_opens_with_a_token_only(world: World, who: str) -> None:
    async def story() -> int:
        url = f"ws://localhost:{world.house.port}/ws"
        try:
            async with connect(url, additional_headers=bearer(world.tokens[who]), proxy=None, compression=None) as wire:
                await wire.send(json.dumps(message(1, "initialize", HELLO)))
                assert json.loads(await wire.recv())["result"]["serverInfo"]["name"] == "guarded"
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    assert uvloop.run(story()) == (101 if who == "owner" else 401)


@pytest.mark.parametrize("who", STRANGERS)
def test_the_session_of_a_websocket_is_none_on_http_and_the_other_way_round(world: World, who: str) -> None:
    async def story() -> list[int]:
        async with legacy(world, "owner") as (http, endpoint, _):
            told = BOTH | bearer(world.tokens[who]) | {"Mcp-Session-Id": endpoint.partition("=")[2]}
            url = f"{world.house.url}/mcp"
            return [
                (await http.post(url, json=message(1, "tools/list"), headers=told)).status_code,
                (await http.delete(url, headers=told)).status_code,
            ]

    assert set(uvloop.run(story())) == {401 if who == "nobody" else 404}


class TestExpiry:
    """A token that has ended ends what was opened with it."""

    def test_the_standing_stream_ends_and_the_session_waits_for_the_next_token(self, world: World) -> None:
        world.issuer.order(ttl=SHORT)
        try:
            login = world.issuer.login("ada-short", AUDIENCE)
        finally:
            world.issuer.order(ttl=600)
        owner = Caller(world.house, login["access_token"]).open()
        url = f"{world.house.url}/mcp"
        with owner.http.stream(
            "GET", url, headers=owner.headers() | {"Accept": "text/event-stream"}, timeout=90
        ) as stream:
            assert stream.status_code == 200
            begun = time.time()
            for _ in stream.iter_raw():
                pass
            assert claims(login["access_token"])["exp"] - 1 <= time.time() <= begun + SHORT + LATE
        assert owner.post("tools/list").status_code == 401
        owner.token = world.issuer.refreshed(login["refresh_token"], AUDIENCE)["access_token"]
        assert owner.call("notes_say", word="again")["result"]
        owner.close()

    def test_the_two_way_transports_are_closed(self, world: World) -> None:
        world.issuer.order(ttl=SHORT)
        try:
            world.tokens["short"] = world.issuer.login("ada-short", AUDIENCE)["access_token"]
        finally:
            world.issuer.order(ttl=600)

        async def sse() -> None:
            async with legacy(world, "short") as (_, _, data):
                async for _ in data:
                    pass

        async def websocket() -> None:
            url = f"ws://localhost:{world.house.port}/ws"
            async with connect(url, additional_headers=bearer(world.tokens["short"]), proxy=None) as wire:
                await wire.send(json.dumps(message(1, "initialize", HELLO)))
                await wire.recv()
                with pytest.raises(ConnectionClosed, match="1008"):
                    await wire.recv()

        async def story() -> None:
            async with asyncio.timeout(SHORT + LATE), asyncio.TaskGroup() as group:
                group.create_task(sse())
                group.create_task(websocket())

        uvloop.run(story())
        assert time.time() >= claims(str(world.tokens["short"]))["exp"] - 1
