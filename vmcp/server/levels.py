"""How much is logged, while the process runs.

The rule: it is a matter of the whole process, and what the configuration says counts again when that is read anew.
"""

import logging
from typing import Final

log = logging.getLogger("vmcp.log")

LEVELS: Final = ("debug", "info", "warning", "error")


def current() -> str:
    """The level that counts, or the next that says more."""
    now = logging.getLogger().level
    return next((name for name in reversed(LEVELS) if _number(name) <= now), LEVELS[0])


def put(level: str) -> None:
    """Log from ``level`` on. Raises ``ValueError``."""
    if level not in LEVELS:
        raise ValueError(f"the level must be one of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(_number(level))
    log.log(max(_number(level), logging.WARNING), "log level changed", extra={"to": level})


def louder() -> None:
    """Say one level more."""
    put(LEVELS[max(0, LEVELS.index(current()) - 1)])


def quieter() -> None:
    """Say one level less; errors are always said."""
    put(LEVELS[min(len(LEVELS) - 1, LEVELS.index(current()) + 1)])


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]
