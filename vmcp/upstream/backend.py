"""A backend come alive: connected, listed, kept, and asked.

The rule: one task (``run``) owns the control link, over which the backend is listed and watched; everybody else only uses what it
left there, or a private link that was opened for them (``links``).
"""

import asyncio
import functools
import logging
import os
import random
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from vmcp.call import Call, Complete
from vmcp.config.model import BackendSpec, Limits
from vmcp.errors import Code, McpError, SessionLost, Unavailable, VmcpError, WireError
from vmcp.protocol import bridge
from vmcp.protocol.revisions import LATEST_HANDSHAKE, Revision
from vmcp.routing.catalog import Catalog
from vmcp.tasks import Nest, backoff
from vmcp.upstream import sending
from vmcp.upstream.ask import NOTHING, Ask, Asker, Outgoing
from vmcp.upstream.connector import Connector, Terms, obituary
from vmcp.upstream.credentials.source import Credentials
from vmcp.upstream.discovery import discover
from vmcp.upstream.link import Link
from vmcp.upstream.links import Key, Links, OnGone
from vmcp.upstream.owner import Owner, Status
from vmcp.upstream.sending import SHARED
from vmcp.upstream.watch import Watch
from vmcp.upstream.wire import Credential

__all__ = ["Backend", "Outgoing", "Owner", "Status"]

log = logging.getLogger("vmcp.upstream")

LISTING = 30.0
"""Seconds for each list of a backend."""
CALM = 0.5
"""Seconds that changes are gathered before a backend is listed again."""
STEADY = 60.0
"""Seconds after which a connection counts as stable and the next failure starts with a short pause again."""


