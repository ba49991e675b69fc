"""Lists: pages, cursors, order and caching hints, as clients of both eras see them.

Rule: a cursor is only ever used as it was given out, or deliberately wrong.
"""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.middleware.calls import call
from tests.server.clients import Door
from tests.server.peers import Json, Server, house, tool, until
from vmcp.aggregator import listing
from vmcp.aggregator.pages import Pages
from vmcp.call import Call, Visible, narrowed
from vmcp.config.model import Aggregation, Limits, Override, Selection
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.server.runtime import Runtime

PAGES = Limits(page_size=2)
LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}


def five() -> dict[str, Server]:
    """Five of everything, over two backends."""

    def part(*numbers: int) -> Server:
        return Server(
            tools=[tool(f"t{n}") for n in numbers],
            prompts=[{"name": f"p{n}"} for n in numbers],
            resources=[{"name": "r", "uri": f"r://{n}"} for n in numbers],
            templates=[{"name": "x", "uriTemplate": f"x://{n}/{{id}}"} for n in numbers],
        )

    return {"b": part(5, 3, 1), "a": part(4, 2)}


async def page(door: Door, method: str, cursor: Any = None) -> Json:
    params = {} if cursor is None else {"cursor": cursor}
    return (await door.ask(method, params)).result


async def everything(door: Door, method: str) -> list[list[str]]:
    key, name = LISTS[method]
    pages: list[list[str]] = []
    cursor = None
    while True:
        told = await page(door, method, cursor)
        pages.append([entry[name] for entry in told[key]])
        cursor = told.get("nextCursor")
        if cursor is None:
            return pages


@pytest.mark.parametrize("revision", list(Revision))
@pytest.mark.parametrize("method", LISTS)
async def test_pages_together_are_the_list_in_the_order_of_the_file(
    monkeypatch: pytest.MonkeyPatch, method: str, revision: Revision
) -> None:
    async with house(monkeypatch, five(), limits=PAGES) as running:
        door = Door(running.app, revision)
        await door.initialize()
        pages = await everything(door, method)
        assert [len(found) for found in pages] == [2, 2, 1]
        assert ["".join(c for c in name if c.isdigit()) for found in pages for name in found] == [
            "5",
            "3",
            "1",
            "4",
            "2",
        ]
        assert pages == await everything(door, method), "and the same every time"


async def test_a_list_that_fits_has_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("t"), tool("u")])}, limits=PAGES) as running:
        assert "nextCursor" not in await page(Door(running.app), "tools/list")
        assert (await page(Door(running.app), "prompts/list"))["prompts"] == []


async def test_a_cursor_outlives_a_new_table(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Server(tools=[tool("n1"), tool("n2")])
    late.up.clear()
    servers = {"late": late, **five()}
    async with house(monkeypatch, servers, limits=PAGES, settled=False) as running:
        await until(lambda: len(names(running)) == 5)
        running.current.settle()
        door = Door(running.app)
        first = await page(door, "tools/list")
        late.up.set()
        await until(lambda: len(names(running)) == 7)
        second = await page(door, "tools/list", first["nextCursor"])
        assert [entry["name"] for entry in second["tools"]] == ["t1", "t4"], "it goes on behind the last one given out"


def names(running: Runtime) -> list[str]:
    return [route.name for route in running.table.faces["/mcp"].listing[_tools(running)]]


def _tools(running: Runtime) -> Any:
    return next(kind for kind in running.table.faces["/mcp"].listing if kind.value == "tools")


async def test_a_cursor_whose_place_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, five(), limits=PAGES) as running:
        door = Door(running.app)
        cursor = (await page(door, "tools/list"))["nextCursor"]
        fewer = Aggregation(strategy="manual", tools={"b": Selection(exclude=("t3",))})
        await running.adopt(replace(running.config, aggregation=fewer, digest="another"))
        assert len(names(running)) == 4
        answer = await door.ask("tools/list", {"cursor": cursor})
        assert answer.error["code"] == -32602
        assert "list again without one" in answer.error["message"]


