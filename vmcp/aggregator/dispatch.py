"""method → what it means: answered from the table, or sent to the backend that the table names.

The rule: a name is looked up in the table that the call carries, and nowhere else; unknown and hidden look the same.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from vmcp.aggregator import listing
from vmcp.aggregator.pages import Pages
from vmcp.aggregator.tasks import Tasks, Ways
from vmcp.call import Call, Complete, Outcome, resource_for, usable
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.revisions import Revision, knows
from vmcp.routing.catalog import Kind
from vmcp.routing.table import HeaderParam, Route
from vmcp.upstream.ask import Outgoing
from vmcp.upstream.balancer import Placed

Answering = Callable[[Call], Awaitable[Outcome]]


class Subscriptions(Protocol):
    """Who keeps what clients subscribed to. Each raises ``McpError``."""

    async def subscribe(self, call: Call) -> Complete:
        """Answer ``resources/subscribe``."""

    async def unsubscribe(self, call: Call) -> Complete:
        """Answer ``resources/unsubscribe``."""

    async def listen(self, call: Call) -> Complete:
        """Answer ``subscriptions/listen``, which takes as long as the client listens."""


class Dispatch:
    """The innermost handler. ``own`` are the methods of vmcp itself. ``whole``: no list is given while a backend is missing."""

    def __init__(
        self,
        backends: Mapping[str, Placed],
        ways: Ways,
        subscriptions: Subscriptions,
        tasks: Tasks,
        own: Mapping[str, Answering],
        page_size: int,
        *,
        whole: bool = False,
    ) -> None:
        self._backends = backends
        self._ways = ways
        self._tasks = tasks
        self._page_size = page_size
        self._whole = whole
        self._pages = Pages()
        self._methods: Mapping[str, Answering] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "ping": self._ping,
            "tools/call": self._tool,
            "prompts/get": self._prompt,
            "resources/read": self._resource,
            "completion/complete": self._complete,
            "logging/setLevel": self._set_level,
            "resources/subscribe": subscriptions.subscribe,
            "resources/unsubscribe": subscriptions.unsubscribe,
            "subscriptions/listen": subscriptions.listen,
            **dict.fromkeys(listing.KINDS, self._list),
            **tasks.methods,
            **own,
        }

    def __call__(self, call: Call) -> Awaitable[Outcome]:
        """Answer ``call``. Raises ``McpError``, at once or when it is awaited."""
        answer = self._methods.get(call.method)
        if answer is None or not knows(call.peer.revision, call.method):
            raise McpError(Code.METHOD_NOT_FOUND, "Method not found")
        return answer(call)

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
        if not call.face.missing:
            return listing.page(call, self._page_size, kept=self._pages)
        absent = {name: _absence(self._backends[name]) for name in call.face.missing}
        if self._whole:
            raise listing.incomplete(call, absent)
        return listing.page(call, self._page_size, absent, self._pages)

    async def _tool(self, call: Call) -> Outcome:
        name = _named(call, "name")
        route = usable(call, call.face.routes[Kind.TOOL].get(name))
        if route is None:
            raise McpError(Code.INVALID_PARAMS, f"Unknown tool: {name}", vmcp_code=Code.ROUTING_FAILED)
        given = _object(call, "arguments")
        # Only HTTP has headers, and a request of this revision always some of them.
        if route.shown_header_params and call.peer.revision.modern and call.peer.headers:
            envelope.confirm_params(_pairs(route.shown_header_params), call.peer.headers, given)
        params = {**call.params, "name": route.original}
        if route.arguments is not None:
            params["arguments"] = Raw(jsonrpc.encode(route.arguments.apply(_members(call.params.get("arguments")))))
        if "task" in params and not self._tasks.passes(call, route):
            del params["task"]
        outgoing = _outgoing(call, route, params, route.original, _param_headers(route, params, given))
        way = self._tasks.call if self._tasks.concern(call, route) else self._ways.send
        return await way(call, route, outgoing)

    async def _prompt(self, call: Call) -> Outcome:
        name = _named(call, "name")
        route = usable(call, call.face.routes[Kind.PROMPT].get(name))
        if route is None:
            raise McpError(Code.INVALID_PARAMS, f"Unknown prompt: {name}", vmcp_code=Code.ROUTING_FAILED)
        params = {**call.params, "name": route.original}
        return await self._ways.send(call, route, _outgoing(call, route, params, route.original))

    async def _resource(self, call: Call) -> Outcome:
        uri = _named(call, "uri")
        route = resource_for(call, uri)
        if route is None:
            raise _no_resource(uri, call.peer.revision)
        return await self._ways.send(call, route, _outgoing(call, route, dict(call.params), uri))

    async def _complete(self, call: Call) -> Outcome:
        ref = _object(call, "ref")
        route, key = self._referred(call, ref)
        if not _completes(self._backends[route.backend]):
            return listing.result(call, {"completion": {"values": []}})
        told = {**_members(call.params["ref"]), key: route.original}
        return await self._ways.send(call, route, _outgoing(call, route, {**call.params, "ref": told}))

    def _referred(self, call: Call, ref: Mapping[str, Any]) -> tuple[Route, str]:
        routes = call.face.routes
        kind, name, uri = ref.get("type"), ref.get("name"), ref.get("uri")
        found, key = None, "uri"
        if kind == "ref/prompt" and isinstance(name, str):
            found, key = routes[Kind.PROMPT].get(name), "name"
        elif kind == "ref/resource" and isinstance(uri, str):
            found = routes[Kind.TEMPLATE].get(uri) or routes[Kind.RESOURCE].get(uri)
        aimed = usable(call, found)
        if aimed is not None:
            return aimed, key
        raise McpError(Code.INVALID_PARAMS, "Invalid params: 'ref' names no prompt or template that is listed here")


def _outgoing(
    call: Call,
    route: Route,
    params: dict[str, Any],
    name: str | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Outgoing:
    params.pop("_meta", None)
    call.trail.backend = route.backend
    call.trail.original = route.original
    return Outgoing(params, name, headers, route.idempotent)


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


def _completes(backend: Placed) -> bool:
    """Whether to ask at all: 2024-11-05 had no capability for it, so there one can only try."""
    revision = backend.revision
    return revision is Revision.V2024_11_05 or backend.declares("completions")


def _absence(backend: Placed) -> str:
    """Why nothing is known of what it offers, in one word."""
    status = backend.status
    if status.health == "unauthenticated":
        return status.health
    return "unavailable" if status.state == "down" else status.state


def _no_resource(uri: str, revision: Revision) -> McpError:
    code = Code.INVALID_PARAMS if revision.modern else Code.RESOURCE_NOT_FOUND
    return McpError(code, "Resource not found", {"uri": uri}, vmcp_code=Code.ROUTING_FAILED)
