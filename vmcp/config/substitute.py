"""``${VAR}``, ``${VAR:-default}``, ``${VAR:?message}`` in string values; ``$${`` is a literal ``${``.

The rule: substitution happens in one scalar at a time, after parsing, once: a value can change no structure and is never
scanned again. As in a shell, ``:-`` and ``:?`` also step in for an empty variable.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vmcp.config.rules import Rule
from vmcp.config.source import typed
from vmcp.config.tree import Hole, Listing, Node, Path, Scalar, Table, printable
from vmcp.errors import Position

_PART = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\})?")


@dataclass(frozen=True, slots=True)
class Missing:
    """What could not be put in at a place."""

    rule: Rule
    at: Position
    path: Path
    message: str
    hint: str


def substitute(root: Node, environ: Mapping[str, str]) -> tuple[Node, tuple[Missing, ...]]:
    """The tree with every variable put in, and every variable that is missing."""
    work = _Substitution(environ)
    return work.node(root, ()), tuple(work.problems)


class _Substitution:
    """One pass over one tree. Mutable, used once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[Missing] = []

    def node(self, node: Node, path: Path) -> Node:
        if isinstance(node, Scalar):
            return self.scalar(node, path) if "${" in node.text else node
        if isinstance(node, Table):
            entries = {key: (at, self.node(child, (*path, key))) for key, (at, child) in node.entries.items()}
            return Table(entries, node.at, node.partial)
        if isinstance(node, Listing):
            return Listing(tuple(self.node(item, (*path, number)) for number, item in enumerate(node.items)), node.at)
        return node

    def scalar(self, node: Scalar, path: Path) -> Node:
        before = len(self.problems)
        used = False
        text = ""
        end = 0
        for match in _PART.finditer(node.text):
            part, from_environ = self.part(match, node.at, path)
            text += node.text[end : match.start()] + part
            used = used or from_environ
            end = match.end()
        text += node.text[end:]
        if len(self.problems) > before:
            return Hole(node.at)
        value = typed(text) if node.plain else text
        return Scalar(value, text, node.plain, node.at, node.end, hidden=used, substituted=True)

    def part(self, match: re.Match[str], at: Position, path: Path) -> tuple[str, bool]:
        """The text for one ``${…}``, and whether it came from the environment."""
        if match[0] == "$${":
            return "${", False
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if name is None:
            self.tell(Rule.ENV_SYNTAX, at, path, "'${' does not begin a variable", _SYNTAX)
            return "", False
        value = self.environ.get(name)
        if value is not None and not _is_text(value):
            self.tell(Rule.ENV_SYNTAX, at, path, f"environment variable {name} is not UTF-8 text")
            return "", False
        if value or (value is not None and kind is None):
            return value, True
        if kind == "-":
            return rest, False
        self.missing(name, at, path, rest if kind == "?" else "")
        return "", False

    def missing(self, name: str, at: Position, path: Path, message: str) -> None:
        empty = "empty" if name in self.environ else "not set"
        what = f"environment variable {name} is {empty}" + (f": {printable(message, 120)}" if message else "")
        self.tell(Rule.ENV_MISSING, at, path, what, f"set {name}, or write ${{{name}:-default}}")

    def tell(self, rule: Rule, at: Position, path: Path, message: str, hint: str = "") -> None:
        self.problems.append(Missing(rule, at, path, message, hint))


_SYNTAX = "write ${NAME}, ${NAME:-default} or ${NAME:?message}; $${ stands for a literal ${"


def _is_text(value: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" or char == "\0" for char in value)
