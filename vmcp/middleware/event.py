"""An event as it is written, in ToolHive's shape.

The rule: what comes again and again (who it is, what is asked for) is made into text once and remembered, within bounds; only
what is short is remembered, so that nobody can fill the memory with names that he made up. All text goes through the encoder.
"""

import itertools
import json
import secrets
from collections.abc import Callable, Mapping
from time import gmtime, strftime, time
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from vmcp.call import Identity, Origin, Peer
from vmcp.middleware import redaction

LONGEST: Final = 256
"""Characters of a name that are kept."""
MOST: Final = 4096
"""Texts of one kind that are remembered."""
_LOGGED_CLAIMS: Final = ("client_id", "azp", "jti")
NOWHERE: Final = Origin()
K = TypeVar("K")
V = TypeVar("V")

Person = tuple[str, int, bytes | None, str | None, str, str, str]
"""Of a principal: his claims, his program, his session, his address, its name for itself, and the proxy."""


class Extra(msgspec.Struct, omit_defaults=True):
    """What is told of a call beside who and what it was; a member that nobody has set is left out."""

    revision: str
    transport: str = ""
    duration_ms: float | None = None
    backend_name: str | None = None
    backend_ms: float | None = None
    backend_target: str | None = None
    decision: str | None = None
    policies: tuple[str, ...] | None = None
    persona: str | None = None
    limited_by: str | None = None
    request_id: str | None = None
    arguments_digest: str | None = None
    arguments_size: int | None = None
    arguments_count: int | None = None
    response_size: int | None = None
    result_type: str | None = None
    cancelled: bool = False
    jsonrpc_error_code: int | None = None
    vmcp_error_code: int | None = None
    jsonrpc_error_message: str | None = None


class Told(msgspec.Struct, omit_defaults=True, gc=False):
    """What is told of the usual call, and is different each time; see ``Extra``."""

    duration_ms: float
    response_size: int
    backend_ms: float | None = None
    arguments_digest: str | None = None
    arguments_size: int | None = None
    arguments_count: int | None = None


class _Info(msgspec.Struct):
    name: str = ""
    version: str = ""


_info = msgspec.json.Decoder(_Info).decode
plainly: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(enc_hook=str).encode
"""What is known to be proper text, as JSON."""


def text(said: Any) -> bytes:
    """Anything as JSON text, halves of characters too: no record is lost for a word that is none."""
    try:
        return plainly(said)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(said, enc_hook=str), separators=(",", ":")).encode()


