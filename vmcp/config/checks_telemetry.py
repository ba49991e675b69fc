"""Telemetry that would tell nothing, or would tell everybody.

The rule: numbers about tools and backends are for those who may call them; a key without an effect is refused.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.config.urls import is_loopback
from vmcp.errors import Problem

_AT: Path = ("telemetry",)
_ENDPOINT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")
_OTLP: Final = {
    "endpoint": (),
    "insecure": (False,),
    "caCertPath": (),
    "headers": ({},),
    "samplingRate": (),
    "serviceName": (),
    "serviceVersion": (),
    "environmentVariables": ([],),
    "customAttributes": ({},),
}
"""What is about OTLP alone, and the values that ask for nothing."""
_SPANS: Final = ("samplingRate", "environmentVariables", "customAttributes")


def checks(document: Document) -> Iterator[Problem]:
    """What is wrong with ``telemetry``."""
    given = document.data.get("telemetry")
    if not isinstance(given, dict):
        return
    yield from _scrape(document, given)
    yield from _export(document, given)
    yield from _endpoint(document, given)


def _scrape(document: Document, given: Mapping[str, Any]) -> Iterator[Problem]:
    scraped = given.get("enablePrometheusMetricsPath") is True
    if given.get("metricsOnTransportPort", scraped) is not scraped and not document.damaged(_AT):
        what = "says something else than enablePrometheusMetricsPath, which decides whether /metrics is served"
        hint = "use enablePrometheusMetricsPath alone"
        yield document.problem(Rule.CONTRADICTION, (*_AT, "metricsOnTransportPort"), what, hint)
    server = document.data.get("server", {})
    nobody_asked = document.data.get("incomingAuth", {}).get("type", "anonymous") == "anonymous"
    if scraped and nobody_asked and not is_loopback(server.get("host", "127.0.0.1")):
        what = "anyone on the network could read the numbers, for incomingAuth is anonymous"
        hint = "listen on 127.0.0.1, or let callers prove who they are (incomingAuth)"
        yield document.problem(Rule.ANONYMOUS_NETWORK, (*_AT, "enablePrometheusMetricsPath"), what, hint)


def _export(document: Document, given: Mapping[str, Any]) -> Iterator[Problem]:
    tracing, metrics = (given.get(key) is True for key in ("tracingEnabled", "metricsEnabled"))
    hint = "add tracingEnabled: true or metricsEnabled: true, or remove it"
    for key, idle in _OTLP.items():
        if key not in given or given[key] in idle:
            continue
        if not tracing and not metrics:
            what = "nothing is sent: tracingEnabled and metricsEnabled are both off"
            yield document.problem(Rule.CONTRADICTION, (*_AT, key), what, hint)
        elif key in _SPANS and not tracing:
            what = "is about traces, and tracingEnabled is off"
            yield document.problem(Rule.CONTRADICTION, (*_AT, key), what, "add tracingEnabled: true, or remove it")


def _endpoint(document: Document, given: Mapping[str, Any]) -> Iterator[Problem]:
    endpoint = given.get("endpoint")
    if isinstance(endpoint, str) and not _ENDPOINT.fullmatch(endpoint):
        what = f"{document.show((*_AT, 'endpoint'), endpoint)} is no host, with or without a port"
        hint = "write for example collector:4318; insecure: true goes without TLS"
        yield document.problem(Rule.BAD_VALUE, (*_AT, "endpoint"), what, hint)
    for key in ("insecure", "caCertPath"):
        if given.get(key) and endpoint is None:
            what = "is about the endpoint, and none is given here"
            yield document.problem(Rule.CONTRADICTION, (*_AT, key), what, "add endpoint, or use the OTEL_* variables")
    if given.get("insecure") is True and "caCertPath" in given:
        what = "is about TLS, and insecure goes without it"
        yield document.problem(Rule.CONTRADICTION, (*_AT, "caCertPath"), what, "remove one of the two")
