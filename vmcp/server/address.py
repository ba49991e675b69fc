"""Where a request comes from: the address at the other end of the connection, or what a proxy that is trusted says of it.

The rule: a header is believed exactly as far as it was written by somebody in ``server.trustedProxies``, so it is read from the
right; what is left of the first address that is none of theirs may be the client's own invention. Two headers that disagree are
believed neither.
Source: RFC 7239; X-Forwarded-For as proxies write it.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("?)([^";\s]+)\1\s*(?:;|$)', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?")
_LONGEST = 4096

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Addresses:
    """Reads addresses of clients. ``trusted`` are the networks of ``server.trustedProxies``."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted: Sequence[Network] = tuple(ipaddress.ip_network(each) for each in trusted)
        self.trusting = bool(self._trusted)
        self._known = lru_cache(1024)(self._find)

    def of(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The address of who sent a request with these headers over a connection with ``peer``; names are lowercase."""
        if not self._trusted:
            return peer
        return self._known(peer, _joined(headers, b"x-forwarded-for"), _joined(headers, b"forwarded"))

    def _find(self, peer: str, listed: str, forwarded: str) -> str:
        if not self._trusts(address(peer)):
            return peer
        found = {
            self._walk(peer, hops)
            for hops in (listed.split(",") if listed else None, list(_named(forwarded)) if forwarded else None)
            if hops is not None
        }
        return found.pop() if len(found) == 1 else peer

    def _walk(self, peer: str, hops: Sequence[str]) -> str:
        nearest = peer
        for hop in reversed(hops):
            found = address(hop)
            if found is None:
                break
            nearest = str(found)
            if not self._trusts(found):
                break
        return nearest

    def _trusts(self, found: Address | None) -> bool:
        return found is not None and any(found in network for network in self._trusted)


def address(text: str) -> Address | None:
    """An address as proxies write it, with or without a port; None when it is none."""
    said = text.strip()
    match = _WITH_PORT.fullmatch(said)
    if match is not None:
        said = match[1] or match[2]
    if "%" in said:  # an address with a zone means something on one machine only
        return None
    try:
        found = ipaddress.ip_address(said)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _joined(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    said = ",".join(value.decode("latin-1") for key, value in headers if key == name)
    return said[-_LONGEST:]


def _named(forwarded: str) -> Iterable[str]:
    """Who each proxy says that a request was for; an element that does not say it is nobody."""
    for element in _ELEMENT.findall(forwarded):
        match = _FOR.search(element)
        yield match[2] if match is not None else ""
