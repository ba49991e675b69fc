"""Reading configuration files and printing what is wrong with them, for every verb that takes ``--config``.

The rule: a file is read once, here, and never more of it than the loader accepts.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from vmcp.config.load import loaded
from vmcp.config.model import Config
from vmcp.config.report import Form, plain, render
from vmcp.config.source import MAX_BYTES
from vmcp.errors import ConfigError, Problem
from vmcp.server import locked

NO_INPUT, NO_PERMISSION, BAD_CONFIG = 66, 77, 78


class Unreadable(click.ClickException):
    """A file that is not there or cannot be read."""

    exit_code = NO_INPUT


class Forbidden(Unreadable):
    """A file that this user may not read."""

    exit_code = NO_PERMISSION


def read(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Name and text of every file; bytes that are not UTF-8 stay recognisable. Raises ``Unreadable``."""
    return [(path, _text(path)) for path in paths]


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        raise Unreadable(f"no such file: {path}. Name one with --config, or make one with: vmcp init") from None
    except IsADirectoryError:
        raise Unreadable(f"{path} is a directory. Name a file in it with --config.") from None
    except PermissionError:
        raise Forbidden(f"{path} may not be read by this user. Change its mode or owner.") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not a file name"
        raise Unreadable(f"{path} cannot be read: {why}.") from None


def configuration(read: Sequence[tuple[str, str]], *, pinned: bool = True) -> Config:
    """What the files say, warnings printed; what cannot be used is printed whole and ends the process with 78.

    ``pinned`` false: without the lock file that it names.
    """
    try:
        found = (locked.load if pinned else loaded)(read, os.environ)
    except ConfigError as error:
        complain(error.problems, read)
        sys.exit(BAD_CONFIG)
    complain(found.warnings, read)
    return found.config


def complain(problems: Sequence[Problem], files: Sequence[tuple[str, str]], form: Form = "text") -> None:
    """Print problems: text for people to stderr, in colour on a terminal; everything else to stdout."""
    people = form == "text"
    paint = _painted if people and _coloured() else plain
    click.echo(render(problems, files, form, paint), err=people, nl=False, color=True)


def _coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _painted(kind: str, text: str) -> str:
    colour = {"error": "red", "warning": "yellow", "caret": "green", "hint": "cyan"}[kind]
    return click.style(text, fg=colour, bold=kind != "hint")
