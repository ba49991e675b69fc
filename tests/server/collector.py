"""An OTLP collector: takes spans and metrics over HTTP in protobuf, and keeps them. Rule: what is no OTLP fails the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def attributes(given: Any) -> dict[str, Any]:
    """Attributes as they were meant."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}


@dataclass
class Collected:
    """What has come."""

    port: int = 0
    spans: list[Any] = field(default_factory=list)
    told: list[tuple[str, Any]] = field(default_factory=list)
    """The same, each beside the name of the service that told it."""
    metrics: dict[str, list[Any]] = field(default_factory=dict)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.headers.append(headers)
        if path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            for resource in traces.resource_spans:
                self.resources.append(attributes(resource.resource.attributes))
                spans = [span for scope in resource.scope_spans for span in scope.spans]
                self.spans += spans
                self.told += [(self.resources[-1].get("service.name", ""), span) for span in spans]
        elif path == "/v1/metrics":
            told = ExportMetricsServiceRequest.FromString(body)
            for resource in told.resource_metrics:
                self.resources.append(attributes(resource.resource.attributes))
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        self.metrics[metric.name] = list(metric.histogram.data_points)
        else:
            self.wrong.append(path)


@contextmanager
def collecting() -> Iterator[Collected]:
    """A collector on a free port of this machine."""
    found = Collected()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.take(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
