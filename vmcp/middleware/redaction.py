"""Arguments and results, fit for a log that many people may read.

The rule: a value is judged by the name that it stands under and by its looks; what cannot be looked at is left out, and every
record says what was left out or cut.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

MASK: Final = "***"
LARGEST: Final = 64 << 10
"""Bytes of JSON that are looked through; of more only the size is told."""
_DEEPEST: Final = 32
_NAMES: Final = re.compile(
    r"pass(?:w|phrase|code)|(?:^|user|[_-])pass$|secret|token|auth(?:orization)?$|api[_-]?key|access[_-]?key|private|credential|cookie"
    r"|session|signature|^(?:pin|otp|cvv|ssn|jwt|bearer|key)$|requeststate",
    re.IGNORECASE,
)
_LOOKS: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{2,}\.?[A-Za-z0-9_-]*"  # JWT
    r"|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\bxox[abposr]-[A-Za-z0-9-]{10,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
    r"|(?<=://)[^/\s:@]{1,256}:[^/\s@]{1,256}(?=@)"
    r"|(?i:(?<=[?&])(?:[a-z_-]{0,32}(?:token|secret|key|sig|signature|password|code))=[^&\s#]+)",
)


def shown(raw: Raw | bytes, most: int) -> Any:
    """JSON text as data for a record: redacted, and cut to about ``most`` bytes."""
    size = len(memoryview(raw))
    if size > LARGEST:
        return {"truncated": True, "size": size}
    try:
        clean = _clean(msgspec.json.decode(raw), 0)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {"truncated": True, "size": size}
    text = msgspec.json.encode(clean)
    if len(text) <= most:
        return clean
    return {"truncated": True, "size": size, "text": text[:most].decode("utf-8", "ignore")}


def text(said: str, most: int) -> str:
    """One text, redacted and cut."""
    return _LOOKS.sub(MASK, said[: most * 4])[:most]


def _clean(value: Any, depth: int) -> Any:
    if depth >= _DEEPEST:
        return MASK
    if isinstance(value, str):
        return _LOOKS.sub(MASK, value)
    if isinstance(value, dict):
        return dict(_members(value, depth))
    if isinstance(value, list):
        return [_clean(each, depth + 1) for each in value]
    return value


def _members(value: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for key, each in value.items():
        hidden = _NAMES.search(key) and each is not None and not isinstance(each, bool)
        yield key, MASK if hidden else _clean(each, depth + 1)
