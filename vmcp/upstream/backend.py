"""A backend come alive: connected, listed, kept, and asked.

The rule: a call goes over the control link, which ``control`` looks after, or over a private one that was opened for its caller
(``links``); what becomes of it is told to the backend's vitals exactly once.
"""

import asyncio
import functools
import logging
import os
import sys
from collections.abc import Coroutine, Mapping
from time import perf_counter
from typing import Any

from msgspec import Raw

from vmcp.call import Call, Complete, Watcher
from vmcp.config.model import BackendSpec, Limits
from vmcp.errors import Code, McpError, Overdue, SessionLost, Unavailable, WireError
from vmcp.protocol import bridge
from vmcp.protocol.revisions import LATEST_HANDSHAKE, Revision
from vmcp.tasks import Nest
from vmcp.upstream import sending
from vmcp.upstream.ask import NOTHING, Ask, Asker, Outgoing
from vmcp.upstream.connector import Connector, Terms
from vmcp.upstream.control import Control
from vmcp.upstream.credentials.consent import Consent
from vmcp.upstream.credentials.source import Credentials
from vmcp.upstream.faults import UnsentUnavailable
from vmcp.upstream.link import Link
from vmcp.upstream.links import Key, Links, OnGone
from vmcp.upstream.owner import Owner, Status
from vmcp.upstream.sending import SHARED
from vmcp.upstream.vitals import ANSWERED, FAILED, SILENT, Vitals, judged
from vmcp.upstream.watch import Watch
from vmcp.upstream.watched import fault, watched
from vmcp.upstream.wire import Credential

__all__ = ["Backend", "Outgoing", "Owner", "Status"]

log = logging.getLogger("vmcp.upstream")

_BRACE, _NULL = ord("{"), Raw(b"null")


