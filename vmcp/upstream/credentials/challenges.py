"""What a backend says when it refuses a credential: the parameters of a ``Bearer`` challenge (RFC 6750, 3; RFC 9728, 5.1).

The rule: a challenge is read, and believed only as far as it concerns the backend's own origin; nothing of it reaches a client.
"""

import re
from collections.abc import Mapping
from typing import Final

LONGEST: Final = 4096
_BEARER = re.compile(r"(?:^|,)\s*bearer\s+", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z0-9_.-]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,\s*|$)')
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")


def parameters(challenge: str) -> Mapping[str, str]:
    """The parameters of the first ``Bearer`` challenge; none when there is none."""
    said = challenge[:LONGEST]
    start = _BEARER.search(said)
    if start is None:
        return {}
    found: dict[str, str] = {}
    at = start.end()
    while (each := _PARAMETER.match(said, at)) is not None:
        quoted = each[2]
        found.setdefault(each[1].lower(), re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else each[3])
        at = each.end()
    return found


def scopes(text: object) -> tuple[str, ...]:
    """The scopes in a text that lists them, each once; what cannot be one is left out."""
    if not isinstance(text, str):
        return ()
    return tuple(dict.fromkeys(each for each in text.split(" ") if _SCOPE.fullmatch(each)))


def missing_scopes(challenge: str) -> tuple[str, ...]:
    """The scopes that the challenge of a 403 asks for (RFC 6750, 3.1); none when it is about something else."""
    told = parameters(challenge)
    return scopes(told.get("scope")) if told.get("error") == "insufficient_scope" else ()
