"""What callers may do: in lists, in calls, and everywhere else where a name can be said.

Rule: what is denied answers as what does not exist, what is permitted stands beside it, and nothing denied reaches a backend.
"""

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.aggregator.speaking import ERAS, speaking
from tests.middleware.calls import call
from tests.routing.catalogs import catalog, config, entry
from tests.server.clients import Door, unnamed
from tests.server.peers import Server, house, tool
from vmcp.call import Call, Complete, Identity, Outcome, narrowed, resource_for
from vmcp.config.authz import Authz
from vmcp.config.cedar.judge import Judge, world
from vmcp.config.model import Aggregation, Limits
from vmcp.middleware import authz
from vmcp.middleware.authz import Authorization
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.routing.build import build
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route

PREFIXED = Aggregation(strategy="prefix")
ONLY_B = 'permit(principal == Client::"anonymous", action, resource in Backend::"b");'


def two(revision: Revision) -> dict[str, Server]:
    """``b`` with one of everything, and ``c`` with the same under other names."""
    first, second = speaking(revision), speaking(revision)
    second.resources = [{"name": "s", "uri": "s://one"}]
    second.templates = [{"name": "y", "uriTemplate": "y://{id}"}]
    return {"b": first, "c": second}


ASKED: list[tuple[str, str, str, str]] = [
    ("tools/call", "name", "b_t", "c_t"),
    ("prompts/get", "name", "b_p", "c_p"),
    ("resources/read", "uri", "r://one", "s://one"),
    ("resources/read", "uri", "x://one", "y://one"),
]


