"""One form for all JSON texts that say the same, so that two definitions can be compared and pinned.

The rule: texts that say something else never have one form. Members are sorted and white space goes; numbers are compared as the
numbers that they are, however large; a member that stands twice stays twice, for readers differ about which of them counts.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from typing import Any, Final

PREFIX: Final = "sha256:"
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,9}))?")
_WORDS = {True: "true", False: "false", None: "null"}


class _Object(list[tuple[str, Any]]):
    """The members of an object as they stood."""


class _Number(str):
    """The text of a number, in its one form."""

    __slots__ = ()


def _number(text: str) -> _Number:
    """An integer without a sign that says nothing, or digits and an exponent."""
    found = _NUMBER.fullmatch(text)
    if found is None:  # an exponent beyond all reason
        return _Number(text)
    sign, whole, part, exponent = found.groups()
    digits = (whole + (part or "")).lstrip("0")
    kept = digits.rstrip("0")
    if not kept:
        return _Number(f"{sign}0")
    power = int(exponent or 0) - len(part or "") + len(digits) - len(kept)
    return _Number(f"{sign}{kept}e{power}" if power else f"{sign}{kept}")


def _no_number(text: str) -> Any:
    raise ValueError(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_number, parse_float=_number, parse_constant=_no_number
)


def members(text: bytes) -> dict[str, str]:
    """Every member of a JSON object in its one form; nothing of a text that is none."""
    try:
        found = _DECODER.decode(text.decode())
        told: dict[str, str] = {}
        for name, value in found if isinstance(found, _Object) else ():
            told[name] = f"{told[name]},{_write(value)}" if name in told else _write(value)
    except (ValueError, RecursionError):
        return {}
    return told


def digest(text: bytes) -> str:
    """Of a JSON object, whatever the order of its members. What cannot be read is known by its bytes."""
    return joined(members(text)) or PREFIX + hashlib.sha256(b"\0" + text).hexdigest()


def joined(parts: dict[str, str]) -> str:
    """The digest of an object with these members; empty if there are none."""
    if not parts:
        return ""
    return hashed(f"{encode_basestring_ascii(name)}:{parts[name]}\n" for name in sorted(parts))


def hashed(texts: Iterable[str]) -> str:
    """The digest of ASCII texts, one after the other."""
    return PREFIX + hashlib.sha256("".join(texts).encode()).hexdigest()


def _write(value: Any) -> str:
    if isinstance(value, _Object):
        inner = (f"{encode_basestring_ascii(name)}:{_write(each)}" for name, each in sorted(value, key=itemgetter(0)))
        return f"{{{','.join(inner)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_write, value))}]"
    if isinstance(value, _Number):
        return value
    return encode_basestring_ascii(value) if isinstance(value, str) else _WORDS[value]
