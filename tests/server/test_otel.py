"""Spans and measures over OTLP, taken by a collector of ours that reads protobuf.

Rule: what a backend was sent is what it says that it was sent; the tree is put together from what has come to the collector.
"""

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.server.clients import Door
from tests.server.collector import Collected, attributes, collecting
from tests.server.peers import Asked, Notify, Server, echo, house, tool, until
from vmcp.config.telemetry import TelemetrySpec
from vmcp.errors import Code, McpError
from vmcp.middleware.measures import Measures
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN, Revision
from vmcp.server import otel, otlp
from vmcp.server.otel import Exporting
from vmcp.server.otlp import EVERY, interval
from vmcp.state.crew import Common, Crew

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


def spec(collected: Collected, **more: Any) -> TelemetrySpec:
    told: dict[str, Any] = {"tracing": True, "rate": 1.0, **more}
    return TelemetrySpec(endpoint=collected.endpoint, plain=True, **told)


def only(spans: list[Span], kind: Span.SpanKind) -> Span:
    (found,) = [span for span in spans if span.kind == kind]
    return found


def calls(collected: Collected) -> list[Span]:
    return [span for span in collected.spans if attributes(span.attributes)["mcp.method.name"] == "tools/call"]


async def failing(asked: Asked, notify: Notify) -> bytes:
    raise McpError(-32099, "hunter2 is not the password")


@pytest.mark.parametrize("revision", [LATEST_HANDSHAKE, MODERN])
@pytest.mark.parametrize("behind", [LATEST_HANDSHAKE, MODERN])
async def test_client_vmcp_and_backend_are_one_trace(
    monkeypatch: pytest.MonkeyPatch, revision: Revision, behind: Revision
) -> None:
    backend = Server(behind, tools=[tool("t")], script=echo)
    meta = {"traceparent": SAMPLED, "tracestate": "vendor=1", "baggage": "user=alice", "mine": {"kept": 1}}
    with collecting() as collected:
        async with house(monkeypatch, {"b": backend}, telemetry=spec(collected)) as running:
            door = Door(running.app, revision)
            await door.initialize()
            await door.ask("tools/call", {"name": "t", "arguments": {"p": "hunter2"}, "_meta": meta})
        server, client = only(calls(collected), Span.SPAN_KIND_SERVER), only(calls(collected), Span.SPAN_KIND_CLIENT)
    assert server.trace_id.hex() == client.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == PARENT
    assert client.parent_span_id == server.span_id
    assert (server.name, client.name) == ("tools/call t", "tools/call t")
    told = attributes(server.attributes)
    assert (told["gen_ai.tool.name"], told["gen_ai.operation.name"]) == ("t", "execute_tool")
    assert (told["mcp.protocol.version"], told["network.transport"]) == (str(revision), "tcp")
    assert attributes(client.attributes)["vmcp.backend"] == "b"
    assert "hunter2" not in str(collected.spans)
    assert "alice" not in str(collected.spans)
    (asked,) = backend.calls()
    expected = f"00-{TRACE}-{client.span_id.hex()}-01"
    assert asked.params["_meta"]["traceparent"] == asked.headers["traceparent"] == expected
    assert asked.params["_meta"]["tracestate"] == asked.headers["tracestate"] == "vendor=1"
    assert asked.params["_meta"]["mine"] == {"kept": 1}
    assert "baggage" not in {*asked.params["_meta"], *asked.headers}


