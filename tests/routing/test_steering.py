"""Which backend a rule sends a call to, and what no rule can reach."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.routing.catalogs import catalog, config, entry
from vmcp.config.conditions import compiled
from vmcp.config.globs import globs
from vmcp.config.model import Aggregation, Selection
from vmcp.config.steering import ROOTS, RoutingRule
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.table import Asked, Face

EU, US, CN = "eu", "us", "cn"
TAGS = {EU: ("near", "safe"), US: ("near",), CN: ()}
CATALOGS = {
    EU: catalog(
        EU,
        tools=["search", "only_eu"],
        prompts=["brief"],
        resources=["r://one"],
        capabilities={"resources": {"subscribe": True}},
    ),
    US: catalog(
        US,
        tools=[entry(Kind.TOOL, "search", execution={"taskSupport": "required"}), "other"],
        prompts=["brief"],
        resources=["r://one", "r://closed"],
        capabilities={"resources": {"subscribe": False}, "completions": {}},
    ),
    CN: catalog(CN, tools=["search"]),
}
SELECTED = Aggregation(
    strategy="priority",
    priority_order=(EU, US, CN),
    tools={CN: Selection(exclude=("search",))},
    resources={US: Selection(exclude=("r://closed", "secret://*"))},
)


def face(*rules: RoutingRule, catalogs: Mapping[str, Catalog] = CATALOGS, aggregation: Aggregation = SELECTED) -> Face:
    plain = config([EU, US, CN], aggregation)
    backends = {name: replace(spec, tags=TAGS[name]) for name, spec in plain.groups["g"].backends.items()}
    groups = {"g": replace(plain.groups["g"], backends=backends)}
    return build(1, replace(plain, groups=groups, routing=rules), catalogs).faces["/mcp"]


def target(at: Face, kind: Kind, name: str, method: str = "tools/call", **params: Any) -> str:
    assert at.rules is not None
    route = at.routes[kind][name]
    asked = Asked(method, name, lambda: {"method": method, "name": name, "params": params})
    return at.rules.aim(asked, route).backend


def reached(at: Face, uri: str) -> str | None:
    assert at.rules is not None
    route = at.rules.reach(Asked("resources/read", uri, dict))
    return route.backend if route is not None else None


def when(text: str, **more: Any) -> RoutingRule:
    return RoutingRule(when=compiled(text, ROOTS), **more)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (RoutingRule(tool=globs(["search"]), backend=US), US),
        (RoutingRule(tool=globs(["s*"]), backend=US), US),
        (RoutingRule(tool=globs(["other"]), backend=US), EU),
        (RoutingRule(uri=globs(["*"]), backend=US), EU),
        (RoutingRule(method=globs(["tools/*"]), backend=US), US),
        (RoutingRule(method=globs(["prompts/*"]), backend=US), EU),
        (RoutingRule(tags=frozenset({"near"})), EU),
        (RoutingRule(tags=frozenset({"near"}), capability="completions"), US),
        (RoutingRule(tags=frozenset({"safe"}), capability="completions"), None),
        (RoutingRule(backend=US, capability="resources.subscribe"), None),
        (RoutingRule(capability="completions"), US),
        (when("params.region == 'us'", backend=US), US),
        (when("params.region == 'eu'", backend=US), EU),
        (RoutingRule(backend=CN), EU),
    ],
)
def test_a_rule_that_fits_sends_the_call_to_its_target(rule: RoutingRule, expected: str | None) -> None:
    at = face(rule)
    if expected is None:
        assert at.rules is None
    else:
        assert target(at, Kind.TOOL, "search", region="us") == expected


def test_the_first_rule_that_has_a_target_decides() -> None:
    rules = (RoutingRule(backend=CN), when("params.a == 1", backend=US), RoutingRule(backend=EU))
    assert target(face(*rules), Kind.TOOL, "search", a=1) == US
    assert target(face(*rules), Kind.TOOL, "search", a=2) == EU


def test_who_lost_a_name_can_still_be_sent_to_and_its_own_ways_count() -> None:
    at = face(RoutingRule(backend=US))
    assert at.rules is not None
    assert [lost.backend for lost in at.quarantined if lost.name == "search"] == [US]
    aimed = at.rules.aim(Asked("tools/call", "search", dict), at.routes[Kind.TOOL]["search"])
    assert (aimed.backend, aimed.name, aimed.original) == (US, "search", "search")
    assert target(at, Kind.PROMPT, "brief", "prompts/get") == US
    assert target(at, Kind.RESOURCE, "r://one", "resources/read") == US


def test_what_the_target_does_not_offer_stays_at_home() -> None:
    assert target(face(RoutingRule(backend=US)), Kind.TOOL, "only_eu") == EU


def test_prefixed_names_meet_by_their_original_ones() -> None:
    at = face(RoutingRule(tool=globs(["eu_*"]), backend=US), aggregation=Aggregation())
    assert target(at, Kind.TOOL, "eu_search") == US
    assert target(at, Kind.TOOL, "us_search") == US
    assert target(at, Kind.TOOL, "cn_search") == CN


def test_a_rule_for_uris_reaches_what_nobody_lists() -> None:
    at = face(RoutingRule(uri=globs(["log://*"]), backend=US), RoutingRule(backend=EU))
    assert reached(at, "log://today") == US
    assert reached(at, "other://today") is None


@pytest.mark.parametrize("uri", ["r://closed", "secret://key"])
def test_no_rule_opens_what_a_selection_closed(uri: str) -> None:
    at = face(RoutingRule(uri=globs(["*"]), backend=US))
    assert uri not in at.routes[Kind.RESOURCE]
    assert reached(at, uri) is None


def test_a_backend_without_resources_is_not_asked_for_any() -> None:
    assert reached(face(RoutingRule(uri=globs(["*"]), backend=CN)), "log://today") is None


def test_without_rules_there_is_nothing_to_ask() -> None:
    assert face().rules is None


def test_a_backend_that_never_answered_is_no_target() -> None:
    without = {name: found for name, found in CATALOGS.items() if name != US}
    assert target(face(RoutingRule(backend=US), catalogs=without), Kind.TOOL, "search") == EU
