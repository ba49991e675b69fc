"""One trace through three programs: a client and a server on the Python SDK, with spans of their own, and vmcp between them.

The rule: the tree is put together from what an OTLP receiver was sent by each of the three processes, and from nothing else.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.cli.processes import serving
from tests.real.processes import PEERS, free_port, http_server, wait_for
from tests.server.collector import Collected, attributes, collecting

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

TRACED = [sys.executable, str(PEERS / "traced.py")]
OURS, THEIRS = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


def config(collected: Collected, backends: dict[str, Any]) -> dict[str, Any]:
    told = {
        "endpoint": collected.endpoint,
        "insecure": True,
        "tracingEnabled": True,
        "samplingRate": 1,
        "serviceName": "vmcp",
    }
    return {"name": "traced", "groups": {"g": {"backends": backends}}, "telemetry": told}


def tree(collected: Collected, tool: str) -> list[tuple[str, int, str]]:
    """Service, kind and name of the spans of the call of ``tool``, from the root on; each is the parent of the next."""
    called = [(service, span) for service, span in collected.told if _called(span)]
    by_parent = {span.parent_span_id: (service, span) for service, span in called}
    path = [
        (service, span) for service, span in called if service == "client" and span.name.endswith(f"tools/call {tool}")
    ]
    while path and (below := by_parent.get(path[-1][1].span_id)) is not None:
        path.append(below)
    return [(service, span.kind, span.name) for service, span in path]


def shown(collected: Collected) -> str:
    """All spans, a line each."""
    spans = [(each[0], each[1].name, each[1].span_id.hex(), each[1].parent_span_id.hex()) for each in collected.told]
    return "\n".join(map(str, spans))


def _called(span: Any) -> bool:
    return bool(attributes(span.attributes).get("mcp.method.name") == "tools/call")


def test_client_vmcp_and_backend_are_one_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collected:
        monkeypatch.setenv("COLLECTOR", collected.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        port = free_port()
        with http_server([*TRACED, "serve", "far", str(port)], port, tmp_path / "far.log") as far:
            near = {"command": [*TRACED, "serve", "near", "stdio"], "env": {"COLLECTOR": collected.endpoint}}
            file = tmp_path / "vmcp.yaml"
            file.write_text(json.dumps(config(collected, {"near": near, "far": {"url": far}})), "utf-8")
            with serving("--config", str(file), "--log-format", "json", "--log-level", "debug") as gateway:
                gateway.until('"msg":"ready"')
                for name in ("near", "far"):
                    words = [*TRACED, "call", f"http://127.0.0.1:{gateway.port()}/mcp", f"{name}_greet"]
                    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
                    assert "hello ada" in done.stdout, done.stderr
                    expected = [
                        ("client", THEIRS, f"MCP send tools/call {name}_greet"),
                        ("vmcp", OURS, f"tools/call {name}_greet"),
                        ("vmcp", THEIRS, "tools/call greet"),
                        (name, OURS, "tools/call greet"),
                    ]
                    wait_for(lambda name=name: len(tree(collected, f"{name}_greet")) == 4, 20, lambda: shown(collected))
                    assert tree(collected, f"{name}_greet") == expected
                traces = {span.trace_id.hex() for _, span in collected.told if _called(span)}
                assert len(traces) == 2, "each call is one trace"
                for each in traces:
                    gateway.until(each)
