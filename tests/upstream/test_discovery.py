"""What a backend lists, page by page, and where it is cut off.

Rule: the server here is a wire in memory that answers from a table of pages and says what it was asked.
"""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.upstream.fakes import soon
from vmcp.errors import Code, McpError, Overdue, Unavailable, WireError
from vmcp.protocol import jsonrpc
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog, Kind
from vmcp.tasks import Nest
from vmcp.upstream import discovery
from vmcp.upstream.discovery import discover
from vmcp.upstream.link import Facts, Link
from vmcp.upstream.wire import Answer, Headers, OnMessage, OnStray, Outgoing

UNKNOWN = McpError(Code.METHOD_NOT_FOUND, "Method not found")
FIRST = object()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


class Shelf:
    """A wire to a server whose lists are ``pages``: by method and cursor, a result, or an error."""

    closing_cancels = True
    on_stray: OnStray | None = None

    def __init__(self, pages: Mapping[str, Mapping[object, Any]]) -> None:
        self.pages = pages
        self.asked: list[tuple[str, object]] = []

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        told = json.loads(request.body)
        cursor = told["params"].get("cursor", FIRST)
        self.asked.append((told["method"], cursor))
        page = self.pages[told["method"]]
        found = page[cursor] if cursor in page else page["*"]
        if isinstance(found, Overdue):
            raise found
        if isinstance(found, McpError):
            return Answer(jsonrpc.read(jsonrpc.failure(b"%d" % request.id, found)))
        text = found if isinstance(found, bytes) else json.dumps(found(cursor) if callable(found) else found).encode()
        return Answer(jsonrpc.read(jsonrpc.reply(b"%d" % request.id, text)))

    async def tell(self, body: bytes, headers: Headers) -> None:
        raise AssertionError(body)

    async def close(self) -> None:
        return


def tools(*names: str, **more: Any) -> dict[str, Any]:
    return {"tools": [{"name": name} for name in names], **more}


async def listed(shelf: Shelf, *capabilities: str, max_bytes: int = 1 << 20) -> Catalog:
    async with Nest("test") as nest:
        facts = Facts(Revision.V2025_11_25, {key: {} for key in capabilities or ("tools",)}, "Be kind.")
        link = Link(shelf, facts, nest, list[str]().append, itertools.count(1))
        return await discover(link, "time", max_bytes=max_bytes, seconds=5)


def names(catalog: Catalog, kind: Kind = Kind.TOOL) -> list[str]:
    return [entry.name for entry in catalog.entries[kind]]


async def test_only_what_was_declared_is_listed() -> None:
    shelf = Shelf(
        {
            "tools/list": {FIRST: tools("a")},
            "prompts/list": {FIRST: {"prompts": [{"name": "p"}]}},
            "resources/list": {FIRST: {"resources": [{"uri": "urn:a", "name": "A"}]}},
            "resources/templates/list": {FIRST: {"resourceTemplates": [{"uriTemplate": "x:{y}", "name": "X"}]}},
        }
    )
    catalog = await listed(shelf, "tools", "logging")
    assert shelf.asked == [("tools/list", FIRST)]
    assert (catalog.backend, catalog.revision, catalog.instructions) == ("time", "2025-11-25", "Be kind.")
    everything = await listed(shelf, "resources", "prompts", "tools")
    assert [names(everything, kind) for kind in Kind] == [["a"], ["p"], ["urn:a"], ["x:{y}"]]
    assert catalog.digest != everything.digest


async def test_all_pages_are_followed_and_entries_stay_as_they_were_said() -> None:
    raw = b'{"tools":[{ "name":"c", "x": 1.0 }],"nextCursor":null}'
    pages = {FIRST: tools("a", nextCursor=""), "": tools("b", nextCursor="\u00fc/1"), "\u00fc/1": raw}
    shelf = Shelf({"tools/list": pages})
    catalog = await listed(shelf)
    assert names(catalog) == ["a", "b", "c"]
    assert catalog.entries[Kind.TOOL][-1].raw == b'{ "name":"c", "x": 1.0 }'
    assert [cursor for _, cursor in shelf.asked] == [FIRST, "", "\u00fc/1"]


@pytest.mark.parametrize("cursor", [5, {"page": 2}])
async def test_a_cursor_of_a_strange_type_is_handed_back_as_it_was(cursor: object) -> None:
    shelf = Shelf({"tools/list": _Unhashable({FIRST: tools("a", nextCursor=cursor), "*": tools("b")})})
    assert names(await listed(shelf)) == ["a", "b"]
    assert shelf.asked[-1] == ("tools/list", cursor)


class _Unhashable(dict[object, Any]):
    """Any cursor may be looked up, one that cannot be a key too."""

    def __contains__(self, key: object) -> bool:
        return key is FIRST


