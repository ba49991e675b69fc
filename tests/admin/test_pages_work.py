"""The pages for working with what is served.

Rule: as a browser gets them, by their sockets; what a backend says is text in them.
"""

import re
from html import unescape
from pathlib import Path

import pytest

from tests.admin.visitors import ALL, visitor
from tests.server.peers import Asked, Notify, Server, echo, text, tool
from vmcp.admin.pages import tools
from vmcp.config.administration import Ui
from vmcp.config.lock import LockSpec, Pin, Pinned, Pins
from vmcp.errors import McpError

SECRET = "hush-7c1d"
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">\u202e'
SCHEMA = {
    "type": "object",
    "required": ["query"],
    "properties": {"query": {"type": "string", "description": EVIL}, "limit": {"type": "integer", "default": 5}},
}
SMALL = "name: test\ngroups: {g: {backends: {a: {url: 'http://127.0.0.1:9/?key=" + SECRET + "'}}}}\n"


def hostile() -> dict[str, Server]:
    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.name == "broken":
            return text({"resultType": "complete", "content": [{"type": "text", "text": EVIL}], "isError": True})
        if asked.name == "faulty":
            raise McpError(-32050, EVIL)
        if asked.method == "prompts/get":
            return text(
                {"resultType": "complete", "messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}]}
            )
        if asked.method == "resources/read":
            return text({"resultType": "complete", "contents": [{"uri": asked.name, "text": "of a resource"}]})
        return await echo(asked, notify)

    listed = [
        tool("search", title=EVIL, description=EVIL, inputSchema=SCHEMA, annotations={"readOnlyHint": True}),
        tool("drop", description="x", annotations={"destructiveHint": True}),
        tool("broken"),
        tool("faulty"),
        tool("odd/name?x=1&y"),
    ]
    listed[0]["inputSchema"] = SCHEMA
    return {
        "a": Server(
            tools=listed,
            prompts=[{"name": "greet", "arguments": [{"name": "who", "required": True}]}],
            resources=[{"uri": "note:///1", "name": "one", "description": EVIL}],
            templates=[{"uriTemplate": "note:///{id}", "name": "note"}],
            script=script,
        )
    }


PAGES = (
    "tools",
    "tools?kind=prompts",
    "tools?kind=resources",
    "tools?kind=resourceTemplates",
    "tools?path=/g/mcp&q=search",
    "tools/search",
    "tools/greet?kind=prompts",
    "tools/note%3A%2F%2F%2F1?kind=resources",
    "tools/note%3A%2F%2F%2F%7Bid%7D?kind=resourceTemplates",
    "try",
    "try?name=search",
    "config",
    "connect",
    "discovery",
)


async def test_what_a_backend_says_is_text_on_every_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile(), text=SMALL) as guest:
        for page in PAGES:
            status, shown = await guest.see(page)
            assert status == 200, (page, shown)
            assert "<script>alert" not in shown, page
            assert "<img src=x" not in shown, page
            assert "\u202e" not in shown, page
            assert SECRET not in shown, page
            assert " style=" not in shown, page


async def test_a_table_is_filtered_by_endpoint_and_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile()) as guest:
        _, shown = await guest.see("tools?q=DESTRUCTIVE")
        assert re.findall(r'href="/ui/tools/([^"]+)" class="mono', shown) == ["drop"]
        assert "Nothing has all these words" in (await guest.see("tools?q=nonsense"))[1]
        assert (await guest.see("tools?path=/none"))[0] == 404
        assert (await guest.see("tools?kind=secrets"))[0] == 400
        _, shown = await guest.see("tools?sort=tokens")
        assert re.findall(r'href="/ui/tools/([^"?]+)" class="mono', shown)[0] == "search", "the dearest first"
        assert 'aria-sort="descending"' in shown
        assert (await guest.see("tools/none"))[0] == 404
        monkeypatch.setattr(tools, "MOST", 2)
        _, shown = await guest.see("tools?from=2")
        assert "3 to 4 of 5" in shown
        assert (shown.count("Before</a>"), shown.count("Next</a>")) == (1, 1)


async def test_a_tool_says_that_it_is_not_as_it_was_locked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pins = Pins({"a": Pinned(tools={"search": Pin("sha256:" + "0" * 64, {"description": "0" * 16})})})
    async with visitor(monkeypatch, tmp_path, hostile(), lock=LockSpec("x.lock", "warn", pins)) as guest:
        _, shown = await guest.see("tools/search")
        assert 'data-testid="drift"' in shown
        assert "vmcp lock approve a/search" in shown
    async with visitor(monkeypatch, tmp_path, hostile(), lock=LockSpec("x.lock", "quarantine", pins)) as guest:
        _, shown = await guest.see("tools")
        assert "Kept out" in shown


