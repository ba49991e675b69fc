"""One backend at several places: the same server behind each, and every call goes to one of them.

The rule: whoever has a session at a replica stays with it while it is there; a call goes to a second replica only when the first
was sent nothing of it. What is listed is what one of them offers, the lead; the others ought to offer the same.
"""

import asyncio
import functools
import logging
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vmcp.call import Call, Complete
from vmcp.config.balancing import EndpointSpec
from vmcp.config.health import BreakerSpec
from vmcp.config.model import BackendSpec, Limits
from vmcp.errors import Code, McpError, Unavailable
from vmcp.protocol import tasks
from vmcp.protocol.revisions import Revision
from vmcp.tasks import Nest
from vmcp.upstream.ask import Asker, Outgoing
from vmcp.upstream.backend import Backend
from vmcp.upstream.credentials.consent import Consent
from vmcp.upstream.credentials.source import Credentials
from vmcp.upstream.faults import Unsent
from vmcp.upstream.link import Link
from vmcp.upstream.links import Key
from vmcp.upstream.owner import Owner, Status
from vmcp.upstream.replica import Homes, Replica, together
from vmcp.upstream.replicas import Chooser
from vmcp.upstream.vitals import Tripped, Verdict, judged
from vmcp.upstream.watch import Watch

log = logging.getLogger("vmcp.upstream")


