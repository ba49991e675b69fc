"""Routing rules in the file: what they become, and what is told of rules that could never send anything anywhere."""

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.conditions import compiled
from vmcp.config.globs import globs
from vmcp.config.steering import ROOTS, RoutingRule

TAGGED = SMALL.replace("mcp}", "mcp, tags: [code, eu]}")


def test_rules_become_values_in_the_order_of_their_priority() -> None:
    text = """\
routing:
  - {match: {tool: "search_*", method: tools/call}, tags: [code]}
  - {priority: 5, match: {uri: "file:///*", when: "params.uri like '*.md'"}, backend: github, capability: resources}
  - {match: {when: "persona == 'reader'"}, backend: github}
"""
    assert config(TAGGED + text).routing == (
        RoutingRule(
            priority=5,
            uri=globs(["file:///*"]),
            when=compiled("params.uri like '*.md'", ROOTS),
            backend="github",
            capability="resources",
        ),
        RoutingRule(method=globs(["tools/call"]), tool=globs(["search_*"]), tags=frozenset({"code"})),
        RoutingRule(when=compiled("persona == 'reader'", ROOTS), backend="github"),
    )
    assert config(TAGGED).routing == ()
    assert config(TAGGED).backends[0].tags == ("code", "eu")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{match: {tool: a}}", "missing-key routing[0]"),
        ("{match: {tool: a}, backend: gitlab}", "unknown-reference routing[0].backend"),
        ("{match: {tool: a}, tags: [code, us]}", "unknown-reference routing[0].tags"),
        ("{match: {tool: a}, tags: [code], backend: github}", "contradiction routing[0].tags"),
        ("{match: {tool: a, uri: b}, backend: github}", "contradiction routing[0].match.uri"),
        ("{match: {method: 'tools/list'}, backend: github}", "bad-value routing[0].match.method"),
        ("{match: {when: 'params.a = 1'}, backend: github}", "bad-condition routing[0].match.when"),
        ("{match: {when: 'arguments.a == 1'}, backend: github}", "bad-condition routing[0].match.when"),
        ("{match: {tool: a}, capability: magic}", "bad-value routing[0].capability"),
        ("{match: {}, backend: github}", "bad-value routing[0].match"),
    ],
)
def test_a_rule_without_effect_is_told_at_its_place(rule: str, expected: str) -> None:
    (found,) = told(problems(TAGGED + f"routing: [{rule}]"))
    assert found.partition(" ")[2] == expected


def test_a_mistake_in_a_condition_is_explained() -> None:
    (found,) = problems(TAGGED + "routing: [{match: {when: 'params.a ~ 1'}, backend: github}]")
    assert found.message == "is no condition: '~' means nothing here (at character 10)"


def test_what_could_not_be_read_is_told_once() -> None:
    text = "routing: [5, {match: 5, backend: github}, {match: {tool: a}, backend: 5}]"
    assert told(problems(TAGGED + text)) == [
        "6:11 bad-type routing[0]",
        "6:22 bad-type routing[1].match",
        "6:71 bad-type routing[2].backend",
    ]
    assert len(problems(TAGGED + "routing: 5")) == 1
