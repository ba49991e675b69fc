"""vmcp's own methods: which servers stand behind a group, how they are, and what passed through.

The rule: names, states and numbers are told, never where a server is, what it is started with or what it was asked; and only to
whom the operator lets near: everybody who reaches a listener of this machine alone.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from vmcp.aggregator import listing
from vmcp.call import Call, Complete, Outcome
from vmcp.config.model import BackendSpec
from vmcp.errors import Code, McpError
from vmcp.protocol import scrub
from vmcp.protocol.revisions import Revision
from vmcp.routing.table import Route
from vmcp.upstream.backend import Status

_HEALTH: Final = {"up": "healthy", "down": "unhealthy", "starting": "unknown"}

Answering = Callable[[Call], Awaitable[Outcome]]
Numbers = Callable[[], Mapping[str, Any]]
"""What was counted, by the names of ``vmcp/metrics``."""


class Server(Protocol):
    """What is told of a backend."""

    spec: BackendSpec
    status: Status

    @property
    def revision(self) -> Revision | None:
        """The revision that was agreed."""


class Introspection:
    """``may``: whether callers may use it at all."""

    def __init__(self, servers: Mapping[str, Server], numbers: Numbers, *, may: bool) -> None:
        self._servers = servers
        self._numbers = numbers
        self._may = may

    @property
    def methods(self) -> Mapping[str, Answering]:
        """By name."""
        answers: dict[str, Callable[[Call], dict[str, Any]]] = {
            "vmcp/servers/list": self._list,
            "vmcp/servers/info": self._info,
            "vmcp/servers/health": self._health,
            "vmcp/cache/clear": self._clear,
            "vmcp/metrics": self._metrics,
        }
        return {method: self._guarded(answer) for method, answer in answers.items()}

    def _guarded(self, answer: Callable[[Call], dict[str, Any]]) -> Answering:
        async def guarded(call: Call) -> Complete:
            if not self._may:
                raise McpError(Code.INSUFFICIENT_PERMISSIONS, "Insufficient permissions", {"method": call.method})
            return listing.result(call, answer(call))

        return guarded

    def _here(self, call: Call) -> dict[str, Server]:
        return {name: server for name, server in self._servers.items() if name in call.face.backends}

    def _named(self, call: Call) -> Server:
        name = call.tree.get("name")
        if not isinstance(name, str):
            raise McpError(Code.INVALID_PARAMS, "Invalid params: 'name' must be a string")
        found = self._here(call).get(name)
        if found is None:
            raise McpError(Code.NO_SERVER_FOUND, f"No server found: {name}", {"name": name})
        return found

    def _list(self, call: Call) -> dict[str, Any]:
        return {"servers": [_summary(server) for server in self._here(call).values()]}

    def _info(self, call: Call) -> dict[str, Any]:
        server = self._named(call)
        listed = {
            str(kind): [route.name for route in routes if route.backend == server.spec.name and _open(call, route)]
            for kind, routes in call.face.listing.items()
        }
        spec = server.spec
        told = {"required": spec.required, "isolation": spec.isolation, "metadata": dict(spec.metadata)}
        return {**_summary(server), **told, **listed}

    def _health(self, call: Call) -> dict[str, Any]:
        """Of one server when ``name`` says which, else of all."""
        servers = [self._named(call)] if "name" in call.tree else list(self._here(call).values())
        states = [_health(server) for server in servers]
        healthy = sum(state["health"] == "healthy" for state in states)
        status = "healthy" if healthy == len(states) else "degraded" if healthy else "unhealthy"
        return {"status": status, "servers": states}

    def _clear(self, call: Call) -> dict[str, Any]:
        """Nothing is kept of results yet, so there is never anything to forget."""
        return {"cleared": 0}

    def _metrics(self, call: Call) -> dict[str, Any]:
        states = [server.status.state for server in self._servers.values()]
        servers = {"vmcp_servers_total": len(states), "vmcp_servers_healthy": states.count("up")}
        return {"metrics": {**self._numbers(), **servers, "vmcp_cache_size": 0}}


def _open(call: Call, route: Route) -> bool:
    return call.may is None or call.may(route)


def _summary(server: Server) -> dict[str, Any]:
    spec = server.spec
    told: dict[str, Any] = {"name": spec.name, "group": spec.group, "transport": spec.transport}
    if server.revision is not None:
        told["protocolVersion"] = str(server.revision)
    return {**told, "status": server.status.state}


def _health(server: Server) -> dict[str, Any]:
    told = {"name": server.spec.name, "health": _HEALTH[server.status.state]}
    return {**told, "reason": scrub.text(server.status.why)} if server.status.why else told
