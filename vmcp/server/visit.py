"""Who is at the other end, for every transport: from a request of 2026-07-28 itself, from ``initialize``, or from a session.

The rule: what a client may do is read once, here, and never changes within a session but for its log level.
"""

from collections.abc import Mapping

from msgspec import Raw

from vmcp.call import Identity, Origin, Peer, refine
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.revisions import MODERN, negotiate
from vmcp.server.sessions import Session

LEVEL = "info"
"""From where on a client of the handshake era gets log messages before it has said anything of them."""
PERSONA = "x-vmcp-persona"
"""The header by which a client asks for a persona."""
_LARGEST = 64 << 10


def modern_peer(request: Request, headers: Mapping[str, str] | None) -> Peer:
    """Who sent a request of 2026-07-28; ``headers`` are None where the transport has none. Raises ``McpError``."""
    envelope.admit(headers, request.method, request.tree)
    meta = request.meta
    level = request.tree["_meta"].get(envelope.LOG_LEVEL)
    capabilities = bytes(meta[envelope.CAPABILITIES])
    return Peer(MODERN, capabilities, _info(meta.get(envelope.CLIENT_INFO)), None, level, headers or {})


def newcomer(request: Request) -> Peer:
    """Who sends ``initialize``, with the revision that is agreed on. Raises ``McpError``."""
    tree, params = request.tree, request.params
    asked = tree.get("protocolVersion")
    if not isinstance(asked, str):
        raise McpError(Code.INVALID_PARAMS, "Invalid params: 'protocolVersion' must be a string")
    if not isinstance(tree.get("capabilities", {}), dict):
        raise McpError(Code.INVALID_PARAMS, "Invalid params: 'capabilities' must be an object")
    capabilities = bytes(params.get("capabilities", b"{}"))
    info = _info(params.get("clientInfo"))
    if len(capabilities) + len(info or b"") > _LARGEST:
        raise McpError(Code.INVALID_PARAMS, f"Invalid params: a client says more than {_LARGEST} bytes about itself")
    return Peer(negotiate(asked), capabilities, info, level=LEVEL)


def _info(said: Raw | None) -> bytes | None:
    info = b"" if said is None else bytes(said)
    return info if info.startswith(b"{") else None


def peer_of(session: Session) -> Peer:
    """Who sends requests in ``session``."""
    return session.peer


def seen(peer: Peer, identity: Identity | None, origin: Origin | None) -> Peer:
    """``peer`` as who sends this very request: within a session the token may be a newer one than at its beginning."""
    if peer.identity is identity and peer.origin is origin:
        return peer
    # (Every member by its place: half as dear as ``refine``, once for each request.)
    return Peer(peer.revision, peer.capabilities, peer.info, peer.session, peer.level, peer.headers, identity, origin)


def asking(identity: Identity, headers: Mapping[str, str]) -> Identity:
    """``identity``, which asks for a persona if its request does. Whether it gets it, ``routing/personas`` decides."""
    persona = headers.get(PERSONA)
    return identity if persona is None else refine(identity, persona=persona)


def owner(identity: Identity | None) -> str:
    """To whom a session of this caller belongs."""
    return identity.principal if identity is not None else ""


def set_level(session: Session, request: Request) -> None:
    """Keep what an accepted ``logging/setLevel`` said."""
    session.peer = refine(session.peer, level=request.tree["level"])
