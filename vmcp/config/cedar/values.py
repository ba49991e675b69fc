"""JSON values of claims and arguments → Cedar values, in the type in which a policy uses them.

The rule: total, and nothing is guessed. A value that is not of that type is a ``Mismatch``, which denies; so whoever changes the
type of an argument gains nothing (Cedar itself skips a ``forbid`` that meets another type). Values that no policy uses are
never looked at, so neither their depth nor their size nor a member called ``__extn`` means anything.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from vmcp.config.cedar import uses
from vmcp.config.cedar.uses import Use

_LARGEST: Final = (1 << 63) - 1
_DECIMALS: Final = 4
MAX_TEXT: Final = 65_536
MAX_ELEMENTS: Final = 1024
_UPWARD = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\?#]|$)")


class Mismatch(ValueError):
    """A value that is not what the policy takes it for."""


def cedar(name: str, value: object, use: Use) -> Any:
    """``value`` in Cedar's JSON. Raises ``Mismatch``."""
    if use.members:
        if not isinstance(value, Mapping):
            raise Mismatch(f"'{name}' is no object")
        return {
            member: cedar(f"{name}.{member}", value[member], below)
            for member, below in use.members.items()
            if member in value
        }
    if use.kind is None:
        return True
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise Mismatch(f"'{name}' is longer than {MAX_TEXT} characters")
    if use.matched and isinstance(value, str):
        beaten(name, value)
    element = uses.element_of(use.kind)
    if element is None:
        return _plain(name, value, use.kind)
    if not isinstance(value, list) or len(value) > MAX_ELEMENTS:
        raise Mismatch(f"'{name}' is no list of at most {MAX_ELEMENTS}")
    return [_plain(name, each, element) for each in value]


def _plain(name: str, value: object, kind: str) -> Any:
    convert = _PLAIN.get(kind)
    found = convert(value) if convert is not None else None
    if found is None:
        raise Mismatch(f"'{name}' is no {kind}")
    return found


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    # Half a character is JSON, and no text for Cedar.
    return value if not any("\ud800" <= char <= "\udfff" for char in value) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and -_LARGEST - 1 <= value <= _LARGEST
    return value if fits and isinstance(value, int) else None


def _decimal(value: object) -> dict[str, Any] | None:
    """A number that four decimals tell exactly; any other has no place in Cedar."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST // 10**_DECIMALS:
        return None
    text = f"{value:.{_DECIMALS}f}"
    return {"__extn": {"fn": "decimal", "arg": text}} if float(text) == value else None


_PLAIN: Final[Mapping[str, Callable[[object], Any]]] = {
    uses.STRING: _text,
    uses.BOOL: _flag,
    uses.LONG: _whole,
    uses.DECIMAL: _decimal,
}


def beaten(name: str, value: str) -> None:
    """Raises ``Mismatch`` for a path with ``.`` or ``..`` in it, plain or encoded: ``"/safe/*"`` would match ``/safe/../etc``."""
    decoded = value
    for _ in range(3):
        if _UPWARD.search(decoded):
            raise Mismatch(f"'{name}' goes up or nowhere ('.' or '..' in a path), and a policy matches it with 'like'")
        decoded = unquote(decoded)