class Backend:
    """One MCP server of the config. Mutable; ``run`` is its one owner."""

    def __init__(
        self, spec: BackendSpec, limits: Limits, owner: Owner, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.spec = spec
        self._now = asyncio.get_running_loop().time
        self.status = Status()
        self._limits = limits
        self._owner = owner
        self._nest = Nest(f"backend {spec.name}")
        self._credentials = Credentials(spec, environ)
        self._connector = self._connects(environ)
        self._connector.own = self._credentials.own
        self._links = Links(spec.name, self._nest, self._make, self._end, self._on_told)
        self._link: Link | None = None
        self._dual = True
        self._digest = ""
        self._wake = asyncio.Event()
        self._gone = False
        self._renewing = asyncio.Lock()
        self.watch = Watch(spec.name, self._nest, self._on_event)

    def _connects(self, environ: Mapping[str, str]) -> Connector:
        return Connector(self.spec, self._limits, environ, self._nest)

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
        self._link = await self._control()
        self.watch.attach(self._link)
        catalog = await self._list(self._link)
        self.status = Status("up")
        self._owner.settled()
        log.info("backend up", extra=self._facts(catalog, asyncio.get_running_loop().time() - began))

    async def _control(self) -> Link:
        own = self._credentials.own
        terms = Terms(self._on_event, self._on_gone, sending.declared(self.spec), credential=own)
        return await self._connector.connect(terms)

    async def _list(self, link: Link) -> Catalog:
        catalog = await discover(link, self.spec.name, max_bytes=self._limits.list_bytes, seconds=LISTING)
        for refused in catalog.refused:
            log.warning("list entry refused", extra={"backend": self.spec.name, "entry": refused})
        if catalog.digest != self._digest:
            self._digest = catalog.digest
            self._owner.catalogued(catalog)
        return catalog

    async def _stay(self) -> None:
        """Until it is gone; lists again when it says that a list changed."""
        while True:
            if not self._gone:
                await self._wake.wait()
            self._wake.clear()
            if self._gone:
                why = obituary(self._link.wire) if self._link is not None else "it is gone"
                raise Unavailable(self.spec.name, why, Code.TRANSPORT_CLOSED)
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
        self._owner.settled()
        log.log(level, "backend down", extra={**self._facts(None, pause), "why": why})
        await self._drop()
        await asyncio.sleep(pause)

    async def _drop(self) -> None:
        self.watch.detach()
        link, self._link = self._link, None
        if link is not None:
            await self._connector.shut(link.wire)

    async def _close(self) -> None:
        self.watch.detach()
        link, self._link = self._link, None
        if link is not None:
            await link.end()
        await self._links.close()
        await self._nest.close()
        await self._connector.close()
        await self._credentials.close()

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

    def _on_gone(self) -> None:
        self._gone = True
        self._wake.set()

    def _on_event(self, method: str, params: Raw) -> None:
        """Something on the control link that belongs to no request."""
        if method.endswith("/list_changed"):
            self._wake.set()
        elif self._tells(method):
            self._owner.heard(self.spec.name, method, params)

    def _tells(self, method: str) -> bool:
        """Progress without its request means nothing to anybody; whether log messages are told, the config says."""
        return method != "notifications/progress" and (method != "notifications/message" or self.spec.allow.logging)

    # --- private links

    async def _make(
        self, key: Key, capabilities: bytes, on_gone: OnGone, opener: Ask | None, credential: Credential | None
    ) -> Link:
        on_event = functools.partial(self._on_told, key)
        host = functools.partial(self._owner.inquire, key.text) if key.kind == "session" else None
        terms = Terms(
            on_event,
            on_gone,
            capabilities,
            private=True,
            probe=False,
            credential=credential,
            opener=opener,
            host=host,
        )
        return await self._connector.connect(terms)

    def _on_told(self, key: Key, method: str, params: Raw) -> None:
        """Something on a private link that belongs to no request."""
        if method.endswith("/list_changed"):
            self._wake.set()
        elif key.kind != "request" and self._tells(method):
            self._owner.heard(self.spec.name, method, params, key)

    async def _end(self, link: Link) -> None:
        await link.end()
        await self._connector.shut(link.wire)

    def forget(self, session_id: str) -> None:
        """A client's session is over: what was opened for it is closed."""
        self._links.forget(session_id)

    def inform(self, session_id: str, method: str) -> None:
        """Pass on what a client notifies of (``notifications/roots/list_changed``), if the backend knows its session."""
        link = self._links.of(Key("session", session_id))
        if link is not None:
            self._nest.start(link.notify(method), "inform")

    async def source(self, call: Call) -> Key | None:
        """Over which link this caller subscribes: over the private one of its calls, which is open then, or the control link."""
        link = self._link
        if link is None:
            raise Unavailable(self.spec.name, self.status.why or "it has not answered yet")
        key, credential = self._key(call, link), self._credentials.of(call.identity)
        if credential is not None and (key is SHARED or key.kind == "request"):
            raise Unavailable(self.spec.name, "nothing can be subscribed where each request is its caller's own")
        if key is SHARED or key.kind == "request":
            return None
        deadline = min(call.deadline, asyncio.get_running_loop().time() + self.spec.timeouts.total)
        try:
            credential = credential or self._credentials.own
            room, _ = await self._links.take(key, sending.mirrored(self.spec, call), deadline, credential=credential)
        except McpError as refused:
            if not (link.facts.revision.modern and sending.refuses_handshake(refused)):
                raise
            self._dual = False
            return None
        self._links.give(room)
        return key

    def watch_of(self, source: Key | None) -> Watch | None:
        """What is wanted on the link of ``source``; None when that is closed."""
        return self.watch if source is None else self._links.watch(source)

    # --- being asked

    @property
    def link(self) -> Link | None:
        """The control link; None while there is no connection."""
        return self._link

    @property
    def revision(self) -> Revision | None:
        """The revision that was agreed; None while there is no connection."""
        return self._link.facts.revision if self._link is not None else None

    def speaks(self, call: Call) -> Revision | None:
        """The revision in which ``call`` will be asked, as far as it is known; None while there is no connection."""
        link = self._link
        if link is None:
            return None
        key = self._key(call, link)
        if key is SHARED:
            return link.facts.revision
        private = self._links.of(key)
        if private is not None:
            return private.facts.revision
        return LATEST_HANDSHAKE if link.facts.revision.modern else link.facts.revision

    def declares(self, capability: str) -> bool:
        """Whether the backend declared ``capability`` when it was greeted."""
        return self._link is not None and capability in self._link.facts.capabilities

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        """Ask the backend; the result in the shape of its revision, whatever it says. Raises ``McpError``.

        ``asker`` answers what a backend of the handshake era asks meanwhile; only a private link can pass it on.
        """
        now = self._now
        began = now()
        link = self._link
        if link is None:
            raise Unavailable(self.spec.name, self.status.why or "it has not answered yet")
        revision = link.facts.revision
        key, credential = self._key(call, link), self._credentials.of(call.identity)
        capabilities = sending.mirrored(self.spec, call) if revision.modern or key is not SHARED else NOTHING
        try:
            heard = asker if key is not SHARED else None
            ask = sending.ask_of(self.spec, call, outgoing, began, capabilities, heard, credential=credential)
            if key is SHARED:
                raw = await self._request(link, ask)
            else:
                raw, revision = await self._privately(key, link, ask)
        except McpError as error:
            if error.code == Code.HEADER_MISMATCH:
                self._wake.set()  # its schemas are others by now
            spoken = self.speaks(call) or revision
            raise bridge.error(error, call.method, call.name, spoken, call.peer.revision) from error
        except WireError as error:
            raise Unavailable(self.spec.name, str(error), Code.PROTOCOL_ERROR) from error
        finally:
            call.trail.upstream_seconds += now() - began
        return Complete(raw, revision)

    def _key(self, call: Call, link: Link) -> Key:
        return sending.key_of(self.spec, call, link, dual=self._dual)

    async def _request(self, link: Link, ask: Ask) -> Raw:
        try:
            return self._bounded(await link.request(ask))
        except SessionLost:
            # The backend refused before it began, so asking once more cannot do anything twice.
            link = await self._renew(link)
        try:
            return self._bounded(await link.request(ask))
        except SessionLost:
            raise self._forgetful() from None

    async def _renew(self, lost: Link) -> Link:
        """A new session in place of a lost one; whoever comes second takes what the first one made."""
        async with self._renewing:
            if self._link is lost:
                log.info("backend session renewed", extra={"backend": self.spec.name})
                fresh = await self._control()
                if self._link is lost:
                    self._link, fresh = fresh, lost
                    self.watch.attach(self._link)
                await self._connector.shut(fresh.wire)
            if self._link is None:
                raise Unavailable(self.spec.name, self.status.why)
            return self._link

    async def _privately(self, key: Key, control: Link, ask: Ask) -> tuple[Raw, Revision]:
        """The result over the link of ``key``, and the revision it is in; a session that was forgotten is begun anew once."""
        for _ in range(2):
            try:
                credential = ask.credential or self._credentials.own
                room, link = await self._links.take(key, ask.capabilities, ask.deadline, ask, credential)
            except McpError as refused:
                if not (control.facts.revision.modern and sending.refuses_handshake(refused)):
                    raise
                self._dual = False
                log.info("the backend knows no initialize", extra={"backend": self.spec.name})
                return await self._request(control, ask), control.facts.revision
            try:
                level = sending.level_for(link, ask, several=key.kind != "session")
                if level is not None:
                    await self._set_level(link, level, ask.deadline)
                return self._bounded(await link.request(ask)), link.facts.revision
            except SessionLost:
                self._links.lost(room, link)
            finally:
                link.spare(ask)
                self._links.give(room)
        raise self._forgetful()

    async def _set_level(self, link: Link, level: str, deadline: float) -> None:
        link.level = level
        try:
            await link.request(Ask("logging/setLevel", {"level": level}, deadline))
        except McpError as refused:
            log.debug("log level not taken", extra={"backend": self.spec.name, "why": refused.message})

    def _bounded(self, raw: Raw) -> Raw:
        if len(bytes(raw)) > self._limits.response_bytes:
            text = f"the result is larger than server.limits.responseBytes ({self._limits.response_bytes})"
            raise Unavailable(self.spec.name, text, Code.BACKEND_ERROR)
        return raw

    def _forgetful(self) -> Unavailable:
        return Unavailable(self.spec.name, "it forgets every session at once", Code.PROTOCOL_ERROR)
