"""What is told of the process to those who watch it: numbers for Prometheus, spans and numbers over OTLP.

The rule: what the file says wins over the standard ``OTEL_*`` variables, and what it does not say is theirs. Nothing of this is
on because the section is there; each part is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from vmcp.config.values import Text


@dataclass(frozen=True, slots=True)
class TelemetrySpec:
    """``scrape``: ``/metrics`` is served. ``endpoint`` is the collector's host and port; None: what ``OTEL_*`` says.

    ``rate`` is the share of traces that are kept, ``variables`` are names of environment variables whose values go with every
    span, as ``attributes`` do. ``plain``: without TLS.
    """

    scrape: bool = False
    tracing: bool = False
    metrics: bool = False
    endpoint: str | None = None
    plain: bool = False
    ca_cert: str | None = None
    rate: float | None = None
    name: str | None = None
    version: str | None = None
    headers: Mapping[str, Text] = field(default_factory=lambda: MappingProxyType({}))
    variables: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def exports(self) -> bool:
        """Whether anything is sent over OTLP."""
        return self.tracing or self.metrics


_NAMES: Final = {
    "enablePrometheusMetricsPath": "scrape",
    "tracingEnabled": "tracing",
    "metricsEnabled": "metrics",
    "endpoint": "endpoint",
    "insecure": "plain",
    "serviceName": "name",
    "serviceVersion": "version",
}


def from_data(
    data: Mapping[str, Any] | None, resolve: Callable[[str], str], secret: Callable[[str, Any], Text]
) -> TelemetrySpec | None:
    """The section as values; None when nothing is asked for. ``resolve`` makes the path of the certificates absolute."""
    if data is None:
        return None
    given: dict[str, Any] = {name: data[key] for key, name in _NAMES.items() if key in data}
    if "samplingRate" in data:
        given["rate"] = float(data["samplingRate"])
    if "caCertPath" in data:
        given["ca_cert"] = resolve(data["caCertPath"])
    spec = TelemetrySpec(
        headers=MappingProxyType({name: secret(name, value) for name, value in data.get("headers", {}).items()}),
        variables=tuple(data.get("environmentVariables", ())),
        attributes=MappingProxyType(dict(data.get("customAttributes", {}))),
        **given,
    )
    return spec if spec.scrape or spec.exports else None
