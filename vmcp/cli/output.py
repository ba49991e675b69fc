"""How what was found is printed: a table for people, JSON and YAML for programs, names for other commands.

The rule: the forms for programs hold all that is known, and stay as they are; whatever others have said is printed without
control characters.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from vmcp.cli.instance import coloured

F = TypeVar("F", bound=Callable[..., Any])
Rows = Sequence[Mapping[str, Any]]
GOOD = {"healthy", "up", "ready", "listed", "ok", "closed"}
BAD = {"unhealthy", "away", "silent", "down", "quarantined", "open", "failed", "not ready"}
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"(?!(?:yes|no|on|off|y|n|true|false|null)$)[A-Za-z_][A-Za-z0-9_.-]*", re.IGNORECASE)
DOUBTFUL = {"degraded", "starting", "unauthenticated", "half-open", "stopping", "unknown", "hidden"}


def option(command: F) -> F:
    """The option that says in which form."""
    forms = click.Choice(["table", "json", "yaml", "name"])
    return click.option("--output", "-o", "form", type=forms, default="table", show_default=True, help="Form.")(command)


def rows(found: Rows, columns: Iterable[str], form: str, name: str = "name") -> None:
    """Print what is alike; ``columns`` are those of the table."""
    if form == "name":
        for each in found:
            click.echo(plain(each[name]))
    elif form == "table":
        _table(found, list(columns))
    else:
        data(list(found), form)


def data(found: Any, form: str) -> None:
    """Print for a program."""
    if form == "yaml":
        click.echo("\n".join(block_style(found)))
    else:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))


def facts(found: Mapping[str, Any]) -> None:
    """Print a few facts below each other."""
    width = max(map(len, found), default=0)
    for key, value in found.items():
        click.echo(f"{key:{width}}  {painted(value, width=0)}")


def plain(value: Any) -> str:
    """One line, safe for a terminal."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain(each) for each in value)
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else " " for char in text)


def painted(value: Any, width: int) -> str:
    """The same in the colour of what it says, padded."""
    text = plain(value)
    colour = "green" if text in GOOD else "red" if text in BAD else "yellow" if text in DOUBTFUL else None
    padded = f"{text:{width}}"
    return click.style(padded, fg=colour) if colour is not None and coloured() else padded


def _table(found: Rows, columns: list[str]) -> None:
    shown = [column for column in columns if any(each.get(column) not in (None, "", []) for each in found)]
    cells = [[plain(each.get(column)) for column in shown] for each in found]
    titles = [_CAMEL.sub(" ", title).upper() for title in shown]
    widths = [max(len(title), *(len(row[at]) for row in cells)) for at, title in enumerate(titles)] if cells else []
    if not cells:
        click.echo("none", err=True)
        return
    click.echo("  ".join(f"{title:{width}}" for title, width in zip(titles, widths, strict=True)).rstrip())
    for row in cells:
        click.echo("  ".join(painted(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())


def block_style(value: Any) -> list[str]:
    """The lines of a YAML text."""
    return _yaml(value, 0)


def flow_style(value: Any) -> str:
    """The same in one line: JSON, but for characters that may not stand in a YAML text."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)


def _yaml(value: Any, depth: int) -> list[str]:
    """Lines of block style, each single value as JSON, which is YAML too."""
    pad = "  " * depth
    if isinstance(value, Mapping) and value:
        found = []
        for key, below in value.items():
            first, *rest = _yaml(below, depth + 1)
            name = key if _WORD.fullmatch(key) else flow_style(key)
            nested = isinstance(below, Mapping | list) and bool(below)
            found += [f"{pad}{name}:", first, *rest] if nested else [f"{pad}{name}: {first.strip()}"]
        return found
    if isinstance(value, list) and value:
        found = []
        for below in value:
            first, *rest = _yaml(below, depth + 1)
            found += [f"{pad}- {first.strip()}", *rest]
        return found
    return [pad + flow_style(value)]
