"""Where vmcp may connect to on its own account: which URLs, and which addresses behind their names.

The rule: a URL that stands literally in the config may lead anywhere; one that was learned leads to public addresses by https
only, and a name is refused as a whole when one of its addresses is. No network here: a decision and nothing else.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from vmcp.errors import VmcpError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNSAFE = re.compile(r"[^\x21-\x7e]|[\\\"<>^`{|}]")
_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
_BRACKETED = re.compile(r"\[[0-9a-fA-F:.]+\](:[0-9]+)?")
_PORTS = {"http": 80, "https": 443}
_REFUSED = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host agent of one large cloud
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
_REFUSED_V6 = tuple(
    ipaddress.ip_network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
)
"""Of the public range: protocol assignments with Teredo in them, documentation, 6to4 (an IPv4 address in disguise), 6bone."""


class Blocked(VmcpError):
    """A URL or an address that may not be connected to. Its text names no more than the reason."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. ``host`` has no brackets; ``path`` is the request target with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what two URLs of one server have in common."""
        return self.scheme, self.host, self.port

    @property
    def host_header(self) -> str:
        """The value of ``Host``."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == _PORTS[self.scheme] else f"{shown}:{self.port}"


def target(url: str, *, allow_private: bool = False) -> Target:
    """Take an absolute URL apart. ``allow_private``: it is trusted as the config's own, so it may be http.

    Raises ``Blocked`` for what could be read in two ways, and for what no learned URL may be.
    """
    if _UNSAFE.search(url) or len(url) > 8192:
        raise Blocked("the URL holds characters that do not belong into one")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Blocked("the URL has a malformed host or port") from None
    if parts.scheme not in _PORTS:
        raise Blocked("the URL must begin with https://")
    if parts.scheme == "http" and not allow_private:
        raise Blocked("the URL has no TLS; only one that stands in the config may be http")
    if "@" in parts.netloc:
        raise Blocked("the URL holds a user name or password")
    if port == 0 or parts.netloc.endswith(":"):
        raise Blocked("the URL has no usable port")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, _host(parts.netloc, parts.hostname or ""), port or _PORTS[parts.scheme], path)


def _host(netloc: str, host: str) -> str:
    if netloc.startswith("["):
        # urllib takes what stands between the bracket and the port for nothing
        if not _BRACKETED.fullmatch(netloc) or literal(host) is None:
            raise Blocked("the URL has no valid IPv6 address")
        return host
    if not _NAME.fullmatch(host):
        raise Blocked("the URL has no valid host")
    last = host.rstrip(".").rpartition(".")[2]
    if _NUMBER.match(last) and (literal(host) is None or host.endswith(".")):
        raise Blocked(
            "the URL has a number for a host"
        )  # 2130706433, 0x7f.1, 127.1: libc would take them for addresses
    return host


def literal(host: str) -> Address | None:
    """The address that ``host`` is; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether an address is somebody's on the internet: no private, local, shared, reserved or translated one."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in each for each in _REFUSED)
    return address in _PUBLIC_V6 and not any(address in each for each in _REFUSED_V6)


def checked(addresses: Sequence[str], *, allow_private: bool = False) -> list[str]:
    """The addresses of a name in the order to try them. Raises ``Blocked`` when there is none, or one is not allowed."""
    found = list(dict.fromkeys(addresses))
    if not found:
        raise Blocked("the host has no address")
    if not allow_private:
        for each in found:
            address = literal(each)
            if address is None or not is_public(address):
                raise Blocked("the host has an address that is not public")
    return found
