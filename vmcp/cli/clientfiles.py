"""The files of other programs: found, read, and replaced as a whole with the old one kept beside.

The rule: a file is written only if it is still what was read; its mode and the file that a link points to stay.
"""

import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

NO_INPUT, CANNOT_CREATE, NO_PERMISSION, BAD_DATA = 66, 73, 77, 78
MOST = 1 << 24
BACKUP = ".vmcp-bak"


class Stopped(click.ClickException):
    """An end with its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click asks the error itself


@dataclass(frozen=True, slots=True)
class Held:
    """A file as it was read; ``text`` is None when there is none."""

    path: Path
    text: str | None

    @property
    def label(self) -> str:
        """The path as people write it."""
        return shown(self.path)

    @property
    def backup(self) -> Path:
        """Where what was there before is kept."""
        real = self.path.resolve()
        return real.with_name(real.name + BACKUP)


def shown(path: Path) -> str:
    """A path with ``~`` for the home of the user."""
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except ValueError:
        return str(path)


def first(candidates: list[str]) -> Path:
    """The first file that is there, else the likeliest."""
    paths = [Path(each) for each in candidates]
    return next((path for path in paths if path.is_file()), paths[0])


def read(path: Path) -> Held:
    """A file of somebody else; line ends and what is not UTF-8 stay as they are."""
    try:
        if path.exists() and not path.is_file():
            raise Stopped(f"{shown(path)} is not a file", NO_INPUT)
        with path.open("rb") as file:
            return Held(path, file.read(MOST + 1).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return Held(path, None)
    except PermissionError:
        raise Stopped(f"{shown(path)} may not be read by this user", NO_PERMISSION) from None
    except (OSError, ValueError):
        raise Stopped(f"{shown(path)} cannot be read", NO_INPUT) from None


def given() -> str:
    """All of stdin, bounded."""
    return sys.stdin.buffer.read(MOST + 1).decode("utf-8", "surrogateescape")


def write(held: Held, text: str) -> None:
    """Put ``text`` in the place of a file that is still what was read."""
    real = held.path.resolve()
    if read(held.path).text != held.text:
        raise Stopped(f"{held.label} was changed meanwhile; try again", 1)
    mode = stat.S_IMODE(real.stat().st_mode) if held.text is not None else 0o600
    _stopping(real, lambda: _replace(real, text, mode))


def keep(held: Held) -> None:
    """Copy what was read beside the file."""
    if held.text is not None:
        text, mode = held.text, stat.S_IMODE(held.path.resolve().stat().st_mode)
        _stopping(held.backup, lambda: _replace(held.backup, text, mode))


def create(path: Path, text: str, *, force: bool, mode: int = 0o644) -> None:
    """A new file; one that is there already stays, unless ``force``."""
    if not force and (path.exists() or path.is_symlink()):
        raise Stopped(f"{shown(path)} is there already; --force replaces it", CANNOT_CREATE)
    _stopping(path, lambda: _replace(path, text, mode))


def _replace(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.vmcp-new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(mode)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _stopping(path: Path, work: Callable[[], None]) -> None:
    try:
        work()
    except PermissionError:
        raise Stopped(f"{shown(path)} may not be written by this user", NO_PERMISSION) from None
    except OSError as error:
        raise Stopped(f"{shown(path)} cannot be written: {error.strerror}", CANNOT_CREATE) from None
