"""Lines of a configuration as an error message may show them.

The rule: a character is shown only if it is known to be harmless: a key, punctuation, or a value at a place that the schema
knows and that holds no secret. All else is a ``*``, so that columns stay; a file that cannot be read shows keys alone.
"""

import re
from collections.abc import Iterator

from vmcp.config.schema import Shape, canonical, open_scalars, schema, shape, veiled_keys
from vmcp.config.source import compose
from vmcp.config.tree import Listing, Node, Path, Table
from vmcp.errors import Position

_LEADING_KEY = re.compile(r"\s*(?:- +)*(?:[A-Za-z_][\w.-]{0,40}|\"[\w./-]{1,40}\"|'[\w./-]{1,40}') *:(?=\s|$)")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*")
_PUNCTUATION = frozenset("{}[],:-\"'|>#&* \t")
_TOKENS = re.compile(
    r"(?i)(?<=://)[^/@\s]+(?=@)|(?<=[?&])[^=&\s]+=[^&\s\"']+|\b(?:gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-|akia|aiza|eyj)[\w.-]{6,}"
    r"|(?<=bearer )[^\s\"',]+|(?<=basic )[^\s\"',]+"
)


LONGEST = 2000


class Veil:
    """The lines of one file. Reads the file when the first line is asked for."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
        self._shown: dict[int, list[tuple[int, int]]] | None = None
        self._veiled: set[int] = set()

    def line(self, number: int) -> str:
        """A line, what may not be seen of it starred out; empty where the file has no such line, or an endless one."""
        if not 1 <= number <= len(self.lines) or len(self.lines[number - 1]) > LONGEST:
            return ""
        if self._shown is None:
            self._shown = self._harmless()
        line = self.lines[number - 1]
        seen = [char in _PUNCTUATION or char.isspace() for char in line]
        key = None if number in self._veiled else _LEADING_KEY.match(line)
        spans = self._shown.get(number, []) + ([(0, key.end())] if key else [])
        spans += [found.span() for found in _VARIABLE.finditer(line)]
        for start, end in spans:
            seen[start:end] = [True] * (min(end, len(line)) - start)
        veiled = "".join(_plain(char) if shown else "*" for char, shown in zip(line, seen, strict=True))
        return _TOKENS.sub(lambda found: "*" * len(found[0]), veiled)

    def _harmless(self) -> dict[int, list[tuple[int, int]]]:
        root, _ = compose(self.name, self.text)
        found: dict[int, list[tuple[int, int]]] = {}
        if root is None:
            return found
        tree, _ = canonical(root, shape(schema()))
        veiled = set(veiled_keys(tree, shape(schema())))
        for path, at in _keys(tree, shape(schema())):
            if path in veiled:
                self._veiled.add(at.line)
            else:
                found.setdefault(at.line, []).append((at.column - 1, at.column - 1 + at.length))
        for scalar in open_scalars(tree, shape(schema())):
            self._span(found, scalar.at, scalar.end)
        return found

    def _span(self, found: dict[int, list[tuple[int, int]]], start: Position, end: tuple[int, int]) -> None:
        for number in range(start.line, end[0] + 1):
            first = start.column - 1 if number == start.line else 0
            last = end[1] - 1 if number == end[0] else 1 << 20
            found.setdefault(number, []).append((first, last))


def starred(text: str) -> str:
    """A text without what looks like a secret in it."""
    return _TOKENS.sub("***", text)


def _plain(char: str) -> str:
    return char if char.isprintable() or char == "\t" else "?"


def _keys(node: Node, place: Shape | None, path: Path = ()) -> Iterator[tuple[Path, Position]]:
    """The keys of every map that the schema knows."""
    if isinstance(node, Table) and place is not None:
        for key, (at, child) in node.entries.items():
            yield (*path, key), at
            yield from _keys(child, place.member(key), (*path, key))
    elif isinstance(node, Listing) and place is not None:
        for number, item in enumerate(node.items):
            yield from _keys(item, place.element(), (*path, number))
