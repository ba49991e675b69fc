"""OpenTelemetry: a span for each call and for each request to a backend, sent over OTLP.

The rule: this module is loaded only when the configuration asks for it (``server/telemetry``), as the libraries take 150 ms.
Trace context comes in from ``_meta`` or else a header, and goes out with a span of our own; baggage is never read. Names in
spans are those that exist, and arguments and results are in none.
Source: OpenTelemetry semantic conventions for MCP; SEP-414.
"""

import logging
import os
import random
import sys
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vmcp import __version__
from vmcp.call import Call, Sent
from vmcp.config.telemetry import TelemetrySpec
from vmcp.middleware.measures import Measures, told_tool, transport_of
from vmcp.protocol.outcomes import OTHER
from vmcp.protocol.revisions import REQUESTS
from vmcp.routing.catalog import Kind
from vmcp.server.otlp import Sending, Target
from vmcp.state.crew import Crew

log = logging.getLogger("vmcp.telemetry")

DEFAULT_RATE: Final = 0.05
GOODBYE: Final = 3.0
"""Seconds for the last spans and numbers to be sent."""
OFTEN: Final = 30.0
"""Seconds between two complaints of the library of one kind."""
LONGEST: Final = 512
"""Characters of a trace state that are read (W3C asks for at least so many)."""
_CONTEXT: Final = TraceContextTextMapPropagator()
INSTANCE: Final = "service.instance.id"
_NO_CARRIER: Mapping[str, str] = {}
_ERRORS: Final = Status(StatusCode.ERROR)


class _Seldom(logging.Filter):
    """Lets each complaint pass now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one passes."""
        now = monotonic()
        if now - self._last.get(record.msg, -OFTEN) < OFTEN:
            return False
        self._last[record.msg] = now
        return True


_SELDOM: Final = _Seldom()


