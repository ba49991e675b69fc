"""A backend with a task of its own, for tests of its life, and the specs of the small servers it talks to.

Rule: what the backend tells (catalogs, states) is kept in order; the task is gone when its block ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.upstream.badserver import until
from tests.upstream.child import answers
from tests.upstream.fakes import FAST, Script, WebServer, command, scripted, served, soon
from vmcp.call import Call, Trail
from vmcp.call import Peer as ClientPeer
from vmcp.config.model import BackendSpec, Limits
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog
from vmcp.routing.table import Face, RoutingTable
from vmcp.upstream.backend import Backend, Outgoing, Status

LATEST = "2025-11-25"
FACE = Face("/mcp", "g", "g", "", {}, {}, {}, (), ())


@dataclass
class Kept:
    """A backend that runs, and what it has told."""

    spec: BackendSpec
    limits: Limits = field(default_factory=Limits)
    environ: Mapping[str, str] = field(default_factory=dict)
    catalogs: list[Catalog] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.backend = Backend(self.spec, self.limits, self.catalogs.append, self._settled, self.environ)

    def _settled(self) -> None:
        self.states.append(self.backend.status.state)

    @property
    def status(self) -> Status:
        return self.backend.status

    async def up(self) -> None:
        await until(lambda: self.status.state == "up")

    async def down(self) -> str:
        await until(lambda: self.status.state == "down")
        return self.status.why

    async def ask(self, method: str = "tools/call", name: str = "echo", **more: Any) -> Any:
        tree = {"name": name, "arguments": {}}
        client = ClientPeer(more.pop("client", Revision.V2025_11_25))
        table = RoutingTable(1, "d", {"/mcp": FACE})
        call = Call(
            method=method,
            name=name,
            params={},
            meta=more.pop("meta", {}),
            tree=tree,
            peer=client,
            face=FACE,
            table=table,
            client=Deaf(),
            deadline=more.pop("deadline", soon()),
            trail=more.pop("trail", Trail()),
        )
        outgoing = Outgoing(tree, name, **more)
        return await self.backend.send(call, outgoing)


class Deaf:
    """A client that is told of nothing in these tests."""

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError(method)


@contextlib.asynccontextmanager
async def kept(spec: BackendSpec, **more: Any) -> AsyncIterator[Kept]:
    backend = Kept(spec, **more)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(backend.backend.run())
        try:
            yield backend
        finally:
            task.cancel()


def local(journal: Path, script: Script | None = None, **more: Any) -> BackendSpec:
    words = command(journal, scripted(answers(LATEST)) | dict(script or {}))
    return BackendSpec("time", "g", "stdio", command=words, timeouts=FAST, **more)


def remote(server: WebServer, **more: Any) -> BackendSpec:
    return BackendSpec("time", "g", "streamable-http", url=server.url, timeouts=FAST, **more)


@contextlib.asynccontextmanager
async def online(server: WebServer, **more: Any) -> AsyncIterator[Kept]:
    async with served(server), kept(remote(server), **more) as backend:
        await backend.up()
        yield backend
