"""A backend come alive: connected, listed, kept, and asked.

The rule: one task (``run``) owns the connection; everybody else only uses the link that it left there.
"""

import asyncio
import itertools
import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from vmcp.call import Call, Complete
from vmcp.config.model import BackendSpec, Limits
from vmcp.errors import Code, McpError, SessionLost, Unavailable, VmcpError, WireError
from vmcp.protocol import bridge, envelope
from vmcp.protocol.jsonrpc import NONE
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog
from vmcp.tasks import Nest, backoff
from vmcp.upstream import secrets, stdio
from vmcp.upstream.discovery import discover
from vmcp.upstream.endpoint import endpoint, tls_context
from vmcp.upstream.handshake import Greeter
from vmcp.upstream.http import HttpWire
from vmcp.upstream.link import Ask, Link
from vmcp.upstream.pool import Pool
from vmcp.upstream.wire import Wire

log = logging.getLogger("vmcp.upstream")

GREETING = 30.0
"""Seconds for a backend to agree on a revision, and again for each of its lists."""
CALM = 0.5
"""Seconds that changes are gathered before a backend is listed again."""
STEADY = 60.0
"""Seconds after which a connection counts as stable and the next failure starts with a short pause again."""

OnCatalog = Callable[[Catalog], None]
OnSettled = Callable[[], None]


class Status(msgspec.Struct, frozen=True):
    """How a backend is: ``state`` is starting, up or down; ``why`` is set when it is down."""

    state: str = "starting"
    why: str = ""


class Outgoing(msgspec.Struct, frozen=True):
    """What of a call goes to the backend: its params without ``_meta``, the original name, headers made of arguments."""

    params: Mapping[str, Any]
    name: str | None = None
    param_headers: Sequence[tuple[bytes, bytes]] = ()