def forged(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "====",
        "not base64 !",
        "ä",
        "a" * 20_000,
        1,
        True,
        [],
        {"a": 1},
        forged(["prompts", "t3"]),
        forged(["tools", "unknown"]),
        forged(["tools"]),
        forged(["tools", "t3", "more"]),
        forged(["tools", 3]),
        forged({"kind": "tools", "after": "t3"}),
        forged("tools"),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
@pytest.mark.parametrize("revision", [MODERN, Revision.V2025_11_25])
async def test_a_cursor_that_is_not_ours_is_refused(
    monkeypatch: pytest.MonkeyPatch, cursor: object, revision: Revision
) -> None:
    async with house(monkeypatch, five(), limits=PAGES) as running:
        door = Door(running.app, revision)
        await door.initialize()
        answer = await door.ask("tools/list", {"cursor": cursor})
        assert answer.error["code"] == -32602
        assert (await door.ask("tools/list", {"cursor": None})).result["tools"], "while null is none at all"


async def test_a_cursor_is_for_its_own_list(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, five(), limits=PAGES) as running:
        door = Door(running.app)
        cursor = (await page(door, "tools/list"))["nextCursor"]
        for method in ("prompts/list", "resources/list", "resources/templates/list"):
            assert (await door.ask(method, {"cursor": cursor})).error["code"] == -32602


@pytest.mark.parametrize("length", [100, 5_000, 20_000])
async def test_a_long_uri_at_the_end_of_a_page_can_be_passed(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    uris = ["r://a", "r://" + "ä" * length, "r://z"]
    servers = {"a": Server(resources=[{"name": "r", "uri": uri} for uri in uris])}
    async with house(monkeypatch, servers, limits=PAGES) as running:
        assert await everything(Door(running.app), "resources/list") == [uris[:2], uris[2:]]


@pytest.mark.parametrize("method", LISTS)
async def test_a_modern_list_says_how_long_it_keeps(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    async with house(monkeypatch, five()) as running:
        told = await page(Door(running.app), method)
        assert (told["resultType"], told["ttlMs"], told["cacheScope"]) == ("complete", 30_000, "private")
        info = told["_meta"]["io.modelcontextprotocol/serverInfo"]
        assert info["name"] == "test"
        old = Door(running.app, Revision.V2025_11_25)
        await old.initialize()
        assert set(await page(old, method)) == {LISTS[method][0]}


async def test_a_list_that_is_not_whole_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = {**five(), "dead": Server(refusal="gone")}
    async with house(monkeypatch, servers) as running:
        assert (await page(Door(running.app), "tools/list"))["ttlMs"] == 0
        assert (await Door(running.app).ask("server/discover")).result["ttlMs"] == 0


@pytest.mark.parametrize("revision", list(Revision))
async def test_a_greeting_has_the_words_of_the_backends(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    servers = {"a": Server(tools=[tool("t")], instructions="Use t."), "b": Server(prompts=[{"name": "p"}])}
    async with house(monkeypatch, servers) as running:
        told = (await Door(running.app, revision).initialize()).result
        assert told["instructions"] == "## a\nUse t."
        assert set(told["capabilities"]) == {"tools", "prompts"}
        assert told["capabilities"]["tools"] == {"listChanged": True}


async def test_a_greeting_without_words_has_no_member_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("t")])}) as running:
        for revision in (MODERN, Revision.V2025_11_25):
            assert "instructions" not in (await Door(running.app, revision).initialize()).result


async def test_an_entry_is_listed_as_its_backend_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b'{"x-own":1.0,"name":"t","inputSchema":{"type":"object","big":123456789012345678901},"_meta":{"a":[1e2]}}'
    async with house(monkeypatch, {"a": Server(tools=[raw])}) as running:
        answer = await Door(running.app).ask("tools/list")
        assert raw in answer.body


async def test_a_list_shows_what_was_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    override = Override(name="renamed", description="Better.", title="T", annotations={"readOnlyHint": True})
    aggregation = Aggregation(tools={"a": Selection(overrides={"t": override})})
    async with house(monkeypatch, {"a": Server(tools=[tool("t")])}, aggregation=aggregation) as running:
        (entry,) = (await page(Door(running.app), "tools/list"))["tools"]
        assert entry["name"] == "a_renamed"
        assert (entry["description"], entry["title"]) == ("Better.", "T")
        assert entry["annotations"] == {"readOnlyHint": True}


# --- what is known of whom


def asking(running: Runtime, **more: Any) -> Call:
    table = running.table
    return call(method="tools/list", tree={}, table=table, face=table.faces["/mcp"], **more)


async def test_a_page_that_was_given_out_is_given_again_to_who_sees_the_same_and_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with house(monkeypatch, five()) as running:
        kept = Pages()
        everybody = asking(running)
        routes = everybody.face.listing[_tools(running)]
        first = listing.page(everybody, 10, kept=kept).result
        assert listing.page(everybody, 10, kept=kept).result is first
        assert listing.page(everybody, 10).result == first
        one = asking(running, may=lambda route: route is routes[0], visible=Visible(routes, b"\1\0\0\0\0"))
        shown = json.loads(bytes(listing.page(one, 10, kept=kept).result))["tools"]
        assert [entry["name"] for entry in shown] == [routes[0].name]
        assert listing.page(everybody, 10, kept=kept).result is first


async def test_what_is_known_of_another_list_or_was_known_before_somebody_narrowed_it_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with house(monkeypatch, five()) as running:
        routes = (asking(running)).face.listing[_tools(running)]
        other = Visible((*routes[:4], routes[4]), b"\1" * 5)
        assert other.routes is not routes
        for unseen in (
            asking(running, may=lambda _: False, visible=other),
            narrowed(asking(running, may=lambda _: True, visible=Visible(routes, b"\1" * 5)), lambda _: False),
        ):
            assert json.loads(bytes(listing.page(unseen, 10, kept=Pages()).result))["tools"] == []