class Backend:
    """One MCP server of the config, at one place. Mutable; ``run`` is its one owner.

    ``credentials``: those that it shares with other replicas; without, it has its own.
    """

    def __init__(
        self,
        spec: BackendSpec,
        limits: Limits,
        owner: Owner,
        environ: Mapping[str, str] = os.environ,
        credentials: Credentials | None = None,
    ) -> None:
        self.spec = spec
        self._now = asyncio.get_running_loop().time
        self._limits = limits
        self._owner = owner
        self._shares = credentials is not None
        self._credentials = credentials or Credentials(spec, environ)
        self._nest = Nest(f"backend {spec.name}")
        self._connector = self._connects(environ)
        self._connector.own = self._credentials.own
        self._control = Control(spec, limits, owner, self._nest, self._connector, self._credentials)
        self._vitals = self._control.vitals
        self.watch = self._control.watch
        idle = spec.process.idle_stop if spec.transport == "stdio" else None
        self._links = Links(spec.name, self._nest, self._make, self._end, self._on_told, idle)
        self._dual = True

    def _connects(self, environ: Mapping[str, str]) -> Connector:
        return Connector(self.spec, self._limits, environ, self._nest)

    async def run(self) -> None:
        """Connect, list, and keep it so until cancelled."""
        try:
            await self._control.run()
        finally:
            await self._close()

    async def _close(self) -> None:
        await self._control.leave()
        await self._links.close()
        await self._nest.close()
        await self._connector.close()
        if not self._shares:
            await self._credentials.close()

    @property
    def consent(self) -> Consent | None:
        """The logins of its users, where its strategy is one of logging in."""
        return self._credentials.consent

    @property
    def label(self) -> dict[str, object]:
        """What names it in the log."""
        return self._control.label

    def facts(self) -> Mapping[str, Any]:
        """What is known of how it does."""
        return {"health": self.status.health, **self._vitals.facts(self._now()), **self._connector.facts()}

    @property
    def restarts(self) -> int:
        """How often it has come back: its process was started anew, or it was connected to anew."""
        return max(0, self._control.ups - 1)

    @property
    def pids(self) -> list[int]:
        """Of its child processes."""
        return self._connector.pids

    def reset(self) -> None:
        """Let calls through again, whatever happened before."""
        if self._vitals.breaker is not None:
            self._vitals.breaker.reset(self._now())

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
            whose=(opener.principal if opener is not None else "") or key.text,
        )
        return await self._connector.connect(terms)

    def _on_told(self, key: Key, method: str, params: Raw) -> None:
        """Something on a private link that belongs to no request."""
        if method.endswith("/list_changed"):
            self._control.doubt()
        elif key.kind != "request" and self._control.tells(method):
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
        link = self._control.link
        if link is None:
            raise self._absent()
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
        except WireError as error:
            raise Unavailable(self.spec.name, str(error), Code.PROTOCOL_ERROR) from error
        self._links.give(room)
        return key

    def watch_of(self, source: Key | None) -> Watch | None:
        """What is wanted on the link of ``source``; None when that is closed."""
        return self.watch if source is None else self._links.watch(source)

    # --- being asked

    @property
    def link(self) -> Link | None:
        """The control link; None while there is no connection."""
        return self._control.link

    @property
    def status(self) -> Status:
        """How it is."""
        return self._control.status

    @property
    def vitals(self) -> Vitals:
        """What is known of how it does."""
        return self._vitals

    @property
    def revision(self) -> Revision | None:
        """The revision that was agreed; None while there is no connection."""
        link = self._control.link
        return link.facts.revision if link is not None else None

    def speaks(self, call: Call) -> Revision | None:
        """The revision in which ``call`` will be asked, as far as it is known; None while there is no connection."""
        link = self._control.link
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
        link = self._control.link
        return link is not None and capability in link.facts.capabilities

    def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Coroutine[Any, Any, Complete]:
        """Ask the backend; the result in the shape of its revision, whatever it says. Raises ``McpError``.

        ``asker`` answers what a backend of the handshake era asks meanwhile; only a private link can pass it on.
        """
        watcher = call.trail.watcher
        if watcher is None or watcher.only_ends:
            return self._send(call, outgoing, asker, watcher)
        return watched(self._send, self.spec, call, outgoing, asker, watcher)

    async def _send(
        self, call: Call, outgoing: Outgoing, asker: Asker | None, watcher: Watcher | None = None
    ) -> Complete:
        began, raw = perf_counter() if watcher is not None else 0.0, None
        try:
            link = self._control.link
            if link is None:
                raise self._absent()
            revision = link.facts.revision
            key, credential = self._key(call, link), self._credentials.of(call.identity)
            capabilities = sending.mirrored(self.spec, call) if revision.modern or key is not SHARED else NOTHING
            entered = self._now()
            epoch, verdict = self._vitals.enter(entered), SILENT
            try:
                heard = asker if key is not SHARED else None
                ask = sending.ask_of(self.spec, call, outgoing, entered, capabilities, heard, credential=credential)
                if key is SHARED:
                    raw = await self._request(link, ask)
                else:
                    raw, revision = await self._privately(key, link, ask)
                verdict = ANSWERED
            except McpError as error:
                verdict = judged(error)
                if error.code == Code.HEADER_MISMATCH:
                    self._control.doubt()  # its schemas are others by now
                spoken = self.speaks(call) or revision
                raise bridge.error(error, call.method, call.name, spoken, call.peer.revision) from error
            except WireError as error:
                verdict = FAILED
                raise Unavailable(self.spec.name, str(error), Code.PROTOCOL_ERROR) from error
            finally:
                ended = self._now()
                self._vitals.leave(epoch, verdict, ended)
                call.trail.upstream_seconds += ended - entered
        finally:
            # (Here, as a coroutine around this one would cost each call.)
            if watcher is not None:
                ill = "" if raw is not None else fault(sys.exception())
                watcher.asked(None, call, self.spec.name, self.spec.transport, ill, perf_counter() - began)
        return Complete(raw, revision)

    def _key(self, call: Call, link: Link) -> Key:
        return sending.key_of(self.spec, call, link, dual=self._dual)

    async def _request(self, link: Link, ask: Ask) -> Raw:
        try:
            return self._bounded(await link.request(ask))
        except SessionLost:
            # The backend refused before it began, so asking once more cannot do anything twice.
            link = await self._control.renew(link)
        try:
            return self._bounded(await link.request(ask))
        except SessionLost:
            raise self._forgetful() from None

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
            except Overdue:
                self._links.silent(room, link, self.spec.health.timeout)
                raise
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
        text = memoryview(raw)
        if text.nbytes > self._limits.response_bytes:
            why = f"the result is larger than server.limits.responseBytes ({self._limits.response_bytes})"
            raise Unavailable(self.spec.name, why, Code.BACKEND_ERROR)
        if text[0] != _BRACE and raw != _NULL:  # some have nothing to say to a ping and the like
            raise Unavailable(self.spec.name, "it sent a result that is no object", Code.PROTOCOL_ERROR)
        return raw

    def _absent(self) -> Unavailable:
        return UnsentUnavailable(self.spec.name, self.status.why or "it has not answered yet")

    def _forgetful(self) -> Unavailable:
        return Unavailable(self.spec.name, "it forgets every session at once", Code.PROTOCOL_ERROR)