class Backend:
    """One MCP server of the config. Mutable; ``run`` is its one owner."""

    def __init__(
        self,
        spec: BackendSpec,
        limits: Limits,
        on_catalog: OnCatalog,
        on_settled: OnSettled,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.spec = spec
        self.status = Status()
        self._limits = limits
        self._on_catalog = on_catalog
        self._on_settled = on_settled
        self._environ = environ
        self._nest = Nest(f"backend {spec.name}")
        self._ids = itertools.count(1)
        self._wire: Wire | None = None
        self._link: Link | None = None
        self._digest = ""
        self._wake = asyncio.Event()
        self._gone = False
        self._renewing = asyncio.Lock()

    # --- its life

    async def run(self) -> None:
        """Connect, list, and keep it so until cancelled."""
        loop = asyncio.get_running_loop()
        attempt = 0
        try:
            while True:
                began = loop.time()
                try:
                    await self._come_up()
                    await self._stay()
                except VmcpError as error:
                    attempt = 0 if loop.time() - began > STEADY else attempt
                    await self._go_down(error, attempt)
                attempt += 1
        finally:
            await self._close()

    async def _come_up(self) -> None:
        began = asyncio.get_running_loop().time()
        self._gone = False
        self._wake.clear()
        self._link = await self._connect()
        catalog = await self._list(self._link)
        self.status = Status("up")
        self._on_settled()
        log.info("backend up", extra=self._facts(catalog, asyncio.get_running_loop().time() - began))

    async def _connect(self) -> Link:
        if self._wire is None:
            self._wire = await self._open()
        try:
            return await self._greet(self._wire)
        except Unavailable:
            if not self._gone or self.spec.protocol != "auto":
                raise
        # Some stdio servers end when the first thing they hear is no ``initialize``: a fresh one, and no probe.
        await self._drop()
        self._gone = False
        self._wake.clear()
        self._wire = await self._open()
        return await self._greet(self._wire, probe=False)

    async def _open(self) -> Wire:
        spec = self.spec
        if spec.transport == "stdio":
            declared = secrets.resolve(spec.name, spec.env, self._environ)
            child = await stdio.spawn(spec.name, spec.command, stdio.environment(declared, self._environ), spec.cwd)
            child.on_gone = self._on_gone
            return child
        headers = secrets.resolve(spec.name, spec.headers, self._environ)
        target = endpoint(spec.url or "", tls_context(spec.tls) if (spec.url or "").startswith("https:") else None)
        size = max(self._limits.response_bytes, self._limits.list_bytes)
        pool = Pool(target, spec.pool, spec.timeouts, max_response=size, name=spec.name)
        return HttpWire(spec.name, pool, [(key.lower().encode(), value.encode()) for key, value in headers.items()])

    async def _greet(self, wire: Wire, *, probe: bool = True) -> Link:
        deadline = asyncio.get_running_loop().time() + GREETING
        facts = await Greeter(self.spec.name, wire, self.spec.protocol, self._ids, probe=probe).greet(deadline)
        return Link(wire, facts, self._nest, self._on_event, self._ids)

    async def _list(self, link: Link) -> Catalog:
        catalog = await discover(link, self.spec.name, max_bytes=self._limits.list_bytes, seconds=GREETING)
        for refused in catalog.refused:
            log.warning("list entry refused", extra={"backend": self.spec.name, "entry": refused})
        if catalog.digest != self._digest:
            self._digest = catalog.digest
            self._on_catalog(catalog)
        return catalog

    async def _stay(self) -> None:
        """Until it is gone; lists again when it says that a list changed."""
        while True:
            if not self._gone:
                await self._wake.wait()
            self._wake.clear()
            if self._gone:
                raise Unavailable(self.spec.name, self._obituary(), Code.TRANSPORT_CLOSED)
            await asyncio.sleep(CALM)
            self._wake.clear()
            if self._link is not None and not self._gone:
                await self._refresh()

    async def _refresh(self) -> None:
        assert self._link is not None
        try:
            await self._list(self._link)
        except SessionLost:
            await self._list(await self._renew(self._link))

    async def _go_down(self, error: VmcpError, attempt: int) -> None:
        why = error.why if isinstance(error, Unavailable) else str(error)
        pause = backoff(attempt, random.random())  # noqa: S311 - jitter, not a secret
        level = logging.DEBUG if self.status.why == why else logging.WARNING
        self.status = Status("down", why)
        self._on_settled()
        log.log(level, "backend down", extra={**self._facts(None, pause), "why": why})
        await self._drop()
        await asyncio.sleep(pause)

    async def _drop(self) -> None:
        self._link = None
        if self._wire is not None:
            await self._wire.close()  # it stays ours until then: cancelled here, ``run`` closes it on its way out
            self._wire = None

    async def _close(self) -> None:
        if self._link is not None and self._link.facts.session is not None:
            await self._link.end()
        await self._nest.close()
        await self._drop()

    def _facts(self, catalog: Catalog | None, seconds: float) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "backend": self.spec.name,
            "transport": self.spec.transport,
            "seconds": round(seconds, 3),
        }
        if catalog is not None:
            facts["revision"] = str(catalog.revision)
            facts.update({kind.value: len(entries) for kind, entries in catalog.entries.items() if entries})
        return facts

    def _obituary(self) -> str:
        return self._wire.obituary() if isinstance(self._wire, stdio.StdioWire) else "it is gone"

    def _on_gone(self) -> None:
        self._gone = True
        self._wake.set()

    def _on_event(self, method: str) -> None:
        if method.endswith("/list_changed"):
            self._wake.set()

    # --- being asked

    @property
    def revision(self) -> Revision | None:
        """The revision that was agreed; None while there is no connection."""
        return self._link.facts.revision if self._link is not None else None

    def declares(self, capability: str) -> bool:
        """Whether the backend declared ``capability`` when it was greeted."""
        return self._link is not None and capability in self._link.facts.capabilities

    async def send(self, call: Call, outgoing: Outgoing) -> Complete:
        """Ask the backend; the result in the shape of its revision. Raises ``McpError``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        link = self._link
        if link is None:
            raise Unavailable(self.spec.name, self.status.why or "it has not answered yet")
        ask = self._ask(call, outgoing, began)
        try:
            raw = await self._request(link, ask)
        except McpError as error:
            raise bridge.error(error, call.method, call.name, link.facts.revision, call.peer.revision) from error
        except WireError as error:
            raise Unavailable(self.spec.name, str(error), Code.PROTOCOL_ERROR) from error
        finally:
            call.trail.upstream_seconds += loop.time() - began
        return Complete(raw, link.facts.revision)

    def _ask(self, call: Call, outgoing: Outgoing, now: float) -> Ask:
        meta = call.meta
        return Ask(
            method=call.method,
            params=outgoing.params,
            deadline=min(call.deadline, now + self.spec.timeouts.total),
            name=outgoing.name,
            own_meta=envelope.own_meta(meta) if meta else meta,
            token=meta.get(envelope.PROGRESS_TOKEN, NONE),
            level=call.peer.level,
            param_headers=outgoing.param_headers,
            notify=call.client.notify,
        )

    async def _request(self, link: Link, ask: Ask) -> Raw:
        try:
            raw = await link.request(ask)
        except SessionLost:
            # The backend refused before it began, so asking once more cannot do anything twice.
            raw = await self._again(await self._renew(link), ask)
        if len(bytes(raw)) > self._limits.response_bytes:
            text = f"the result is larger than server.limits.responseBytes ({self._limits.response_bytes})"
            raise Unavailable(self.spec.name, text, Code.BACKEND_ERROR)
        return raw

    async def _again(self, link: Link, ask: Ask) -> Raw:
        try:
            return await link.request(ask)
        except SessionLost:
            raise Unavailable(self.spec.name, "it forgets every session at once", Code.PROTOCOL_ERROR) from None

    async def _renew(self, lost: Link) -> Link:
        """A new session in place of a lost one; whoever comes second takes what the first one made."""
        async with self._renewing:
            if self._link is lost and self._wire is not None:
                log.info("backend session renewed", extra={"backend": self.spec.name})
                self._link = await self._greet(self._wire)
            if self._link is None:
                raise Unavailable(self.spec.name, self.status.why)
            return self._link
