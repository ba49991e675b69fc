"""The door: a decoded request becomes a ``Call``, goes through the chain, and its outcome becomes a message.

The rule: the table is taken once, here, and the call carries it to the end. Whatever goes wrong becomes one JSON-RPC error; what
nobody expected is logged with an id, and the client gets the id and nothing else.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Mapping
from typing import Protocol

from msgspec import Raw

from vmcp.call import Call, Client, Handler, Peer, Trail
from vmcp.errors import Code, McpError
from vmcp.protocol import bridge, jsonrpc
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.revisions import REQUESTS
from vmcp.routing.table import RoutingTable

log = logging.getLogger("vmcp.server")


class Tables(Protocol):
    """Where the current table is."""

    table: RoutingTable
    settled: asyncio.Event


class Exchange:
    """Takes requests of any transport and era, in their own revision, and answers in it."""

    def __init__(self, handler: Handler, tables: Tables, patience: float) -> None:
        self._handler = handler
        self._tables = tables
        self._patience = patience

    async def result(self, request: Request, peer: Peer, path: str, client: Client) -> bytes:
        """The result of a request as JSON text in the client's revision. Raises ``McpError``, and nothing else."""
        try:
            if not self._tables.settled.is_set():
                await self._settle(request.method)
            call = self._call(request, peer, path, client)
            outcome = await self._handler(call)
            return bridge.result(outcome.result, request.method, outcome.revision, peer.revision)
        except McpError:
            raise
        except Exception as error:
            incident = secrets.token_hex(4)
            log.exception("unexpected failure", extra={"incident": incident, "method": request.method})
            text = f"Internal error; the log has it under incident {incident}"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.GATEWAY_ERROR) from error

    async def _settle(self, method: str) -> None:
        """While backends are still coming up, let those who ask for what they offer wait a moment."""
        if method in ("initialize", "ping"):
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._tables.settled.wait()
        except TimeoutError:
            return

    def _call(self, request: Request, peer: Peer, path: str, client: Client) -> Call:
        table = self._tables.table
        params = request.params
        return Call(
            method=request.method,
            name=_name(request),
            params=params,
            meta=_meta(request),
            tree=request.tree,
            peer=peer,
            face=table.faces[path],
            table=table,
            client=client,
            deadline=math.inf,
            trail=Trail(),
        )


def _name(request: Request) -> str | None:
    known = REQUESTS.get(request.method)
    if known is None or known.name_key is None:
        return None
    name = request.tree.get(known.name_key)
    return name if isinstance(name, str) else None


def _meta(request: Request) -> Mapping[str, Raw]:
    if "_meta" not in request.tree:
        return {}
    if type(request.tree["_meta"]) is not dict:
        raise McpError(Code.INVALID_PARAMS, "Invalid params: '_meta' must be an object")
    return jsonrpc.members(request.params["_meta"])
