"""Plain data as YAML in lines, as people write it.

The rule: whatever a text has in it, it comes back as the same text; nothing in a value can begin a comment or a key.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmcp.config.source import typed

WIDTH = 100
_PLAIN = re.compile(r"(?:-{0,2}[A-Za-z]|[0-9_./$])[A-Za-z0-9_./@~$:+=-]*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def block(data: Mapping[str, Any]) -> Iterator[str]:
    """A map as lines without line ends; short leaves stay in one line."""
    for key, value in data.items():
        head = f"{scalar(key)}:"
        if isinstance(value, Mapping) and value and not _short(head, value):
            yield head
            yield from (f"  {line}" for line in block(value))
        elif _listed(value) and not _short(head, value):
            yield head
            yield from _items(value)
        else:
            yield f"{head} {flow(value)}"


def _items(values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping) and value and not _short("", value):
            first, *rest = block(value)
            yield f"  - {first}"
            yield from (f"    {line}" for line in rest)
        else:
            yield f"  - {flow(value)}"


def _listed(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value)


def _short(head: str, value: object) -> bool:
    """Whether a value stands in one line: a list of scalars, or a map of them with one member."""
    inner = list(value.values()) if isinstance(value, Mapping) else value
    assert isinstance(inner, list | tuple)
    simple = not any(isinstance(each, Mapping | list | tuple) for each in inner)
    few = not isinstance(value, Mapping) or len(inner) == 1
    return simple and few and len(head) + len(flow(value)) < WIDTH


def flow(value: object) -> str:
    """A value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(k))}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        return scalar(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def scalar(text: str) -> str:
    """A text as a plain scalar where that is safe, else in double quotes."""
    if _PLAIN.fullmatch(text) and not text.endswith(":") and typed(text) == text and text not in _WORDS:
        return text
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _escaped(char)) for char in text) + '"'


_WORDS = frozenset(["yes", "no", "on", "off", "Yes", "No", "On", "Off", "YES", "NO", "ON", "OFF", "y", "n", "Y", "N"])
"""Texts that other readers of YAML take for something else."""


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
