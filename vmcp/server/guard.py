"""Which ``Host`` and ``Origin`` may speak to us: the defence against DNS rebinding and cross-site requests.

The rule: names are parsed and compared whole, never by prefix; what is not allowed is refused on every route and verb.
Source: basic/transports "Security Warning"; WHATWG URL for what an origin is.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from vmcp.config.model import ServerSpec

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ANYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not bound to
_NETLOC = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@]+)(:[0-9]*)?")
"""Name and port. urllib alone takes what stands before or behind the brackets of an IPv6 address for nothing."""


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine only."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Decides on ``Host`` and ``Origin`` from the config of the listener."""

    def __init__(self, spec: ServerSpec) -> None:
        self._local = is_loopback(spec.host)
        self._hosts = _hosts(spec)
        self._origins = frozenset(filter(None, (origin(o) for o in spec.allowed_origins)))
        if spec.public_url:
            public = urlsplit(spec.public_url)
            self._origins |= frozenset(filter(None, [origin(f"{public.scheme}://{public.netloc}")]))
        self._any_address = not self._local and not spec.allowed_hosts

    def allows_host(self, header: str) -> bool:
        """Whether a ``Host`` header names us."""
        name = host_name(header)
        if name is None:
            return False
        return name in self._hosts or (self._any_address and _is_address(name))

    def allows_origin(self, header: str) -> bool:
        """Whether a page of this ``Origin`` may talk to us."""
        given = origin(header)
        if given is None:
            return False
        return given in self._origins or (self._local and urlsplit(given).hostname in LOOPBACK)


def _hosts(spec: ServerSpec) -> frozenset[str]:
    found = {name for name in (host_name(h) for h in spec.allowed_hosts) if name}
    if spec.host not in ANYWHERE:
        found.add(spec.host.lower())
    if is_loopback(spec.host) or not spec.allowed_hosts:
        found |= LOOPBACK
    if spec.public_url:
        found.add(urlsplit(spec.public_url).hostname or "")
    return frozenset(found)


def host_name(header: str) -> str | None:
    """The name in a ``Host`` header, lowercase and without port and brackets; None when it is none (RFC 9110 7.2)."""
    text = header.strip().lower()
    if any(c in text for c in "/@?#\\ \t,") or not _NETLOC.fullmatch(text):
        return None
    try:
        parts = urlsplit(f"//{text}")
        _ = parts.port
    except ValueError:
        return None
    return (parts.hostname or "").rstrip(".") or None


def origin(header: str) -> str | None:
    """An origin in its canonical form, default port left out; None for ``null`` and for what is no origin."""
    text = header.strip().lower().rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not _NETLOC.fullmatch(parts.netloc):
        return None
    if parts.path or parts.query or parts.fragment:
        return None
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{name}" + (f":{port}" if port not in (None, usual) else "")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
