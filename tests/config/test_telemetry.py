"""The section ``telemetry``: what is honoured, and what would have no effect or tell everybody."""

import pytest

from tests.config.samples import SMALL, config, problems
from vmcp.config.model import SecretRef
from vmcp.config.telemetry import TelemetrySpec

KEYS = "incomingAuth: {type: local, local: {keys: [{name: a, sha256: {env: HASH}}]}}\n"


def spec(text: str) -> TelemetrySpec | None:
    return config(f"{SMALL}telemetry: {text}\n").telemetry


@pytest.mark.parametrize("text", ["{}", "{enablePrometheusMetricsPath: false}", "{tracingEnabled: false}"])
def test_a_section_that_asks_for_nothing_is_none(text: str) -> None:
    assert spec(text) is None


def test_every_key_is_honoured() -> None:
    found = spec(
        "{enablePrometheusMetricsPath: true, metricsOnTransportPort: true, tracingEnabled: true, metricsEnabled: true,"
        " endpoint: 'collector:4318', insecure: true, samplingRate: '0.5', serviceName: gw, serviceVersion: '3',"
        " headers: {X-Tenant: {file: tenant}}, environmentVariables: [REGION], customAttributes: {team: platform}}"
    )
    assert found == TelemetrySpec(
        scrape=True,
        tracing=True,
        metrics=True,
        endpoint="collector:4318",
        plain=True,
        rate=0.5,
        name="gw",
        version="3",
        headers={"X-Tenant": SecretRef(file="/etc/vmcp/tenant")},
        variables=("REGION",),
        attributes={"team": "platform"},
    )
    assert found.exports
    secure = spec("{metricsEnabled: true, endpoint: '[::1]:4318', caCertPath: ca.pem}")
    assert secure is not None
    assert (secure.ca_cert, secure.exports, secure.rate) == ("/etc/vmcp/ca.pem", True, None)


def test_a_header_is_not_shown() -> None:
    assert "sesame" not in repr(spec("{tracingEnabled: true, headers: {Authorization: Bearer sesame}}"))


@pytest.mark.parametrize(
    ("text", "path", "rule"),
    [
        ("{endpoint: 'c:4318'}", "telemetry.endpoint", "contradiction"),
        ("{samplingRate: 0.5}", "telemetry.samplingRate", "contradiction"),
        ("{metricsEnabled: true, samplingRate: 0.5}", "telemetry.samplingRate", "contradiction"),
        ("{tracingEnabled: true, endpoint: 'http://c:4318'}", "telemetry.endpoint", "bad-value"),
        ("{tracingEnabled: true, endpoint: 'c:4318/v1'}", "telemetry.endpoint", "bad-value"),
        ("{tracingEnabled: true, insecure: true}", "telemetry.insecure", "contradiction"),
        ("{tracingEnabled: true, caCertPath: a.pem}", "telemetry.caCertPath", "contradiction"),
        (
            "{tracingEnabled: true, endpoint: 'c:1', insecure: true, caCertPath: a.pem}",
            "telemetry.caCertPath",
            "contradiction",
        ),
        ("{metricsOnTransportPort: true}", "telemetry.metricsOnTransportPort", "contradiction"),
        (
            "{enablePrometheusMetricsPath: true, metricsOnTransportPort: false}",
            "telemetry.metricsOnTransportPort",
            "contradiction",
        ),
        ("{enablePrometheusMetricsPath: true, prometheusPort: 9090}", "telemetry.prometheusPort", "not-built"),
        ("{tracingEnabled: true, useLegacyAttributes: true}", "telemetry.useLegacyAttributes", "not-built"),
    ],
)
def test_what_has_no_effect_is_refused(text: str, path: str, rule: str) -> None:
    assert [(each.path, each.rule) for each in problems(f"{SMALL}telemetry: {text}\n")] == [(path, rule)]


@pytest.mark.parametrize(
    "text",
    [
        "{metricsOnTransportPort: false}",
        "{insecure: false, headers: {}, environmentVariables: [], customAttributes: {}, useLegacyAttributes: false}",
        "{metricsEnabled: true}",
    ],
)
def test_what_asks_for_nothing_is_no_mistake(text: str) -> None:
    assert not problems(f"{SMALL}telemetry: {text}\n")


def test_a_section_that_is_no_map_is_told_once() -> None:
    assert [each.rule for each in problems(f"{SMALL}telemetry: yes please\n")] == ["bad-type"]
    assert [each.rule for each in problems(f"{SMALL}telemetry: {{metricsOnTransportPort: maybe}}\n")] == ["bad-type"]


SCRAPED = f"{SMALL}telemetry: {{enablePrometheusMetricsPath: true}}\n"


def test_the_numbers_are_not_for_everybody_on_the_network() -> None:
    everybody = "server: {host: 0.0.0.0, allowAnonymousNetwork: true}\n"
    found = problems(SCRAPED + everybody)
    assert [(each.path, each.rule) for each in found] == [
        ("telemetry.enablePrometheusMetricsPath", "anonymous-network")
    ]
    assert not problems(SCRAPED), "this machine may read them"
    proven = "server: {host: 0.0.0.0}\n" + KEYS
    assert "anonymous-network" not in [each.rule for each in problems(SCRAPED + proven)]
