"""FastMCP's proxy in front of one backend, as a subject of the benchmark (runs in its own virtual environment).

The one rule: FastMCP is shown at its best beside its default. `fastest` keeps one client connected for all callers,
answers in JSON instead of SSE, and runs on uvloop and httptools; that gives up the isolation between callers which
the default buys with a new client for each request.
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastmcp import Client
from fastmcp.server import create_proxy
from fastmcp.server.http import StarletteWithLifespan
from fastmcp.server.providers.proxy import FastMCPProxy


def default(backend: str) -> StarletteWithLifespan:
    """What the documentation shows first: a new client for each request."""
    return create_proxy(backend, name="bench").http_app(path="/mcp")


def fastest(backend: str) -> StarletteWithLifespan:
    """One client, connected as long as the application lives, and in the handshake era, which costs less."""
    client = Client(backend, mode="legacy")
    app = FastMCPProxy(client_factory=lambda: client, name="bench").http_app(path="/mcp", json_response=True)
    own_lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: StarletteWithLifespan) -> AsyncIterator[object]:
        async with client, own_lifespan(served) as state:
            yield state

    app.router.lifespan_context = lifespan
    return app


MODES = {"default": default, "fastest": fastest}


def main() -> None:
    """Serves until it is stopped."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mode", choices=MODES, default="fastest")
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--backend", required=True, help="URL of the backend's MCP endpoint")
    chosen = arguments.parse_args()
    app = MODES[chosen.mode](chosen.backend)
    uvicorn.run(app, host="127.0.0.1", port=chosen.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
