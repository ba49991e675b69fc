"""Logs: JSON lines for machines, a screen for people; the same events in both.

The rule: everything goes to stderr, one event is one line, and control characters of others are never printed as they are.
"""

import logging
import sys
import time

import msgspec

from vmcp.admin.tail import Left, Tail
from vmcp.cli.startup import Screen, coloured, extra, worth
from vmcp.state.crew import Common


def configure(level: str, form: str) -> None:
    """Send all logs to stderr in ``form``: json, text, or auto (text on a terminal)."""
    handler = logging.StreamHandler(sys.stderr)
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(Screen(colour=coloured()) if text else JsonLines())
    if text:
        handler.addFilter(worth)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def of_worker(index: int) -> None:
    """Say in each line which worker it is from; what is drawn for people is drawn by the first alone."""

    def told(record: logging.LogRecord) -> bool:
        record.worker = index
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(told)
        if isinstance(handler.formatter, Screen):
            handler.setFormatter(screen := Screen(colour=coloured()))
            if index:
                handler.addFilter(screen.plain)


def left(common: Common) -> None:
    """What the supervisor logs from now on is left for the workers, who are asked for the last lines."""
    if common.spoken is not None:
        logging.getLogger("vmcp.supervisor").addHandler(Left(common.spoken, JsonLines()))


def kept() -> Tail:
    """What keeps the last lines from now on, as JSON."""
    tail = Tail(JsonLines())
    logging.getLogger().addHandler(tail)
    return tail


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its time, level, logger, message and facts."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "ts": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **extra(record),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told, enc_hook=str).decode()
