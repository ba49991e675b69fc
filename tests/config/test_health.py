"""Health checks, the circuit breaker and replicas in the file: what they become, and what is refused."""

from dataclasses import replace

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.balancing import Balancing, EndpointSpec
from vmcp.config.health import BreakerSpec, HealthSpec
from vmcp.config.model import BackendSpec

FAILURES = "operational: {failureHandling: {%s}}\n"
REPLICAS = """\
name: acme
groups:
  code:
    backends:
      github:
"""


def spec(text: str) -> BackendSpec:
    (found,) = config(text).backends
    return found


def replicas(text: str) -> str:
    return REPLICAS + "".join(f"        {line}\n" for line in text.splitlines())


def test_health_is_looked_at_whatever_the_file_says_and_a_breaker_only_when_asked_for() -> None:
    plain = spec(SMALL)
    assert (plain.health, plain.breaker, plain.endpoints) == (HealthSpec(30.0, 10.0, 3, 2), None, ())
    assert config(SMALL).readiness == "required"
    assert spec(SMALL + FAILURES % "circuitBreaker: {enabled: false, failureThreshold: 2}").breaker is None


def test_every_key_of_health_takes_effect() -> None:
    keys = "healthCheckInterval: 5s, healthCheckTimeout: 1s, unhealthyThreshold: 4, healthyThreshold: 1, readiness: any"
    found = config(SMALL + FAILURES % keys)
    assert (found.backends[0].health, found.readiness) == (HealthSpec(5.0, 1.0, 4, 1), "any")


@pytest.mark.parametrize(
    ("keys", "seconds"),
    [("healthCheckTimeout: 0s", 30.0), ("healthCheckInterval: 4s", 4.0), ("healthCheckInterval: 20s", 10.0)],
)
def test_a_probe_never_takes_longer_than_the_time_between_two(keys: str, seconds: float) -> None:
    assert spec(SMALL + FAILURES % keys).health.timeout == seconds


@pytest.mark.parametrize("name", ["timeout", "recoveryTimeout"])
def test_every_key_of_the_breaker_takes_effect(name: str) -> None:
    keys = f"circuitBreaker: {{enabled: true, failureThreshold: 2, {name}: 5s, halfOpenMaxCalls: 1}}"
    assert spec(SMALL + FAILURES % keys).breaker == BreakerSpec(2, 5.0, 1)
    assert spec(SMALL + FAILURES % "circuitBreaker: {enabled: true}").breaker == BreakerSpec(5, 60.0, 3)


def test_replicas_and_how_they_are_chosen() -> None:
    found = spec(
        replicas(
            "endpoints: [{url: https://a.example.com/mcp, weight: 3}, {url: https://b.example.com/mcp}]\n"
            "loadBalancing: {strategy: adaptive, window: 20, maxEjectionPercent: 30, slowStart: 10s}"
        )
    )
    assert found.endpoints == (
        EndpointSpec("https://a.example.com/mcp", 3),
        EndpointSpec("https://b.example.com/mcp", 1),
    )
    assert found.balancing == Balancing("adaptive", "principal", 20, 30, 10.0)
    assert (found.url, found.transport, found.isolation) == (None, "streamable-http", "session")
    plain = spec(replicas("endpoints: [{url: wss://a.example.com/ws}]"))
    assert (plain.transport, plain.balancing) == ("websocket", Balancing())
    hashed = "endpoints: [{url: wss://a.example.com/ws}]\nloadBalancing: {strategy: consistentHash, hashOn: tool}"
    assert spec(replicas(hashed)).balancing == replace(Balancing(), strategy="consistentHash", hash_on="tool")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            "healthCheckInterval: 5s, healthCheckTimeout: 5s",
            ["contradiction operational.failureHandling.healthCheckTimeout"],
        ),
        ("healthCheckTimeout: 30s", ["contradiction operational.failureHandling.healthCheckTimeout"]),
        ("healthCheckTimeout: 29s", []),
        (
            "circuitBreaker: {enabled: true, timeout: 1s, recoveryTimeout: 1s}",
            ["contradiction operational.failureHandling.circuitBreaker.recoveryTimeout"],
        ),
        ("statusReportingInterval: 30s", []),
        ("statusReportingInterval: 5s", ["not-built operational.failureHandling.statusReportingInterval"]),
        ("readiness: some", ["bad-value operational.failureHandling.readiness"]),
        ("healthyThreshold: 0", ["bad-value operational.failureHandling.healthyThreshold"]),
    ],
)
def test_what_contradicts_itself_is_refused(keys: str, expected: list[str]) -> None:
    assert [each.split(" ", 1)[1] for each in told(problems(SMALL + FAILURES % keys))] == expected


A, B = "{url: https://a.example.com/mcp}", "{url: https://b.example.com/mcp}"
AT = "groups.code.backends.github"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"endpoints: [{A}, {B}]", []),
        ("endpoints: []", [f"bad-value {AT}.endpoints"]),
        (f"endpoints: [5, {A}]", [f"bad-type {AT}.endpoints[0]"]),
        (f"endpoints: [{A}, {A}]", [f"duplicate-name {AT}.endpoints[1].url"]),
        (f"endpoints: [{A}, {{url: wss://b.example.com/ws}}]", [f"contradiction {AT}.endpoints[1].url"]),
        ("endpoints: [{url: ftp://a.example.com}]", [f"bad-url {AT}.endpoints[0].url"]),
        ("endpoints: [{url: http://a.example.com/mcp}]", [f"plain-http {AT}.endpoints[0].url"]),
        (f"endpoints: [{A}]\ncommand: [x]", [f"contradiction {AT}.endpoints"]),
        (f"endpoints: [{A}]\nurl: https://a.example.com/mcp", [f"contradiction {AT}.endpoints"]),
        (f"endpoints: [{A}]\ntransport: stdio", [f"contradiction {AT}.transport"]),
        (f"endpoints: [{A}]\ntransport: websocket", [f"contradiction {AT}.transport"]),
        ("endpoints: [{url: https://a.example.com/mcp, weight: 0}]", [f"nothing-served {AT}.endpoints"]),
        ("endpoints: [{url: https://a.example.com/mcp, weight: 2}]", [f"misplaced-key {AT}.endpoints[0].weight"]),
        (
            "endpoints: [{url: https://a.example.com/mcp, weight: 2}]\nloadBalancing: {strategy: leastConnections}",
            [],
        ),
        ("url: https://a.example.com/mcp\nloadBalancing: {strategy: random}", [f"misplaced-key {AT}.loadBalancing"]),
        (
            f"endpoints: [{A}]\nloadBalancing: {{strategy: random, hashOn: tool, window: 5}}",
            [f"misplaced-key {AT}.loadBalancing.hashOn", f"misplaced-key {AT}.loadBalancing.window"],
        ),
        (f"endpoints: [{A}]\nloadBalancing: {{strategy: fastest}}", [f"bad-value {AT}.loadBalancing.strategy"]),
    ],
)
def test_replicas_that_cannot_be_are_told(text: str, expected: list[str]) -> None:
    assert [each.split(" ", 1)[1] for each in told(problems(replicas(text)))] == expected


def test_what_a_strategy_does_not_look_at_is_a_warning_and_names_the_one_that_does() -> None:
    (found,) = problems(replicas("endpoints: [{url: https://a.example.com/mcp, weight: 2}]"))
    assert (found.severity, found.message, found.hint) == (
        "warning",
        "has no effect with roundRobin",
        "use strategy: weightedRoundRobin",
    )
