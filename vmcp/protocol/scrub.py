"""A backend's error, fit to be shown: its own words, without what they give away about the house behind it.

The rule: what is taken out are hosts and addresses that only the backend's own network knows, credentials, and the frames of a
stack; everything else stays as it was said, and a text without any of that is not touched. Every pattern is linear, and a text
is bounded before it is looked at.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

LONGEST: Final = 32 << 10
LARGEST: Final = 256 << 10
DEEPEST: Final = 32
NULL: Final = Raw(b"null")
_ELLIPSIS: Final = "…"

# One look for all: nothing of this, and nothing is to be done. JSON text is looked at as it stands, escapes and all.
_SUSPECT = re.compile(
    r"://|:\\?/\\?/|\\u|\d\.\d{1,3}\.\d|:\d|localhost|Traceback|(?:\n|\\n)(?:\s|\\t)*at |goroutine |, line \d"
    r"|\.(?:internal|local|lan|svc|corp|intranet)\b|bearer|basic|passw|secret|token|key",
    re.IGNORECASE,
)
_PRIVATE = r"(?:[A-Za-z0-9_-]{1,63}\.){1,8}(?:internal|local|lan|svc|corp|intranet|localdomain)"
_ADDRESS = r"(?:\d{1,3}\.){3}\d{1,3}"
_SOURCE = "py|js|ts|jsx|tsx|mjs|cjs|go|rs|rb|php|java|kt|cs|c|cc|cpp|h|sh|sql|json|ya?ml|toml|xml|html|css|md|txt|log"

_AT = re.compile(r"(?::\d{1,7}(?::\d{1,7})?|:line \d{1,7}|native|<anonymous>|Native Method|Unknown Source)\)?$")
_GO = re.compile(r"[^\s:]{1,512}\.go:\d{1,7}(?: \+0x[0-9a-f]{1,16})?")
_MORE = re.compile(r"\.\.\. \d{1,5} more")
_PYTHON = re.compile(r'\s*File "[^"\n]{0,512}", line \d')

_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,31})://([^\s/?#\"'<>\\]{0,512})([^\s\"'<>\\]{0,2048})")
_SECRET = re.compile(
    r"[?&#][^=&#\s]{0,64}(?:token|secret|passw|key|signature|sig|auth|code|credential)[^=&#\s]{0,32}=", re.IGNORECASE
)
_INSIDE = re.compile(rf"(?:{_ADDRESS}|\[[0-9A-Fa-f:.%]+\]|[^.:]+|{_PRIVATE})(?::\d+)?", re.IGNORECASE)
_NETWORK: Final = frozenset(
    {
        *("http", "https", "ws", "wss", "ftp", "ssh", "tcp", "udp", "grpc", "smtp", "ldap", "ldaps", "amqp", "amqps"),
        *("nats", "kafka", "postgres", "postgresql", "mysql", "redis", "rediss", "mongodb", "mongodb+srv"),
    }
)
_REPLACED: Final = (
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"((?:password|passwd|secret|token|api[_-]?key|access[_-]?key)\"?\s?[=:]\s?)(?!\*\*\*)[^\s,;&\"']{6,}",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    # A place in a source file is what a stack trace is made of, wherever it stands.
    (
        re.compile(r"(?<![\w.])(?:file://)?(?:/|[A-Za-z]:[\\/])[^\s:\"'()<>]{1,512}\.[A-Za-z]{1,5}:\d+(?::\d+)?"),
        "[path]",
    ),
    (re.compile(r'File "[^"\n]{1,512}", line \d+'), "[path]"),
    (re.compile(rf"(?<![\w.]){_ADDRESS}(?::\d{{1,5}})?(?!\w|\.\d)"), "[host]"),
    (re.compile(r"\[[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?"), "[host]"),
    (re.compile(rf"(?<![\w@/.-]){_PRIVATE}(?::\d{{1,5}})?(?![\w-])", re.IGNORECASE), "[host]"),
    (
        re.compile(
            rf"(?<![\w@/.-])(?:localhost|(?:[A-Za-z0-9_-]{{1,63}}\.){{1,8}}(?!(?:{_SOURCE}):)[A-Za-z]{{2,24}}):\d{{2,5}}(?![\w:])"
        ),
        "[host]",
    ),
)


def text(said: str) -> str:
    """``said`` without what it must not tell."""
    if len(said) > LONGEST:
        said = said[:LONGEST] + _ELLIPSIS
    if not _SUSPECT.search(said):
        return said
    shown = _URL.sub(_url, _without_frames(said))
    for pattern, instead in _REPLACED:
        shown = pattern.sub(instead, shown)
    return shown


def _url(found: re.Match[str]) -> str:
    scheme, authority, rest = found.groups()
    secret = "@" in authority or _SECRET.search(rest) is not None
    within = scheme.lower() in _NETWORK and _INSIDE.fullmatch(authority) is not None
    return "[url]" if secret or within else found[0]


def _without_frames(said: str) -> str:
    """Without the lines of a stack; of a Python frame also its lines of code, which are indented further."""
    lines = said.split("\n")
    kept: list[str] = []
    code: int | None = None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if _PYTHON.match(line):
            code = indent
        elif code is not None and indent > code:
            continue
        elif not _is_frame(line):
            code = None
            kept.append(line)
    return said if len(kept) == len(lines) else "\n".join(kept).strip() or "[stack trace]"


def _is_frame(line: str) -> bool:
    words = line.strip()
    if words.startswith("at ") and line[0].isspace():  # JavaScript, Java, C#
        return _AT.search(words) is not None
    if words.startswith("goroutine "):
        return words.endswith("]:")
    return words == "Traceback (most recent call last):" or bool(_GO.fullmatch(words) or _MORE.fullmatch(words))


def data(said: Raw) -> Raw:
    """The JSON text ``said`` with its strings scrubbed alike; ``uri`` is the client's own word. Too large a one is null."""
    if len(bytes(said)) > LARGEST:
        return NULL
    if not _SUSPECT.search(bytes(said).decode(errors="replace")):
        return said
    try:
        tree = msgspec.json.decode(said)
        shown = _walk(tree, DEEPEST)
        if isinstance(tree, dict) and "uri" in tree:
            shown["uri"] = tree["uri"]
        return said if shown == tree else Raw(msgspec.json.encode(shown))
    except (msgspec.MsgspecError, RecursionError):
        return NULL


def _walk(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return text(value)
    if not isinstance(value, Mapping | list):
        return value
    if not depth:
        return None
    if isinstance(value, list):
        return [_walk(child, depth - 1) for child in value]
    return {key: _walk(child, depth - 1) for key, child in value.items()}