class Balanced:
    """A backend with ``endpoints``, to be used as a ``Backend``. Mutable; ``run`` is its one owner."""

    def __init__(
        self, spec: BackendSpec, limits: Limits, owner: Owner, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.spec = spec
        self.owner = owner
        self._limits = limits
        self._environ = environ
        self._now = asyncio.get_running_loop().time
        self._chooser = Chooser(spec.balancing)
        self._credentials = Credentials(replace(spec, url=spec.endpoints[0].url), environ)
        self._homes = Homes()
        self._digest = ""
        self._differs: set[str] = set()
        self._replicas = [Replica(number, each, self) for number, each in enumerate(spec.endpoints)]
        self._weighty = [each for each in self._replicas if each.weight]
        self._lead = self._weighty[0]
        if len(self._weighty) > 1:
            for each in self._weighty:
                self._limit(each)

    @property
    def consent(self) -> Consent | None:
        """See ``Backend``. All replicas are one resource, which the first of them names."""
        return self._credentials.consent

    def backend_at(self, endpoint: EndpointSpec, owner: Owner) -> Backend:
        """The backend at one of its places."""
        breaker = self.spec.breaker or (BreakerSpec() if len(self.spec.endpoints) > 1 else None)
        pool = replace(self.spec.pool, retry_attempts=min(self.spec.pool.retry_attempts, 1))  # there are others to try
        spec = replace(self.spec, url=endpoint.url, endpoints=(), breaker=breaker, pool=pool)
        return Backend(spec, self._limits, owner, self._environ, self._credentials)

    async def run(self) -> None:
        """Keep all replicas until cancelled."""
        try:
            async with Nest(f"replicas of {self.spec.name}") as nest:
                for each in self._replicas:
                    nest.start(each.backend.run(), str(each.number))
                await asyncio.Event().wait()
        finally:
            await self._credentials.close()

    # --- how the replicas are

    def _limit(self, replica: Replica) -> None:
        breaker = replica.backend.vitals.breaker
        if breaker is not None:
            breaker.may_open = functools.partial(self._may_leave, replica)

    def _may_leave(self, replica: Replica) -> bool:
        """Whether one more may be left out for failing."""
        share, count = self.spec.balancing.ejection, len(self._weighty)
        out = sum(each.out for each in self._weighty if each is not replica)
        return share > 0 and out < max(1, count * share // 100) and out + 1 < count

    def on_catalog(self, replica: Replica) -> None:
        """A replica was listed, and offers something else than before."""
        self._elect()
        self._publish()
        lead = self._lead.catalog
        for each in self._weighty:
            other = each.catalog
            if lead is not None and other is not None and other.digest not in (lead.digest, *self._differs):
                self._differs.add(other.digest)
                facts = {"backend": self.spec.name, "replica": each.number, "lead": self._lead.number}
                log.warning("replicas differ", extra=facts)

    def on_settled(self, replica: Replica) -> None:
        """How a replica is has changed."""
        replica.returned(self._now())
        self._elect()
        self._publish()
        self.owner.settled()

    def _elect(self) -> None:
        """The lead stays while it is there; what is subscribed goes along to its successor."""
        if self._lead.there:
            return
        fit = next((each for each in self._weighty if each.there), None)
        if fit is not None:
            before, self._lead = self._lead, fit
            before.backend.watch.hand_over(fit.backend.watch)

    def _publish(self) -> None:
        catalog = self._lead.catalog
        if catalog is not None and catalog.digest != self._digest:
            self._digest = catalog.digest
            self._differs.clear()
            self.owner.catalogued(catalog)

    @property
    def status(self) -> Status:
        """How it is: up while any replica is, healthy while all are."""
        all_of = [each.backend.status for each in self._weighty]
        states = {each.state for each in all_of}
        state = next((each for each in ("up", "starting") if each in states), "down")
        health, why = together([each.health for each in all_of])
        if state != "up" or len(all_of) == 1:
            why = next((each.why for each in all_of if each.why), "")
        return Status(state, why, health, max(each.since for each in all_of))

    def facts(self) -> Mapping[str, Any]:
        """What is known of how it does; replicas are told apart by their numbers."""
        return {"replicas": [{"replica": each.number, **each.backend.facts()} for each in self._replicas]}

    @property
    def restarts(self) -> int:
        """How often replicas have come back."""
        return sum(each.backend.restarts for each in self._replicas)

    @property
    def pids(self) -> list[int]:
        """None: replicas are reached by URL."""
        return []

    def reset(self) -> None:
        """Let calls through to all replicas again, whatever happened before."""
        for each in self._replicas:
            each.backend.reset()

    # --- being asked

    @property
    def link(self) -> Link | None:
        """The control link of the lead; None while no replica is there."""
        return self._lead.backend.link

    @property
    def revision(self) -> Revision | None:
        """The revision that the lead agreed to."""
        return self._lead.backend.revision

    def declares(self, capability: str) -> bool:
        """See ``Backend``: the lead."""
        return self._lead.backend.declares(capability)

    def speaks(self, call: Call) -> Revision | None:
        """See ``Backend``: the replica that the call belongs to, or the lead."""
        return (self._home(call, None) or self._lead).backend.speaks(call)

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        """See ``Backend``."""
        tried: list[Replica] = []
        while True:
            replica = self._pick(call, outgoing, tried)
            try:
                return await self._ask(replica, call, outgoing, asker)
            except McpError as error:
                tried.append(replica)
                if not _unsent(error) or not any(each.takes(self._now()) for each in self._others(tried)):
                    raise
                log.info("another replica", extra={"backend": self.spec.name, "replica": replica.number})

    async def _ask(self, replica: Replica, call: Call, outgoing: Outgoing, asker: Asker | None) -> Complete:
        began, verdict = self._now(), Verdict.SILENT
        replica.active += 1
        try:
            complete = await replica.backend.send(call, outgoing, asker)
            verdict = Verdict.ANSWERED
        except McpError as error:
            verdict = judged(error)
            raise
        finally:
            replica.active -= 1
            if verdict is Verdict.FAILED:
                replica.failed(self.spec.balancing.window)
            elif verdict is Verdict.ANSWERED:
                replica.answered(self._now() - began, self.spec.balancing.window)
        self._learn(replica, call, complete)
        return complete

    def _learn(self, replica: Replica, call: Call, complete: Complete) -> None:
        """A session is where it was begun last, a task where it was made."""
        self._homes.follow(self._key(call), replica)
        if call.method == "tools/call" and (made := tasks.created(complete.result, complete.revision)) is not None:
            self._homes.made(made, replica)

    def _others(self, tried: Iterable[Replica]) -> list[Replica]:
        return [each for each in self._weighty if each not in tried]

    def _pick(self, call: Call, outgoing: Outgoing, tried: list[Replica]) -> Replica:
        """Where a call goes. Raises ``Unavailable``."""
        now = self._now()
        key = self._key(call)
        home = self._home(call, outgoing.name)
        if home is not None and home not in tried and home.takes(now):
            return home
        among = [each for each in self._others(tried) if each.takes(now)]
        if not among:
            raise self._nobody(now)
        chosen = self._chooser.choose(among, now, random.random, self._hashed(call, outgoing))
        if key is not None:
            self._settle_at(key, chosen)
        return chosen

    def _nobody(self, now: float) -> Unavailable:
        waits = [b.wait(now) for each in self._weighty if each.there and (b := each.backend.vitals.breaker) is not None]
        if waits:
            return Tripped(self.spec.name, min(waits))
        return Unavailable(self.spec.name, self.status.why or "it has not answered yet")

    def _hashed(self, call: Call, outgoing: Outgoing) -> bytes:
        on = self.spec.balancing.hash_on
        if on == "tool":
            return (outgoing.name or call.method).encode()
        return ((call.peer.session if on == "session" else None) or call.principal).encode()

    # --- who belongs where

    def _key(self, call: Call) -> Key | None:
        """Whose session at a replica a call uses; None when it is everybody's or its own."""
        if self.spec.isolation in ("shared", "request"):
            return None
        if self.spec.isolation == "session" and call.peer.session is not None:
            return Key("session", call.peer.session)
        revision = self.revision
        if revision is not None and revision.modern and call.peer.revision.modern:
            return None
        return Key("principal", call.principal)

    def _home(self, call: Call, name: str | None) -> Replica | None:
        task = self._homes.of_task(name) if call.method.startswith("tasks/") else None
        return task or self._homes.of(self._key(call))

    def _settle_at(self, key: Key, replica: Replica) -> None:
        if self._homes.settle(key, replica):
            log.info("session moved", extra={"backend": self.spec.name, "replica": replica.number})

    def forget(self, session_id: str) -> None:
        """See ``Backend``."""
        self._homes.forget(Key("session", session_id))
        for each in self._replicas:
            each.backend.forget(session_id)

    def inform(self, session_id: str, method: str) -> None:
        """See ``Backend``."""
        for each in self._replicas:
            each.backend.inform(session_id, method)

    async def source(self, call: Call) -> Key | None:
        """See ``Backend``: at the replica of its session, or for all at the lead."""
        key, home = self._key(call), self._home(call, None)
        replica = home if home is not None and home.there else self._lead
        if key is not None and home is not replica:
            self._settle_at(key, replica)
        return await replica.backend.source(call)

    def watch_of(self, source: Key | None) -> Watch | None:
        """See ``Backend``."""
        if source is None:
            return self._lead.backend.watch
        home = self._homes.of(source)
        found = (each.backend.watch_of(source) for each in ([home, *self._replicas] if home else self._replicas))
        return next((watch for watch in found if watch is not None), None)


Placed = Backend | Balanced
"""A backend, at one place or at several."""


def placed(spec: BackendSpec, limits: Limits, owner: Owner, environ: Mapping[str, str] = os.environ) -> Placed:
    """The backend of a spec."""
    return (Balanced if spec.endpoints else Backend)(spec, limits, owner, environ)


def _unsent(error: McpError) -> bool:
    """Whether nothing of a call has reached a replica."""
    return isinstance(error, Unsent) or (isinstance(error, Unavailable) and error.vmcp_code == Code.CONNECTION_FAILED)