@pytest.mark.parametrize("revision", [LATEST_HANDSHAKE, MODERN])
async def test_a_header_counts_where_meta_says_nothing(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    other = f"00-{'1' * 32}-{'2' * 16}-01"
    with collecting() as collected:
        backends = {"b": Server(tools=[tool("t")], script=echo)}
        async with house(monkeypatch, backends, telemetry=spec(collected)) as running:
            door = Door(running.app, revision)
            await door.initialize()
            await door.call("t", traceparent=SAMPLED)
            asked = {"name": "t", "_meta": {"traceparent": other}}
            await door.ask("tools/call", asked, traceparent=SAMPLED)
            await door.ask("tools/call", {"name": "t", "_meta": {"fastmcp.traceparent": SAMPLED}})
        first, second, third = [span for span in calls(collected) if span.kind == Span.SPAN_KIND_SERVER]
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (TRACE, PARENT)
    assert (second.trace_id.hex(), second.parent_span_id.hex()) == ("1" * 32, "2" * 16)
    assert [link.span_id.hex() for link in second.links] == [PARENT]
    assert third.trace_id.hex() == TRACE


@pytest.mark.parametrize(
    "parent", ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", 7, {}, "x" * 5000]
)
async def test_what_is_no_trace_context_begins_a_trace(monkeypatch: pytest.MonkeyPatch, parent: object) -> None:
    backend = Server(tools=[tool("t")], script=echo)
    with collecting() as collected:
        async with house(monkeypatch, {"b": backend}, telemetry=spec(collected)) as running:
            meta = {"traceparent": parent, "tracestate": "a=" + "b" * 600}
            await Door(running.app).ask("tools/call", {"name": "t", "_meta": meta})
    span = only(calls(collected), Span.SPAN_KIND_SERVER)
    assert not span.parent_span_id
    assert span.trace_id.hex() != TRACE
    (asked,) = backend.calls()
    assert asked.params["_meta"]["traceparent"].split("-")[1] == span.trace_id.hex()
    assert "tracestate" not in asked.params["_meta"]


async def test_a_trace_state_that_is_too_long_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Server(tools=[tool("t")], script=echo)
    state = ",".join(f"k{number}={'v' * 50}" for number in range(12))
    with collecting() as collected:
        async with house(monkeypatch, {"b": backend}, telemetry=spec(collected)) as running:
            meta = {"traceparent": SAMPLED, "tracestate": state}
            await Door(running.app).ask("tools/call", {"name": "t", "_meta": meta})
    (asked,) = backend.calls()
    assert asked.params["_meta"]["traceparent"].split("-")[1] == TRACE
    assert "tracestate" not in asked.params["_meta"]


async def test_an_error_is_judged_by_the_side_that_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.name == "mistaken":
            raise McpError(-32602, "no such argument")
        if asked.name == "unwell":
            return b'{"resultType":"complete","content":[],"isError":true}'
        raise McpError(-32099, "hunter2 is not the password")

    tools = [tool("mistaken"), tool("unwell"), tool("broken")]
    with collecting() as collected:
        backends = {"b": Server(tools=tools, script=script)}
        async with house(monkeypatch, backends, telemetry=spec(collected)) as running:
            for each in ("mistaken", "unwell", "broken", "made up " + "x" * 900):
                await Door(running.app).call(each)
    told = {(span.name, span.kind): (span.status.code, attributes(span.attributes)) for span in calls(collected)}
    ours, theirs = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
    ok, wrong = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR
    status, seen = told["tools/call mistaken", ours]
    assert (status, seen.get("error.type"), seen["rpc.response.status_code"]) == (ok, None, "-32602")
    status, seen = told["tools/call mistaken", theirs]
    assert (status, seen["error.type"]) == (wrong, "invalid_params")
    status, seen = told["tools/call unwell", ours]
    assert (status, seen["error.type"]) == (wrong, "tool_error")
    status, seen = told["tools/call broken", ours]
    assert (status, seen["error.type"], seen["rpc.response.status_code"]) == (wrong, "other", "-32099")
    assert ("tools/call other", ours) in told
    assert ("tools/call other", theirs) not in told
    assert "hunter2" not in str(collected.spans)


async def test_what_is_not_sampled_is_not_sent_and_still_hangs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Server(tools=[tool("t")], script=echo)
    with collecting() as collected:
        async with house(monkeypatch, {"b": backend}, telemetry=spec(collected, rate=0.0)) as running:
            await Door(running.app).call("t")
            await Door(running.app).ask("tools/call", {"name": "t", "_meta": {"traceparent": UNSAMPLED}})
            assert not collected.spans
            await Door(running.app).ask("tools/call", {"name": "t", "_meta": {"traceparent": SAMPLED}})
    assert {span.trace_id.hex() for span in collected.spans} == {TRACE}, "who began the trace has decided"
    first, second, third = [asked.params["_meta"]["traceparent"] for asked in backend.calls()]
    assert first.endswith("-00")
    assert (second.split("-")[1], second[-3:]) == (TRACE, "-00")
    assert third.endswith("-01")


async def test_errors_of_ours_and_log_lines_name_the_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with collecting() as collected, caplog.at_level("INFO", "vmcp.call"):
        backends = {"b": Server(tools=[tool("t")], script=failing)}
        async with house(monkeypatch, backends, telemetry=spec(collected)) as running:
            door = Door(running.app)
            ours = (await door.ask("tools/call", {"name": "none", "_meta": {"traceparent": SAMPLED}})).error
            theirs = (await door.ask("tools/call", {"name": "t", "_meta": {"traceparent": SAMPLED}})).error
    request = ours["data"].pop("requestId")
    assert ours["data"] == {"traceId": TRACE, "vmcpCode": Code.ROUTING_FAILED}
    assert (theirs["code"], theirs.get("data")) == (-32099, None)
    lines = [record.__dict__ for record in caplog.records if record.getMessage() == "call failed"]
    assert [(line["trace_id"], line["jsonrpc_id"]) for line in lines] == [(TRACE, "1"), (TRACE, "1")]
    assert lines[0]["request_id"] == request
    assert len({line["request_id"] for line in lines}) == 2


async def test_without_tracing_what_the_client_says_of_its_trace_passes_and_baggage_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = Server(tools=[tool("t")], script=echo)
    async with house(monkeypatch, {"b": backend}) as running:
        told = (await Door(running.app).call("nothing")).error["data"]
        assert told == {"vmcpCode": Code.ROUTING_FAILED, "requestId": told["requestId"]}
        meta = {"traceparent": SAMPLED, "baggage": "user=alice"}
        await Door(running.app).ask("tools/call", {"name": "t", "_meta": meta})
    (asked,) = backend.calls()
    assert asked.params["_meta"]["traceparent"] == SAMPLED
    assert "baggage" not in asked.params["_meta"]
    assert "traceparent" not in asked.headers


async def test_measures_are_sent_by_their_names_in_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collected:
        backends = {"b": Server(tools=[tool("t")], script=echo)}
        told = spec(
            collected, tracing=False, rate=None, metrics=True, name="gw", version="9", headers={"X-Tenant": "acme"}
        )
        async with house(monkeypatch, backends, telemetry=told) as running:
            door = Door(running.app, LATEST_HANDSHAKE)
            await door.initialize()
            await door.call("t")
            await door.call("made up")
            await door.http("DELETE")
    assert not collected.spans
    points = {
        tuple(sorted(attributes(p.attributes).items())): p for p in collected.metrics["mcp.server.operation.duration"]
    }
    by_tool = {dict(key).get("gen_ai.tool.name"): point for key, point in points.items()}
    assert set(by_tool) == {None, "t", "other"}
    assert (by_tool["t"].count, sum(by_tool["t"].bucket_counts), len(by_tool["t"].explicit_bounds)) == (1, 1, 14)
    assert not by_tool["t"].HasField("max")
    (client,) = collected.metrics["mcp.client.operation.duration"]
    assert attributes(client.attributes)["vmcp.backend"] == "b"
    (session,) = collected.metrics["mcp.server.session.duration"]
    assert attributes(session.attributes) == {"mcp.protocol.version": "2025-11-25"}
    assert collected.resources[0]["service.name"] == "gw"
    assert collected.resources[0]["service.version"] == "9"
    assert collected.headers[0]["x-tenant"] == "acme"
    assert not collected.wrong


def test_the_standard_variables_count_where_the_file_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collected:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collected.endpoint}",
            "OTEL_SERVICE_NAME": "from-the-environment",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=acme",
        }
        for key, value in environ.items():
            monkeypatch.setenv(key, value)
        exporting = Exporting(
            TelemetrySpec(tracing=True, variables=("REGION",)), {}, Measures(), {**environ, "REGION": "eu"}
        )
        assert exporting.tracer is not None
        exporting.tracer.start("x", attributes=exporting.tracer.always).end()
        exporting.close()
    assert collected.resources[0]["service.name"] == "from-the-environment"
    assert collected.headers[0]["x-tenant"] == "acme"
    (span,) = collected.spans
    assert attributes(span.attributes) == {"environment.REGION": "eu"}


