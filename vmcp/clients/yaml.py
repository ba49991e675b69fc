"""YAML as Goose keeps it: read with our own reader, and one entry of a block map put in or taken out.

The rule: whole lines are put in and taken out; a map in braces that has something in it is left to its owner.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vmcp.clients.emit import block
from vmcp.config.source import compose
from vmcp.config.tree import Table, flatten
from vmcp.errors import ConfigError

_EMPTY = re.compile(r" *: *(?:\{ *\}|null|~)? *\r?")


def parse(name: str, text: str) -> dict[str, Any]:
    """The data of a text. Raises ``ConfigError`` with the place of what is wrong."""
    root, problems = compose(name, text)
    if root is None or problems:
        raise ConfigError(problems)
    return flatten(root).data


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """The text with ``value`` at ``path``, which is two steps long."""
    top, name = path
    eol = "\r\n" if "\r\n" in text else "\n"
    if not text.strip():
        return "\n".join([f"{top}:", *_entry(name, value, "  ")]) + "\n"
    if not text.endswith("\n"):
        text += eol
    lines = text.split("\n")
    span = _span(lines, text, path)
    if span is not None:
        new = _entry(name, value, " " * (len(lines[span[0]]) - len(lines[span[0]].lstrip(" "))))
        return "\n".join([*lines[: span[0]], *_ended(new, eol), *lines[span[1] :]])
    root, _ = compose("", text)
    if root is None or top not in root.entries:
        return text + "".join(f"{line}{eol}" for line in [f"{top}:", *_entry(name, value, "  ")])
    at, found = root.entries[top]
    if not isinstance(found, Table) or not found.entries:
        if not _EMPTY.fullmatch(lines[at.line - 1], at.column - 1 + len(top)):
            raise ValueError(f"'{top}' is no map with lines of its own")
        new = [f"{top}:", *_entry(name, value, "  ")]
        return "\n".join([*lines[: at.line - 1], *_ended(new, eol), *lines[at.line :]])
    key = next(iter(found.entries.values()))[0]
    if key.line == at.line:
        raise ValueError(f"'{top}' is a map in braces")
    end = _end(lines, at.line, at.column - 1)
    new = _entry(name, value, " " * (key.column - 1))
    return "\n".join([*lines[:end], *_ended(new, eol), *lines[end:]])


def drop(text: str, path: Sequence[str]) -> str:
    """The text without the lines of the entry at ``path``."""
    lines = text.split("\n")
    span = _span(lines, text, path)
    return text if span is None else "\n".join([*lines[: span[0]], *lines[span[1] :]])


def _ended(lines: list[str], eol: str) -> list[str]:
    return [line + eol[:-1] for line in lines]


def _entry(name: str, value: Mapping[str, Any], indent: str) -> list[str]:
    return [indent + line for line in block({name: value})]


def _span(lines: list[str], text: str, path: Sequence[str]) -> tuple[int, int] | None:
    """First line of an entry and the one after its last."""
    root, _ = compose("", text)
    node: Any = root
    at = None
    for step in path:
        if not isinstance(node, Table) or step not in node.entries:
            return None
        at, node = node.entries[step]
    assert at is not None
    return at.line - 1, _end(lines, at.line, at.column - 1)


def _end(lines: list[str], first: int, column: int) -> int:
    """The line after the last one that is indented deeper than ``column``."""
    end = first
    for number in range(first, len(lines)):
        line = lines[number]
        bare = line.strip()
        if bare and not bare.startswith("#"):
            if len(line) - len(line.lstrip(" ")) <= column:
                break
            end = number + 1
    return end
