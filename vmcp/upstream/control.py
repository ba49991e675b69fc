"""The control link of one endpoint: made, listed, watched and probed, and made anew when it is gone.

The rule: one task (``run``) owns the link; everybody else only uses what it left here. A probe is a ``ping`` or a
``server/discover`` on the link that there is: never a greeting, and never more than one at a time.
"""

import asyncio
import logging
import random
from typing import Any

from msgspec import Raw

from vmcp.config.model import BackendSpec, Limits
from vmcp.errors import Code, ConsentRequired, SessionLost, Unavailable, VmcpError
from vmcp.routing.catalog import Catalog
from vmcp.tasks import Nest, backoff
from vmcp.upstream import sending
from vmcp.upstream.ask import Ask
from vmcp.upstream.breaker import Breaker, State
from vmcp.upstream.connector import Connector, Terms, complaint, obituary
from vmcp.upstream.credentials.source import Credentials
from vmcp.upstream.discovery import discover
from vmcp.upstream.link import Link
from vmcp.upstream.owner import Owner, Status
from vmcp.upstream.vitals import ANSWERED, SILENT, UNKNOWN, Vitals, judged, reason, told
from vmcp.upstream.watch import Watch

log = logging.getLogger("vmcp.upstream")

LISTING = 30.0
"""Seconds for each list of a backend."""
CALM = 0.5
"""Seconds that changes are gathered before a backend is listed again."""
STEADY = 60.0
"""Seconds after which a connection counts as stable and the next failure starts with a short pause again."""


