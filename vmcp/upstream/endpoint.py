"""Where a backend is: a URL taken apart once, and the TLS context to reach it with.

Rule: what could be read in two ways (userinfo, white space, backslashes, zone ids) is refused, never repaired.
"""

import functools
import re
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from vmcp.config.model import TlsSpec
from vmcp.egress import trust
from vmcp.errors import VmcpError

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SECURE = ("https", "wss")
_UNSAFE = re.compile(r"[^\x21-\x7e]|\\")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_IPV6 = re.compile(r"[0-9a-f:.]+")


class BadEndpoint(VmcpError):
    """A URL or a TLS file that no connection can be made with."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The parts of a URL. ``path`` is the request target with its query, ``tls`` is None for plain http."""

    scheme: str
    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None
    host_header: bytes


def endpoint(url: str, tls: ssl.SSLContext | None = None) -> Endpoint:
    """Take an absolute URL apart (RFC 3986); https or wss without a context gets the default one."""
    parts, port = _split(url)
    host = _host(parts)
    bracketed = f"[{host}]" if ":" in host else host
    shown = bracketed if port == _PORTS[parts.scheme] else f"{bracketed}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    context = (tls or tls_context(TlsSpec())) if parts.scheme in _SECURE else None
    return Endpoint(parts.scheme, host, port, path, context, shown.encode("ascii"))


def _split(url: str) -> tuple[SplitResult, int]:
    if _UNSAFE.search(url):
        raise BadEndpoint("the URL holds white space, a backslash, or characters that must be percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadEndpoint("the URL has a malformed host or port") from error
    if parts.scheme not in _PORTS:
        raise BadEndpoint("the URL must begin with http://, https://, ws:// or wss://")
    if "@" in parts.netloc:
        raise BadEndpoint("the URL holds a user name or password: put credentials into headers")
    if port == 0:
        raise BadEndpoint("the URL has port 0")
    return parts, port or _PORTS[parts.scheme]


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    known = _IPV6 if parts.netloc.startswith("[") else _NAME
    if not known.fullmatch(host) or len(host) > 253 or any(len(label) > 63 for label in host.split(".")):
        raise BadEndpoint("the URL has no valid host: a name in ASCII (xn--…), an IPv4 address, or [an IPv6 address]")
    return host


def tls_context(spec: TlsSpec) -> ssl.SSLContext:
    """The context for ``spec``: TLS 1.2 or later, peers verified, its CA bundle beside the system's roots."""
    if spec == TlsSpec():
        return _shared_context()
    context = _new_context()
    try:
        if spec.ca_bundle:
            context.load_verify_locations(cafile=spec.ca_bundle)
        if spec.client_cert:
            context.load_cert_chain(spec.client_cert, spec.client_key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadEndpoint(f"the TLS files cannot be used: {_reason(error)}") from error
    return context


@functools.cache
def _shared_context() -> ssl.SSLContext:
    # Making one reads all the system's roots, 50 ms: so one for the whole process.
    return _new_context()


def _new_context() -> ssl.SSLContext:
    context = trust.context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal and the gateway would hang.
    raise ValueError("the client key is protected by a password")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return "no valid PEM, or a key that does not belong to the certificate"
    return (error.strerror or "unreadable") if isinstance(error, OSError) else str(error)
