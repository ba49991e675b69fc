"""URLs and hosts of a configuration. The rule: a reason names what is wrong and never repeats the URL, which may hold secrets."""

from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    return host.lower() in ("localhost", "::1", "[::1]") or _is_127(host)


def _is_127(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdecimal() and int(part[:4]) < 256 for part in parts)


def split(url: str) -> SplitResult | None:
    """The parts of a URL; None when it has none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


WEB = ("http", "https")
SOCKETS = ("ws", "wss")


def scheme(url: str) -> str:
    """The scheme in lower case; empty when there is none."""
    parts = split(url)
    return parts.scheme.lower() if parts is not None else ""


def url_wrong(url: str, *, query: bool = True, schemes: Sequence[str] = WEB) -> str | None:
    """Why a URL of these schemes cannot be used; None when it can."""
    parts = split(url)
    if parts is None:
        return "is not a URL: its host or port is malformed"
    if parts.scheme.lower() not in schemes:
        *others, last = (f"{each}://" for each in schemes)
        return f"must begin with {', '.join(others)} or {last}"
    if not parts.hostname or parts.port == 0:
        return "has no host" if not parts.hostname else "has port 0"
    if not parts.netloc.isascii():
        return "has a host that is not ASCII; write it in its xn-- form"
    if "@" in parts.netloc:
        return "has a user name in it; credentials belong in headers or auth"
    if parts.fragment or "#" in url:
        return "has a fragment (#…), which is never sent"
    if parts.query and not query:
        return "has a query (?…)"
    return None


def origin_wrong(origin: str) -> str | None:
    """Why a text is no origin (RFC 6454): scheme, host and port alone; None when it is one."""
    parts = split(origin)
    if parts is None or not parts.scheme or not parts.hostname:
        return "is not an origin: scheme, host and perhaps a port"
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return "is not an origin: it ends after the host or port"
    return None
