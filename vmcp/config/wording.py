"""The words for what the schema finds.

The rule: a message says what is wrong and what may stand there instead; it names a value only where that is no secret.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path, printable
from vmcp.errors import Problem

FOREIGN: Mapping[str, tuple[str, str]] = {
    "args": ("command", "write program and arguments in one list: command: [npx, -y, some-server]"),
    "mcpServers": ("groups", "vmcp's own form is groups: {<name>: {backends: {…}}}"),
    "servers": ("groups", "vmcp's own form is groups: {<name>: {backends: {…}}}"),
    "timeout": ("timeouts", "limits are in timeouts: {connect, firstByte, total, idleStream}"),
    "disabled": ("enabled", "write enabled: false"),
}
"""Keys of other programs: the key that has to be known beside them, and what to write."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A keyword of the schema that a value fails: ``limit`` is what the keyword asks, ``part`` the schema it stands in.

    ``naming`` says that it is the name of a key which fails, not its value.
    """

    path: Path
    keyword: str
    limit: Any
    value: Any
    part: Mapping[str, Any]
    naming: bool = False

    def wants(self, otherwise: str = "allowed here") -> str:
        """What may stand there, in words."""
        return str(self.part.get("x-vmcp-wants", otherwise))


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the most similar known word, or nothing."""
    return did_you_mean(nearest_of(word, known))


def nearest_of(word: str, known: Iterable[str]) -> str:
    """The most similar known word, or nothing."""
    by = {each.lower(): each for each in islice(known, 200)}
    close = difflib.get_close_matches(word[:100].lower(), list(by), 1, 0.6)
    return by[close[0]] if close else ""


def did_you_mean(word: str) -> str:
    """The hint for a word; nothing for none."""
    return f"did you mean '{word}'?" if word else ""


def told(found: Finding, document: Document) -> Problem | None:
    """The problem for a finding; None where it only follows from something that is told already."""
    path = found.path
    if found.naming:
        name = "the key" if path in document.veiled else f"'{printable(found.value)}'"
        what = f"{name} is not {found.wants()}"
        return document.problem(Rule.BAD_NAME, path, what, key=True)
    if found.keyword == "required":
        return _missing(path, document)
    if path in document.broken:
        return None
    if found.keyword == "additionalProperties":
        return _unknown(found, document)
    if found.keyword == "type":
        return document.problem(Rule.BAD_TYPE, path, *_wrong_type(found))
    return document.problem(Rule.BAD_VALUE, path, *_wrong_value(found, document))


def _missing(path: Path, document: Document) -> Problem | None:
    parent = path[:-1]
    if parent in document.broken or parent in document.partial:
        return None
    return document.problem(Rule.MISSING_KEY, parent, f"missing key '{path[-1]}'", key=bool(parent))


def _unknown(found: Finding, document: Document) -> Problem:
    *parent, key = found.path
    known = tuple(found.part.get("properties", {}))
    beside, foreign = FOREIGN.get(str(key), ("", ""))
    meant = beside if beside in known else nearest_of(str(key), known)
    if meant and meant not in found.value:
        document.broken.add((*parent, meant))
    hint = (foreign if beside in known else did_you_mean(meant)) or _choice(known)
    return document.problem(Rule.UNKNOWN_KEY, found.path, "unknown key", hint, key=True)


def _choice(known: Sequence[str]) -> str:
    return f"known here: {', '.join(known)}" if 0 < len(known) <= 12 else "'vmcp schema' has the keys that are known"


_TYPES: Mapping[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}
_KINDS: Mapping[type, str] = {str: "text", int: "a number", float: "a number", dict: "a map", list: "a list"}
_YES_NO = frozenset({"yes", "no", "on", "off", "y", "n", "true", "false"})


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return _KINDS.get(type(value), "nothing")


def _wrong_type(found: Finding) -> tuple[str, str]:
    wanted: list[str] = [found.limit] if isinstance(found.limit, str) else list(found.limit)
    words = found.wants(" or ".join(_TYPES[kind] for kind in wanted))
    kind = "a fraction" if "integer" in wanted and isinstance(found.value, float) else _kind(found.value)
    return f"must be {words}, not {kind}", _type_hint(wanted, found)


def _type_hint(wanted: Sequence[str], found: Finding) -> str:
    value: object = found.value
    if "duration" in found.wants():
        return "give it a unit, as in 30s" if isinstance(value, int | float) else ""
    if "string" in wanted and "integer" not in wanted and isinstance(value, bool | int | float):
        return "put quotes around it"
    if "boolean" in wanted and isinstance(value, str) and value.lower() in _YES_NO:
        return "write true or false"
    if "integer" in wanted and isinstance(value, str) and value.isdecimal():
        return "write it without quotes"
    if "array" in wanted and isinstance(value, str):
        return "write a list: [first, second]"
    if "object" in wanted and isinstance(value, list):
        return "write a map of names, without '-'"
    return ""


def _wrong_value(found: Finding, document: Document) -> tuple[str, str]:
    shown = document.show(found.path, found.value)
    if found.keyword == "enum":
        allowed = [str(each) for each in found.limit if each != ""]
        guess = isinstance(found.value, str) and found.path not in document.hidden
        return f"{shown} is not one of {', '.join(allowed)}", nearest(found.value, allowed) if guess else ""
    if found.keyword == "pattern":
        return f"{shown} is not {found.wants()}", ""
    return _BOUNDS[found.keyword][found.limit == 1].format(found.limit), ""


_BOUNDS: Mapping[str, tuple[str, str]] = {
    "minimum": ("must be at least {}", "must be at least 1"),
    "maximum": ("must be at most {}", "must be at most 1"),
    "minLength": ("must have at least {} characters", "must not be empty"),
    "maxLength": ("must have at most {} characters", "must be one character"),
    "minItems": ("must have at least {} entries", "must not be empty"),
    "maxItems": ("must have at most {} entries", "must have one entry only"),
    "minProperties": ("must have at least {} keys", "must not be empty"),
    "maxProperties": ("must have at most {} keys", "must have one key only"),
    "uniqueItems": ("has an entry twice", "has an entry twice"),
}
