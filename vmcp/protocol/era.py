"""Which era a backend is of, from its answer to ``server/discover`` (2026-07-28 basic/versioning, "Backward compatibility").

The rule: only an answer that means something decides; a refusal or a failure on the way leaves the question open.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from vmcp.errors import Code
from vmcp.protocol.jsonrpc import Message, fault
from vmcp.protocol.revisions import KNOWN, LATEST_HANDSHAKE, MODERN, Revision

_MODERN_CODES = frozenset({Code.HEADER_MISMATCH, Code.MISSING_CAPABILITY, Code.UNSUPPORTED_VERSION})
_OPEN_STATUSES = frozenset({401, 403, 407, 408, 429})


class Era(Enum):
    """What a probe said."""

    MODERN = "modern"
    HANDSHAKE = "handshake"
    UNCLEAR = "unclear"


def judge(status: int, message: Message) -> Era:
    """The era of the server that answered ``server/discover`` with ``message`` under HTTP ``status``."""
    if message.error:
        error = fault(message.error)
        if error.code in _MODERN_CODES:
            return Era.HANDSHAKE if _excludes_modern(error.data) else Era.MODERN
        return Era.UNCLEAR if open_status(status) else Era.HANDSHAKE
    told = _object(message.result)
    versions = told.get("supportedVersions")
    if isinstance(versions, list):
        return Era.MODERN if str(MODERN) in versions else Era.HANDSHAKE
    return Era.MODERN if "resultType" in told else Era.HANDSHAKE


def open_status(status: int) -> bool:
    """Whether an HTTP status says nothing about the era: no permission, no time, no service."""
    return status in _OPEN_STATUSES or status >= 500


def _excludes_modern(data: object) -> bool:
    supported = _object(data).get("supported") if isinstance(data, msgspec.Raw) else None
    return isinstance(supported, list) and str(MODERN) not in supported


def _object(raw: msgspec.Raw) -> Mapping[str, Any]:
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def agreed(answered: object, asked: Revision) -> Revision | None:
    """The revision after ``initialize``: what the server answered; None when vmcp does not speak it.

    A server that agrees to 2026-07-28 in a handshake contradicts that revision; it is taken to mean the one we asked for.
    """
    found = KNOWN.get(answered) if isinstance(answered, str) else None
    if found is MODERN:
        return asked if not asked.modern else LATEST_HANDSHAKE
    return found
