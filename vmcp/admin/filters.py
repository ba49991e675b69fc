"""What of a list is wanted, in the words of a small language: ``tool:gh_* outcome:error ms:>500 -backend:files slow``.

The rule: every word narrows; what is no word of the language is refused with the words that there are, never ignored.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from vmcp.config.globs import globs

LONGEST: Final = 300
FINE: Final = frozenset({"ok", "success", "cancelled", ""})
Row = Mapping[str, Any]
Fits = Callable[[Row], bool]
Words = Mapping[str, str]
"""The field of a row that each word is about; ``#`` before it says that it is a number."""
_WORD: Final = re.compile(r"(-?)(?:([a-z]+):)?(\S+)")
_NUMBER: Final = re.compile(r"(>=|<=|>|<|=)?([0-9]{1,12}(?:\.[0-9]{1,6})?)")
_COMPARED: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": lambda one, other: one > other,
    "<": lambda one, other: one < other,
    ">=": lambda one, other: one >= other,
    "<=": lambda one, other: one <= other,
    "=": lambda one, other: one == other,
}


class Unreadable(ValueError):
    """It is no filter; the text says why."""


def parsed(text: str, words: Words) -> Fits:
    """Whether a row is wanted. Raises ``Unreadable``."""
    if len(text) > LONGEST:
        raise Unreadable(f"a filter has at most {LONGEST} characters")
    tests = [_test(match, words) for match in _WORD.finditer(text)]
    return lambda row: all(test(row) for test in tests)


def _test(match: re.Match[str], words: Words) -> Fits:
    no, word, wanted = match.groups()
    test = _plain(wanted, words) if word is None else _about(word, wanted, words)
    return (lambda row: not test(row)) if no else test


def _about(word: str, wanted: str, words: Words) -> Fits:
    field = words.get(word)
    if field is None:
        raise Unreadable(f"'{word}:' is no word of a filter; there are {', '.join(f'{each}:' for each in words)}")
    if field.startswith("#"):
        return _number(word, field[1:], wanted)
    if word == "outcome" and wanted == "error":
        return lambda row: row[field] not in FINE
    pattern = globs([wanted.lower()])
    return lambda row: pattern.match(str(row[field]).lower())


def _number(word: str, field: str, wanted: str) -> Fits:
    match = _NUMBER.fullmatch(wanted)
    if match is None:
        raise Unreadable(f"'{word}:' wants a number, as in {word}:>500")
    compare, limit = _COMPARED[match[1] or "="], float(match[2])
    return lambda row: compare(row[field] or 0, limit)


def _plain(wanted: str, words: Words) -> Fits:
    part, fields = wanted.lower(), {field for field in words.values() if not field.startswith("#")}
    return lambda row: any(part in str(row[field]).lower() for field in fields)
