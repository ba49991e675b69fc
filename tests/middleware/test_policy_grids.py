"""Properties of authorization by brute force: every caller, persona, policy and argument of a small world, one by one.

Rule: nothing is drawn at random, so a failure is the same in every run and names its case.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.peers import Server, echo, house, tool
from tests.server.test_personas import Dressed
from vmcp.call import Identity
from vmcp.config.authz import Authz
from vmcp.config.cedar.judge import Judge, Thing, World
from vmcp.config.model import Aggregation, ArgumentOverride, Override
from vmcp.config.personas import Persona
from vmcp.server.gate import Gate

WORLD = World("t", {"b": "g"}, frozenset({"g"}))
THING = Thing("Tool", "read", "b", "read")
PERMIT = "permit(principal, action, resource);"

# --- arguments

# Policies whose permits read no argument: what a client adds can only take away.
ONLY_FORBIDS = [
    (PERMIT, 'forbid(principal, action, resource) when { context has arg_path && context.arg_path like "/etc/*" };'),
    (PERMIT, 'forbid(principal, action, resource) when { context has arg_path && context.arg_path == "/etc/x" };'),
    (PERMIT, "forbid(principal, action, resource) when { context has arg_n && context.arg_n > 5 };"),
    (PERMIT, "forbid(principal, action, resource) when { context has arg_flag && context.arg_flag };"),
    (PERMIT, "forbid(principal, action, resource) unless { context has arg_path };"),
    (PERMIT, 'forbid(principal, action, resource) unless { context has arg_path && context.arg_path like "/srv/*" };'),
    (PERMIT, 'forbid(principal, action, resource) when { resource has arg_path && resource.arg_path like "*etc*" };'),
]
ONLY_PERMITS = [
    ('permit(principal, action, resource) when { context has arg_path && context.arg_path like "/srv/*" };',),
    ('permit(principal, action, resource) when { context has arg_path && context.arg_path == "/srv/x" };',),
    ("permit(principal, action, resource) when { context has arg_n && context.arg_n < 5 };",),
    ("permit(principal, action, resource) when { context has arg_flag && context.arg_flag };",),
    ("permit(principal, action, resource) when { resource has arg_n && resource.arg_n == 1 };",),
]
STRINGS: list[Any] = ["/etc/x", "/srv/x", "", "true", "1", "/ETC/x", "/srv/../etc/x"]
NUMBERS: list[Any] = [0, 1, 6, 9, -1, 1 << 62]
BOOLEANS: list[Any] = [True, False]
OTHERS: list[Any] = [None, 1.5, [], ["/etc/x"], ["/srv/x"], {}, {"path": "/srv/x"}, 1 << 70, -(1 << 70)]
OF_TYPE = {"path": STRINGS, "n": NUMBERS, "flag": BOOLEANS}
EVERYTHING = [*STRINGS, *NUMBERS, *BOOLEANS, *OTHERS]


def judged(policies: tuple[str, ...]) -> Any:
    judge = Judge(Authz(policies), WORLD)
    caller = judge.caller("i", "ann", {})
    return lambda arguments: judge.decide(caller, THING, arguments).allowed


def calls() -> Iterator[dict[str, Any]]:
    """No argument, every one of the right type, and every pair of those."""
    yield {}
    for name, values in OF_TYPE.items():
        yield from ({name: value} for value in values)
    for one, two in itertools.combinations(OF_TYPE, 2):
        yield from ({one: a, two: b} for a in OF_TYPE[one][:3] for b in OF_TYPE[two][:3])


@pytest.mark.parametrize("policies", [*ONLY_FORBIDS, *ONLY_PERMITS])
def test_an_argument_that_no_policy_reads_changes_nothing(policies: tuple[str, ...]) -> None:
    allowed = judged(policies)
    for arguments in calls():
        before = allowed(arguments)
        for name in ("other", "arg_path", "Path", "path ", "paths", "path_", "n.0", "__proto__"):
            for value in ("/srv/x", 1, True, None, {}):
                assert allowed({**arguments, name: value}) is before, (arguments, name, value)


@pytest.mark.parametrize("policies", [*ONLY_FORBIDS, *ONLY_PERMITS])
def test_an_argument_of_another_type_never_turns_deny_into_allow(policies: tuple[str, ...]) -> None:
    allowed = judged(policies)
    for arguments in calls():
        if allowed(arguments):
            continue
        for name in arguments:
            for value in EVERYTHING:
                same = any(type(value) is type(each) and value in OF_TYPE[name] for each in OF_TYPE[name])
                assert same or not allowed({**arguments, name: value}), (arguments, name, value)


@pytest.mark.parametrize("policies", [policies for policies in ONLY_FORBIDS if "unless" not in policies[1]])
def test_an_argument_more_never_undoes_a_forbid(policies: tuple[str, ...]) -> None:
    allowed = judged(policies)
    for arguments in calls():
        if allowed(arguments):
            continue
        for name in ("path", "n", "flag"):
            for value in EVERYTHING if name not in arguments else ():
                assert not allowed({**arguments, name: value}), (arguments, name, value)
        for name in ("path_present", "n_present", "flag_present"):
            for value in (True, False, "x", None, []):
                assert not allowed({**arguments, name: value}), (arguments, name, value)


@pytest.mark.parametrize("policies", ONLY_PERMITS)
def test_only_a_value_of_the_policys_own_type_is_permitted(policies: tuple[str, ...]) -> None:
    allowed = judged(policies)
    (name,) = [name for name in OF_TYPE if f"arg_{name}" in policies[0]]
    for value in EVERYTHING:
        if not any(type(value) is type(each) and value == each for each in OF_TYPE[name]):
            assert not allowed({name: value}), value
    assert any(allowed({name: value}) for value in OF_TYPE[name])
    assert not allowed({})


# --- listed and callable

TOOLS = ["read", "write", "drop"]
PREFIXED = Aggregation(strategy="prefix")
PERSONAS = [
    Persona("all"),
    Persona("none", include=()),
    Persona("first", include=("a_*", "r://a/*")),
    Persona("quiet", exclude=("*_drop", "b_p", "r://b/*")),
    Persona(
        "masked",
        exclude=("a_write",),
        overrides={
            "a_drop": Override("a_read_all", annotations={"readOnlyHint": True}),
            "a_read": Override("a_drop", arguments={"q": ArgumentOverride("words")}),
            "b_read": Override("b_drop"),
        },
    ),
]
POLICIES = [
    PERMIT,
    'permit(principal, action, resource in Backend::"b");',
    f"{PERMIT} forbid(principal, action, resource) when {{ !resource.readOnlyHint }};",
    """permit(principal == Client::"ann", action, resource);
    permit(principal, action, resource) when { resource.name like "*read*" };""",
    'permit(principal in THVGroup::"staff", action, resource); forbid(principal, action, resource == Tool::"a_drop");',
    'permit(principal, action == Action::"call_tool", resource) unless { resource.name like "*drop" };',
]
CALLERS = [
    Identity("i", "ann", {"groups": ["staff"]}),
    Identity("i", "ben", {"groups": ["staff", "guests"]}),
    Identity("i", "cid"),
]
SHOWN = [f"{backend}_{name}" for backend in "ab" for name in TOOLS] + ["a_read_all"]


def backend(name: str) -> Server:
    return Server(
        tools=[tool(each, annotations={"readOnlyHint": each == "read"}) for each in TOOLS],
        prompts=[{"name": "p"}],
        resources=[{"uri": f"r://{name}/1", "name": "r"}],
        script=echo,
    )


ASKED = [
    ("tools/list", "tools", "name", "tools/call", SHOWN),
    ("prompts/list", "prompts", "name", "prompts/get", ["a_p", "b_p"]),
    ("resources/list", "resources", "uri", "resources/read", ["r://a/1", "r://b/1"]),
]


@pytest.mark.parametrize("policy", POLICIES)
async def test_what_is_listed_is_what_can_be_called_and_a_persona_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    servers = {name: backend(name) for name in "ab"}
    known = {each.name: each for each in PERSONAS}
    authz = Authz(tuple(f"{each.strip()};" for each in policy.split(";") if each.strip()))
    async with house(monkeypatch, servers, aggregation=PREFIXED, personas=known, authz=authz) as running:
        for caller in CALLERS:
            monkeypatch.setattr(Gate, "known", lambda *_, who=caller: who)
            reached = {}
            for persona in (None, *known):
                door = Dressed(running.app, persona=persona)
                start = {name: len(server.asked) for name, server in servers.items()}
                for listing, key, by, method, names in ASKED:
                    listed = {entry[by] for entry in (await door.ask(listing)).result[key]}
                    answers = {name: (await door.ask(method, {by: name})).message for name in names}
                    assert {name for name, answer in answers.items() if "result" in answer} == listed, (caller, persona)
                reached[persona] = {
                    (name, asked.method, asked.name)
                    for name, server in servers.items()
                    for asked in server.asked[start[name] :]
                    if not asked.method.endswith("list")
                }
            for persona, things in reached.items():
                assert things <= reached[None], (caller, persona)
            assert reached["none"] == set()
            assert reached["all"] == reached[None]