class Exporting:
    """What is sent somewhere while a process runs. ``tracer`` None: no traces are."""

    def __init__(
        self,
        spec: TelemetrySpec,
        headers: Mapping[str, str],
        measures: Measures,
        environ: Mapping[str, str] = os.environ,
        crew: Crew | None = None,
    ) -> None:
        disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        logging.getLogger("opentelemetry.sdk._shared_internal").addFilter(_SELDOM)
        if environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf") != "http/protobuf":
            log.warning("only http/protobuf is spoken", extra={"variable": "OTEL_EXPORTER_OTLP_PROTOCOL"})
        resource = _resource(spec, environ, crew)
        target = Target(spec.endpoint, headers, spec.ca_cert, plain=spec.plain)
        self._provider: TracerProvider | None = None
        self.tracer: Tracing | None = None
        self._metrics: Sending | None = None
        if spec.tracing and not disabled:
            self._provider = _provider(spec, resource, target, environ)
            context = "tracecontext" in environ.get("OTEL_PROPAGATORS", "tracecontext")
            always, share = _always(spec, environ), _share(spec, environ)
            self.tracer = Tracing(self._provider, measures, always, share, propagates=context)
        if spec.metrics and not disabled and environ.get("OTEL_METRICS_EXPORTER", "otlp") != "none":
            self._metrics = Sending(measures, resource, target)

    def close(self) -> None:
        """Send what is left; blocks, at most ``GOODBYE`` seconds."""
        last = threading.Thread(target=self._shut, name="telemetry goodbye", daemon=True)
        last.start()
        last.join(GOODBYE)

    def _shut(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        if self._provider is not None:
            self._provider.shutdown()


def _resource(spec: TelemetrySpec, environ: Mapping[str, str], crew: Crew | None) -> Resource:
    told: dict[str, str] = {"service.version": spec.version or __version__}
    named = "OTEL_SERVICE_NAME" in environ or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if spec.name is not None or not named:
        told["service.name"] = spec.name or "vmcp"
    made = Resource.create(told)
    if crew is None:
        return made
    # Each worker counts for itself; by one name what one sends would replace what another has sent.
    named = f"{INSTANCE}=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    whole = made.attributes[INSTANCE] if named else crew.common.family.hex()
    return made.merge(Resource({INSTANCE: f"{whole}.{crew.index}"}))


def _always(spec: TelemetrySpec, environ: Mapping[str, str]) -> Mapping[str, str]:
    told = {f"environment.{name}": environ[name] for name in spec.variables if name in environ}
    return {**told, **spec.attributes}


def _provider(spec: TelemetrySpec, resource: Resource, target: Target, environ: Mapping[str, str]) -> TracerProvider:
    # What comes to the library has been chosen already, unless the standard variable says how to choose.
    sampler = ParentBased(ALWAYS_ON) if _share(spec, environ) is not None else None
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
    exporter = _exporter(target, environ.get("OTEL_TRACES_EXPORTER", "otlp"))
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _share(spec: TelemetrySpec, environ: Mapping[str, str]) -> float | None:
    """Of the traces that begin here; None: as ``OTEL_TRACES_SAMPLER`` says."""
    if spec.rate is None and "OTEL_TRACES_SAMPLER" in environ:
        return None
    return DEFAULT_RATE if spec.rate is None else spec.rate


def _exporter(target: Target, which: str) -> SpanExporter | None:
    if which == "none":
        return None
    if which == "console":
        return ConsoleSpanExporter(out=sys.stderr)  # what is on stdout may be messages
    return OTLPSpanExporter(**target.arguments("traces"))


class Tracing:
    """Traces calls; see ``watching.Tracer``. ``share`` is of the traces that begin here; None: the library chooses."""

    def __init__(
        self,
        provider: TracerProvider,
        measures: Measures,
        always: Mapping[str, str],
        share: float | None = None,
        *,
        propagates: bool = True,
    ) -> None:
        self.start = provider.get_tracer("vmcp", __version__).start_span
        self.measures = measures
        self.propagates = propagates
        self.always = dict(always)
        self._share = share

    def begin(self, call: Call) -> "CallSpan | Unkept":
        """See ``Tracer``."""
        parent, links = self._parent(call) if self.propagates else (None, [])
        if self._share is not None:
            kept = parent.trace_flags.sampled if parent is not None else random.random() < self._share  # noqa: S311
            if not kept:
                return Unkept(self.measures, parent, propagates=self.propagates)
        return self._begun(call, _ROOT if parent is None else _as_parent(parent), links)

    def _begun(self, call: Call, parent: Any, links: list[Link]) -> "CallSpan":
        method = call.method if call.method in REQUESTS else OTHER
        target = _target(call)
        attributes: dict[str, Any] = {
            **self.always,
            "mcp.method.name": method,
            "mcp.protocol.version": str(call.peer.revision),
            "network.transport": transport_of(call),
            "jsonrpc.request.id": call.id[:64].decode("utf-8", "replace"),
            "vmcp.group": call.face.group,
            **_named(method, target),
        }
        name = f"{method} {target}" if target else method
        return CallSpan(self, self.start(name, parent, SpanKind.SERVER, attributes, links), method)

    def _parent(self, call: Call) -> tuple[SpanContext | None, list[Link]]:
        """What the caller says that it is part of: in ``_meta``, or in the headers; if both do, the latter is linked."""
        said = _from_meta(call)
        headers = call.peer.headers
        sent = _context(headers.get("traceparent"), headers.get("tracestate")) if "traceparent" in headers else None
        if said is None:
            return sent, []
        return said, [Link(sent)] if sent is not None and sent.span_id != said.span_id else []


class Unkept:
    """A call whose trace nobody keeps; it has an id all the same, for backends and the log. See ``watching.Span``."""

    only_ends = False

    def __init__(self, measures: Measures, parent: SpanContext | None, *, propagates: bool) -> None:
        self.trace = f"{(random.getrandbits(128) or 1) if parent is None else parent.trace_id:032x}"
        self.carrier: Mapping[str, str] = _NO_CARRIER
        if propagates:
            self.carrier = {"traceparent": f"00-{self.trace}-{random.getrandbits(64) or 1:016x}-00"}
            if parent is not None and parent.trace_state:
                self.carrier = {**self.carrier, "tracestate": parent.trace_state.to_header()}
        self._measures = measures

    def ids(self) -> None:
        """See ``Sent``."""

    def asks(self, call: Call, backend: str, transport: str, name: str | None) -> "Unkept":
        """See ``Watcher``."""
        return self

    def asked(self, sent: Sent | None, call: Call, backend: str, transport: str, error: str, seconds: float) -> None:
        """See ``Watcher``."""
        self._measures.asked(sent, call, backend, transport, error, seconds)

    def end(self, error: str, code: int | None) -> None:
        """See ``watching.Span``."""


_ROOT: Final = trace.set_span_in_context(trace.INVALID_SPAN)
"""No parent, whatever the thread at hand is about."""


def _as_parent(context: SpanContext) -> Any:
    return trace.set_span_in_context(trace.NonRecordingSpan(context), _ROOT)


def _from_meta(call: Call) -> SpanContext | None:
    meta = call.tree.get("_meta")
    if not isinstance(meta, dict):
        return None
    parent = meta.get("traceparent", meta.get("fastmcp.traceparent"))
    return _context(parent, meta.get("tracestate", meta.get("fastmcp.tracestate"))) if parent is not None else None


def _context(parent: object, state: object) -> SpanContext | None:
    if not isinstance(parent, str) or len(parent) > LONGEST:
        return None
    carrier = {"traceparent": parent}
    if isinstance(state, str) and len(state) <= LONGEST:
        carrier["tracestate"] = state
    found = trace.get_current_span(_CONTEXT.extract(carrier, _ROOT)).get_span_context()
    return found if found.is_valid else None


def _target(call: Call) -> str:
    if call.method == "tools/call":
        return told_tool(call)
    if call.method == "prompts/get":
        return call.name if call.name is not None and call.name in call.face.routes[Kind.PROMPT] else OTHER
    return ""


def _named(method: str, target: str) -> Mapping[str, str]:
    if method == "tools/call":
        return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": target}
    return {"gen_ai.prompt.name": target} if method == "prompts/get" else {}


class CallSpan:
    """The span of a call, which the spans of its requests to backends are below; see ``watching.Span``."""

    only_ends = False

    def __init__(self, tracing: Tracing, span: trace.Span, method: str) -> None:
        self._tracing = tracing
        self._span = span
        self._method = method
        self._context = span.get_span_context()
        self.trace = f"{self._context.trace_id:032x}"
        self.carrier = _NO_CARRIER

    def ids(self) -> tuple[str, str] | None:
        """See ``Sent``."""
        return (self.trace, f"{self._context.span_id:016x}") if self._span.is_recording() else None

    def end(self, error: str, code: int | None) -> None:
        """See ``watching.Span``."""
        _close(self._span, error, code)

    # --- requests to backends

    def asks(self, call: Call, backend: str, transport: str, name: str | None) -> "Request":
        """See ``Watcher``."""
        tracing = self._tracing
        attributes: dict[str, Any] = {}
        told = name if call.trail.original == name and name is not None else OTHER
        named = _named(self._method, told)
        if self._span.is_recording():
            attributes = {
                **tracing.always,
                "mcp.method.name": self._method,
                "network.transport": "pipe" if transport == "stdio" else "tcp",
                "vmcp.backend": backend,
                "vmcp.group": call.face.group,
                **named,
            }
            if "gen_ai.tool.name" in named:
                attributes["vmcp.tool.exposed_name"] = told_tool(call)
        parent = trace.set_span_in_context(self._span, _ROOT)
        span = tracing.start(f"{self._method} {told}" if named else self._method, parent, SpanKind.CLIENT, attributes)
        return Request(span, propagates=tracing.propagates)

    def asked(self, sent: Sent | None, call: Call, backend: str, transport: str, error: str, seconds: float) -> None:
        """See ``Watcher``."""
        self._tracing.measures.asked(sent, call, backend, transport, error, seconds)
        if isinstance(sent, Request):
            sent.end(error)


class Request:
    """The span of a request to a backend; see ``Sent``."""

    def __init__(self, span: trace.Span, *, propagates: bool) -> None:
        self._span = span
        self._context = span.get_span_context()
        self.carrier = _carrier(self._context) if propagates else _NO_CARRIER

    def ids(self) -> tuple[str, str] | None:
        """See ``Sent``."""
        if not self._span.is_recording():
            return None
        return f"{self._context.trace_id:032x}", f"{self._context.span_id:016x}"

    def end(self, error: str) -> None:
        """It has been answered, or not."""
        _close(self._span, error, None)


def _carrier(context: SpanContext) -> Mapping[str, str]:
    sampled = context.trace_flags & TraceFlags.SAMPLED
    carrier = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{sampled:02x}"}
    state: TraceState = context.trace_state
    return {**carrier, "tracestate": state.to_header()} if state else carrier


def _close(span: trace.Span, error: str, code: int | None) -> None:
    if span.is_recording():
        if code is not None:
            span.set_attribute("rpc.response.status_code", str(code))
        if error:
            span.set_attribute("error.type", error)
            span.set_status(_ERRORS)
    span.end()


def exporting(
    spec: TelemetrySpec,
    headers: Mapping[str, str],
    measures: Measures,
    environ: Mapping[str, str] = os.environ,
    crew: Crew | None = None,
) -> Exporting:
    """Begin to send. (What is called by name, as nobody imports this module.)"""
    return Exporting(spec, headers, measures, environ, crew)