@pytest.mark.parametrize("revision", ERAS)
async def test_what_is_denied_is_as_what_is_not_there(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    servers = two(revision)
    async with house(monkeypatch, servers, aggregation=PREFIXED, authz=Authz((ONLY_B,))) as running:
        door = Door(running.app, revision)
        await door.initialize()
        for method, key, name in (
            ("tools/list", "tools", "b_t"),
            ("prompts/list", "prompts", "b_p"),
            ("resources/list", "resources", "r"),
            ("resources/templates/list", "resourceTemplates", "x"),
        ):
            assert [each["name"] for each in (await door.ask(method)).result[key]] == [name]
        for method, key, mine, others in ASKED:
            assert (await door.ask(method, {key: mine})).result
            denied = unnamed((await door.ask(method, {key: others})).body)
            unknown = unnamed((await door.ask(method, {key: "z" + others[1:]})).body)
            assert denied.replace(others.encode(), b"?") == unknown.replace(b"z" + others[1:].encode(), b"?")
            assert b"error" in denied
        for kind, key, mine, others in (("prompt", "name", "b_p", "c_p"), ("resource", "uri", "x://{id}", "y://{id}")):
            params = {"ref": {"type": f"ref/{kind}", key: mine}, "argument": {"name": "a", "value": "v"}}
            assert (await door.ask("completion/complete", params)).result
            denied = await door.ask("completion/complete", {**params, "ref": {**params["ref"], key: others}})
            unknown = await door.ask("completion/complete", {**params, "ref": {**params["ref"], key: "?"}})
            assert (denied.error["code"], denied.error["message"]) == (unknown.error["code"], unknown.error["message"])
            assert denied.error["data"].keys() == unknown.error["data"].keys()
        seen = (await door.ask("vmcp/servers/info", {"name": "c"})).result
        assert [seen[key] for key in ("tools", "prompts", "resources", "resourceTemplates")] == [[], [], [], []]
    methods = {asked.method for asked in servers["c"].asked}
    assert not methods & {"tools/call", "prompts/get", "resources/read", "completion/complete"}


async def test_nobody_subscribes_to_what_he_may_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = two(Revision.V2025_11_25)
    for server in servers.values():
        server.capabilities = {**server.capabilities, "resources": {"subscribe": True}}
    async with house(monkeypatch, servers, aggregation=PREFIXED, authz=Authz((ONLY_B,))) as running:
        door = Door(running.app, Revision.V2025_11_25)
        await door.initialize()
        denied = (await door.ask("resources/subscribe", {"uri": "s://one"})).error
        assert denied["code"] == -32002
    assert "resources/subscribe" not in {asked.method for asked in servers["c"].asked}


async def test_arguments_decide_about_calls_and_not_about_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid = "forbid(principal, action, resource) when { context has arg_n && context.arg_n > 3 };"
    servers = two(MODERN)
    async with house(monkeypatch, servers, authz=Authz(("permit(principal, action, resource);", forbid))) as running:
        door = Door(running.app)
        assert [each["name"] for each in (await door.ask("tools/list")).result["tools"]] == ["t"]
        assert (await door.call("t", {"n": 3})).result
        for wrong in ({"n": 4}, {"n": "4"}, {"n": 4.0}, {"n": None}):
            assert (await door.call("t", wrong)).error["message"] == "Unknown tool: t"
        assert (await door.call("t", {"m": {"__extn": 1}})).result
        assert (await door.ask("prompts/get", {"name": "p", "arguments": []})).error["message"] == "Unknown prompt: p"
    assert all("4" not in json.dumps(asked.params) for asked in servers["b"].asked if asked.method == "tools/call")


async def test_pages_are_full_of_what_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = [tool(f"t{n}", annotations={"readOnlyHint": n % 2 == 0}) for n in range(9)]
    policy = "permit(principal, action, resource) when { resource.readOnlyHint };"
    limits = Limits(page_size=2)
    async with house(monkeypatch, {"b": Server(tools=readers)}, authz=Authz((policy,)), limits=limits) as running:
        door = Door(running.app)
        pages, cursor = [], None
        while cursor is not None or not pages:
            told = (await door.ask("tools/list", {"cursor": cursor} if cursor else {})).result
            pages.append([each["name"] for each in told["tools"]])
            cursor = told.get("nextCursor")
        assert pages == [["t0", "t2"], ["t4", "t6"], ["t8"]]
        assert (await door.ask("tools/list", {"cursor": _cursor("t2")})).result["tools"]
        hidden = unnamed((await door.ask("tools/list", {"cursor": _cursor("t3")})).body)
        unknown = unnamed((await door.ask("tools/list", {"cursor": _cursor("t99")})).body)
        assert b"error" in hidden
        assert hidden == unknown, "a cursor tells nothing"


def _cursor(name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(["tools", name]).encode()).decode()


# --- the layer itself

FACES = config(["a", "b"])
ALICE = Identity("https://id.example.com", "alice", {"groups": ["eng"], "exp": 1})


def table(number: int = 1, **tools: Any) -> dict[str, Any]:
    catalogs = {
        name: catalog(
            name,
            tools=[entry(Kind.TOOL, "t", annotations=annotations), "u"],
            templates=[f"{name}://{{id}}", f"{name}:{{+r}}"],
        )
        for name, annotations in tools.items()
    }
    made = build(number, FACES, catalogs)
    return {"table": made, "face": made.faces["/mcp"]}


class Counting:
    """A judge who counts how often he is asked."""

    def __init__(self, *policies: str) -> None:
        judge = Judge(Authz(policies), world(FACES))
        self._decide = judge.decide
        self.arguments, self.claims, self.caller = judge.arguments, judge.claims, judge.caller
        self.named, self.alike = judge.named, judge.alike
        self.asked = 0

    def decide(self, *args: Any) -> Any:
        self.asked += 1
        return self._decide(*args)


class Bench:
    """The layer between a call and what it may."""

    def __init__(self, *policies: str) -> None:
        self.judge: Any = Counting(*policies)
        self.layer = Authorization(self.judge)
        self.handle = self.layer(self._handled)

    async def _handled(self, given: Call) -> Outcome:
        self.last = given
        return Complete(b"{}", MODERN)

    async def may(self, name: str, kind: Kind = Kind.TOOL, **more: Any) -> bool:
        given: dict[str, Any] = {"identity": ALICE, "tree": {}, **table(a={}, b={}), **more}
        await self.handle(call(**given))
        assert self.last.may is not None
        return self.last.may(self.last.face.routes[kind][name])


IN_ENG = 'permit(principal in THVGroup::"eng", action, resource);'


async def test_a_decision_is_kept_until_something_it_depends_on_changes() -> None:
    bench = Bench(IN_ENG)
    assert await bench.may("a_t")
    assert await bench.may("a_t")
    later = Identity(ALICE.issuer, "alice", {"groups": ["eng"], "exp": 2, "jti": "x"})
    assert await bench.may("a_t", identity=later)
    assert bench.judge.asked == 1
    assert not await bench.may("a_t", identity=Identity(ALICE.issuer, "alice", {"groups": ["ops"]}))
    assert not await bench.may("a_t", identity=Identity("https://other.example.com", "alice", {}))
    assert bench.judge.asked == 3
    assert await bench.may("a_t", **table(2, a={}, b={}))
    assert bench.judge.asked == 4


async def test_the_same_subject_of_another_issuer_is_somebody_else() -> None:
    bench = Bench('permit(principal, action, resource) when { principal.claim_iss == "https://id.example.com" };')
    assert await bench.may("a_t", identity=Identity("https://id.example.com", "alice", {}))
    assert not await bench.may("a_t", identity=Identity("https://other.example.com", "alice", {}))
    shared: dict[str, Any] = {}
    assert await bench.may("a_t", identity=Identity("https://id.example.com", "alice", shared))
    assert not await bench.may("a_t", identity=Identity("https://other.example.com", "alice", shared))


async def test_a_new_table_is_a_new_question() -> None:
    bench = Bench("permit(principal, action, resource) when { resource.readOnlyHint };")
    assert not await bench.may("a_t", **table(1, a={}))
    assert await bench.may("a_t", **table(2, a={"readOnlyHint": True}))


async def test_only_what_is_in_the_table_is_remembered_by_its_place_and_only_as_long_as_the_table() -> None:
    bench = Bench(IN_ENG)
    assert await bench.may("a_t", **table(1, a={}, b={}))
    assert await bench.may("b_t", **table(1, a={}, b={}))
    before = bench.layer._met
    assert bench.last.may is not None
    for number in range(20):
        made_up = msgspec.structs.replace(bench.last.face.routes[Kind.TOOL]["a_t"], original=f"t{number}")
        assert bench.last.may(made_up), "as routing rules aim it: anew for each call"
    assert bench.layer._met == before
    await bench.may("a_t", **table(2, a={}))
    assert bench.layer._met == 1
    assert [len(met) for *_, met in bench.layer._known.values()] == [1]


async def test_one_name_on_two_faces_and_one_uri_through_two_templates_are_two_questions() -> None:
    bench = Bench('permit(principal, action, resource) when { resource.original == "a:{+r}" };')
    assert not await bench.may("a://{id}", Kind.TEMPLATE)
    first, second = (
        msgspec.structs.replace(bench.last.face.routes[Kind.TEMPLATE][name], name="a://1")
        for name in ("a://{id}", "a:{+r}")
    )
    assert bench.last.may is not None
    assert (bench.last.may(first), bench.last.may(second)) == (False, True)
    await bench.may("a://{id}", Kind.TEMPLATE)
    asked = bench.judge.asked
    routes = dict(bench.last.face.routes)
    another = msgspec.structs.replace(routes[Kind.TEMPLATE]["a://{id}"], original="a:{+r}")
    other = replace(bench.last.face, path="/other/mcp", routes={**routes, Kind.TEMPLATE: {"a://{id}": another}})
    assert await bench.may("a://{id}", Kind.TEMPLATE, face=other)
    assert bench.judge.asked == asked + 1


async def test_arguments_that_a_policy_reads_are_asked_about_every_time() -> None:
    bench = Bench(IN_ENG, "forbid(principal, action, resource) when { context has arg_x && context.arg_x };")
    assert await bench.may("a_t", tree={"arguments": {"y": 1}})
    assert await bench.may("a_t", tree={"arguments": {"y": 2}})
    assert bench.judge.asked == 1
    assert not await bench.may("a_t", tree={"arguments": {"x": True}})
    assert not await bench.may("a_t", tree={"arguments": {"x": True}})
    assert await bench.may("a_t", tree={"arguments": {"x": False}})
    assert bench.judge.asked == 4
    assert not await bench.may("a_t", tree={"arguments": [True]})
    assert await bench.may("a_t", tree={"arguments": {"x": True}}, method="completion/complete")


async def test_nothing_is_open_to_somebody_unknown() -> None:
    bench = Bench("permit(principal, action, resource);")
    assert await bench.may("a_t")
    assert not await bench.may("a_t", identity=None)


async def test_the_trail_says_what_was_decided_by_whom() -> None:
    bench = Bench('@id("mine") ' + IN_ENG, '@id("no") forbid(principal, action, resource == Tool::"a_u");')
    await bench.may("a_t")
    assert (bench.last.trail.decision, bench.last.trail.policies) == ("allow", ("mine",))
    await bench.may("a_u")
    assert (bench.last.trail.decision, bench.last.trail.policies) == ("deny", ("no",))
    await bench.may("a_u", method="tools/list")
    assert bench.last.trail.decision is None


async def test_a_policy_about_something_that_is_not_there_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    scope = 'permit(principal, action, resource == {}::"{}");'
    names = [
        ("Tool", "a_t"),
        ("Tool", "a_x"),
        ("Prompt", "a_t"),
        ("Resource", "a://1"),
        ("Resource", "a://{id}"),
        ("Resource", "z:"),
    ]
    bench = Bench(*(scope.format(*each) for each in names))
    await bench.may("a_t", **table(1, a={}))
    assert not caplog.records, "b may have them"
    await bench.may("a_t", **table(2, a={}, b={}))
    await bench.may("a_t", **table(3, a={}, b={}))
    told = [(vars(each)["kind"], vars(each)["target"]) for each in caplog.records if each.levelname == "WARNING"]
    assert told == [("Prompt", "a_t"), ("Resource", "z:"), ("Tool", "a_x")]


async def test_the_log_says_why_and_no_values(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(
        "permit(principal, action, resource);", "forbid(principal, action, resource) when { context.arg_n + 1 > 2 };"
    )
    with caplog.at_level("INFO", "vmcp.authz"):
        assert not await bench.may("a_t", tree={"arguments": {"n": "canary"}})
        assert not await bench.may("a_t", tree={"arguments": {"n": (1 << 63) - 1}})
        assert await bench.may("a_t", tree={"arguments": {"n": 1}})
    whys = [vars(each)["why"] for each in caplog.records]
    assert whys == ["'arg_n' is no Long", "a policy that applies could not be evaluated"]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authz, "MAX_CALLERS", 1)
    monkeypatch.setattr(authz, "MAX_DECISIONS", 2)
    bench = Bench(IN_ENG)
    for name in ("a_t", "a_u", "b_t", "b_u", "b_u"):
        assert await bench.may(name)
        assert [len(met) for *_, met in bench.layer._known.values()] == [bench.layer._met]
        assert bench.layer._met <= 2
    assert bench.judge.asked == 4
    assert await bench.may("a_t")
    assert bench.judge.asked == 5
    assert not await bench.may("a_t", identity=Identity("i", "bob", {}))
    assert await bench.may("a_t")
    monkeypatch.setattr(authz, "LONGEST_NAME", 2)
    asked = bench.judge.asked
    await bench.may("b_t")
    await bench.may("b_t")
    assert bench.judge.asked == asked + 2


async def test_a_long_list_lets_others_work() -> None:
    made = build(1, FACES, {"a": catalog("a", tools=[f"t{n}" for n in range(300)])})
    bench = Bench(IN_ENG)
    given = {"method": "tools/list", "identity": ALICE, "tree": {}, "table": made, "face": made.faces["/mcp"]}
    turns = 0
    asking = asyncio.ensure_future(bench.handle(call(**given)))  # noqa: TID251
    while not asking.done():
        await asyncio.sleep(0)
        turns += 1
    assert bench.judge.asked == 300
    assert turns > 4


def long_list(number: int = 1) -> dict[str, Any]:
    made = build(number, FACES, {"a": catalog("a", tools=[f"t{n}" for n in range(100)])})
    return {"method": "tools/list", "identity": ALICE, "tree": {}, "table": made, "face": made.faces["/mcp"]}


async def seen(bench: Bench, **given: Any) -> list[str]:
    """What a long list shows; the mask that goes along with it says the same as who is asked one by one."""
    await bench.handle(call(**given))
    visible, may = bench.last.visible, bench.last.may
    assert visible is not None
    assert may is not None
    assert visible.routes is given["face"].listing[Kind.TOOL]
    assert [bool(each) for each in visible.mask] == [may(route) for route in visible.routes]
    return [route.name for route, shown in zip(visible.routes, visible.mask, strict=True) if shown]


async def test_what_a_long_list_shows_is_remembered_for_one_caller_and_one_table() -> None:
    bench = Bench('permit(principal, action, resource) when { principal.claim_role == "a" };')
    given = long_list()
    one, other = Identity("i", "u", {"role": "a"}), Identity("i", "u", {"role": "b"})
    assert len(await seen(bench, **{**given, "identity": one})) == 100
    assert await seen(bench, **{**given, "identity": other}) == []
    assert await seen(bench, **{**given, "identity": None}) == []
    masks = list(bench.layer._masks.values())
    assert len(await seen(bench, **{**given, "identity": one})) == 100
    assert all(one is other for one, other in zip(bench.layer._masks.values(), masks, strict=True)), "nothing is new"
    assert await seen(bench, **{**long_list(2), "identity": other}) == []
    assert len(bench.layer._masks) == 1


async def test_who_was_narrowed_before_sees_less_of_a_long_list_and_nobody_else_does() -> None:
    bench = Bench("permit(principal, action, resource);")
    given = long_list()

    def few(route: Route) -> bool:
        return route.name in ("a_t1", "a_t2")

    assert await seen(bench, **given, may=few) == ["a_t1", "a_t2"]
    assert len(await seen(bench, **given)) == 100
    assert await seen(bench, **given, may=few) == ["a_t1", "a_t2"]


async def test_those_whom_no_policy_tells_apart_are_decided_about_once() -> None:
    bench = Bench('permit(principal == Client::"carol", action, resource);', IN_ENG)
    given = long_list()
    people = {
        name: Identity("i", name, {"groups": ["eng"] if name != "dave" else []})
        for name in ("alice", "bob", "dave", "carol")
    }
    assert len(await seen(bench, **{**given, "identity": people["alice"]})) == 100
    asked = bench.judge.asked
    assert len(await seen(bench, **{**given, "identity": people["bob"]})) == 100
    assert bench.judge.asked == asked
    assert await seen(bench, **{**given, "identity": people["dave"]}) == []
    carol = Identity("i", "carol", {"groups": []})
    assert len(await seen(bench, **{**given, "identity": carol})) == 100, "she is named, with the claims of dave"
    assert await seen(bench, **{**given, "identity": people["dave"]}) == []


# --- the field


async def test_layers_only_make_it_narrower() -> None:
    face = table(a={}, b={})["face"]
    route = face.routes[Kind.TOOL]["a_t"]
    asked: list[Route] = []

    def yes(one: Route) -> bool:
        asked.append(one)
        return True

    assert call().may is None
    once = narrowed(call(), yes)
    assert once.may is not None
    assert once.may(route)
    for order in (narrowed(once, lambda _: False), narrowed(narrowed(call(), lambda _: False), yes)):
        assert order.may is not None
        assert not order.may(route)


async def test_what_comes_through_a_template_is_judged_by_its_uri() -> None:
    given = table(a={}, b={})
    asked: list[tuple[str, str]] = []

    def may(route: Route) -> bool:
        asked.append((route.name, route.original))
        return route.name == "a://1"

    open_call = narrowed(call(**given), may)
    found = resource_for(open_call, "a://1")
    assert found is given["face"].routes[Kind.TEMPLATE]["a://{id}"]
    assert resource_for(open_call, "a://2") is None
    assert resource_for(open_call, "nowhere") is None
    assert resource_for(call(**given), "a://2") is found
    assert asked == [("a://1", "a://{id}"), ("a://2", "a://{id}")]
