"""Policies, and what they make of callers, things and arguments.

The rule: beside every refusal stands the permission that it is the exception of.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.config.samples import SMALL, config, problems
from vmcp.config.authz import Authz
from vmcp.config.cedar import engine, entities, uses, values
from vmcp.config.cedar.engine import Malformed
from vmcp.config.cedar.judge import Judge, Thing, Verdict, World, world
from vmcp.config.cedar.uses import TwoTypes, Use
from vmcp.config.cedar.values import Mismatch

WORLD = World("acme", {"github": "code", "files": "code", "mail": "office"}, frozenset({"code", "office"}))
READ = Thing("Tool", "github_get", "github", "get", {"readOnlyHint": True})
DROP = Thing("Tool", "github_drop", "github", "drop", {"destructiveHint": True})
SEND = Thing("Tool", "mail_send", "mail", "send")
PROMPT = Thing("Prompt", "github_review", "github", "review")
FILE = Thing("Resource", "file:///safe/a.txt", "files", "file:///{+path}")
ALL = "permit(principal, action, resource);"


def judge(*policies: str, entities: str = "[]", **more: Any) -> Judge:
    return Judge(Authz(policies, entities, **more), WORLD)


def verdict(
    policies: tuple[str, ...] | str,
    thing: Thing,
    arguments: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    **more: Any,
) -> Verdict:
    by = judge(*([policies] if isinstance(policies, str) else policies), **more)
    return by.decide(by.caller("https://id.example.com", "alice", claims or {}), thing, arguments or {})


def allowed(*args: Any, **more: Any) -> bool:
    return verdict(*args, **more).allowed


# --- who, what, where


@pytest.mark.parametrize(
    ("policy", "can", "cannot"),
    [
        ('permit(principal, action, resource in Backend::"github") unless { resource.destructiveHint };', READ, DROP),
        ('permit(principal, action, resource in Backend::"github") unless { resource.destructiveHint };', PROMPT, SEND),
        ('permit(principal, action, resource in Group::"code");', FILE, SEND),
        ('permit(principal, action == Action::"call_tool", resource in MCP::"acme");', SEND, PROMPT),
        ('permit(principal, action, resource == Tool::"github_get");', READ, DROP),
        ("permit(principal, action, resource) when { resource.readOnlyHint };", READ, SEND),
        (
            "permit(principal, action, resource) when { resource has readOnlyHint && resource.readOnlyHint == true };",
            READ,
            DROP,
        ),
        ('permit(principal, action, resource) when { resource.name like "github_*" };', PROMPT, SEND),
        (
            'permit(principal, action, resource) when { resource has uri && resource.uri like "file:///safe/*" };',
            FILE,
            READ,
        ),
        ('permit(principal, action, resource is Resource in Backend::"files");', FILE, READ),
        ('permit(principal, action, resource) when { resource.operation == "get" };', PROMPT, READ),
        ('permit(principal, action, resource) when { resource.original == "get" };', READ, DROP),
    ],
)
def test_a_policy_is_about_things(policy: str, can: Thing, cannot: Thing) -> None:
    assert allowed(policy, can)
    assert verdict(policy, cannot) == Verdict(False, (), "no policy permits it")


@pytest.mark.parametrize(
    ("policy", "claims", "others"),
    [
        ('permit(principal == Client::"alice", action, resource);', {}, None),
        ('permit(principal in THVGroup::"eng", action, resource);', {"groups": ["eng"]}, {"groups": ["ops"]}),
        ('permit(principal in THVGroup::"eng", action, resource);', {"roles": "eng"}, {"groups": [], "roles": ["eng"]}),
        ('permit(principal in THVGroup::"eng", action, resource);', {"cognito:groups": ["eng"]}, {}),
        ('permit(principal, action, resource) when { principal.claim_role == "a" };', {"role": "a"}, {"role": "b"}),
        ('permit(principal, action, resource) when { principal.claim_r.contains("a") };', {"r": ["a"]}, {"r": ["b"]}),
        ('permit(principal, action, resource) when { context.claim_role == "a" };', {"role": "a"}, {"role": ["a"]}),
        (
            "permit(principal, action, resource) when { principal.claim_x.y.z > 2 };",
            {"x": {"y": {"z": 3}}},
            {"x": {"y": 3}},
        ),
        ('permit(principal, action, resource) when { principal["claim_a:b"] == 1 };', {"a:b": 1}, {}),
        (
            'permit(principal, action, resource) when { principal.claim_iss == "https://id.example.com" };',
            {"iss": "x"},
            None,
        ),
        ("permit(principal, action, resource) when { principal has claim_x };", {"x": None}, {}),
        ("permit(principal, action, resource) when { principal has claim_x.y };", {"x": {"y": None}}, {"x": {}}),
    ],
)
def test_a_policy_is_about_callers(policy: str, claims: dict[str, Any], others: dict[str, Any] | None) -> None:
    assert allowed(policy, READ, claims=claims)
    by = judge(policy)
    other = (
        by.caller("https://id.example.com", "alice", others) if others is not None else by.caller("i", "bob", claims)
    )
    assert not by.decide(other, READ).allowed


def test_the_claims_of_groups_and_roles_and_their_type_can_be_named() -> None:
    policy = 'permit(principal in Team::"eng", action, resource);'
    named = {"group_claim": "teams", "role_claim": "job", "group_type": "Team"}
    for claims in ({"teams": ["eng"]}, {"job": "eng"}, {"teams": [], "job": ["eng"], "groups": 1}):
        assert allowed(policy, READ, claims=claims, **named)
    assert not allowed(policy, READ, claims={"groups": ["eng"]}, **named)


@pytest.mark.parametrize("groups", [{"eng": True}, 3, ["eng", 3], [str(n) for n in range(1025)]])
def test_groups_that_cannot_be_read_deny_everything(groups: Any) -> None:
    assert allowed(ALL, READ, claims={"groups": ["eng"]})
    told = verdict(ALL, READ, claims={"groups": groups})
    assert (told.allowed, told.why) == (False, "the claim 'groups' is no list of at most 1024 names")


def test_nobody_may_nothing() -> None:
    by = judge(ALL)
    assert by.decide(by.caller("i", "a", {}), READ).allowed
    assert by.decide(by.caller("i", "", {"sub": "a"}), READ) == Verdict(False, (), "nobody is said to call")


def test_the_policies_that_decided_are_named() -> None:
    both = ('@id("all") ' + ALL, '@id("all") forbid(principal, action, resource == Tool::"github_drop");', ALL + ALL)
    assert verdict(both, READ) == Verdict(True, ("all", "policies[2].0", "policies[2].1"))
    assert verdict(both, DROP) == Verdict(False, ("policies[1]",))


def test_names_are_never_read_as_cedar() -> None:
    evil = 'x", "y'
    by = judge('permit(principal == Client::"x", action, resource);')
    assert by.decide(by.caller("i", "x", {}), READ).allowed
    assert not by.decide(by.caller("i", evil, {}), READ).allowed
    line = Thing("Tool", 'a\n"::b', "github", "a")
    assert allowed(ALL, line)
    assert allowed(r'permit(principal, action, resource == Tool::"a\n\"::b");', line)


# --- entities of the operator's own

OWN = """[
  {"uid": {"type": "THVGroup", "id": "eng"}, "attrs": {}, "parents": [{"__entity": {"type": "THVGroup", "id": "staff"}}]},
  {"uid": {"type": "Client", "id": "alice"}, "attrs": {"level": 3, "sites": ["a"]},
   "parents": [{"type": "THVGroup", "id": "vip"}]},
  {"uid": {"type": "Tool", "id": "github_get"}, "attrs": {"label": "blue", "safe": true}}
]"""


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('principal in THVGroup::"staff"', True),
        ('principal in THVGroup::"vip"', True),
        ('principal in THVGroup::"eng"', True),
        ('principal in THVGroup::"ops"', False),
        ("principal has level && principal.level > 2", True),
        ('principal has sites && principal.sites.contains("b")', False),
        ('resource has label && resource.label == "blue" && resource has safe && resource.safe', True),
    ],
)
def test_entities_of_the_file_are_known(condition: str, holds: bool) -> None:
    policy = f'permit(principal, action == Action::"call_tool", resource) when {{ {condition} }};'
    assert problems(_file([policy], OWN)) == ()
    assert allowed(policy, READ, claims={"groups": ["eng"]}, entities=OWN) is holds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[", "no JSON"),
        ("{}", "no list"),
        ("[3]", "an entity has"),
        ('[{"uid": {"type": "Client", "id": "a"}, "more": 1}]', "an entity has"),
        ('[{"uid": "a"}]', "'uid' and each of"),
        ('[{"uid": {"type": "User", "id": "a"}}]', "no entity type 'User'"),
        ('[{"uid": {"type": "Client", "id": "a"}}, {"uid": {"type": "Client", "id": "a"}}]', "twice"),
        ('[{"uid": {"type": "Client", "id": "a"}, "attrs": []}]', "no object"),
        ('[{"uid": {"type": "Client", "id": "a"}, "attrs": {"claim_x": 1}}]', "that vmcp gives"),
        ('[{"uid": {"type": "Tool", "id": "a"}, "attrs": {"name": "b"}}]', "that vmcp gives"),
        ('[{"uid": {"type": "Tool", "id": "a"}, "attrs": {"b": 1.5}}]', "neither a text"),
        (
            '[{"uid": {"type": "Tool", "id": "a"}, "parents": [{"type": "Backend", "id": "b"}]}]',
            "only clients and groups",
        ),
        (
            '[{"uid": {"type": "Client", "id": "a"}, "parents": [{"type": "Backend", "id": "b"}]}]',
            "only clients and groups",
        ),
        ('[{"uid": {"type": "Tool", "id": "a"}, "attrs": {"b": {"__extn": {}}}}]', "neither a text"),
        ('[{"uid": {"type": "Tool", "id": "a"}, "attrs": {"b": 9223372036854775808}}]', "neither a text"),
        (
            '[{"uid": {"type": "Tool", "id": "a"}, "attrs": {"b": 1}}, {"uid": {"type": "Tool", "id": "c"}, "attrs": {"b": ""}}]',
            "'b' is Long here and String there",
        ),
        (
            """[{"uid": {"type": "THVGroup", "id": "a"}, "parents": [{"type": "THVGroup", "id": "b"}]},
            {"uid": {"type": "THVGroup", "id": "b"}, "parents": [{"type": "THVGroup", "id": "a"}]}]""",
            "transitive closure",
        ),
    ],
)
def test_entities_that_cannot_be_used_are_refused_at_load(text: str, why: str) -> None:
    (found,) = problems(_file([ALL], text))
    assert found.rule == "bad-policy"
    assert found.path == "incomingAuth.authz.entitiesJson"
    assert why in found.message


# --- arguments: 0.4 of the threat model

FORBID = (ALL, "forbid(principal, action, resource) when { context has arg_danger && context.arg_danger };")


@pytest.mark.parametrize(
    "danger", ["yes", 1, None, [], {}, 1.5, [True], {"__extn": {"fn": "decimal", "arg": "1"}}, 1 << 70, "\ud800"]
)
def test_another_type_is_no_way_round_a_forbid(danger: Any) -> None:
    assert allowed(FORBID, READ, {})
    assert allowed(FORBID, READ, {"danger": False})
    assert verdict(FORBID, READ, {"danger": True}) == Verdict(False, ("policies[1]",))
    assert verdict(FORBID, READ, {"danger": danger}) == Verdict(False, (), "'arg_danger' is no Bool")


@pytest.mark.parametrize(
    "arguments",
    [
        {"deep": [[[[[{}]]]]] * 3, "big": 1 << 80, "none": None, "half": "\ud800", "float": 1e300},
        {"__extn": {"fn": "ip", "arg": "x"}, "x": {"__entity": {"type": "Client", "id": "root"}}},
    ],
)
def test_what_no_policy_reads_changes_nothing(arguments: dict[str, Any]) -> None:
    assert allowed(FORBID, READ, arguments)


def test_a_value_is_never_an_escape_of_cedars() -> None:
    policy = 'permit(principal, action, resource) when { context has arg_a && context.arg_a == "root" };'
    assert allowed(policy, READ, {"a": "root"})
    assert not allowed(policy, READ, {"a": {"__extn": {"fn": "decimal", "arg": "1.0"}}})


def test_a_policy_that_fails_denies_even_what_another_permits() -> None:
    policies = (ALL, "forbid(principal, action, resource) when { context.arg_n * 4611686018427387904 > 5 };")
    assert not allowed(policies, READ, {"n": 1})
    assert allowed(policies, READ, {"n": 0})
    failed = verdict(policies, READ, {"n": 4})
    assert (failed.allowed, failed.why) == (False, "a policy that applies could not be evaluated")
    assert "overflow" in failed.detail
    assert not allowed(policies, READ, {}), "what is not there is missed, and that is an error too"


def test_a_policy_about_something_else_does_not_care() -> None:
    policies = (
        ALL,
        'forbid(principal, action, resource == Tool::"mail_send") when { context has arg_n && context.arg_n > 3 };',
    )
    assert allowed(policies, READ, {"n": "many"})
    assert not allowed(policies, SEND, {"n": "many"})
    assert allowed(policies, SEND, {"n": 3})
    for scope in (
        'principal, action == Action::"get_prompt", resource',
        'principal, action in [Action::"get_prompt", Action::"read_resource"], resource',
        "principal, action, resource is Prompt",
        'principal == Client::"bob", action, resource',
        'principal, action, resource in Backend::"mail"',
    ):
        assert allowed(
            (ALL, f"forbid({scope}) when {{ context has arg_n && context.arg_n > 3 }};"), READ, {"n": "many"}
        )
    groups = 'forbid(principal in THVGroup::"x", action, resource) when { context has arg_n && context.arg_n > 3 };'
    assert not allowed((ALL, groups), READ, {"n": "many"}), "only the engine knows who is in a group of groups"


def test_two_policies_may_mean_two_arguments_by_one_name() -> None:
    of_tool = 'forbid(principal, action, resource == Tool::"%s") when { context has arg_id && context.arg_id == %s };'
    policies = (ALL, of_tool % ("github_get", 3), of_tool % ("mail_send", '"x"'))
    assert problems(_file(list(policies))) == ()
    assert allowed(policies, READ, {"id": 4})
    assert allowed(policies, SEND, {"id": "y"})
    assert not allowed(policies, READ, {"id": "y"})
    same = (ALL, of_tool % ("github_get", 3), of_tool % ("github_get", '"x"'))
    for order in (same, same[::-1]):
        assert allowed(order, READ, {})
        assert not allowed(order, READ, {"id": 4})
    member = (
        *same[:2],
        "forbid(principal, action, resource) when { context has arg_id && context.arg_id has a && context.arg_id.a };",
    )
    assert not allowed(member, READ, {"id": 4})
    assert allowed(member, SEND, {"id": {"a": False}})


def test_what_is_no_plain_value_is_present() -> None:
    policy = "permit(principal, action, resource) when { context has arg_body_present && context.arg_body_present };"
    assert allowed(policy, READ, {"body": {"a": 1}})
    assert not allowed(policy, READ, {"body": "text"})
    assert not allowed(policy, READ, {})
    assert allowed(policy, READ, {"body_present": True})
    twice = verdict(policy, READ, {"body": [], "body_present": True})
    assert (twice.allowed, twice.why) == (False, "'arg_body_present' may mean two arguments")


@pytest.mark.parametrize(
    "path", ["/safe/../etc", "/safe/..", "..\\x", "/safe/%2e%2e/etc", "/safe/%252E./etc", "/safe/./a", ".."]
)
def test_a_pattern_is_not_passed_by_a_path_that_goes_up(path: str) -> None:
    policy = 'permit(principal, action, resource) when { context has arg_p && context.arg_p like "*" };'
    assert allowed(policy, READ, {"p": "/safe/a..b/.hidden/..."})
    assert "goes up" in verdict(policy, READ, {"p": path}).why
    assert allowed('permit(principal, action, resource in Backend::"files");', FILE)
    up = Thing("Resource", f"file://{path}", "files", "file://{+path}")
    assert not allowed('permit(principal, action, resource in Backend::"files");', up)


def test_a_list_is_decided_without_arguments() -> None:
    assert allowed(FORBID, READ)
    assert not allowed("permit(principal, action, resource) when { context has arg_a };", READ)
    assert judge(*FORBID).arguments == {"danger"}
    assert judge("permit(principal, action, resource) when { context has arg_a_present };").arguments == {
        "a",
        "a_present",
    }
    by = judge(
        "permit(principal, action, resource) when { principal has claim_x };", group_claim="teams", role_claim="job"
    )
    assert by.claims == {"x", "teams", "job"}


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["prod", "/x/../y"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "__extn", "__entity"]), inner, max_size=2)
    ),
    max_leaves=4,
)
_NAMES = st.sampled_from(["danger", "env", "n", "tags", "path", "body", "ratio", "opts", "other", "__extn"])
REFERENCE = judge(
    ALL,
    "forbid(principal, action, resource) when { context has arg_danger && context.arg_danger };",
    'forbid(principal, action, resource) when { context has arg_env && context.arg_env == "prod" };',
    "forbid(principal, action, resource) when { context has arg_n && context.arg_n > 3 };",
    'forbid(principal, action, resource) when { context has arg_tags && context.arg_tags.contains("prod") };',
    'forbid(principal, action, resource) when { context has arg_path && context.arg_path like "/etc/*" };',
    "forbid(principal, action, resource) when { resource has arg_body_present && resource.arg_body_present };",
    'forbid(principal, action, resource) when { context has arg_ratio && context.arg_ratio.greaterThan(decimal("0.5")) };',
    "forbid(principal, action, resource) when { context has arg_opts && context.arg_opts has a && context.arg_opts.a };",
)
ALICE = REFERENCE.caller("i", "alice", {})
_DENIED = st.sampled_from(
    [
        {"danger": True},
        {"env": "prod"},
        {"n": 4},
        {"tags": ["prod"]},
        {"path": "/etc/x"},
        {"body": {}},
        {"ratio": 0.75},
        {"opts": {"a": True}},
    ]
)


@given(_DENIED, st.dictionaries(_NAMES, _VALUES, max_size=3))
@example({"n": 4}, {"__extn": {"fn": "x", "arg": ""}})
def test_one_more_argument_never_turns_deny_into_allow(denied: dict[str, Any], more: dict[str, Any]) -> None:
    assert not REFERENCE.decide(ALICE, READ, {**more, **denied}).allowed


def kind(value: object) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


@given(_DENIED, _VALUES)
def test_another_type_never_turns_deny_into_allow(denied: dict[str, Any], value: Any) -> None:
    """Unless the value is one that the policy was not about: no object is no body, and what has no member ``a`` has none."""
    ((name, before),) = denied.items()
    harmless = name == "body" or (name == "opts" and isinstance(value, dict))
    if kind(value) != kind(before) and not harmless:
        assert not REFERENCE.decide(ALICE, READ, {name: value}).allowed
    assert REFERENCE.decide(ALICE, READ, {}).allowed


# --- types and values


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        ("context.arg_a", "Bool"),
        ("!context.arg_a", "Bool"),
        ("context.arg_a && true", "Bool"),
        ("-context.arg_a == 1", "Long"),
        ("context.arg_a + 1 > 2", "Long"),
        ("1 <= context.arg_a", "Long"),
        ("true == context.arg_a", "Bool"),
        ('"x" != context.arg_a', "String"),
        ("context.arg_a == principal.claim_b", "String"),
        ("context.arg_a == principal.claim_b && principal.claim_b > 2", "Long"),
        ('context.arg_a like "x*"', "String"),
        ("[1, 2].contains(context.arg_a)", "Long"),
        ("[true].containsAny(context.arg_a)", "Set<Bool>"),
        ("context.arg_a.containsAll([1])", "Set<Long>"),
        ("context.arg_a.containsAny(principal.claim_b)", "Set<String>"),
        ("context.arg_a.contains(3)", "Set<Long>"),
        ("context.arg_a.contains(principal.claim_b)", "Set<String>"),
        ("context.arg_a.isEmpty()", "Set<String>"),
        ('context.arg_a.lessThan(decimal("1.5"))', "decimal"),
        ('context.arg_a == decimal("1.5")', "decimal"),
        ("if context.arg_a then true else false", "Bool"),
        ("if true then context.arg_a else false", "Bool"),
        ("[context.arg_a] == [3]", "Long"),
        ("resource.destructiveHint == context.arg_a", "Bool"),
        ("resource.name == context.arg_a", "String"),
        ("{b: context.arg_a} == {b: 1}", "String"),
        ("context has arg_a", None),
        ("context has arg_a && context.arg_a == principal.claim_b", "String"),
        ('principal in [Client::"x"] && resource is Tool && context.arg_a == 2', "Long"),
    ],
)
def test_the_type_is_the_one_of_the_use(condition: str, kind: str | None) -> None:
    (policy,) = engine.parse(f"permit(principal, action, resource) when {{ {condition} }};")
    assert uses.uses(policy, {})["arg_a"].kind == kind


@pytest.mark.parametrize(
    "condition",
    [
        'context.arg_a == 1 || context.arg_a == "x"',
        "context.arg_a == 1 && context.arg_a.b == 2",
        "context.arg_a.__extn == 1",
    ],
)
def test_one_thing_in_two_types_is_refused(condition: str) -> None:
    (policy,) = engine.parse(f"permit(principal, action, resource) when {{ {condition} }};")
    with pytest.raises(TwoTypes):
        uses.uses(policy, {})


@pytest.mark.parametrize(
    ("kind", "value", "cedar"),
    [
        ("String", "a", "a"),
        ("String", "", ""),
        ("Bool", False, False),
        ("Long", -(1 << 63), -(1 << 63)),
        ("Long", (1 << 63) - 1, (1 << 63) - 1),
        ("decimal", 0.75, {"__extn": {"fn": "decimal", "arg": "0.7500"}}),
        ("decimal", -3, {"__extn": {"fn": "decimal", "arg": "-3.0000"}}),
        ("Set<String>", [], []),
        ("Set<Long>", [1] * 1024, [1] * 1024),
        ("String", "a" * 65_536, "a" * 65_536),
    ],
)
def test_a_value_of_the_type_goes_over(kind: str, value: Any, cedar: Any) -> None:
    assert values.cedar("x", value, Use(kind)) == cedar


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("String", 1),
        ("String", "\udfff"),
        ("Bool", 1),
        ("Long", True),
        ("Long", 1.0),
        ("Long", 1 << 63),
        ("decimal", 0.00001),
        ("decimal", float("nan")),
        ("decimal", float("inf")),
        ("decimal", 1e15),
        ("decimal", True),
        ("decimal", "1.5"),
        ("Set<String>", "a"),
        ("Set<String>", ["a", 1]),
        ("Set<String>", ["a"] * 1025),
        ("String", "a" * 65_537),
        ("ipaddr", "10.0.0.1"),
    ],
)
def test_any_other_value_is_a_mismatch(kind: str, value: Any) -> None:
    with pytest.raises(Mismatch):
        values.cedar("x", value, Use(kind))


# --- the file


def _file(policies: list[str], entities: str = "[]", more: str = "") -> str:
    texts = "".join(f"      - |\n        {policy}\n" for policy in policies)
    given = f"    entitiesJson: |\n      {entities.replace(chr(10), chr(10) + '      ')}\n"
    return f"{SMALL}incomingAuth:\n  type: anonymous\n  authz:\n    type: cedar\n{more}    policies:\n{texts}{given}"


def test_a_file_with_policies_loads() -> None:
    found = config(_file([ALL], OWN, "    groupClaimName: g\n    roleClaimName: r\n    groupEntityType: THVGroup\n"))
    assert found.authz is not None
    assert (found.authz.policies, found.authz.group_claim, found.authz.role_claim) == ((ALL + "\n",), "g", "r")
    assert world(found) == World("acme", {"github": "code"}, frozenset({"code"}))
    assert Judge(found.authz, world(found)).decide(Judge(found.authz, world(found)).caller("i", "s", {}), READ).allowed


@pytest.mark.parametrize("authz", ["{}", "{type: none}"])
def test_without_policies_nothing_is_decided(authz: str) -> None:
    assert config(f"{SMALL}incomingAuth: {{type: anonymous, authz: {authz}}}\n").authz is None


def test_policies_without_their_engine_are_refused() -> None:
    (found,) = problems(f"{SMALL}incomingAuth: {{type: anonymous, authz: {{type: none, policies: ['{ALL}']}}}}\n")
    assert (found.rule, found.path) == ("contradiction", "incomingAuth.authz.policies")


def test_no_policies_are_refused() -> None:
    (found,) = problems(f"{SMALL}incomingAuth: {{type: anonymous, authz: {{type: cedar, policies: []}}}}\n")
    assert (found.rule, found.path) == ("missing-key", "incomingAuth.authz.policies")


def test_a_type_of_groups_is_none_of_ours() -> None:
    (found,) = problems(_file([ALL], "[]", "    groupEntityType: Backend\n"))
    assert (found.rule, found.path) == ("reserved-name", "incomingAuth.authz.groupEntityType")


def test_a_value_that_is_broken_already_is_told_once() -> None:
    (found,) = problems(f"{SMALL}incomingAuth: {{type: anonymous, authz: {{type: cedar, policies: ['{ALL}', 3]}}}}\n")
    assert found.rule == "bad-type"


def test_what_came_from_the_environment_is_not_printed() -> None:
    environ = {"SECRET": 'permit(principal == Hush::"x", action, resource);', "MORE": '[{"Hush": 1}]'}
    (policy,) = problems(_file(["${SECRET}"]), environ)
    (entity,) = problems(_file([ALL], "${MORE}"), environ)
    assert "Hush" not in policy.message + policy.hint + entity.message + entity.hint


def test_what_nests_without_end_is_refused() -> None:
    deep = "permit(principal, action, resource) when { %s };"
    (found,) = problems(_file([deep % " && ".join(["true"] * 80)]))
    assert "nested too deeply" in found.message
    assert problems(_file([deep % " && ".join(["true"] * 40)])) == ()
    with pytest.raises(Malformed):
        engine.parse("permit")


def test_a_request_that_the_engine_cannot_read_is_an_error() -> None:
    assert engine.Engine({}, []).ask({}, [{"uid": 3}]).errors
    assert entities.kind_of(None) is None


def test_members_and_lists_of_claims_are_checked_in_their_types() -> None:
    policy = "permit(principal, action, resource) when { principal has claim_x && principal.claim_x.%s };"
    for good in ('roles.contains("a")', "level > 3", 'level.lessThan(decimal("1.5"))'):
        (found,) = problems(_file([policy % good]))
        assert (found.severity, "whoever lacks it" in found.message) == ("warning", True)
    assert (
        problems(
            _file(["permit(principal, action, resource) when { principal has claim_x.y && principal.claim_x.y };"])
        )
        == ()
    )
    (found,) = problems(_file([policy % 'roles.contains("a") && principal.claim_x.roles like "b"']))
    assert "'roles' is used as Set<String> and as String" in found.message


def test_a_judge_takes_no_policy_that_is_none() -> None:
    with pytest.raises(Malformed, match="no Cedar policy"):
        judge("permit")


# --- who is like whom


def test_nobody_is_like_others_whom_a_policy_names_or_whose_name_it_reads() -> None:
    named = judge('permit(principal == Client::"alice", action, resource);', ALL)
    assert not named.alike("alice")
    assert named.alike("bob")
    assert not named.alike(""), "of whom nothing is known"
    assert not judge('permit(principal, action, resource) when { principal.claim_sub like "a*" };').alike("bob")
    assert not judge('permit(principal, action, resource) when { context.claim_iss == "i" };').alike("bob")
    assert not judge(ALL, group_claim="sub").alike("bob")


def test_where_entities_are_configured_nobody_is_like_anybody() -> None:
    client = '[{"uid": {"type": "Client", "id": "alice"}, "attrs": {}, "parents": []}]'
    assert judge(ALL).alike("bob")
    assert not judge(ALL, entities=client).alike("bob")
