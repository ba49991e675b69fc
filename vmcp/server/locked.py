"""The lock file of a configuration, read when the configuration is.

The rule: whoever wants definitions locked does not start without the file that says how they were: one that is missing or is
no lock file is a problem of the configuration, told with its place.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from vmcp.config.load import Loaded, loaded
from vmcp.config.lock import MOST, Pins, parse
from vmcp.config.rules import Rule
from vmcp.errors import ConfigError

_AT: Final = ("lock", "file")


def load(files: Sequence[tuple[str, str]], environ: Mapping[str, str]) -> Loaded:
    """``loaded``, with what the lock file approves. Raises ``ConfigError``."""
    found = loaded(files, environ)
    lock = found.config.lock
    if lock.policy == "off":
        return found
    try:
        pins = read(lock.file)
    except FileNotFoundError:
        raise _wrong(found, "there is no such file", "write it with: vmcp lock") from None
    except OSError as error:
        raise _wrong(found, f"it cannot be read: {error.strerror}", "change its mode or its owner") from None
    except ValueError as error:
        raise _wrong(found, f"it is no lock file: {error}", "take it from version control, or write it anew") from None
    return replace(found, config=replace(found.config, lock=replace(lock, pins=pins)))


def read(path: str) -> Pins:
    """What a lock file approves. Raises ``OSError``, and ``ValueError`` for a file that is none."""
    with Path(path).open("rb") as file:
        text = file.read(MOST + 1)
    if len(text) > MOST:
        raise ValueError(f"it is larger than {MOST} bytes")
    return parse(text)


def write(path: str, text: str) -> None:
    """Put a lock file in its place, whole or not at all. Raises ``OSError``."""
    target = Path(path)
    made = target.with_name(f".{target.name}.{os.getpid()}")
    made.unlink(missing_ok=True)
    try:
        with made.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        made.replace(target)
    except OSError:
        made.unlink(missing_ok=True)
        raise


def _wrong(found: Loaded, what: str, hint: str) -> ConfigError:
    problem = found.document.problem(Rule.LOCK_FILE, _AT, f"'{found.config.lock.file}': {what}", hint)
    return ConfigError((*found.warnings, problem))
