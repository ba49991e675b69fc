"""A backend with a task of its own, for tests of its life, and the specs of the small servers it talks to.

Rule: what the backend tells (catalogs, states) is kept in order; the task is gone when its block ends.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import Raw

from tests.upstream.badserver import until
from tests.upstream.child import answers
from tests.upstream.fakes import FAST, Script, WebServer, command, scripted, served, soon
from vmcp.call import Call, Trail
from vmcp.call import Peer as ClientPeer
from vmcp.config.model import BackendSpec, Limits
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog
from vmcp.routing.table import Face, RoutingTable
from vmcp.upstream.backend import Backend, Outgoing, Status
from vmcp.upstream.links import Key

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
    events: list[tuple[str, Any, str | None]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    make: type[Backend] = Backend

    def __post_init__(self) -> None:
        self.backend = self.make(self.spec, self.limits, self, self.environ)

    def catalogued(self, catalog: Catalog) -> None:
        self.catalogs.append(catalog)

    def heard(self, backend: str, method: str, params: Raw, source: Key | None = None) -> None:
        whose = source and (source.text if source.kind == "session" else source.kind)
        self.events.append((method, json.loads(bytes(params) or b"null"), whose))

    async def inquire(self, session_id: str, question: Question) -> Raw:
        self.asked.append((session_id, question.method))
        return Raw(b'{"action":"accept","content":{"of":"%b"}}' % session_id.encode())

    def settled(self) -> None:
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
        asker = more.pop("asker", None)
        outgoing = Outgoing({"name": name, "arguments": {}}, name, more.pop("param_headers", ()))
        return await self.backend.send(self.call(method, name, **more), outgoing, asker)

    def call(self, method: str = "tools/call", name: str = "echo", **more: Any) -> Call:
        """A call of a client; what is no member of ``Call`` is of its ``Peer``."""
        own = {key: more.pop(key) for key in ("session", "capabilities", "level") if key in more}
        told: dict[str, Any] = {"meta": {}, "client": Deaf(), "deadline": soon(), "trail": Trail()}
        peer = ClientPeer(more.pop("client", Revision.V2025_11_25), **own)
        if "to" in more:
            more["client"] = more.pop("to")
        table = RoutingTable(1, "d", {"/mcp": FACE})
        base: dict[str, Any] = {"params": {}, "tree": {"name": name, "arguments": {}}, "peer": peer, "face": FACE}
        return Call(id=b"1", method=method, name=name, table=table, **base | told | more)


class Deaf:
    """A client that is told of nothing in these tests."""

    can_ask = False

    async def ask(self, question: Question) -> Raw:
        raise AssertionError(question)

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
