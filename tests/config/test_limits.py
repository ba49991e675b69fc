"""Rate limits and concurrency in the file: what they become, and what is told of limits that could never apply."""

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.limits import Bucket, Concurrency, Limited, RateLimits
from vmcp.config.quantities import seconds
from vmcp.config.schema import schema


def test_limits_become_values() -> None:
    text = """\
rateLimiting:
  shared: {maxTokens: 1000, refillPeriod: 1m}
  tools:
    - {name: "github_*", shared: {maxTokens: 10, refillPeriod: 1m30s}}
  backends:
    - {name: github, shared: {maxTokens: 5, refillPeriod: 1h}}
"""
    assert config(SMALL + text).rate_limits == RateLimits(
        Bucket(1000, 60.0),
        None,
        (Limited("github_*", Bucket(10, 90.0)),),
        (Limited("github", Bucket(5, 3600.0)),),
    )
    assert config(SMALL).rate_limits is None


def test_concurrency_becomes_values() -> None:
    text = SMALL.replace("mcp}", "mcp, concurrency: {maxInFlight: 4, queue: 0, queueWait: 0s, perUser: 2}}")
    assert config(text).backends[0].concurrency == Concurrency(4, 0, 0.0, 2)
    assert config(SMALL.replace("mcp}", "mcp, concurrency: {}}")).backends[0].concurrency == Concurrency()
    assert config(SMALL).backends[0].concurrency is None


def test_the_defaults_of_the_schema_are_those_of_the_model() -> None:
    said = schema()["$defs"]["backend"]["properties"]["concurrency"]["properties"]
    told = Concurrency(said["maxInFlight"]["default"], said["queue"]["default"], seconds(said["queueWait"]["default"]))
    assert told == Concurrency()
    assert "default" not in said["perUser"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rateLimiting: {}", ["6:1 missing-key rateLimiting"]),
        ("rateLimiting: {tools: [{name: a}]}", ["6:24 missing-key rateLimiting.tools[0]"]),
        (
            "rateLimiting: {shared: {maxTokens: 0, refillPeriod: 1m}}",
            ["6:36 bad-value rateLimiting.shared.maxTokens"],
        ),
        (
            "rateLimiting: {shared: {maxTokens: 1, refillPeriod: 0s}}",
            ["6:53 bad-value rateLimiting.shared.refillPeriod"],
        ),
        (
            "rateLimiting: {shared: {maxTokens: 1}}",
            ["6:16 missing-key rateLimiting.shared"],
        ),
        (
            "rateLimiting: {backends: [{name: gitlab, shared: {maxTokens: 1, refillPeriod: 1s}}]}",
            ["6:34 unknown-reference rateLimiting.backends[0].name"],
        ),
        (
            "rateLimiting: {backends: [{name: github, shared: {maxTokens: 1, refillPeriod: 1s}}, {name: github}]}",
            ["6:85 missing-key rateLimiting.backends[1]", "6:92 duplicate-name rateLimiting.backends[1].name"],
        ),
        (
            "rateLimiting: {perUser: {maxTokens: 1, refillPeriod: 1s}}",
            ["6:16 contradiction rateLimiting.perUser"],
        ),
        (
            "rateLimiting: {tools: [{name: a, perUser: {maxTokens: 1, refillPeriod: 1s}}]}",
            ["6:34 contradiction rateLimiting.tools[0].perUser"],
        ),
    ],
)
def test_what_could_never_limit_anything_is_told(text: str, expected: list[str]) -> None:
    assert told(problems(SMALL + text)) == expected


def test_that_all_clients_are_one_user_is_a_warning_only() -> None:
    (found,) = problems(SMALL + "rateLimiting: {perUser: {maxTokens: 1, refillPeriod: 1s}}")
    assert found.severity == "warning"
    limits = config(SMALL + "rateLimiting: {perUser: {maxTokens: 1, refillPeriod: 1s}}").rate_limits
    assert limits == RateLimits(per_user=Bucket(1, 1.0))


def test_what_could_not_be_read_is_told_once() -> None:
    text = """\
rateLimiting:
  backends:
    - {name: 5, shared: {maxTokens: 1, refillPeriod: 1s}}
    - 5
    - {name: github, shared: 5}
"""
    assert told(problems(SMALL + text)) == [
        "8:14 bad-type rateLimiting.backends[0].name",
        "9:7 bad-type rateLimiting.backends[1]",
        "10:30 bad-type rateLimiting.backends[2].shared",
    ]


def test_who_is_told_apart_may_have_limits_of_his_own() -> None:
    text = SMALL + "incomingAuth: {type: local}\nrateLimiting: {perUser: {maxTokens: 1, refillPeriod: 1s}}"
    assert not [each for each in problems(text) if each.path.startswith("rateLimiting")]


def test_a_backend_that_could_not_be_read_is_not_missed() -> None:
    text = (
        SMALL + "      gitlab: 5\nrateLimiting: {backends: [{name: gitlab, shared: {maxTokens: 1, refillPeriod: 1s}}]}"
    )
    assert told(problems(text)) == ["6:15 bad-type groups.code.backends.gitlab"]
