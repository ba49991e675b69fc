"""The web pages' own door. Rule: real sockets; every refusal stands beside what is let in, and secrets are planted."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.admin.offices import Office, office
from tests.admin.visitors import ALL, visitor
from tests.server.clients import Door as Client
from tests.server.peers import Server, echo, tool, until
from vmcp.admin.pages import table
from vmcp.admin.pages.site import CSP
from vmcp.config.administration import Ui
from vmcp.protocol.revisions import Revision

SHOWS = Ui(enabled=True)


def one() -> dict[str, Server]:
    return {"a": Server(tools=[tool("read")], script=echo)}


async def fetched(here: Office, path: str, method: str = "GET", body: str = "", **headers: str) -> tuple[int, str, str]:
    """Status, head and text; ``headers`` by their names with underscores, Host is ours without one."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    lines = {"host": f"127.0.0.1:{here.port}", "connection": "close", "content-length": str(len(body)), **named}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(f"{head}\r\n{body}".encode())
        whole = (await reader.read()).decode()
        writer.close()
    first, _, text = whole.partition("\r\n\r\n")
    return int(first.split()[1]), first.lower(), text


async def link(here: Office) -> str:
    told = await here.post("login")
    assert told["expiresInSeconds"] == 60
    address, _, path = told["url"].partition("/ui/")
    assert address == f"http://127.0.0.1:{here.port}"
    return f"/ui/{path}"


async def test_a_link_works_once_and_gives_a_cookie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one(), listen=True, ui=SHOWS) as here:
        path = await link(here)
        status, head, _ = await fetched(here, path)
        assert status == 303
        assert "\r\nlocation: /ui/\r\n" in head
        cookie = re.search(r"set-cookie: (vmcp-(\d+)=[^;]+); (.+)\r", head)
        assert cookie
        assert int(cookie[2]) == here.port
        assert cookie[3] == "path=/; max-age=43200; httponly; samesite=strict"
        status, head, text = await fetched(here, path)
        assert status == 403
        assert "set-cookie" not in head
        assert "used already" in text
        status, _, text = await fetched(here, "/ui/?code=made-up")
        assert status == 403


async def test_without_a_cookie_nobody_learns_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, one(), listen=True, ui=SHOWS) as here:
        token = here.token.read_text().strip()
        for page in (*table.PAGES, None):
            path = "/ui/none" if page is None else f"/ui/{page.path.replace('*', 'a')}"
            method = "GET" if page is None else page.method
            for more in ({}, {"authorization": f"Bearer {token}"}, {"cookie": f"vmcp-{here.port}=made-up"}):
                status, _, text = await fetched(here, path, method, **more)
                assert (status, path) == (401, path)
                assert "vmcp ui" in text
                assert "read" not in re.sub(r"<head>.*</head>", "", text, flags=re.S)
        assert (
            await here.ask("GET", "/admin/v1/status", headers={"Authorization": f"Bearer {token}"}, port=True)
        ).status == 200
        assert (await here.ask("GET", "/ui/")).status == 404, "there are none on the socket"


async def test_every_answer_is_kept_from_other_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=SHOWS) as me:
        for path in ("/ui/", "/ui/none", "/ui", re.search(r"/ui/assets/[^\"]+", (await me.see(""))[1])[0]):  # type: ignore[index]
            _, head, _ = await me.raw("GET", path)
            assert f"\r\ncontent-security-policy: {CSP}\r\n" in head
            assert "\r\nx-content-type-options: nosniff\r\n" in head
            assert "\r\nreferrer-policy: same-origin\r\n" in head
            kept = "private, max-age=31536000, immutable" if "assets" in path else "no-store"
            assert f"\r\ncache-control: {kept}\r\n" in head, path
        assert "unsafe" not in CSP


