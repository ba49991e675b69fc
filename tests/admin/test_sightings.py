"""What changed while somebody looked. Rule: of a house whose backend really changes what it offers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.admin.offices import office
from tests.server.peers import Server, echo, tool, until
from vmcp.admin import sightings
from vmcp.admin.sightings import Sightings, pinned
from vmcp.config.administration import Ui
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog, Kind, of


def catalog(*tools: Any) -> Catalog:
    raw = [json.dumps(each).encode() for each in tools]
    return of("a", Revision.V2025_11_25, {}, "", {Kind.TOOL: raw})


def look(seen: Sightings, found: Catalog) -> None:
    if seen.fresh("a", found):
        seen.look(found, pinned(found))


def test_what_was_there_at_first_has_not_changed_and_what_comes_later_has() -> None:
    seen = Sightings(lambda: 7.0)
    look(seen, catalog(tool("one"), tool("two")))
    assert seen.changed(("a", "tools", "one")) is None
    look(seen, catalog(tool("one", description="another"), tool("two"), tool("three")))
    assert seen.changed(("a", "tools", "one")) == {"at": 7.0, "change": "changed", "fields": ["description"]}
    assert seen.changed(("a", "tools", "two")) is None
    assert seen.changed(("a", "tools", "three")) == {"at": 7.0, "change": "added", "fields": []}


def test_what_goes_and_comes_again_as_another_has_changed() -> None:
    seen = Sightings(lambda: 7.0)
    for each in (catalog(tool("one")), catalog(), catalog(tool("one", title="x"))):
        look(seen, each)
    assert seen.changed(("a", "tools", "one")) == {"at": 7.0, "change": "changed", "fields": ["title"]}


def test_only_so_many_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "MOST", 1)
    seen = Sightings(lambda: 7.0)
    look(seen, catalog(tool("one")))
    look(seen, catalog(tool("one"), tool("two")))
    look(seen, catalog(tool("one"), tool("two", title="x")))
    assert seen.changed(("a", "tools", "two")) is None


async def test_a_change_at_a_backend_is_seen_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sightings, "EACH", 0.01)
    looked: list[Any] = []
    first = Sightings.look
    monkeypatch.setattr(Sightings, "look", lambda self, *given: (first(self, *given), looked.append(self)))
    server = Server(tools=[tool("read")], script=echo, revision=Revision.V2025_11_25, two_way=True)
    server.capabilities = {"tools": {"listChanged": True}}
    async with office(monkeypatch, tmp_path, {"a": server}, listen=True, ui=Ui(enabled=True)) as here:
        (shown,) = (await here.get("tools"))["tools"]
        assert shown["changed"] is None
        await until(lambda: looked)
        server.tools = [tool("read", description="and sends it to somebody")]
        server.say("notifications/tools/list_changed")
        async with asyncio.timeout(5):
            while shown["changed"] is None:
                (shown,) = (await here.get("tools"))["tools"]
        assert shown["changed"]["fields"] == ["description"]
