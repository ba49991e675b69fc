"""TOML as Codex keeps it: read, and one table put in or taken out.

The rule: tables are cut and appended as whole lines; what cannot be done that way is found out by reading the result.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from vmcp.clients import jsonc
from vmcp.config.rules import Rule
from vmcp.errors import ConfigError, Position, Problem

_HEADER = re.compile(r"[ \t]*\[[^\[\]]{1,300}\][ \t]*(?:#.*)?\r?")
_AT = re.compile(r" \(at line (\d+), column (\d+)\)$")


def parse(name: str, text: str) -> dict[str, Any]:
    """The data of a text. Raises ``ConfigError`` with the place of what is wrong."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT.search(str(error))
        at = Position(name, int(found[1]), int(found[2])) if found else jsonc.where(name, text, len(text))
    except (RecursionError, ValueError):
        at = Position(name, 1, 1)
    raise ConfigError([Problem(at, "", "this is not TOML", "", "error", str(Rule.BAD_YAML))])


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """The text with the table ``value`` at ``path``, in the place of the one there is or at the end."""
    eol = "\r\n" if "\r\n" in text else "\n"
    section = eol.join([f"[{'.'.join(map(_key, path))}]", *(f"{_key(k)} = {_shown(v)}" for k, v in value.items()), ""])
    spans = _spans(text, path)
    if spans:
        start, end = spans[0]
        for a, b in reversed(spans[1:]):
            text = text[:a] + text[b:]
        return text[:start] + section + text[end:]
    if text and not text.endswith("\n"):
        text += eol
    return text + (eol if text.strip() else "") + section


def drop(text: str, path: Sequence[str]) -> str:
    """The text without the table at ``path`` and those in it, and without one empty line before each."""
    for start, end in reversed(_spans(text, path)):
        before = text[:start]
        blank = re.search(r"(?:^|\n)(\r?\n)\Z", before)
        text = (before[: blank.start(1)] if blank else before) + text[end:]
    return text


def _spans(text: str, path: Sequence[str]) -> list[tuple[int, int]]:
    """From header to last line of each table at or under ``path``; what is remarked before the next header is that one's."""
    spans, begun, end, at = [], -1, 0, 0
    for line in text.splitlines(keepends=True):
        if _HEADER.fullmatch(line.rstrip("\n")):
            if begun >= 0:
                spans.append((begun, end))
            begun = at if _names(line)[: len(path)] == list(path) else -1
        elif line.lstrip().startswith("[["):
            if begun >= 0:
                spans.append((begun, end))
            begun = -1
        at += len(line)
        if line.strip() and not line.lstrip().startswith("#"):
            end = at
    return [*spans, (begun, end)] if begun >= 0 else spans


def _names(header: str) -> list[str]:
    try:
        found: Any = tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return []
    names = []
    while isinstance(found, dict) and found:
        ((name, found),) = found.items()
        names.append(name)
    return names


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_shown(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