async def test_hosts_origins_and_neighbours_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cookies know no ports: a page of another server of this machine would send ours."""
    async with visitor(monkeypatch, tmp_path, one(), ui=ALL) as me:
        here, cookie = me.here, {"cookie": me.cookie}
        own = f"http://127.0.0.1:{here.port}"
        for more, status in (
            ({}, 200),
            ({"host": f"localhost:{here.port}"}, 200),
            ({"host": "evil.example"}, 421),
            ({"origin": own}, 200),
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "http://127.0.0.1:1"}, 403),
            ({"origin": "null"}, 403),
            ({"sec_fetch_site": "same-origin"}, 200),
            ({"sec_fetch_site": "none"}, 200),
            ({"sec_fetch_site": "same-site"}, 401),
            ({"sec_fetch_site": "cross-site"}, 401),
        ):
            for path in ("/ui/", "/admin/v1/status"):
                assert ((await fetched(here, path, **cookie, **more))[0], path, more) == (status, path, more)


async def test_the_cookie_reads_json_and_does_nothing_else_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=ALL) as me:
        assert (await me.raw("GET", "/admin/v1/backends"))[0] == 200
        for path in ("reload", "drain", "login", "cache/clear"):
            assert (await me.raw("POST", f"/admin/v1/{path}"))[0] == 401, path
        assert not me.here.running.draining


async def test_what_acts_wants_the_token_of_its_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=ALL) as me:
        for wrong in ("", "x", me.csrf[:-1]):
            status, text = await me.send("drain", {}, csrf=wrong)
            assert status == 403
            assert "not of this session" in text
        assert not me.here.running.draining
        assert (await me.send("cache/clear", {"pattern": "a/*"}))[0] == 303
        _, text = await me.see("about")
        assert "0 results were forgotten." in text
        assert "forgotten" not in (await me.see("about"))[1], "once"
        assert (await me.send("reload", {}))[0] == 303
        assert "Reload: " in (await me.see("about"))[1]
        assert (await me.send("backends/a/reset", {}))[0] == 303
        assert (await me.send("backends/none/reset", {}))[0] == 404
        assert (await me.send("drain", {}))[0] == 303
        assert me.here.running.draining


async def test_what_is_not_allowed_is_neither_done_nor_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=SHOWS) as me:
        for page in table.PAGES:
            if page.who != "read":
                path = page.path.replace("*", "a")
                status, text = await (me.see(path) if page.method == "GET" else me.send(path, {}))
                assert (status, page.path) == (403, page.path)
                assert f"admin.ui.{page.who}: true" in text
        assert not me.here.running.draining
        assert 'data-testid="operate"' not in (await me.see("about"))[1]
        assert "nav-try" not in (await me.see(""))[1]


async def test_a_session_is_ended_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=ALL) as me:
        running = me.here.running
        await Client(running.app, Revision.V2025_11_25).initialize(clientInfo={"name": "<b>", "version": "3"})
        await until(lambda: len(running.sessions) == 1)
        _, text = await me.see("sessions")
        assert "&lt;b&gt; 3" in text
        name = re.search(r"/ui/sessions/([0-9a-f]+)/end", text)
        assert name
        assert (await me.send(f"sessions/{name[1]}/end", {}))[0] == 303
        assert "The session was ended." in (await me.see("sessions"))[1]
        assert len(running.sessions) == 0
        await me.send(f"sessions/{name[1]}/end", {})
        assert "There is no such session any more." in (await me.see("sessions"))[1]


async def test_a_page_that_has_not_changed_is_not_sent_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=ALL) as me:
        more: dict[str, Any] = {"cookie": me.cookie, "sec_fetch_dest": "empty"}
        status, head, text = await fetched(me.here, "/ui/connect", **more)
        tag = re.search(r"etag: (\"[0-9a-f]+\")", head)
        assert tag
        status, head, text = await fetched(me.here, "/ui/connect", **more, if_none_match=tag[1])
        assert (status, text) == (304, "")
        await me.send("cache/clear", {})
        assert (await fetched(me.here, "/ui/connect", **more, if_none_match=tag[1]))[0] == 304, (
            "a refresh takes no notice"
        )
        assert "forgotten" in (await me.see("about"))[1]


async def test_who_logs_out_is_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=SHOWS) as me:
        assert (await me.raw("GET", "/ui/logout"))[0] == 405
        status, text = await me.send("logout", {})
        assert (status, "Logged out" in text) == (200, True)
        assert (await me.see(""))[0] == 401


async def test_what_is_not_there_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, one(), ui=SHOWS) as me:
        for path in ("none", "backends/", "backends/none", "backends/a/b", "assets/x/page.js", "assets/../site.py"):
            assert ((await me.see(path))[0], path) == (404, path)
        status, head, _ = await me.raw("POST", "/ui/backends", b"x=1")
        assert (status, "\r\nallow: GET\r\n" in head) == (405, True)
        assert (await me.raw("GET", "/ui"))[0] == 303


async def test_without_pages_there_is_no_link_and_nothing_to_see(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with office(monkeypatch, tmp_path, one(), listen=True) as here:
        answer = await here.ask("POST", "/admin/v1/login")
        assert (answer.status, answer.body["error"]) == (
            400,
            "there are no web pages; set admin.ui.enabled and admin.listen",
        )
        assert (await fetched(here, "/ui/"))[0] == 401


def test_every_page_that_shows_is_in_the_table_once_and_has_a_name() -> None:
    places = [(page.method, page.path) for page in table.PAGES]
    assert len(set(places)) == len(places)
    for page in table.PAGES:
        assert page.label or page.title or page.method == "POST", page
        assert page.template or page.method == "POST", page


def test_what_draws_pages_is_loaded_only_for_pages() -> None:
    """A template engine costs more than the rest of the start."""
    text = "import sys, vmcp.admin.listening; assert not {'jinja2', 'markupsafe'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", text], check=True, timeout=30)