class Control:
    """Mutable; ``run`` is its one owner. ``link`` is None while there is no connection, ``ups`` counts how often there was a new
    one; ``label`` names it in the log."""

    def __init__(
        self,
        spec: BackendSpec,
        limits: Limits,
        owner: Owner,
        nest: Nest,
        connector: Connector,
        credentials: Credentials,
    ) -> None:
        self.link: Link | None = None
        self.ups = 0
        self.label: dict[str, object] = {"backend": spec.name}
        self.status = Status()
        self.vitals = Vitals(spec.name, spec.health, Breaker(spec.breaker) if spec.breaker is not None else None)
        self.watch = Watch(spec.name, nest, self._on_event)
        if self.vitals.breaker is not None:
            self.vitals.breaker.on_change = self._on_breaker
        self._connector = connector
        self._spec = spec
        self._limits = limits
        self._owner = owner
        self._credentials = credentials
        self._now = asyncio.get_running_loop().time
        self._digest = ""
        self._wake = asyncio.Event()
        self._gone = False
        self._why = ""
        self._renewing = asyncio.Lock()

    # --- its life

    async def run(self) -> None:
        """Connect, list, and keep it so until cancelled."""
        async with Nest(f"health of {self._spec.name}") as nest:
            nest.start(self._look_after(), "probes")
            await self._keep()

    async def _keep(self) -> None:
        attempt = 0
        while True:
            began = self._now()
            try:
                await self._come_up()
                await self._stay()
            except VmcpError as error:
                attempt = 0 if self._now() - began > STEADY else attempt
                await self._go_down(error, attempt)
            attempt += 1

    async def _come_up(self) -> None:
        began = self._now()
        self._gone, self._why = False, ""
        self._wake.clear()
        self.link = await self._connected()
        self.watch.attach(self.link)
        catalog = await self._list(self.link)
        self.vitals.rose(self._now())
        self.ups += 1
        log.info("backend up", extra=self._facts(catalog, self._now() - began))
        self._settle("up")

    async def _connected(self) -> Link:
        own = self._credentials.own
        terms = Terms(self._on_event, self._on_gone, sending.declared(self._spec), credential=own)
        return await self._connector.connect(terms)

    async def _list(self, link: Link) -> Catalog:
        catalog = await discover(link, self._spec.name, max_bytes=self._limits.list_bytes, seconds=LISTING)
        for refused in catalog.refused:
            log.warning("list entry refused", extra={**self.label, "entry": refused})
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
                why = self._why or (obituary(self.link.wire) if self.link is not None else "it is gone")
                raise Unavailable(self._spec.name, why, Code.TRANSPORT_CLOSED)
            await asyncio.sleep(CALM)
            self._wake.clear()
            if self.link is not None and not self._gone:
                await self._refresh(self.link)

    async def _refresh(self, link: Link) -> None:
        try:
            await self._list(link)
        except SessionLost:
            await self._list(await self.renew(link))

    async def _go_down(self, error: VmcpError, attempt: int) -> None:
        pause, why = backoff(attempt, random.random()), reason(error)  # noqa: S311 - jitter, not a secret
        if self._spec.transport != "stdio":
            pause = min(pause, self._spec.health.interval)  # to try costs no more than a probe
        known = self.status.state == "down" and self.status.why == why
        self.vitals.fell(error, self._now())
        facts = {**self._facts(None, pause), "why": why, **_wanted(error)}
        log.log(logging.DEBUG if known else logging.WARNING, "backend down", extra=facts)
        self._settle("down")
        await self._drop()
        await asyncio.sleep(pause)

    async def _drop(self) -> None:
        self.watch.detach()
        link, self.link = self.link, None
        if link is not None:
            await self._connector.shut(link.wire)

    async def renew(self, lost: Link) -> Link:
        """A new session in place of a lost one; whoever comes second takes what the first one made."""
        async with self._renewing:
            if self.link is lost:
                log.info("backend session renewed", extra=self.label)
                fresh = await self._connected()
                if self.link is lost:
                    self.link, fresh = fresh, lost
                    self.watch.attach(self.link)
                await self._connector.shut(fresh.wire)
            if self.link is None:
                raise Unavailable(self._spec.name, self.status.why)
            return self.link

    async def leave(self) -> None:
        """Say goodbye; there is no link any more."""
        self.watch.detach()
        link, self.link = self.link, None
        if link is not None:
            await link.end()

    # --- how it is

    async def _look_after(self) -> None:
        """Find out now and then how it is; the first time not at once, so that not all are asked together."""
        interval = self._spec.health.interval
        await asyncio.sleep(interval * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
        while True:
            if self.link is not None and self.status.state == "up":
                await self._examine(self.link)
            await asyncio.sleep(interval * (1.0 + 0.2 * random.random()))  # noqa: S311 - the same

    async def _examine(self, link: Link) -> None:
        vitals = self.vitals
        if not vitals.evident(self._now()):
            began = self._now()
            epoch = self._attempt(began)
            error = await self._probe(link)
            now, verdict = self._now(), ANSWERED if error is None else judged(error)
            if error is not None and self.link is not link:
                verdict = SILENT  # it was about a connection that is not there any more
            else:
                vitals.probed(error, now - began, now)
            if epoch is not None and vitals.breaker is not None:
                told(vitals.breaker, epoch, verdict, now)
        if vitals.health in ("healthy", "degraded") and (wrong := complaint(link.wire)):
            vitals.complained(wrong, self._now())
        self._conclude()

    def _attempt(self, now: float) -> int | None:
        """A number of the breaker when the probe is the call that it waits for; otherwise a probe does not concern it."""
        breaker = self.vitals.breaker
        if breaker is None or breaker.state == "closed" or not breaker.admits(now):
            return None
        return breaker.admit(now)

    async def _probe(self, link: Link) -> VmcpError | None:
        """What is wrong with it, if anything."""
        ask = Ask(
            "server/discover" if link.facts.revision.modern else "ping", {}, self._now() + self._spec.health.timeout
        )
        try:
            try:
                await link.request(ask)
            except SessionLost:
                await self.renew(link)
        except VmcpError as error:
            verdict = judged(error)
            expected = verdict in UNKNOWN and self._credentials.per_user
            return None if expected or verdict is ANSWERED else error
        return None

    def _conclude(self) -> None:
        """Tell what has changed. One that answers no probe any more is given up, and connected to anew."""
        before, vitals = self.status.health, self.vitals
        if self.status.state != "up":
            return
        if vitals.health == "unhealthy":
            self._gone, self._why = True, vitals.why
            self._wake.set()
        elif vitals.health != before:
            facts = {**self.label, "before": before, "health": vitals.health, "why": vitals.why}
            log.log(logging.INFO if vitals.health == "healthy" else logging.WARNING, "backend health", extra=facts)
            self._settle("up")

    def _settle(self, state: str) -> None:
        vitals = self.vitals
        self.status = Status(state, vitals.why, vitals.health, vitals.since)
        if vitals.health == "healthy" and vitals.breaker is not None and vitals.breaker.state != "closed":
            self.status = Status(state, "its circuit breaker is not closed", "degraded", vitals.since)
        self._owner.settled()

    def _on_breaker(self, state: State) -> None:
        extra = {**self.label, "state": state}
        log.log(logging.WARNING if state == "open" else logging.INFO, "circuit breaker", extra=extra)
        if self.status.state == "up":
            self._settle("up")

    def _facts(self, catalog: Catalog | None, seconds: float) -> dict[str, Any]:
        facts: dict[str, Any] = {
            **self.label,
            "transport": self._spec.transport,
            "seconds": round(seconds, 3),
        }
        if catalog is not None:
            facts["revision"] = str(catalog.revision)
            facts.update({kind.value: len(entries) for kind, entries in catalog.entries.items() if entries})
        return facts

    # --- what it says

    def doubt(self) -> None:
        """Its lists may be others by now."""
        self._wake.set()

    def tells(self, method: str) -> bool:
        """Progress without its request means nothing to anybody; whether log messages are told, the config says."""
        return method != "notifications/progress" and (method != "notifications/message" or self._spec.allow.logging)

    def _on_gone(self) -> None:
        self._gone = True
        self._wake.set()

    def _on_event(self, method: str, params: Raw) -> None:
        """Something on the control link that belongs to no request."""
        if method.endswith("/list_changed"):
            self._wake.set()
        elif self.tells(method):
            self._owner.heard(self._spec.name, method, params)


def _wanted(error: VmcpError) -> dict[str, bool]:
    """Whether it turned us away for who we are, and whether a login of its user would help."""
    return {"refused": True, "login": isinstance(error, ConsentRequired)} if judged(error) in UNKNOWN else {}