@pytest.mark.parametrize("given", ["", "service.instance.id=blue,team=a"])
def test_each_worker_of_several_sends_by_a_name_of_its_own(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": given}
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", given)
    common = Common.of(2)
    try:
        with collecting() as collected:
            for index in range(2):
                exporting = Exporting(spec(collected), {}, Measures(), environ, Crew(common, index))
                assert exporting.tracer is not None
                exporting.tracer.start("x").end()
                exporting.close()
        whole = "blue" if given else common.family.hex()
        assert [each["service.instance.id"] for each in collected.resources] == [f"{whole}.0", f"{whole}.1"]
    finally:
        common.close()


@pytest.mark.parametrize(
    "environ", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}]
)
def test_what_is_off_sends_nothing(environ: dict[str, str]) -> None:
    with collecting() as collected:
        exporting = Exporting(spec(collected, metrics=True), {}, Measures(), environ)
        if exporting.tracer is not None:
            exporting.tracer.start("x").end()
        exporting.close()
    assert not collected.headers


async def test_traces_on_the_console_are_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exporting = Exporting(TelemetrySpec(tracing=True, rate=1.0), {}, Measures(), {"OTEL_TRACES_EXPORTER": "console"})
    assert exporting.tracer is not None
    exporting.tracer.start("by hand").end()
    await asyncio.to_thread(exporting.close)
    out, err = capsys.readouterr()
    assert "by hand" in err
    assert not out


