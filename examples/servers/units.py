"""A small MCP server over streamable HTTP: units of measure. ``python units.py [PORT]`` listens at ``/mcp`` on loopback.

Both eras on one endpoint: 2026-07-28 by its ``_meta`` or header, anything else begins with ``initialize``.
Rule: every answer is one JSON message, and nothing is remembered between two requests.
"""

import json
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Json = dict[str, Any]

LOCAL = ("127.0.0.1", "localhost")
MODERN = "2026-07-28"
REVISIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
META = "io.modelcontextprotocol/"
INFO = {"name": "units", "version": "1.0.0"}
ABOUT: Json = {"capabilities": {"tools": {}}, "instructions": "Converts units of measure; search finds their names."}
# kind -> unit -> how many of the kind's first unit it is
UNITS: dict[str, dict[str, float]] = {
    "length": {"metre": 1.0, "kilometre": 1000.0, "inch": 0.0254, "foot": 0.3048, "mile": 1609.344},
    "mass": {"kilogram": 1.0, "gram": 0.001, "pound": 0.45359237, "ounce": 0.028349523125},
    "time": {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0},
}
STRING = {"type": "string"}
MADE = {"value": {"type": "number"}, "unit": STRING}
CONVERT = {"value": {"type": "number"}, "from": STRING, "to": STRING}


class Refused(Exception):
    """A JSON-RPC error, and the HTTP status that 2026-07-28 gives it."""

    def __init__(self, code: int, message: str, status: int = 200, **data: object) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


def schema(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def text(value: str) -> Json:
    return {"content": [{"type": "text", "text": value}]}


def convert(arguments: Json) -> Json:
    value, source, target = arguments.get("value"), str(arguments.get("from")), str(arguments.get("to"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text("value must be a number") | {"isError": True}
    for units in UNITS.values():
        if source in units and target in units:
            made = {"value": value * units[source] / units[target], "unit": target}
            return text(json.dumps(made)) | {"structuredContent": made}
    return text(f"no way from {source!r} to {target!r}; try search") | {"isError": True}


def search(arguments: Json) -> Json:
    query = str(arguments.get("query", "")).casefold()
    found = [f"{unit} ({kind})" for kind, units in UNITS.items() for unit in units if query in f"{unit} {kind}"]
    return text("\n".join(found) or "nothing found")


FUNCTIONS: dict[str, Callable[[Json], Json]] = {"convert": convert, "search": search}
TOOLS = [
    {
        "name": "convert",
        "description": "Convert between units of one kind.",
        "inputSchema": schema(CONVERT),
        "outputSchema": schema(MADE),
    },
    {
        "name": "search",
        "description": "Names of units that contain some letters.",
        "inputSchema": schema({"query": STRING}),
    },
]


def call(params: Json) -> Json:
    if params.get("name") not in FUNCTIONS:
        raise Refused(-32602, f"Unknown tool: {params.get('name')}")
    return FUNCTIONS[params["name"]](params.get("arguments") or {})


def initialize(params: Json) -> Json:
    wanted = params.get("protocolVersion")
    return {"protocolVersion": wanted if wanted in REVISIONS else REVISIONS[0], "serverInfo": INFO, **ABOUT}


BOTH: dict[str, Callable[[Json], Json]] = {
    "tools/list": lambda _: {"tools": TOOLS},
    "tools/call": call,
}
HANDSHAKE = BOTH | {"initialize": initialize, "ping": lambda _: {}}
STATELESS = BOTH | {"server/discover": lambda _: {"supportedVersions": [MODERN], **ABOUT}}


def admit(message: Json, meta: Json, request: Request) -> None:
    """The envelope of 2026-07-28: ``_meta`` is whole, and the headers say what the body says."""
    version, params = meta.get(f"{META}protocolVersion"), message["params"]
    if version is None or not isinstance(meta.get(f"{META}clientCapabilities"), dict):
        raise Refused(-32602, "_meta lacks the protocol version or the client's capabilities", 400)
    said = [request.headers.get(header) for header in ("mcp-protocol-version", "mcp-method", "mcp-name")]
    if said != [version, message["method"], params.get("name")]:
        raise Refused(-32020, "Headers and body differ", 400)
    if version != MODERN:
        raise Refused(-32022, "Unsupported protocol version", 400, supported=[MODERN], requested=version)


def respond(message: Json, request: Request) -> Json:
    """The result of one request, in the era that its envelope shows."""
    params = message.setdefault("params", {})
    meta = params.get("_meta") or {}
    if request.headers.get("mcp-protocol-version") != MODERN and f"{META}protocolVersion" not in meta:
        if message["method"] not in HANDSHAKE:
            raise Refused(-32601, "Method not found")
        return HANDSHAKE[message["method"]](params)
    admit(message, meta, request)
    if message["method"] not in STATELESS:
        raise Refused(-32601, "Method not found", 404)
    hints = {} if message["method"] == "tools/call" else {"ttlMs": 60000, "cacheScope": "public"}
    return {
        "resultType": "complete",
        **hints,
        **STATELESS[message["method"]](params),
        "_meta": {f"{META}serverInfo": INFO},
    }


async def endpoint(request: Request) -> Response:
    """One JSON-RPC message in, one out; nothing for a notification, and nothing for a page of another site."""
    places = (f"//{request.headers.get('host')}", request.headers.get("origin", "//localhost"))
    if any(urlsplit(place).hostname not in LOCAL for place in places):
        return Response(status_code=403)
    try:
        message = json.loads(await request.body())
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("params", {}), dict):
        return JSONResponse(
            {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Invalid request"}}, 400
        )
    if "id" not in message or "method" not in message:
        return Response(status_code=202)
    try:
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": respond(message, request)})
    except Refused as error:
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": error.error}, error.status)


app = Starlette(routes=[Route("/mcp", endpoint, methods=["POST"])])

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 4491
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
