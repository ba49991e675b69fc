"""Logging in from a shell, with a browser that comes back over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from tests.config.samples import config as configured
from tests.upstream.authorizing import Authority, World, visited, world
from vmcp.config.model import BackendSpec, Config, Group
from vmcp.config.oauth import GatewayOAuth, UserOAuth
from vmcp.errors import Unavailable
from vmcp.server import login as logins
from vmcp.upstream.credentials.consent import Consent


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[World]:
    async with world(UserOAuth(), directory=str(tmp_path)) as made:
        yield made


def of(spec: BackendSpec) -> Config:
    plain = configured("name: x\nbackends: [{name: b, url: 'https://b.example/mcp'}]\n")
    return replace(plain, groups=MappingProxyType({"g": Group("g", MappingProxyType({spec.name: spec}))}))


class Shell:
    """What is shown, and a browser that goes there and comes back."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.shown: asyncio.Queue[str] = asyncio.Queue()

    async def back(self, **change: str) -> httpx.Response:
        answer = await visited(url := await self.shown.get(), self.authority) | change
        redirect = dict(pair.split("=") for pair in urlsplit(url).query.split("&"))["redirect_uri"]
        async with httpx.AsyncClient(trust_env=False) as browser:
            return await browser.get(f"{httpx.URL(redirect.replace('%3A', ':').replace('%2F', '/'))}", params=answer)

    async def pasted(self) -> str:
        answer = await visited(await self.shown.get(), self.authority)
        return f" http://127.0.0.1:1/oauth/callback?{urlencode(answer)}\n"


async def test_the_browser_comes_back_and_the_login_is_kept(there: World) -> None:
    shell = Shell(there.authority)
    async with logins.at(of(there.spec), "notes", {}) as consent:
        async with asyncio.TaskGroup() as group:
            login = group.create_task(logins.login(consent, ("more",), shell.shown.put_nowait, None))
            page = await shell.back()
        assert (page.status_code, "Go back to the shell" in page.text) == (200, True)
        assert login.result().scopes == ("read", "more", "offline_access")
    async with logins.at(of(there.spec), "notes", {}) as consent:
        standing = await logins.status(consent)
        assert (standing.per_user, standing.others) == (True, 0)
        assert standing.login is not None
        assert await logins.logout(consent)
        assert not await logins.logout(consent)
        assert (await logins.status(consent)).login is None


async def test_who_comes_with_another_state_is_waited_past(there: World) -> None:
    shell = Shell(there.authority)
    async with logins.at(of(there.spec), "notes", {}) as consent, asyncio.TaskGroup() as group:
        login = group.create_task(logins.login(consent, (), shell.shown.put_nowait, None))
        url = await shell.shown.get()
        shell.shown.put_nowait(url)
        assert (await shell.back(state="guessed")).status_code == 404
        shell.shown.put_nowait(url)
        assert (await shell.back()).status_code == 200
        assert (await login).refresh


@pytest.mark.parametrize(
    "line", [b"POST /oauth/callback?state={} HTTP/1.1", b"GET /other?state={} HTTP/1.1", b"x", b"GET  "]
)
async def test_what_is_no_browser_that_comes_back_is_answered_and_forgotten(there: World, line: bytes) -> None:
    shell = Shell(there.authority)
    async with logins.at(of(there.spec), "notes", {}) as consent, asyncio.TaskGroup() as group:
        login = group.create_task(logins.login(consent, (), shell.shown.put_nowait, None))
        url = await shell.shown.get()
        state = dict(pair.split("=") for pair in urlsplit(url).query.split("&"))["state"]
        port = int(url.partition("127.0.0.1%3A")[2][:5].rstrip("%"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(line.replace(b"{}", state.encode()) + b"\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 404")
        writer.close()
        _, broken = await asyncio.open_connection("127.0.0.1", port)
        broken.close()
        shell.shown.put_nowait(url)
        await shell.back()
        await login


async def test_a_pasted_address_is_taken_and_a_wrong_one_is_not(there: World) -> None:
    shell = Shell(there.authority)
    loop = asyncio.get_running_loop()

    def paste() -> str:
        return asyncio.run_coroutine_threadsafe(shell.pasted(), loop).result(10)

    async with logins.at(of(there.spec), "notes", {}) as consent:
        assert await logins.login(consent, (), shell.shown.put_nowait, paste)
        for wrong in ("", "http://127.0.0.1/oauth/callback?state=x", "http://[", "http://127.0.0.1/?a=1&a=2"):
            with pytest.raises(logins.NoLogin, match="not the answer"):
                await logins.login(consent, (), lambda url: None, lambda wrong=wrong: wrong)


async def test_a_port_that_is_taken_is_told(there: World) -> None:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    async with server, logins.at(of(there.spec), "notes", {}) as consent:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(logins.NoLogin, match="taken"):
            await logins.login(consent, (), lambda url: None, None, port)


async def test_nobody_is_waited_for_without_end(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "VALID", 0.01)
    async with logins.at(of(there.spec), "notes", {}) as consent:
        with pytest.raises(logins.NoLogin, match="nobody came back"):
            await logins.login(consent, (), lambda url: None, None)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (BackendSpec("other", "g", "streamable-http", url="https://b.example"), "no backend 'notes'"),
        (BackendSpec("notes", "g", "streamable-http", url="https://b.example"), "not oauth"),
        (BackendSpec("notes", "g", "streamable-http", url="https://b.example", auth=GatewayOAuth()), "state: "),
    ],
)
async def test_where_it_cannot_be_logged_in_it_is_told(spec: BackendSpec, why: str) -> None:
    with pytest.raises(logins.NoLogin, match=why):
        async with logins.at(of(spec), "notes", {}):
            raise AssertionError


async def test_a_folder_that_cannot_be_used_is_told(there: World, tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens").chmod(0o755)
    shell = Shell(there.authority)
    with pytest.raises((logins.NoLogin, Unavailable), match="700"):
        async with logins.at(of(there.spec), "notes", {}) as consent:
            await _tried(consent, shell)


async def _tried(consent: Consent, shell: Any) -> None:
    await logins.login(consent, (), shell.shown.put_nowait, None)
