"""The Python SDK with its own spans sent over OTLP: ``python traced.py serve NAME stdio|PORT`` is the server of
``server_sdk2.py``, ``python traced.py call URL TOOL`` a client that calls one tool for ``who=ada``.

The rule: nothing here makes a span or touches a trace context; that is what the SDK does.
"""

import asyncio
import os
import runpy
import sys
from pathlib import Path

from mcp import Client
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


def watched(service: str) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(
        SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"http://{os.environ['COLLECTOR']}/v1/traces"))
    )
    trace.set_tracer_provider(provider)
    return provider


async def call(url: str, tool: str) -> None:
    async with Client(url) as client:
        print(await client.call_tool(tool, {"who": "ada"}))


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "call":
        provider = watched("client")
        asyncio.run(call(*words))
        provider.shutdown()
    else:
        watched(words[0])
        sys.argv[1:] = words
        runpy.run_path(str(Path(__file__).with_name("server_sdk2.py")), run_name="__main__")
