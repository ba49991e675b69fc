"""JSON as editors keep it, with comments and trailing commas: read with places, and changed where it has to be.

The rule: a change touches the member that it is about, its comma and the blanks before it, and no other character.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from vmcp.config.rules import Rule
from vmcp.errors import ConfigError, Position, Problem

MAX_DEPTH = 64
_GAP = re.compile(r"(?:[ \t\r\n]++|//[^\n]*+|/\*.*?\*/)*+", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\.)*+"')
_WORD = re.compile(r"-?[0-9][0-9.eE+-]{0,40}|true|false|null")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INDENT = re.compile(r"[ \t]*")


@dataclass(frozen=True, slots=True)
class Value:
    """A value, where it stands, and its members if it is an object: key → (where the key begins, value)."""

    data: Any
    start: int
    end: int
    members: Mapping[str, tuple[int, "Value"]] | None = None


def parse(name: str, text: str) -> Value:
    """The one value of a text. Raises ``ConfigError`` with the place of what is wrong."""
    return _Parser(name, text).whole()


def where(name: str, text: str, offset: int) -> Position:
    """An offset as line and column."""
    return Position(name, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


class _Parser:
    """Reads one text. Used once by ``parse``."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def wrong(self, at: int, what: str, rule: Rule = Rule.BAD_YAML) -> NoReturn:
        raise ConfigError([Problem(where(self.name, self.text, at), "", what, "", "error", str(rule))])

    def skip(self, at: int) -> int:
        found = _GAP.match(self.text, at)
        assert found is not None
        return found.end()

    def whole(self) -> Value:
        found = self.value(self.skip(self.text.startswith("\ufeff")), 1)
        end = self.skip(found.end)
        if end < len(self.text):
            self.wrong(end, "something follows the end of the JSON value")
        return found

    def value(self, at: int, depth: int) -> Value:
        if depth > MAX_DEPTH:
            self.wrong(at, f"nested deeper than {MAX_DEPTH} levels", Rule.TOO_DEEP)
        begin = self.text[at : at + 1]
        if begin == "{":
            return self.object(at, depth)
        if begin == "[":
            return self.array(at, depth)
        if begin == '"':
            return self.string(at)
        return self.word(at)

    def word(self, at: int) -> Value:
        found = _WORD.match(self.text, at)
        if found is None:
            self.wrong(at, "a JSON value is expected here" if at < len(self.text) else "the file ends too early")
        try:
            data = json.loads(found[0])
        except ValueError:
            self.wrong(at, "this is no JSON number")
        if isinstance(data, float) and not math.isfinite(data):
            self.wrong(at, "this number is too large")
        return Value(data, at, found.end())

    def string(self, at: int) -> Value:
        found = _STRING.match(self.text, at)
        if found is None:
            self.wrong(at, "a string in double quotes is expected here, in one line")
        try:
            data = json.loads(found[0])
        except ValueError:
            self.wrong(at, "an escape (\\…) in this string is none of JSON's")
        if _SURROGATE.search(data):
            self.wrong(at, "this string is not Unicode text")
        return Value(data, at, found.end())

    def object(self, start: int, depth: int) -> Value:
        members: dict[str, tuple[int, Value]] = {}
        at = self.skip(start + 1)
        while not self.text.startswith("}", at):
            key = self.string(at)
            if key.data in members:
                self.wrong(at, "the same key a second time", Rule.DUPLICATE_KEY)
            colon = self.skip(key.end)
            if not self.text.startswith(":", colon):
                self.wrong(colon, "':' is expected after a key")
            value = self.value(self.skip(colon + 1), depth + 1)
            members[key.data] = (key.start, value)
            at = self.next(value.end, "}")
        return Value({key: value.data for key, (_, value) in members.items()}, start, at + 1, members)

    def array(self, start: int, depth: int) -> Value:
        items = []
        at = self.skip(start + 1)
        while not self.text.startswith("]", at):
            value = self.value(at, depth + 1)
            items.append(value.data)
            at = self.next(value.end, "]")
        return Value(items, start, at + 1)

    def next(self, end: int, close: str) -> int:
        """Where the next element begins, or the end of all: a comma may stand before that."""
        at = self.skip(end)
        if self.text.startswith(",", at):
            return self.skip(at + 1)
        if not self.text.startswith(close, at):
            self.wrong(at, f"',' or '{close}' is expected here")
        return at


def put(text: str, path: Sequence[str], value: object) -> str:
    """The text with ``value`` at ``path``; what is missing on the way is made. Raises ``ValueError`` where it cannot."""
    if not text.strip("\ufeff \t\r\n"):
        return json.dumps(_nested(path, value), indent=2, ensure_ascii=False) + "\n"
    place = parse("", text)
    for depth, step in enumerate(path):
        if place.members is None:
            raise ValueError("what should be an object is none")
        found = place.members.get(step)
        if found is None:
            return _insert(text, place, step, _nested(path[depth + 1 :], value))
        start, place = found
    return text[: place.start] + _shown(text, value, _indent_at(text, start)) + text[place.end :]


def drop(text: str, path: Sequence[str]) -> str:
    """The text without the member at ``path``, which is there, its comma and the blanks before it."""
    place = parse("", text)
    before, start = place, place.start
    for step in path:
        before = place
        assert place.members is not None
        start, place = place.members[step]
    parser = _Parser("", text)
    blank = len(text[:start].rstrip(" \t\r\n"))
    comma = parser.skip(place.end)
    if text.startswith(",", comma):
        return text[:blank] + text[place.end : comma] + text[comma + 1 :]
    ends = [value.end for _, value in (before.members or {}).values() if value.end < start]
    if not ends:
        return text[:blank] + text[place.end :]
    comma = parser.skip(ends[-1])
    return text[:comma] + text[comma + 1 : blank] + text[place.end :]


def _nested(path: Sequence[str], value: object) -> object:
    for step in reversed(path):
        value = {step: value}
    return value


def _insert(text: str, place: Value, key: str, value: object) -> str:
    """A new last member of an object."""
    inner = text[place.start + 1 : place.end - 1]
    end = place.start + 1 + len(inner.rstrip(" \t\r\n"))
    line = "\n" not in text
    members = list((place.members or {}).values())
    parent = _indent_at(text, place.start)
    first = members[0][0] if members else -1
    own = bool(members) and not text[:first].rstrip(" \t").endswith(("\n", "{"))
    indent = _indent_at(text, first) if members and not own else parent + _unit(text)
    flat = line or (bool(members) and "\n" not in inner)
    body = f"{json.dumps(key, ensure_ascii=False)}: {_shown(text, value, indent, flat=flat)}"
    lead = (" " if members else "") if flat else _eol(text) + indent
    if not members:
        tail = "" if flat or "\n" in text[end : place.end] else _eol(text) + parent
        return text[:end] + lead + body + tail + text[end:]
    last = members[-1][1].end
    after = _Parser("", text).skip(last)
    if text.startswith(",", after):
        return text[:end] + lead + body + "," + text[end:]
    return text[:last] + "," + text[last:end] + lead + body + text[end:]


def _shown(text: str, value: object, indent: str, *, flat: bool = False) -> str:
    if flat or "\n" not in text:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return (_eol(text) + indent).join(lines)


def _indent_at(text: str, offset: int) -> str:
    found = _INDENT.match(text, text.rfind("\n", 0, offset) + 1)
    assert found is not None
    return found[0]


def _unit(text: str) -> str:
    """One step of indentation, as the first indented line has it."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found and len(found[1]) <= 8 else "  "


def _eol(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
