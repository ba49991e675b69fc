"""vmcp's own methods: which servers stand behind a group, how they are, and what passed through.

The rule: names, states and numbers are told, never where a server is, what it is started with or what it was asked; and only to
whom the operator lets near: everybody who reaches a listener of this machine alone.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Literal, Protocol

from vmcp.aggregator import listing
from vmcp.aggregator.shelf import Shelf
from vmcp.call import Call, Complete, Outcome
from vmcp.config.model import BackendSpec
from vmcp.errors import Code, McpError
from vmcp.protocol import scrub
from vmcp.protocol.revisions import Revision
from vmcp.routing.table import Route
from vmcp.upstream.backend import Status

Answering = Callable[[Call], Awaitable[Outcome]]
Telling = Callable[[Call], Awaitable[dict[str, Any]]]
Numbers = Callable[[], Mapping[str, Any]]
"""What was counted, by the names of ``vmcp/metrics``."""
Statistics = Callable[[Literal["method", "backend"]], Mapping[str, Any]]
"""How each of them does, by its name."""


class Server(Protocol):
    """What is told of a backend."""

    spec: BackendSpec

    @property
    def status(self) -> Status:
        """How it is."""

    def facts(self) -> Mapping[str, Any]:
        """What is known of how it does."""

    @property
    def revision(self) -> Revision | None:
        """The revision that was agreed."""


class Elsewhere(Protocol):
    """The other workers of this vmcp."""

    async def numbers(self, own: Mapping[str, Any]) -> Mapping[str, Any]:
        """What all have counted, ``own`` too."""

    async def clear(self, backends: Collection[str], pattern: str) -> int:
        """Have them forget results; how many those were."""


class Introspection:
    """``may``: whether callers may use it at all. ``shelf`` is where results are kept, if they are.

    ``impaired``: whether the house itself is not quite well, whatever its servers are. ``elsewhere``: the other workers, if any.
    """

    def __init__(
        self,
        servers: Mapping[str, Server],
        numbers: Numbers,
        shelf: Shelf | None = None,
        *,
        may: bool,
        impaired: Callable[[], bool] = lambda: False,
        statistics: Statistics = lambda _: {},
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._servers = servers
        self._numbers = numbers
        self._shelf = shelf
        self._may = may
        self._impaired = impaired
        self._statistics = statistics
        self._elsewhere = elsewhere

    @property
    def methods(self) -> Mapping[str, Answering]:
        """By name."""
        answers: dict[str, Telling] = {
            "vmcp/servers/list": self._list,
            "vmcp/servers/info": self._info,
            "vmcp/servers/health": self._health,
            "vmcp/cache/clear": self._clear,
            "vmcp/metrics": self._metrics,
        }
        return {method: self._guarded(answer) for method, answer in answers.items()}

    def _guarded(self, answer: Telling) -> Answering:
        async def guarded(call: Call) -> Complete:
            if not self._may:
                raise McpError(Code.INSUFFICIENT_PERMISSIONS, "Insufficient permissions", {"method": call.method})
            return listing.result(call, await answer(call))

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

    async def _list(self, call: Call) -> dict[str, Any]:
        return {"servers": [_summary(server) for server in self._here(call).values()]}

    async def _info(self, call: Call) -> dict[str, Any]:
        server = self._named(call)
        listed = {
            str(kind): [
                name for name, route in there.items() if route.backend == server.spec.name and _open(call, route)
            ]
            for kind, there in call.face.routes.items()
        }
        spec = server.spec
        told = {"required": spec.required, "isolation": spec.isolation, "metadata": dict(spec.metadata)}
        return {**_summary(server), **told, **listed}

    async def _health(self, call: Call) -> dict[str, Any]:
        """Of one server when ``name`` says which, else of all."""
        servers = [self._named(call)] if "name" in call.tree else list(self._here(call).values())
        states = [_health(server) for server in servers]
        healthy = sum(state["health"] == "healthy" for state in states)
        usable = healthy + sum(state["health"] == "degraded" for state in states)
        whole = healthy == len(states) and not self._impaired()
        status = "healthy" if whole else "degraded" if usable or not states else "unhealthy"
        return {"status": status, "servers": states}

    async def _clear(self, call: Call) -> dict[str, Any]:
        """Forget results: all of this group, or those that ``pattern`` fits, a glob of ``<backend>/<name or URI>``."""
        pattern = call.tree.get("pattern", "*")
        if not isinstance(pattern, str):
            raise McpError(Code.INVALID_PARAMS, "Invalid params: 'pattern' must be a string")
        cleared = await self._shelf.clear(call.face.backends, pattern) if self._shelf is not None else 0
        others = await self._elsewhere.clear(call.face.backends, pattern) if self._elsewhere is not None else 0
        return {"cleared": cleared + others}

    async def _metrics(self, call: Call) -> dict[str, Any]:
        states = [server.status.state for server in self._servers.values()]
        servers = {"vmcp_servers_total": len(states), "vmcp_servers_healthy": states.count("up")}
        kept = (
            self._shelf.numbers()
            if self._shelf is not None
            else {"vmcp_cache_size": 0, "vmcp_requests_cached_total": 0}
        )
        told: Mapping[str, Any] = {**self._numbers(), **servers, **kept}
        whole = await self._elsewhere.numbers(told) if self._elsewhere is not None else told
        return {"metrics": whole, **self._how(call)}

    def _how(self, call: Call) -> dict[str, Any]:
        """How each method and each server of this group does, if that is counted."""
        here = self._here(call)
        methods, known = self._statistics("method"), self._statistics("backend")
        servers = {name: told for name, told in known.items() if name in here}
        return {"statistics": {"methods": methods, "servers": servers}} if methods else {}


def _open(call: Call, route: Route) -> bool:
    return call.may is None or call.may(route)


def _summary(server: Server) -> dict[str, Any]:
    spec = server.spec
    told: dict[str, Any] = {"name": spec.name, "group": spec.group, "transport": spec.transport}
    if server.revision is not None:
        told["protocolVersion"] = str(server.revision)
    return {**told, "status": server.status.state}


def _health(server: Server) -> dict[str, Any]:
    told = {**server.facts(), "name": server.spec.name, "health": server.status.health}
    return {**told, "reason": scrub.text(server.status.why)} if server.status.why else told
