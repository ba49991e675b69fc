"""Lists as a client sees them: one page at a time, in the order of the table, in the words of its era.

The rule: a cursor holds all that is needed to go on (the last name that was given out), so it outlives a new table, and a
cursor that is not ours is refused.
"""

import base64
import binascii
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import msgspec

from vmcp import __version__
from vmcp.aggregator import pages
from vmcp.aggregator.pages import Excerpt, Pages
from vmcp.call import Call, Complete, May
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope
from vmcp.protocol.jsonrpc import encode
from vmcp.routing import greeting
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Face, Route

KINDS = {
    "tools/list": Kind.TOOL,
    "prompts/list": Kind.PROMPT,
    "resources/list": Kind.RESOURCE,
    "resources/templates/list": Kind.TEMPLATE,
}
DEGRADED: Final = "dev.vmcp/degraded"
"""The member of ``_meta`` that says of a list that the part of some backends is missing."""
_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
FRESH_MS = 30_000
"""How long a client may keep a list of 2026-07-28 (``ttlMs``); nothing while a backend has yet to answer."""


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    kind: str
    after: str


def page(call: Call, size: int, absent: Mapping[str, str] = _NOBODY, kept: Pages | None = None) -> Complete:
    """One page of the list that ``call`` asks for. Raises ``McpError`` for a cursor that leads nowhere.

    ``absent`` are the backends whose part is missing, and why; the page says so. ``kept`` are those that were given out before.
    """
    kind = KINDS[call.method]
    routes = call.face.listing.get(kind, ())
    start = _start(call.tree.get("cursor"), kind, routes, call.may)
    frame = b"".join(b"%b," % part for part in _frame(call, cached=True, absent=absent))
    visible, modern = call.visible, call.peer.revision.modern
    if call.may is None:
        wanted = Excerpt(routes, None, start, size, modern)
    elif visible is not None and visible.routes is routes:
        wanted = Excerpt(routes, visible.mask, start, size, modern)
    else:
        # One more than is shown, as whether there is a next page depends on what the caller may see.
        found = tuple(islice(filter(call.may, routes[start:]), size + 1))
        return Complete(_text(kind, frame, found, size, modern=modern), call.peer.revision)
    text = None if kept is None else kept.find(call.table.number, wanted, frame)
    if text is None:
        text = _text(kind, frame, pages.chosen(wanted), size, modern=modern)
        if kept is not None:
            kept.keep(call.table.number, wanted, frame, text)
    return Complete(text, call.peer.revision)


def _text(kind: Kind, frame: bytes, found: tuple[Route, ...], size: int, *, modern: bool) -> bytes:
    """A page that begins with ``frame``. What is found beyond ``size`` is on the next."""
    shown = found[:size]
    more = b',"nextCursor":"%b"' % _cursor(kind, shown[-1].name) if len(found) > size else b""
    texts = [route.modern if modern else route.handshake for route in shown]
    # One join: the entries may be megabytes, and each further copy of them costs as much as everything else.
    texts[:1] = [b'{%b"%b":[%b' % (frame, kind.value.encode(), texts[0] if texts else b"")]
    texts[-1] = b"%b]%b}" % (texts[-1], more)
    return b",".join(texts)


def _start(cursor: object, kind: Kind, routes: tuple[Route, ...], may: May | None) -> int:
    if cursor is None:
        return 0
    found = _decoded(cursor)
    if found is not None and found.kind == kind.value:
        for index, route in enumerate(routes):
            if route.name == found.after and (may is None or may(route)):
                return index + 1
    raise McpError(Code.INVALID_PARAMS, "Invalid params: this cursor leads nowhere (any more); list again without one")


def _decoded(cursor: object) -> _Cursor | None:
    if not isinstance(cursor, str):
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=_Cursor)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        return None


def _cursor(kind: Kind, after: str) -> bytes:
    return base64.urlsafe_b64encode(encode(_Cursor(kind.value, after)))


def incomplete(call: Call, absent: Mapping[str, str]) -> McpError:
    """The error in place of a list that is not whole."""
    text = "The list is not complete, and operational.failureHandling.partialFailureMode is fail"
    if call.may is None:
        text += ": " + ", ".join(f"backend '{name}' is {why}" for name, why in absent.items())
    nobody = call.face.backends <= absent.keys()
    return McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.ALL_SERVERS_DOWN if nobody else Code.SERVER_UNAVAILABLE)


def _degraded(call: Call, absent: Mapping[str, str]) -> dict[str, Any]:
    """What is told of a list that is not whole. Who may not see everything does not learn the names of what he may not see."""
    told: dict[str, Any] = {"missing": len(absent)}
    return {DEGRADED: {**told, "backends": absent} if call.may is None else told}


def _frame(call: Call, *, cached: bool, absent: Mapping[str, str] = _NOBODY) -> list[bytes]:
    """What every result of 2026-07-28 begins with; before it nothing but that a list is not whole."""
    more = encode(_degraded(call, absent))[1:-1] if absent else b""
    if not call.peer.revision.modern:
        return [b'"_meta":{%b}' % more] if more else []
    meta = b'"%b":%b' % (envelope.SERVER_INFO.encode(), _info(call.face))
    parts = [b'"resultType":"complete"', b'"_meta":{%b%b%b}' % (meta, b"," if more else b"", more)]
    if cached:
        ttl = 0 if call.face.missing else FRESH_MS
        parts.append(b'"ttlMs":%d,"cacheScope":"private"' % ttl)
    return parts


def _info(face: Face) -> bytes:
    return encode({"name": face.name, "version": __version__})


def result(call: Call, told: dict[str, Any], *, cached: bool = False) -> Complete:
    """A result that vmcp gives itself."""
    parts = _frame(call, cached=cached)
    inner = encode(told)[1:-1]
    return Complete(b"{%b}" % b",".join([*parts, inner] if inner else parts), call.peer.revision)


def welcome(call: Call) -> Complete:
    """The result of ``initialize``; the door has put the agreed revision into the peer."""
    face = call.face
    told: dict[str, Any] = {
        "protocolVersion": str(call.peer.revision),
        "capabilities": greeting.shown(face.capabilities, call.peer.revision),
        "serverInfo": {"name": face.name, "version": __version__},
    }
    if face.instructions:
        told["instructions"] = face.instructions
    return result(call, told)


def discovery(call: Call) -> Complete:
    """The result of ``server/discover``."""
    told: dict[str, Any] = {
        "supportedVersions": list(envelope.SUPPORTED),
        "capabilities": greeting.shown(call.face.capabilities, call.peer.revision),
    }
    if call.face.instructions:
        told["instructions"] = call.face.instructions
    return result(call, told, cached=True)
