"""What is wrong with the head of a request: what two readers could understand in two ways, and what is too much.

The rule: a field that decides something for us is there once or not at all. Pure; the answer is a status line.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from vmcp.config.model import Limits

BAD: Final = b"400 Bad Request"
LONG_PATH: Final = b"414 URI Too Long"
LARGE: Final = b"431 Request Header Fields Too Large"
NO_VERSION: Final = b"505 HTTP Version Not Supported"
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_ONCE: Final = frozenset(
    {
        *(b"host", b"origin", b"content-length", b"content-type", b"authorization", b"transfer-encoding"),
        *(b"mcp-session-id", b"mcp-protocol-version", b"mcp-method", b"mcp-name"),
    }
)
_PARAM: Final = b"mcp-param-"
Fields = Sequence[tuple[bytes, bytes]]


def fault(url: bytes, headers: Fields, fields: Mapping[bytes, bytes], limits: Limits, *, counted: bool) -> bytes | None:
    """What is wrong, but for how the body is framed. ``fields`` are ``headers`` by name; ``counted``: look at their size."""
    if len(url) > limits.uri_bytes:
        return LONG_PATH
    if not url.startswith(b"/") or (len(fields) != len(headers) and _repeats(headers)):
        return BAD
    if len(headers) > limits.header_count or (counted and _size(url, headers) > limits.header_bytes):
        return LARGE
    return None


def framing(fields: Mapping[bytes, bytes], version: str) -> bytes | None:
    """What is wrong with how it says where its body ends: there must be but one way to read it (RFC 9112 6)."""
    if version not in _VERSIONS:
        return NO_VERSION
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return None
    proper = b"content-length" not in fields and version == "1.1"
    return None if proper and coding.strip().lower() == b"chunked" else BAD


def too_long(url: bytes, limits: Limits) -> bytes:
    """The status for a head that has no end yet and is too large; ``url`` as far as it has come."""
    return LONG_PATH if len(url) > limits.uri_bytes else LARGE


def _size(url: bytes, headers: Fields) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)


def _repeats(headers: Fields) -> bool:
    """Whether a field that means something to us is there more than once."""
    names = [name for name, _ in headers if name in _ONCE or name.startswith(_PARAM)]
    return len(names) != len(set(names))
