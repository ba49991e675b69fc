"""How a call becomes a request: over whose link, with which capabilities, and what of the call goes along.

The rule: a backend is told what this caller declared and the config allows, never more; where callers cannot be told apart, it
is told nothing (design: house, 3.5 c).
"""

import hashlib
from dataclasses import replace
from typing import Final

from vmcp.call import ANONYMOUS, Call
from vmcp.config.model import BackendSpec
from vmcp.errors import McpError, Overdue, Unavailable
from vmcp.protocol import envelope, era, extensions, jsonrpc, questions
from vmcp.protocol.envelope import LEVELS
from vmcp.protocol.jsonrpc import NONE
from vmcp.protocol.revisions import MODERN
from vmcp.upstream.ask import NOTHING, Ask, Asker, Outgoing, without_logs
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.link import Link
from vmcp.upstream.links import Key
from vmcp.upstream.wire import Credential

DEFAULT_LEVEL: Final = "info"
"""The level of a session whose client set none; a backend is not told of it."""
SHARED: Final = Key("shared", "")


def declared(spec: BackendSpec) -> bytes:
    """What the control link declares: all that may be asked, so that what depends on it is listed; nothing when shared."""
    allow = spec.allow
    if spec.isolation == "shared":
        return NOTHING
    return questions.everything(sampling=allow.sampling, form=allow.form, url=allow.url, roots=allow.roots)


def mirrored(spec: BackendSpec, call: Call) -> bytes:
    """What this caller declared and the config allows."""
    allow = spec.allow
    if call.peer.capabilities == NOTHING:
        return NOTHING
    said = call.peer.capabilities if call.peer.revision.modern else extensions.without_tasks(call.peer.capabilities)
    return questions.mirrored(said, sampling=allow.sampling, form=allow.form, url=allow.url, roots=allow.roots)


def key_of(spec: BackendSpec, call: Call, control: Link, *, dual: bool) -> Key:
    """Over whose link ``call`` goes: ``SHARED`` is the control link.

    ``dual``: a backend of 2026-07-28 may know the handshake too, and then serves those clients in their own era.
    """
    if spec.isolation == "shared":
        return SHARED
    handshake = not call.peer.revision.modern and dual and spec.protocol != MODERN
    if control.facts.revision.modern and not handshake:
        return SHARED
    if spec.isolation == "request":
        return Key("request", "")
    if spec.isolation == "session" and call.peer.session is not None and not call.peer.revision.modern:
        return Key("session", call.peer.session)
    return Key("principal", _digest(call, mirrored(spec, call)))


def _digest(call: Call, capabilities: bytes) -> str:
    who = call.identity
    told = [who.issuer, who.subject] if who is not None else []
    return hashlib.sha256(jsonrpc.encode([told, capabilities.decode()])).hexdigest()


def ask_of(
    spec: BackendSpec,
    call: Call,
    outgoing: Outgoing,
    now: float,
    capabilities: bytes = NOTHING,
    asker: Asker | None = None,
    *,
    credential: Credential | None = None,
) -> Ask:
    """What is asked; ``now`` is loop time, ``capabilities`` for a backend of 2026-07-28 and ``asker`` for an older one."""
    meta = call.meta
    notify = call.client.notify
    limits = spec.timeouts
    if limits.tools:
        limits = limits.of(outgoing.name if call.method == "tools/call" else outgoing.tool)
    if call.deadline < now + limits.total:
        limits = replace(limits, total=call.deadline - now, total_with_progress=0.0)
    return Ask(
        method=call.method,
        params=outgoing.params,
        deadline=now + limits.total,
        name=outgoing.name,
        own_meta=envelope.own_meta(meta) if meta else meta,
        token=meta.get(envelope.PROGRESS_TOKEN, NONE),
        level=call.peer.level if spec.allow.logging else None,
        param_headers=outgoing.param_headers,
        notify=notify if spec.allow.logging else without_logs(notify),
        capabilities=capabilities,
        asker=asker,
        credential=credential,
        limits=limits,
        again=outgoing.idempotent and spec.retry == "idempotent",
        principal=_counted(call) if spec.command and spec.isolation != "shared" else "",
        trace=outgoing.trace,
    )


def _counted(call: Call) -> str:
    """Whose the child of this call is, for the limit of each; where nobody is told apart, there is only that of all."""
    return "" if call.principal == ANONYMOUS.principal else call.principal


def refuses_handshake(error: McpError) -> bool:
    """Whether a backend said that it knows no ``initialize``, and not just that something is wrong at the moment."""
    if isinstance(error, HttpRefused):
        return not era.open_status(error.status)
    return not isinstance(error, Unavailable | Overdue)


def level_for(link: Link, ask: Ask, *, several: bool) -> str | None:
    """The log level that a private link of the handshake era must be told before ``ask``; None: it is as it should be.

    ``several``: requests over it differ in what they want, so it is only ever made to say more; the door leaves out the rest.
    """
    if ask.level is None or link.facts.revision.modern or "logging" not in link.facts.capabilities:
        return None
    told = link.level or DEFAULT_LEVEL
    if ask.level == told or (several and LEVELS.index(told) < LEVELS.index(ask.level)):
        return None
    return ask.level