async def test_a_form_is_made_of_the_schema_and_calls_the_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backends = hostile()
    async with visitor(monkeypatch, tmp_path, backends) as guest:
        _, shown = await guest.see("try?name=search")
        assert 'name="a.query"' in shown
        assert 'name="a.limit"' in shown
        form = {"path": "/mcp", "kind": "tools", "name": "search", "mode": "form", "a.query": "<b>", "a.limit": "7"}
        status, shown = await guest.send("try", form)
        assert (status, 'data-state="ok"' in shown) == (200, True)
        assert backends["a"].calls()[-1].params["arguments"] == {"query": "<b>", "limit": 7}
        command = unescape(re.search(r'<pre id="as-vmcp"[^>]*>([^<]*)', shown)[1])  # type: ignore[index]
        assert command == """vmcp call search --json '{"query":"<b>","limit":7}' --url http://127.0.0.1:4483/mcp"""
        assert "mcp-protocol-version: 2026-07-28" in shown
        _, shown = await guest.send("try", {**form, "mode": "json", "raw": '{"query": 1.10}'})
        assert "1.10" in shown
        _, shown = await guest.send("try", {**form, "a.limit": "many"})
        assert "must be integer" in shown
        assert 'data-state="' not in shown
        _, shown = await guest.send("try", {**form, "mode": "json", "raw": "{"})
        assert 'data-testid="problem"' in shown
        assert len(backends["a"].calls()) == 2, "what is wrong is not sent"


async def test_errors_of_both_kinds_are_shown_as_what_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile()) as guest:
        _, shown = await guest.send("try", {"path": "/mcp", "name": "broken"})
        assert 'data-state="tool-error"' in shown
        assert "isError" in shown
        _, shown = await guest.send("try", {"path": "/mcp", "name": "faulty"})
        assert 'data-state="error"' in shown
        assert "<script>alert" not in shown


async def test_prompts_and_resources_have_their_forms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile()) as guest:
        prompt = {"path": "/mcp", "kind": "prompts", "name": "greet"}
        _, shown = await guest.send("try", {**prompt, "a.who": "x y"})
        assert "vmcp prompt greet &#39;who=x y&#39;" in shown
        _, shown = await guest.send("try", {"path": "/mcp", "kind": "resources", "name": "note:///1"})
        assert "of a resource" in shown
        assert "vmcp read note:///1" in shown


async def test_what_destroys_wants_a_second_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backends = hostile()
    async with visitor(monkeypatch, tmp_path, backends) as guest:
        assert "data-confirm=" in (await guest.see("try?name=drop"))[1]
        form = {"path": "/mcp", "name": "drop"}
        _, shown = await guest.send("try", form)
        assert "say that you mean it" in shown
        assert not backends["a"].calls()
        _, shown = await guest.send("try", {**form, "confirmed": "yes"})
        assert 'data-state="ok"' in shown


async def test_a_credential_is_used_once_and_in_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile()) as guest:
        form = {"path": "/mcp", "name": "search", "a.query": "x", "authorization": SECRET}
        _, shown = await guest.send("try", form)
        assert SECRET not in shown
        assert "Authorization: Bearer $VMCP_TOKEN" in shown
        assert SECRET not in (await guest.see("try?name=search"))[1]


async def test_nobody_tries_anything_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile(), ui=Ui(enabled=True)) as guest:
        assert (await guest.see("try"))[0] == 403
        assert (await guest.send("try", {"path": "/mcp", "name": "search"}))[0] == 403
        assert (await guest.send("config/reload", {}))[0] == 403
        assert 'data-testid="try-link"' not in (await guest.see("tools/search"))[1]
    async with visitor(monkeypatch, tmp_path, hostile(), ui=ALL) as guest:
        assert (await guest.send("try", {"path": "/mcp", "name": "search"}, csrf="x"))[0] == 403
        assert (await guest.see("try?path=/livez"))[0] == 400
        assert (await guest.send("try", {"path": "/mcp", "name": "none"}))[0] == 404
        assert "nothing here is called none" in (await guest.see("try?name=none"))[1]


async def test_an_odd_name_is_found_by_its_link(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile()) as guest:
        _, shown = await guest.see("tools")
        (odd,) = [link for link in re.findall(r'href="/ui/(tools/[^"]+)" class="mono', shown) if "odd" in link]
        status, shown = await guest.see(unescape(odd))
        assert status == 200
        assert "odd/name?x=1&amp;y" in shown


async def test_the_configuration_says_how_the_files_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile(), text=SMALL) as guest:
        status, shown = await guest.see("config")
        assert 'data-status="differs"' in shown, "what runs here was made by a test, not by the file"
        assert 'data-testid="difference"' in shown
        (tmp_path / "vmcp.yaml").write_text("name: [\n")
        status, _ = await guest.send("config/reload", {})
        assert status == 303
        _, shown = await guest.see("config")
        assert "The files were read: rejected." in shown
        assert 'data-status="invalid"' in shown
        assert 'data-testid="reloads"' in shown


async def test_clients_and_servers_are_shown_to_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, hostile()) as guest:
        _, shown = await guest.see("connect?path=/g/mcp")
        assert "http://127.0.0.1:4483/g/mcp" in shown
        assert (await guest.see("connect?path=/none"))[0] == 404
        _, shown = await guest.see("discovery?q=jira")
        assert 'data-testid="server-atlassian"' in shown
        assert "server-github" not in shown