def test_a_collector_that_hangs_does_not_keep_the_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "GOODBYE", 0.1)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.4")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        told = TelemetrySpec(tracing=True, metrics=True, rate=1.0, endpoint=f"127.0.0.1:{port}", plain=True)
        exporting = Exporting(told, {}, Measures(), {})
        assert exporting.tracer is not None
        exporting.tracer.start("x").end()
        exporting.close()
        (late,) = [thread for thread in threading.enumerate() if thread.name == "telemetry goodbye"]
        assert late.daemon
    late.join(10)  # nobody listens any more
    assert not late.is_alive()


async def test_measures_are_sent_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "interval", lambda said: 0.01)
    measures = Measures()
    with collecting() as collected:
        exporting = Exporting(spec(collected, tracing=False, rate=None, metrics=True), {}, measures, {})
        await until(lambda: collected.headers)
        measures.session_over(MODERN, 1.0)
        await until(lambda: "mcp.server.session.duration" in collected.metrics)
        await asyncio.to_thread(exporting.close)


def test_a_protocol_that_is_not_spoken_is_told_and_complaints_of_the_library_are_few(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with collecting() as collected:
        Exporting(spec(collected), {}, Measures(), {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}).close()
    assert [record.__dict__["variable"] for record in caplog.records] == ["OTEL_EXPORTER_OTLP_PROTOCOL"]
    library = logging.getLogger("opentelemetry.sdk._shared_internal")
    for _ in range(100):
        library.warning("Queue full, dropping %s.", "Span")
    assert [record.name for record in caplog.records].count(library.name) == 1


@pytest.mark.parametrize(("said", "seconds"), [("", EVERY), ("5000", 5.0), ("1", 1.0), ("soon", EVERY)])
def test_how_often_measures_are_sent(said: str, seconds: float) -> None:
    assert interval(said) == seconds


def test_nothing_of_it_is_loaded_unasked() -> None:
    code = (
        "import sys, vmcp.server.runtime, vmcp.cli.serve\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'prometheus_client', 'google.protobuf'))])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
