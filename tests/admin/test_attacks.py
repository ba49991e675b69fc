"""Strangers who mean it: schemas that never end, lists without an end, links that are fetched by machines.

Rule: an attack is told by what it costs in steps or bytes, and never by a clock.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tests.admin.offices import office
from tests.admin.visitors import visitor
from tests.server.peers import Asked, Notify, Server, echo, tool
from vmcp.admin.pages import backends, forms, results, schemas, sessions, tools
from vmcp.config.administration import Ui
from vmcp.routing.catalog import Kind

Json = dict[str, Any]
LONG = "x" * 100_000


class Counted(dict[str, Any]):
    """Schemas that can be referred to, only so often."""

    steps = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.steps += 1
        assert self.steps < 20_000, "it goes on and on"
        return super().get(key, default)


def referring(part: Json, members: int = 1) -> Json:
    """A schema whose members are all ``part``, which may refer to itself as #/$defs/A."""
    names = [f"p{number}" for number in range(members)]
    properties = {name: {"$ref": "#/$defs/A"} for name in names}
    return {"type": "object", "required": names, "properties": properties, "$defs": Counted(A=part)}


ITSELF = {"$ref": "#/$defs/A"}
ENDLESS: list[Json] = [
    {"anyOf": [ITSELF] * 24},
    {"oneOf": [{"anyOf": [ITSELF] * 24}] * 24},
    {"type": ["array"] * 100_000, "items": ITSELF},
    {"properties": {f"q{number}": ITSELF for number in range(40)}, "required": [f"q{number}" for number in range(40)]},
]


@pytest.mark.parametrize("part", ENDLESS, ids=["union", "unions of unions", "lists of lists", "members"])
def test_a_schema_that_refers_to_itself_many_times_costs_little(part: Json) -> None:
    assert len(schemas.rows(referring(part))) <= schemas.MOST
    assert len(forms.fields(referring(part))) == 1
    assert len(forms.sample(referring(part))) < 100_000
    assert forms.filled(referring(part), {"a.p0": "1"}) is not None


@pytest.mark.parametrize(
    "part",
    [
        {"default": [LONG], "type": "array", "items": {"type": "string"}},
        {"default": LONG},
        {"enum": [LONG] * 24},
        {"enum": [{"a": LONG}] * 24},
        {"enum": list(range(100_000))},
        {"const": {"a": LONG}},
        {"description": [LONG] * 9},
        {"description": LONG},
        {"examples": [{LONG: 1}], "pattern": LONG, "format": LONG},
    ],
)
def test_a_long_value_that_a_hundred_members_share_is_cut_in_each(part: Json) -> None:
    schema = referring(part, 100)
    assert sum(len(str(row)) for row in schemas.rows(schema)) < 300_000
    assert sum(len(str(field)) for field in forms.fields(schema)) < 300_000
    assert len(forms.sample(schema)) < 300_000


def test_a_short_value_of_a_schema_is_in_the_form_whole() -> None:
    part = {"enum": ["a", "b"]}
    (field,) = forms.fields(referring(part))
    assert (field.kind, field.choices, forms.sample(referring(part))) == ("choice", ("a", "b"), '{\n  "p0": "a"\n}')


def test_a_definition_with_a_number_beyond_all_bounds_can_be_looked_at() -> None:
    each = {"definition": Raw(b'{"inputSchema":{"x":1e999}}'), "annotations": Raw(b'{"readOnlyHint":true,"x":1e999}')}
    assert (tools.schema_of(Kind.TOOL, each), tools.annotations(each), tools.said(Raw(b"1e999"))) == (None, {}, "")
    deep = Raw(b"[" * 100_000 + b"]" * 100_000)
    assert tools.said(deep) == ""


def test_an_answer_that_is_no_text_is_an_error_of_its_own() -> None:
    assert results.shown(b'{"result":{"content":[{"type":"text","text":"\xff"}]}}', 200).state == "error"
    assert tools.said(Raw(b'"\xff"')) == ""


async def test_a_body_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, {"a": Server()}) as here:
        for body in (b'{"level":"\xff"}', b'{"level":"\\ud800"}', b'{"level":1e999}', b"[" * 50_000):
            assert (await here.ask("POST", "/admin/v1/log/level", body)).status == 400


async def test_a_page_shows_so_many_lines_and_says_of_how_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backends, "MOST", 3)
    monkeypatch.setattr(sessions, "MOST", 0)
    many = {"a": Server(tools=[tool(f"t{number}") for number in range(9)])}
    async with visitor(monkeypatch, tmp_path, many) as guest:
        _, text = await guest.see("backends/a")
        assert (text.count('<tr data-status="listed">'), "These are 3 of 9" in text) == (3, True)
        assert len((await guest.here.get("backends/a"))["offers"]) == 9


async def test_a_machine_that_looks_at_a_link_does_not_use_it_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with visitor(monkeypatch, tmp_path, {"a": Server()}) as guest:
        link = (await guest.here.post("login"))["url"].partition(f":{guest.here.port}")[2]
        for method in ("HEAD", "POST", "OPTIONS"):
            status, head, _ = await guest.raw(method, link)
            assert (status in (403, 405), "set-cookie" in head.lower()) == (True, False)
        assert (await guest.raw("GET", link))[0] == 303
        assert (await guest.raw("GET", link))[0] == 403


@pytest.mark.parametrize("header", ["Bearer x\r\nX-Role: admin", "\0", "Bearer \u202ex"])
async def test_a_credential_of_a_page_is_one_header(
    header: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with visitor(monkeypatch, tmp_path, {"a": Server(tools=[tool("t")])}) as guest:
        form = {"path": "/g/mcp", "name": "t", "mode": "json", "raw": "{}"}
        assert (await guest.send("try", {**form, "authorization": header}))[0] == 400
        assert (await guest.send("try", {**form, "authorization": "Bearer x"}))[0] == 200


async def test_an_argument_of_any_name_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ["csrf", "path", "name", "mode", "a.x", "n[]", "", "é \u202e"]
    asked: list[Json] = []

    async def script(call: Asked, _: Notify) -> bytes:
        asked.append(call.params["arguments"])
        return b'{"resultType":"complete","content":[]}'

    schema = {"type": "object", "required": names, "properties": {name: {"type": "string"} for name in names}}
    server = Server(tools=[tool("t")], script=script)
    server.tools[0]["inputSchema"] = schema
    async with visitor(monkeypatch, tmp_path, {"a": server}) as guest:
        values = {f"a.{name}": f"value of {name}" for name in names}
        assert (await guest.send("try", {"path": "/g/mcp", "name": "t", **values}))[0] == 200
        assert asked == [{name: f"value of {name}" for name in names}]


async def test_what_a_reload_takes_away_is_gone_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with visitor(monkeypatch, tmp_path, {"a": Server(tools=[tool("t")], script=echo)}) as guest:
        form = {"path": "/g/mcp", "name": "t", "mode": "json", "raw": "{}"}
        wanted = ("try", form), ("cache/clear", {})
        assert [(await guest.send(*each))[0] for each in wanted] == [200, 303]
        was = guest.here.running.config
        less = replace(was.admin, ui=Ui(enabled=True))
        await guest.here.running.adopt(replace(was, digest="other", admin=less))
        assert [(await guest.send(*each))[0] for each in wanted] == [403, 403]
        assert (await guest.here.ask("POST", "/admin/v1/call", form)).status == 403
        assert (await guest.see("about"))[0] == 200