@pytest.mark.parametrize("page", [{}, {"tools": []}, {"other": 1}])
async def test_an_empty_list_is_a_list(page: object) -> None:
    assert names(await listed(Shelf({"tools/list": {FIRST: page}}))) == []


async def test_an_empty_page_is_not_the_end() -> None:
    assert names(await listed(Shelf({"tools/list": {FIRST: {"nextCursor": "2"}, "2": tools("a")}}))) == ["a"]


@pytest.mark.parametrize("cursors", [{FIRST: "a", "a": "a"}, {FIRST: "a", "a": "b", "b": "a"}, {FIRST: "", "": ""}])
async def test_a_cursor_that_comes_again_is_the_end_with_an_error(cursors: dict[object, str]) -> None:
    shelf = Shelf({"tools/list": {here: tools(nextCursor=there) for here, there in cursors.items()}})
    with pytest.raises(Unavailable, match="its tools/list repeats a cursor") as failed:
        await listed(shelf)
    assert failed.value.vmcp_code == Code.PROTOCOL_ERROR


async def test_a_list_without_end_is_cut_off() -> None:
    shelf = Shelf({"tools/list": {FIRST: tools("a", nextCursor="1"), "*": lambda c: tools(nextCursor=str(int(c) + 1))}})
    with pytest.raises(Unavailable, match=f"its tools/list has more than {discovery.MAX_PAGES} pages"):
        await listed(shelf)
    assert len(shelf.asked) == discovery.MAX_PAGES


async def test_the_last_page_allowed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_PAGES", 2)
    assert names(await listed(Shelf({"tools/list": {FIRST: tools("a", nextCursor="2"), "2": tools("b")}}))) == [
        "a",
        "b",
    ]


async def test_a_list_that_is_too_large_is_cut_off_as_soon_as_it_is() -> None:
    big = lambda cursor: tools("x" * 400, nextCursor=f"{cursor}+")  # noqa: E731
    shelf = Shelf({"tools/list": {FIRST: tools("x" * 400, nextCursor="+"), "*": big}})
    with pytest.raises(Unavailable, match="its tools/list is larger than 1000 bytes"):
        await listed(shelf, max_bytes=1000)
    assert len(shelf.asked) == 3
    assert names(await listed(Shelf({"tools/list": {FIRST: tools("x" * 400)}}), max_bytes=1000)) == ["x" * 400]


async def test_a_list_of_too_many_entries_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_ENTRIES", 2)
    assert len(names(await listed(Shelf({"tools/list": {FIRST: tools("a", "b")}})))) == 2
    with pytest.raises(Unavailable, match="its tools/list is larger"):
        await listed(Shelf({"tools/list": {FIRST: tools("a", "b", "c")}}))


async def test_a_list_that_was_declared_and_is_not_there_is_empty() -> None:
    resources = {FIRST: {"resources": [{"uri": "urn:a"}]}}
    shelf = Shelf({"resources/list": resources, "resources/templates/list": {FIRST: UNKNOWN}})
    catalog = await listed(shelf, "resources")
    assert (names(catalog, Kind.RESOURCE), names(catalog, Kind.TEMPLATE)) == (["urn:a"], [])


@pytest.mark.parametrize("error", [McpError(-32000, "no"), Overdue("time", "timeouts.total", 1)])
async def test_any_other_error_is_the_end(error: McpError) -> None:
    with pytest.raises(McpError) as failed:
        await listed(Shelf({"tools/list": {FIRST: error}}))
    assert failed.value.message == error.message


@pytest.mark.parametrize("page", [b"[]", b"null", b"5", b'{"tools":{}}', b'{"tools":null}', b'{"tools":"a"}'])
async def test_a_page_that_is_none_is_told_as_such(page: bytes) -> None:
    with pytest.raises(WireError, match="the backend's tools/list is no list"):
        await listed(Shelf({"tools/list": {FIRST: page}}))


async def test_an_entry_without_a_name_is_refused_and_the_others_are_kept() -> None:
    page = {"tools": [{"name": "a"}, {"title": "b"}, 5, {"name": "a"}, {"name": 7}]}
    catalog = await listed(Shelf({"tools/list": {FIRST: page}}))
    assert names(catalog) == ["a"]
    assert len(catalog.refused) == 4


async def test_every_list_has_the_time_it_was_given() -> None:
    seen: list[float] = []

    class Timed(Shelf):
        async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
            seen.append(deadline)
            return await super().exchange(request, on_message, deadline)

    await listed(Timed({"tools/list": {FIRST: tools(nextCursor="2"), "2": tools()}}))
    assert seen[0] == seen[1]
    assert soon(4) < seen[0] <= soon(5)
