"""API keys from end to end: who shows one is who the file says, over every transport, and its text is nowhere.

The rule: the process is the real one; a wrong key stands beside each right one.
"""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.auth.canaries import Canaries, everything_in, of_process
from tests.auth.house import INFO, Caller, House, bearer, serving
from tests.auth.recorder import Recorder, recording
from tests.auth.settings import house
from tests.server.clients import unnamed

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
UNKNOWN = "x" * 43


class World(NamedTuple):
    house: House
    recorder: Recorder
    keys: Canaries


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, keys = tmp_path_factory.mktemp("local"), Canaries()
    people = [
        {"subject": name, "sha256": hashlib.sha256(keys.plant(name).encode()).hexdigest()} for name in ("ada", "bob")
    ]
    with ExitStack() as stack:
        recorder = stack.enter_context(recording())
        config = house({"type": "local", "local": {"keys": people}}, recorder)
        config["audit"] = {"enabled": True, "logFile": str(folder / "audit.jsonl")}
        yield World(stack.enter_context(serving(config, folder)), recorder, keys)


def shows(world: World, name: str) -> Caller:
    return Caller(world.house, world.keys.planted[name])


def test_a_key_opens_the_door_and_stays_there(world: World) -> None:
    caller = shows(world, "ada").open()
    assert caller.call("notes_say", word="hello")["result"]["structuredContent"]["word"] == "hello"
    assert world.keys.seen(world.recorder.bytes_of()) == set()
    caller.close()


def test_a_key_may_come_in_a_header_of_its_own(world: World) -> None:
    caller = Caller(world.house, None)
    assert caller.post("initialize", HELLO, X_API_Key=world.keys.planted["ada"]).status_code == 200
    assert caller.post("initialize", HELLO, X_API_Key="not-a-key").status_code == 401


@pytest.mark.parametrize("flaw", ["none", "cut", "longer", "case", "hash", "both", "query"])
def test_what_is_not_quite_a_key_opens_nothing(world: World, flaw: str) -> None:
    key = world.keys.planted["ada"]
    shown = {"none": None, "cut": key[:-1], "longer": f"{key}x", "case": key.upper(), "query": None}.get(flaw, key)
    if flaw == "hash":
        shown = hashlib.sha256(key.encode()).hexdigest()
    caller = Caller(world.house, shown, f"/mcp?api_key={key}" if flaw == "query" else "/mcp")
    extra = {"X_API_Key": world.keys.planted["bob"]} if flaw == "both" else {}
    assert caller.post("initialize", HELLO, **extra).status_code == (400 if flaw == "both" else 401)


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
def test_the_session_of_one_key_is_none_for_the_other(world: World, verb: str) -> None:
    owner = shows(world, "ada").open()
    told = {}
    for who, session in (("found", owner.session), ("never", UNKNOWN)):
        headers = owner.headers() | bearer(world.keys.planted["bob"]) | {"Mcp-Session-Id": str(session)}
        if verb == "GET":
            headers["Accept"] = "text/event-stream"
        content = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) if verb == "POST" else None
        answer = httpx.request(verb, f"{world.house.url}/mcp", headers=headers, content=content, trust_env=False)
        told[who] = (answer.status_code, unnamed(answer.content))
    assert told["found"] == told["never"]
    assert told["found"][0] == 404
    assert owner.call("notes_say")["result"]
    owner.close()


@pytest.mark.parametrize("who", ["ada", "nobody"])
def test_a_websocket_wants_a_key(world: World, who: str) -> None:
    async def story() -> int:
        headers = bearer(world.keys.planted.get(who))
        try:
            async with asyncio.timeout(10):
                url = f"ws://localhost:{world.house.port}/ws"
                async with connect(url, additional_headers=headers, proxy=None, compression=None) as wire:
                    await wire.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}))
                    return 101 if "result" in json.loads(await wire.recv()) else 0
        except InvalidStatus as refused:
            return refused.response.status_code

    assert uvloop.run(story()) == (101 if who == "ada" else 401)


def test_who_guesses_has_to_wait_and_who_knows_does_not(world: World) -> None:
    shows(world, "ada").open().close()
    statuses = [Caller(world.house, secrets.token_urlsafe(32)).post("ping").status_code for _ in range(40)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert shows(world, "ada").open().call("notes_say")["result"]


def test_no_key_is_written_down(world: World) -> None:
    shows(world, "bob").post("no/such/method")
    written = everything_in(world.house.folder, "vmcp.yaml")
    assert {"vmcp.log", "audit.jsonl"} <= written.keys()
    assert {name: seen for name, text in written.items() if (seen := world.keys.seen(text))} == {}
    assert world.keys.seen(of_process(world.house.pid, "cmdline")) == set()
