"""The pages of a login, walked through by a scripted browser against a real authorization server of the tests.

The rule: the link is one principal's and used once; what began in one browser ends there; nothing happens on a first look.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.upstream.authorizing import BASE, World, visited, world
from vmcp.call import Identity
from vmcp.config.oauth import UserOAuth
from vmcp.errors import ConsentRequired
from vmcp.server.asgi import Receive, Refused, Scope, Send
from vmcp.server.connect import Connect
from vmcp.upstream.credentials.consent import Consent

ADA = Identity("https://idp.example", "ada<b>", {"name": "Ada & Co"})
PUBLIC = UserOAuth(base="https://gw.example", redirect="https://gw.example/oauth/callback")


@dataclass
class Logs:
    consent: Consent | None


class Browser(httpx.AsyncClient):
    """One browser, with the cookies that it was given."""

    def __init__(self, connect: Connect, base: str = BASE) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert connect.serves(scope["raw_path"]), scope["raw_path"]
            try:
                await connect.serve(scope, receive, send)
            except Refused as refused:
                await send({"type": "http.response.start", "status": refused.status, "headers": refused.headers})
                await send({"type": "http.response.body", "body": b""})

        super().__init__(transport=httpx.ASGITransport(app), base_url=base)  # type: ignore[arg-type]

    async def agree(self, url: str) -> httpx.Response:
        """Open the link and press the button."""
        page = await self.get(url)
        assert page.status_code == 200, page.text
        return await self.post("/oauth/start", data=fields(page.text))


@dataclass
class There:
    world: World
    consent: Consent
    connect: Connect

    async def link(self, who: Identity = ADA, scopes: tuple[str, ...] = ()) -> str:
        needed = await self.consent.asks(who, scopes)
        assert isinstance(needed, ConsentRequired)
        return needed.url

    async def back(self, leaving: httpx.Response) -> dict[str, str]:
        """What the login page sends the browser back with."""
        assert leaving.status_code == 303, leaving.text
        return await visited(leaving.headers["location"], self.world.authority)


def fields(text: str) -> dict[str, str]:
    return dict(re.findall(r"name=(\w+) value='([^']*)'", text))


@contextlib.asynccontextmanager
async def there(auth: UserOAuth | None = None) -> AsyncIterator[There]:
    async with world(auth) as made:
        consent = made.consent()
        try:
            yield There(made, consent, Connect([Logs(None), Logs(consent)]))
        finally:
            await consent.close()


def headers_are_strict(page: httpx.Response) -> None:
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    told = {key: page.headers[key] for key in ("x-frame-options", "cache-control", "referrer-policy")}
    assert told == {"x-frame-options": "DENY", "cache-control": "no-store", "referrer-policy": "same-origin"}


async def test_a_browser_logs_in_and_the_token_is_there() -> None:
    async with there() as here, Browser(here.connect) as browser:
        answer = await here.back(await browser.agree(await here.link()))
        page = await browser.get("/oauth/callback", params=answer)
        assert page.status_code == 200
        assert "Ada &amp; Co (ada&lt;b&gt;) is connected to notes" in page.text
        headers_are_strict(page)
        assert await here.consent.login_of(ADA) is not None


async def test_nothing_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with there() as here, Browser(here.connect) as browser:
        link = await here.link()
        answer = await here.back(await browser.agree(link))
        assert (await browser.get("/oauth/callback", params=answer | {"code": "x"})).status_code == 502
        link = await here.link()
        answer = await here.back(await browser.agree(link))
        await browser.get("/oauth/callback", params=answer)
        login = await here.consent.login_of(ADA)
        assert login is not None
        here.consent.refused(ADA, login.access)
        assert await here.consent.token(ADA, asyncio.get_running_loop().time() + 5)
        secret = [
            login.access,
            login.refresh,
            answer["code"],
            answer["state"],
            link.partition("=")[2],
            *browser.cookies.values(),
        ]
    told = "\n".join(repr(record.__dict__) for record in caplog.records if record.name.startswith("vmcp"))
    assert "logged in" in told
    assert not [each for each in secret if each in told]


async def test_the_page_says_whose_login_it_is_and_does_nothing_yet() -> None:
    async with there() as here, Browser(here.connect) as browser:
        link = await here.link(scopes=("write",))
        for _ in range(2):
            page = await browser.get(link)
            assert "Ada &amp; Co (ada&lt;b&gt;)" in page.text
            assert "<b>ada" not in page.text
            assert "write" in page.text
            headers_are_strict(page)
        assert not here.world.authority.clients
        assert not here.world.authority.asked


async def test_a_link_is_used_once() -> None:
    async with there() as here, Browser(here.connect) as browser:
        link = await here.link()
        await here.back(await browser.agree(link))
        again = await browser.get(link)
        assert (again.status_code, "not valid" in again.text) == (404, True)
        assert await here.link() != link


async def test_a_form_is_taken_from_the_browser_that_was_shown_it_alone() -> None:
    async with there() as here, Browser(here.connect) as mine, Browser(here.connect) as other:
        page = await mine.get(await here.link())
        assert (await other.post("/oauth/start", data=fields(page.text))).status_code == 403
        await other.get(await here.link())
        assert (await other.post("/oauth/start", data=fields(page.text))).status_code == 403
        for spoiled in ({"proof": ""}, {"proof": "none"}, {"proof": "é"}):
            assert (await mine.post("/oauth/start", data=fields(page.text) | spoiled)).status_code == 403
        assert (await mine.post("/oauth/start", data=fields(page.text) | {"invitation": "x"})).status_code == 404
        assert (await mine.post("/oauth/start", data=fields(page.text))).status_code == 303


async def test_who_comes_back_in_another_browser_is_refused_and_the_first_one_still_may() -> None:
    async with there() as here, Browser(here.connect) as mine, Browser(here.connect) as other:
        answer = await here.back(await mine.agree(await here.link()))
        await other.get(await here.link())
        assert (await other.get("/oauth/callback", params=answer)).status_code == 403
        assert await here.consent.login_of(ADA) is None
        assert (await mine.head("/oauth/callback", params=answer)).status_code == 403
        assert (await mine.get("/oauth/callback", params=answer)).status_code == 200
        assert (await mine.get("/oauth/callback", params=answer)).status_code == 403, "once"


@pytest.mark.parametrize("spoiled", [{"state": "guessed"}, {"state": ""}])
async def test_a_state_that_nobody_left_with_is_refused(spoiled: dict[str, str]) -> None:
    async with there() as here, Browser(here.connect) as browser:
        answer = await here.back(await browser.agree(await here.link()))
        page = await browser.get("/oauth/callback", params=answer | spoiled)
        assert page.status_code == 403
        headers_are_strict(page)


async def test_a_field_that_stands_twice_is_none() -> None:
    async with there() as here, Browser(here.connect) as browser:
        answer = await here.back(await browser.agree(await here.link()))
        twice = urlencode([*answer.items(), ("iss", "https://evil.example")])
        assert (await browser.get(f"/oauth/callback?{twice}")).status_code == 403
        assert (await browser.get(f"/oauth/callback?{'a' * 20_000}")).status_code == 403


async def test_what_went_wrong_is_said_without_the_servers_words() -> None:
    async with there() as here, Browser(here.connect) as browser:
        answer = await here.back(await browser.agree(await here.link()))
        page = await browser.get("/oauth/callback", params=answer | {"code": "<script>"})
        assert (page.status_code, "invalid_grant" in page.text) == (502, True)
        assert "sensitive" not in page.text
        assert "<script>" not in page.text
        here.world.authority.metadata = lambda told: {}
        here.consent._found = None
        page = await browser.agree(here_url := f"/oauth/start?invitation={here.consent.desk.invite(ADA).id}")
        assert (page.status_code, "no login is possible" in page.text) == (502, True)
        assert here_url


async def test_a_second_page_does_not_put_out_the_first() -> None:
    async with there() as here, Browser(here.connect) as browser:
        first = await browser.get(await here.link())
        await browser.get(await here.link(Identity("https://idp.example", "bob")))
        assert (await browser.post("/oauth/start", data=fields(first.text))).status_code == 303


@pytest.mark.parametrize(
    "cookie",
    ['vmcp-login="a\\012b"', "vmcp-login=short", "vmcp-login", f"vmcp-login={'a' * 43}; vmcp-login={'b' * 43}"],
)
async def test_a_cookie_that_is_not_ours_is_replaced(cookie: str) -> None:
    async with there() as here, Browser(here.connect) as browser:
        page = await browser.get(await here.link(), headers={"cookie": cookie})
        assert re.fullmatch(r"vmcp-login=[\w-]{43}; .*", page.headers["set-cookie"])
        assert "aaa" not in page.headers["set-cookie"]


async def test_what_other_programs_of_this_host_keep_does_not_matter() -> None:
    async with there() as here, Browser(here.connect) as browser:
        browser.cookies.set("a", '{"x": 1, [}')
        browser.cookies.set("zz", "=@;,")
        answer = await here.back(await browser.agree(await here.link()))
        assert (await browser.get("/oauth/callback", params=answer)).status_code == 200


async def test_over_https_the_cookie_is_this_hosts_alone() -> None:
    async with there(PUBLIC) as here, Browser(here.connect, "https://gw.example") as browser:
        page = await browser.get(await here.link())
        cookie = page.headers["set-cookie"]
        assert cookie.startswith("__Host-vmcp-login=")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
    async with there() as here, Browser(here.connect) as browser:
        assert (await browser.get(await here.link())).headers["set-cookie"].startswith("vmcp-login=")


async def test_the_document_about_vmcp_as_a_client_is_served() -> None:
    async with there(PUBLIC) as here, Browser(here.connect, "https://gw.example") as browser:
        told = (await browser.get("/oauth/client.json")).json()
        assert told["client_id"] == "https://gw.example/oauth/client.json"
        assert told["redirect_uris"] == ["https://gw.example/oauth/callback", "http://127.0.0.1/oauth/callback"]
        assert told["token_endpoint_auth_method"] == "none"


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/oauth/start"), ("POST", "/oauth/callback"), ("PUT", "/oauth/client.json")]
)
async def test_other_methods_are_refused(method: str, path: str) -> None:
    async with there() as here, Browser(here.connect) as browser:
        answer = await browser.request(method, path)
        assert answer.status_code == 405
        assert method not in answer.headers["allow"]


async def test_a_form_that_is_too_large_or_breaks_off_is_refused() -> None:
    async with there() as here, Browser(here.connect) as browser:
        assert (await browser.post("/oauth/start", content=b"a" * 20_000)).status_code == 413

        async def gone() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            raise AssertionError(message)

        with pytest.raises(Refused):
            await here.connect.serve({"raw_path": b"/oauth/start", "method": "POST", "headers": ()}, gone, send)


def test_where_nothing_has_logins_there_are_no_pages() -> None:
    assert not Connect([Logs(None)]).serves(b"/oauth/start")


async def test_the_link_is_what_the_error_says() -> None:
    async with there() as here:
        query = parse_qs(urlsplit(await here.link()).query)
        invitation = here.consent.desk.invited(query["invitation"][0])
        assert invitation is not None
        assert invitation.who is ADA
