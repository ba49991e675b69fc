"""The measures of the process over OTLP: what Prometheus would read, in OpenTelemetry's names, sent every minute.

The rule: what is sent is what was counted anyway, so that a call costs nothing more for it; the same closed sets of labels.
Loaded by ``server/otel`` alone.
"""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from vmcp import __version__
from vmcp.middleware.measures import BOUNDS, Labels, Measures, Timings

log = logging.getLogger("vmcp.telemetry")

EVERY: Final = 60.0
"""Seconds between two exports, where ``OTEL_METRIC_EXPORT_INTERVAL`` says nothing."""
_NAMES: Final[Mapping[str, str]] = {
    "mcp_method_name": "mcp.method.name",
    "gen_ai_tool_name": "gen_ai.tool.name",
    "error_type": "error.type",
    "network_transport": "network.transport",
    "mcp_protocol_version": "mcp.protocol.version",
    "vmcp_group": "vmcp.group",
    "vmcp_backend": "vmcp.backend",
}
_WHAT: Final[Mapping[str, str]] = {
    "mcp_server_operation_duration_seconds": "mcp.server.operation.duration",
    "mcp_client_operation_duration_seconds": "mcp.client.operation.duration",
    "mcp_server_session_duration_seconds": "mcp.server.session.duration",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: ``endpoint`` is host and port; None: what the standard variables say."""

    endpoint: str | None
    headers: Mapping[str, str]
    ca_cert: str | None = None
    plain: bool = False

    def arguments(self, signal: str) -> dict[str, Any]:
        """What the exporter of a signal is made with."""
        told: dict[str, Any] = {"headers": dict(self.headers)} if self.headers else {}
        if self.endpoint is not None:
            told["endpoint"] = f"{'http' if self.plain else 'https'}://{self.endpoint}/v1/{signal}"
        if self.ca_cert is not None:
            told["certificate_file"] = self.ca_cert
        return told


class Sending:
    """Sends measures, in a thread of its own. Mutable: begun when made."""

    def __init__(self, measures: Measures, resource: Resource, target: Target) -> None:
        self._measures = measures
        self._resource = resource
        self._exporter = OTLPMetricExporter(**target.arguments("metrics"))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry metrics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        every = interval(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", ""))
        while not self._over.wait(every):
            self.send()

    def send(self) -> None:
        """Send what was counted so far. Copies of what the loop counts meanwhile may be a call apart, and no more."""
        self._exporter.export(self.data(time_ns()))

    def data(self, now: int) -> MetricsData:
        """What is sent; ``now`` in nanoseconds of the epoch."""
        began = int(self._measures.began * 1e9)
        kinds = (self._measures.server, self._measures.client, self._measures.sessions)
        metrics = [_metric(each, began, now) for each in kinds if len(each)]
        scope = ScopeMetrics(InstrumentationScope("vmcp", __version__), metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])

    def close(self) -> None:
        """Send the last of it; blocks."""
        self._over.set()
        self.send()
        self._exporter.shutdown()


def _metric(timings: Timings, began: int, now: int) -> Metric:
    points = [
        HistogramDataPoint(
            attributes=_attributes(timings.labels, labels),
            start_time_unix_nano=began,
            time_unix_nano=now,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=BOUNDS,
            min=None,  # type: ignore[arg-type]  # optional on the wire, and not known
            max=None,  # type: ignore[arg-type]
        )
        for labels, counts, total, _ in timings.snapshot()
    ]
    return Metric(_WHAT[timings.name], "", "s", Histogram(points, AggregationTemporality.CUMULATIVE))


def _attributes(names: Labels, values: Labels) -> dict[str, str]:
    """What is empty is left out."""
    return {_NAMES[name]: str(value) for name, value in zip(names, values, strict=True) if value}


def interval(said: str) -> float:
    """Seconds between two exports, of milliseconds as ``OTEL_METRIC_EXPORT_INTERVAL`` has them."""
    try:
        return max(1.0, float(said) / 1000) if said else EVERY
    except ValueError:
        return EVERY
