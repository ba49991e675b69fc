"""What is not built yet is refused by name; what would change nothing is not."""

import pytest

from tests.config.samples import SMALL, problems, told
from vmcp import __version__
from vmcp.config.schema import schema, shape
from vmcp.config.unbuilt import TABLE, places


def test_every_line_of_the_table_is_a_place_of_the_schema() -> None:
    for entry in TABLE:
        at = shape(schema())
        for step in entry.place.split("."):
            found = at.element() if step == "*" and at.element() else at.member(step)
            assert found is not None, entry.place
            at = found


@pytest.mark.parametrize(
    "text",
    [
        "audit: {enabled: false}",
        "operational: {listChanged: {enabled: true, disabledWorkloads: []}}",
        "codeMode: {enabled: false, stepLimit: 5}",
        "cache: {enabled: false}",
        "compositeTools: []",
        "personas: {}",
        "sessionStorage: {provider: memory}",
        "state: {store: memory}",
        "server: {workers: 1, paths: {mcp: /mcp}, trustedProxies: []}",
        "incomingAuth: {type: anonymous, authz: {type: none}}",
        "outgoingAuth: {source: inline, default: {type: unauthenticated}}",
    ],
)
def test_what_needs_no_feature_is_accepted(text: str) -> None:
    assert told(problems(SMALL + text)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("codeMode: {enabled: true}", "6:1 not-built codeMode"),
        ("codeMode: {stepLimit: 5}", "6:1 not-built codeMode"),
        ("server: {paths: {mcp: /other}}", "6:23 not-built server.paths.mcp"),
        ("operational: {listChanged: {enabled: false}}", "6:29 not-built operational.listChanged.enabled"),
        (
            "operational: {listChanged: {disabledWorkloads: [github]}}",
            "6:29 not-built operational.listChanged.disabledWorkloads",
        ),
        ("tools: {t: {type: prompt, text: x}}", "6:1 not-built tools"),
        ("vars: {A: {value: b}}", "6:1 not-built vars"),
    ],
)
def test_what_is_not_built_is_refused(text: str, expected: str) -> None:
    assert told(problems(SMALL + text)) == [expected]


def test_the_reason_names_the_release_and_the_hint_the_feature() -> None:
    (found,) = problems(SMALL + "vars: {A: {value: b}}")
    assert found.message == f"not built yet in vmcp {__version__}; this release cannot honour it"
    assert found.hint == "remove it: variables will come with a later release"


def test_one_feature_of_one_map_is_told_once() -> None:
    text = "sessionStorage: {provider: redis, address: a, db: 1}\n"
    assert told(problems(SMALL + text)) == ["6:28 not-built sessionStorage.provider"]


def test_a_hidden_value_is_not_repeated() -> None:
    (found,) = problems(SMALL + "outgoingAuth:\n  source: ${T}\n", {"T": "discovered"})
    assert found.message.startswith("the value (hidden) is not built yet")


def test_an_unknown_value_is_no_missing_feature() -> None:
    assert told(problems(SMALL + "incomingAuth: {type: locl}")) == ["6:22 bad-value incomingAuth.type"]
    assert told(problems(SMALL + "incomingAuth:\n  type: ${T}\n")) == ["7:9 env-missing incomingAuth.type"]


def test_places_of_a_pattern() -> None:
    data = {"a": {"x": {"b": 1}, "y": {"c": 2}}, "l": [{"b": 3}, 4]}
    assert list(places(data, ("a", "*", "b"))) == [(("a", "x", "b"), 1)]
    assert list(places(data, ("l", "*", "b"))) == [(("l", 0, "b"), 3)]
    assert list(places(data, ("none", "*"))) == []
    assert list(places({"a": 5}, ("a", "*"))) == []
