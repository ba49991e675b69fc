"""From an endpoint to a connected transport, whichever of its addresses answers.

Rule: a dead address never uses up the time of those after it; and a cancelled attempt leaves no socket behind, which is
why neither asyncio's happy eyeballs (they lose one, CPython 3.11) nor uvloop's order (one after the other) is used.
"""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence

from vmcp.upstream.endpoint import Endpoint

_SHORTEST = 0.25  # RFC 8305, 8: what an address gets at least before the next one is tried
_SILENCE = 60.0
_ASKING = {"TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}  # seconds, times
_ELSEWHERE = "its TLS certificate is for another host"
_UNTRUSTED = {10: "its TLS certificate has expired", 62: _ELSEWHERE, 64: _ELSEWHERE}  # of OpenSSL: a name, an address


async def dial(protocol: asyncio.Protocol, target: Endpoint, until: float) -> None:
    """Connect ``protocol`` before the loop time ``until``; raises ``OSError``, which ``TimeoutError`` is one of."""
    loop = asyncio.get_running_loop()
    failure = OSError("no address")
    async with asyncio.timeout_at(until):
        addresses = await _addresses(target, loop)
        for left in range(len(addresses), 0, -1):
            now = loop.time()
            share = now + max((until - now) / left, _SHORTEST)
            try:
                async with asyncio.timeout_at(min(share, until) if left > 1 else None):
                    await _attempt(protocol, target, addresses[-left], loop)
                return
            except OSError as error:
                failure = error
    raise failure


async def _addresses(target: Endpoint, loop: asyncio.AbstractEventLoop) -> Sequence[str]:
    try:
        return [str(ipaddress.ip_address(target.host))]
    except ValueError:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return _alternate([str(address[0]) for *_, address in found])


def _alternate(addresses: Sequence[str]) -> list[str]:
    """The resolver's order, but the two families take turns (RFC 8305, 4)."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    second = [a for a in addresses if a not in first]
    return sorted(addresses, key=lambda a: (2 * first.index(a)) if a in first else 2 * second.index(a) + 1)


async def _attempt(protocol: asyncio.Protocol, target: Endpoint, address: str, loop: asyncio.AbstractEventLoop) -> None:
    name = target.host if target.tls else None
    await loop.create_connection(lambda: protocol, address, target.port, ssl=target.tls, server_hostname=name)


def keep_alive(transport: asyncio.BaseTransport | None, silence: float = _SILENCE) -> None:
    """Let the kernel ask a peer that is silent for so many seconds whether it is there: where it may rightly be silent
    nothing else can tell."""
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in {"TCP_KEEPIDLE": min(max(round(silence), 1), 32_767), **_ASKING}.items():
            if hasattr(socket, option):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def passing(error: OSError) -> bool:
    """Whether the next attempt may go better: a name or a certificate will be no other then."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return not isinstance(error, ssl.SSLError)


def why(error: OSError) -> str:
    """Why no connection came about, in words that name no host: those of the libraries do."""
    if isinstance(error, socket.gaierror):
        return "its host name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _UNTRUSTED.get(error.verify_code, "its TLS certificate is not trusted")
    if isinstance(error, ssl.SSLError):
        return "the TLS handshake failed"
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    return os.strerror(error.errno).lower() if error.errno else "the connection failed"
