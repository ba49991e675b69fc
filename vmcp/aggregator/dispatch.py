"""method → what it means: answered from the table, or sent to the backend that the table names.

The rule: a name is looked up in the table that the call carries, and nowhere else; unknown and hidden look the same.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from vmcp.aggregator import listing
from vmcp.call import Call, Complete
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.revisions import Revision, knows
from vmcp.routing.catalog import Kind
from vmcp.routing.table import HeaderParam, Route, resource_route
from vmcp.upstream.backend import Backend, Outgoing

Answering = Callable[[Call], Awaitable[Complete]]


class Dispatch:
    """The innermost handler."""

    def __init__(self, backends: Mapping[str, Backend], page_size: int) -> None:
        self._backends = backends
        self._page_size = page_size
        self._methods: Mapping[str, Answering] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "ping": self._ping,
            "tools/call": self._tool,
            "prompts/get": self._prompt,
            "resources/read": self._resource,
            "completion/complete": self._complete,
            "logging/setLevel": self._set_level,
            **dict.fromkeys(listing.KINDS, self._list),
        }

    async def __call__(self, call: Call) -> Complete:
        """Answer ``call``. Raises ``McpError``."""
        answer = self._methods.get(call.method)
        if answer is None or not knows(call.peer.revision, call.method):
            raise McpError(Code.METHOD_NOT_FOUND, "Method not found")
        return await answer(call)

    async def _initialize(self, call: Call) -> Complete:
        return listing.welcome(call)

    async def _discover(self, call: Call) -> Complete:
        return listing.discovery(call)

    async def _ping(self, call: Call) -> Complete:
        return listing.result(call, {})

    async def _set_level(self, call: Call) -> Complete:
        """The level is the session's, so the door keeps it; here it is only checked."""
        if call.tree.get("level") not in envelope.LEVELS:
            raise McpError(Code.INVALID_PARAMS, f"Invalid params: 'level' must be one of {', '.join(envelope.LEVELS)}")
        return listing.result(call, {})

    async def _list(self, call: Call) -> Complete:
        return listing.page(call, self._page_size)

    async def _tool(self, call: Call) -> Complete:
        name = _named(call, "name")
        route = call.face.routes[Kind.TOOL].get(name)
        if route is None:
            raise McpError(Code.INVALID_PARAMS, f"Unknown tool: {name}", vmcp_code=Code.ROUTING_FAILED)
        given = _object(call, "arguments")
        if route.shown_header_params and call.peer.revision.modern:
            envelope.confirm_params(_pairs(route.shown_header_params), call.peer.headers, given)
        params = {**call.params, "name": route.original}
        if route.arguments is not None:
            params["arguments"] = Raw(jsonrpc.encode(route.arguments.apply(_members(call.params.get("arguments")))))
        return await self._send(call, route, params, _param_headers(route, params, given))

    async def _prompt(self, call: Call) -> Complete:
        name = _named(call, "name")
        route = call.face.routes[Kind.PROMPT].get(name)
        if route is None:
            raise McpError(Code.INVALID_PARAMS, f"Unknown prompt: {name}", vmcp_code=Code.ROUTING_FAILED)
        return await self._send(call, route, {**call.params, "name": route.original})

    async def _resource(self, call: Call) -> Complete:
        uri = _named(call, "uri")
        route = resource_route(call.face, uri)
        if route is None:
            raise _no_resource(uri, call.peer.revision)
        return await self._send(call, route, dict(call.params), name=uri)

    async def _complete(self, call: Call) -> Complete:
        ref = _object(call, "ref")
        route, key = self._referred(call, ref)
        if not _completes(self._backends[route.backend]):
            return listing.result(call, {"completion": {"values": []}})
        told = {**_members(call.params["ref"]), key: route.original}
        return await self._send(call, route, {**call.params, "ref": told}, name=None)

    def _referred(self, call: Call, ref: Mapping[str, Any]) -> tuple[Route, str]:
        routes = call.face.routes
        kind, name, uri = ref.get("type"), ref.get("name"), ref.get("uri")
        if kind == "ref/prompt" and isinstance(name, str) and name in routes[Kind.PROMPT]:
            return routes[Kind.PROMPT][name], "name"
        if kind == "ref/resource" and isinstance(uri, str):
            found = routes[Kind.TEMPLATE].get(uri) or routes[Kind.RESOURCE].get(uri)
            if found is not None:
                return found, "uri"
        raise McpError(Code.INVALID_PARAMS, "Invalid params: 'ref' names no prompt or template that is listed here")

    async def _send(
        self,
        call: Call,
        route: Route,
        params: dict[str, Any],
        headers: list[tuple[bytes, bytes]] | None = None,
        *,
        name: str | None = "",
    ) -> Complete:
        params.pop("_meta", None)
        call.trail.backend = route.backend
        call.trail.original = route.original
        outgoing = Outgoing(params, route.original if name == "" else name, headers or ())
        return await self._backends[route.backend].send(call, outgoing)


def _named(call: Call, key: str) -> str:
    name = call.name
    if name is None:
        raise McpError(Code.INVALID_PARAMS, f"Invalid params: '{key}' must be a string")
    return name


def _object(call: Call, key: str) -> Mapping[str, Any]:
    value = call.tree.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise McpError(Code.INVALID_PARAMS, f"Invalid params: '{key}' must be an object")
    return value


def _members(raw: Raw | None) -> dict[str, Raw]:
    return jsonrpc.members(raw) if raw is not None and bytes(raw) != jsonrpc.NULL else {}


def _pairs(params: tuple[HeaderParam, ...]) -> list[tuple[str, tuple[str, ...]]]:
    return [(param.header, param.path) for param in params]


def _param_headers(route: Route, params: Mapping[str, Any], given: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    if not route.header_params:
        return []
    outgoing = given if route.arguments is None else msgspec.json.decode(params["arguments"])
    return envelope.params_as_headers(_pairs(route.header_params), outgoing)


def _completes(backend: Backend) -> bool:
    """Whether to ask at all: 2024-11-05 had no capability for it, so there one can only try."""
    revision = backend.revision
    return revision is Revision.V2024_11_05 or backend.declares("completions")


def _no_resource(uri: str, revision: Revision) -> McpError:
    code = Code.INVALID_PARAMS if revision.modern else Code.RESOURCE_NOT_FOUND
    return McpError(code, "Resource not found", {"uri": uri}, vmcp_code=Code.ROUTING_FAILED)
