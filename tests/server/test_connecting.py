"""Logins in the whole house: from the refused call over the pages to the call that works, across a reload.

The rule: what one user has consented to is his alone, on every transport, and no reload asks him again.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.clients import Door
from tests.upstream.authorizing import World, visited, world
from vmcp.config.load import load
from vmcp.config.model import Config
from vmcp.errors import ConsentRequired
from vmcp.protocol.revisions import Revision
from vmcp.server.entrance import NoEntrance
from vmcp.server.runtime import Runtime

KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("ada", "bob")}
ORIGIN = "http://127.0.0.1:4483"
PAGES = {"elicitation": {"url": {}}}


def config(there: World, **more: Any) -> Config:
    keys = [{"subject": name, "sha256": hashlib.sha256(key.encode()).hexdigest()} for name, key in KEYS.items()]
    auth = {"type": "oauth", "oauth": {"issuer": there.authority.url}}
    data = {
        "name": "x",
        "incomingAuth": {"type": "local", "local": {"keys": keys}},
        "groups": {
            "g": {"backends": {"notes": {"url": f"{there.locked.url}/mcp", "protocol": "2025-11-25", "auth": auth}}}
        },
    }
    return load([("vmcp.yaml", json.dumps(data | more))], {})[0]


@pytest.fixture
async def there() -> AsyncIterator[World]:
    async with world() as made:
        made.locked.open_listing = True
        yield made


def browser(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN)


async def call(running: Runtime, name: str) -> Any:
    """What a client of 2025-11-25 gets for a call."""
    door = Door(running.app, Revision.V2025_11_25)
    key = f"Bearer {KEYS[name]}"
    asked = {"protocolVersion": "2025-11-25", "capabilities": PAGES, "clientInfo": {"name": "t", "version": "1"}}
    begun = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": asked}).encode()
    door.session = (await door.post(begun, authorization=key)).headers["mcp-session-id"]
    return await door.call("notes_echo", authorization=key)


def link(answer: Any) -> str:
    assert answer.error["code"] == -32042
    return str(answer.error["data"]["elicitations"][0]["url"])


async def test_a_login_in_the_whole_house_survives_a_reload(there: World) -> None:
    async with Runtime(config(there)) as running, browser(running.app) as mine:
        await running.current.settled.wait()
        page = await mine.get(link(await call(running, "ada")))
        form = dict(re.findall(r"name=(\w+) value='([^']*)'", page.text))
        leaving = await mine.post("/oauth/start", data=form, headers={"origin": ORIGIN})
        assert leaving.status_code == 303, leaving.text
        await running.adopt(config(there, metadata={"a": "b"}))
        answer = await visited(leaving.headers["location"], there.authority)
        back = await mine.get("/oauth/callback", params=answer)
        assert "ada is connected to notes" in back.text
        token = (await call(running, "ada")).result["content"][0]["text"]
        assert token in there.authority.live
        assert link(await call(running, "bob")) != page.url
        await running.adopt(config(there, metadata={"a": "c"}))
        assert (await call(running, "ada")).result["content"][0]["text"] == token
        assert set(there.locked.shown()) == {token}


async def test_a_form_of_another_page_is_refused_before_anything_is_looked_up(there: World) -> None:
    async with Runtime(config(there)) as running, browser(running.app) as mine:
        await running.current.settled.wait()
        page = await mine.get(link(await call(running, "ada")))
        form = dict(re.findall(r"name=(\w+) value='([^']*)'", page.text))
        for origin in ("https://evil.example", "null"):
            answer = await mine.post("/oauth/start", data=form, headers={"origin": origin})
            assert answer.status_code == 403
        assert (await mine.get(str(page.url), headers={"host": "evil.example"})).status_code == 421


async def test_what_is_no_call_needs_no_consent_and_is_never_made_with_a_users(there: World) -> None:
    async with Runtime(config(there)) as running:
        await running.current.settled.wait()
        consent = running.current.backends["notes"].consent
        assert consent is not None
        with pytest.raises(ConsentRequired):
            await consent.token(consent.lister, 1e12)
        assert not [token for method, token in there.locked.calls if token]


async def test_the_keys_of_the_state_are_those_of_the_tickets(there: World, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("11" * 32 + "\n", "ascii")
    state = {"keys": {"file": str(tmp_path / "keys")}}
    async with Runtime(config(there, state=state)) as one, Runtime(config(there, state=state)) as two:
        sealed = one._fixtures.seal.wrap(b"x", b"p")
        assert two._fixtures.seal.unwrap(sealed, b"p") == b"x"


async def test_keys_that_cannot_be_read_keep_it_from_starting(there: World, tmp_path: Path) -> None:
    with pytest.raises(NoEntrance, match=r"state\.keys\.file"):
        Runtime(config(there, state={"keys": {"file": str(tmp_path / "none")}}))