class Form:
    """Fills in events. ``mark`` shows that two ids of sessions are the same, to nobody else; ``depth`` is of ``delegation``.

    ``stamp`` and ``describe`` may be used by another thread, too.
    """

    def __init__(self, component: str, depth: int, mark: Callable[[bytes], str]) -> None:
        self._depth = depth
        self._mark = mark
        self.numbers = itertools.count(100_000_000_001)
        """Of twelve digits from the first on."""
        self._begin = f'{{"msg":"audit_event","audit_id":"{secrets.token_hex(8)}-'
        self._date = 0, ""
        self._parts = tuple(f"{part:03d}" for part in range(1000))  # of a second: to fill it up with zeros takes longer
        self._component = text(component)
        self._people: dict[Person, tuple[Mapping[str, Any], bytes]] = {}

    def event(
        self,
        kind: str,
        outcome: str,
        origin: Origin | None,
        peer: Peer | None,
        target: bytes,
        extra: Extra | Mapping[str, Any],
        data: Mapping[str, Any] | None,
    ) -> bytes:
        """All of it as JSON text."""
        more = b',"data":' + text(data) if data else b""
        what = b',"type":"%b","outcome":"%b","target":%b' % (kind.encode(), outcome.encode(), target)
        return self.laid(origin, peer, what, b',"metadata":{"extra":%b}%b}' % (text(extra), more))

    def laid(self, origin: Origin | None, peer: Peer | None, what: bytes, more: bytes) -> bytes:
        """When it is and who it was, and the rest."""
        return b"".join((self.stamp(next(self.numbers), time()), self._who(origin or NOWHERE, peer), what, more))

    def stamp(self, number: int, at: float) -> bytes:
        """The beginning of an event of that time (epoch). Most of a time is made into text once a second."""
        second, date = self._date
        if int(at) != second:
            second = int(at)
            date = strftime('","logged_at":"%Y-%m-%dT%H:%M:%S.', gmtime(second))
            self._date = second, date  # both at once, as there are two threads
        micros, parts = int((at - second) * 1e6), self._parts
        return f'{self._begin}{number}{date}{parts[micros // 1000]}{parts[micros % 1000]}Z"'.encode()

    def _who(self, origin: Origin, peer: Peer | None) -> bytes:
        """Source, subjects and delegation, as members."""
        if peer is None or peer.identity is None:
            return self.describe(origin, peer)
        identity, info = peer.identity, peer.info
        claims = identity.claims
        # The claims of one token are one object, found by its place: nothing else can be there while it is kept.
        place = identity.principal, id(claims), info, peer.session, origin.address, origin.agent, origin.via
        known = self._people.get(place)
        if known is not None:
            return known[1]
        said = self.describe(origin, peer)
        if info is None or len(info) <= LONGEST * 16:
            keep(self._people, place, (claims, said))
        return said

    def describe(self, origin: Origin, peer: Peer | None) -> bytes:
        chain = self._delegation(peer.identity if peer is not None else None)
        more = b',"delegation":' + text(chain) if chain else b""
        source = text(self._source(origin, peer))
        return b',"component":%b,"source":%b,"subjects":%b%b' % (self._component, source, text(subjects(peer)), more)

    def _source(self, origin: Origin, peer: Peer | None) -> dict[str, Any]:
        extra: dict[str, str] = {}
        if origin.agent:
            extra["user_agent"] = cut(origin.agent)
        if origin.via:
            extra["via"] = origin.via
        if peer is not None and peer.session is not None:
            # The id itself is as good as a key: whoever reads the log shall not have it.
            extra["session"] = self._mark(peer.session.encode())
        local = not origin.address
        return {"type": "local" if local else "network", "value": origin.address or "local", "extra": extra}

    def _delegation(self, identity: Identity | None) -> list[dict[str, str]]:
        """Who acted for whom (RFC 8693 ``act``), the nearest first, and no deeper than configured."""
        actor = identity.claims.get("act") if identity is not None else None
        chain: list[dict[str, str]] = []
        while isinstance(actor, Mapping) and len(chain) < self._depth:
            chain.append({key: cut(str(actor[key])) for key in ("iss", "sub", "client_id") if key in actor})
            actor = actor.get("act")
        if isinstance(actor, Mapping):
            chain.append({"truncated": "true"})
        return chain


def subjects(peer: Peer | None) -> dict[str, str]:
    """Who it was, by what was verified, and with which program, by its own word. Names and addresses of people are left out."""
    told: dict[str, str] = {}
    identity = peer.identity if peer is not None else None
    if identity is not None:
        told = {"user_id": cut(identity.subject), "issuer": cut(identity.issuer)}
        for name in _LOGGED_CLAIMS:
            if name in identity.claims:
                told[name] = cut(str(identity.claims[name]))
    if peer is not None and peer.info is not None:
        told |= _program(peer.info)
    return told


def _program(info: bytes) -> dict[str, str]:
    try:
        told = _info(info)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return {"client_name": cut(told.name), "client_version": cut(told.version)}


# --- what is asked for


def call(target: bytes, kind: str, extra: Extra) -> bytes:
    """What is the same of all calls of one thing that have their result, as members; the last two are still open."""
    return b',"type":"%b","outcome":"success","target":%b,"metadata":{"extra":%b,' % (
        kind.encode(),
        target,
        text(extra)[:-1],
    )


def target(path: str, method: str, named: str, name: str | None) -> bytes:
    """The target of a call of ``method`` about a ``named`` called ``name`` (None: about nothing that has a name)."""
    told = {"endpoint": path, "method": cut(method)}
    if name is not None:
        told |= {"type": named, "name": uri(name) if named == "resource" else cut(name)}
    return text(told)


def keep(memory: dict[K, V], key: K, value: V) -> None:
    """Remember something, and forget the oldest where there is too much."""
    while len(memory) >= MOST:
        del memory[next(iter(memory))]
    memory[key] = value


# --- names


def cut(said: str) -> str:
    """A name that a client or a token says: long ones are nobody's to keep."""
    return redaction.text(said, LONGEST)


def plain(original: str) -> str:
    """What a thing is called at its backend."""
    return uri(original) if "://" in original else cut(original)


def uri(said: str) -> str:
    """A URI without what may be secret in it: user, password, query, fragment."""
    try:
        parts = urlsplit(said[: LONGEST * 4])
    except ValueError:
        return ""
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="…" if parts.query else "", fragment="")
    return cut(shown.geturl())
