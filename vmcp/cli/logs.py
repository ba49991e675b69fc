"""Logs: JSON lines for machines, a screen for people; the same events in both.

The rule: everything goes to stderr, one event is one line, and control characters of others are never printed as they are.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from vmcp.admin.tail import Tail

Draw = Callable[[dict[str, Any]], str]
_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


def configure(level: str, form: str) -> None:
    """Send all logs to stderr in ``form``: json, text, or auto (text on a terminal)."""
    handler = logging.StreamHandler(sys.stderr)
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(Screen() if text else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def kept() -> Tail:
    """What keeps the last lines from now on, as JSON."""
    tail = Tail(JsonLines())
    logging.getLogger().addHandler(tail)
    return tail


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _OWN}


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
            **_extra(record),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told, enc_hook=str).decode()


class Screen(logging.Formatter):
    """Lines for a person who has just started vmcp in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """A known event as its line, any other as time, message and facts."""
        draw: Draw | None = _EVENTS.get(record.getMessage())
        line = draw(_extra(record)) if draw is not None else _plain(record)
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _plain(record: logging.LogRecord) -> str:
    facts = " ".join(f"{key}={_safe(value)}" for key, value in _extra(record).items() if value is not None)
    return f"{time.strftime('%H:%M:%S')} {record.levelname.lower():7} {_safe(record.getMessage())} {facts}".rstrip()


def _safe(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))


def _up(facts: dict[str, Any]) -> str:
    kinds = (("tools", "tool"), ("prompts", "prompt"), ("resources", "resource"), ("resourceTemplates", "template"))
    offers = [_count(facts[key], word) for key, word in kinds if key in facts]
    transport, revision = facts["transport"], facts["revision"]
    return f"  ✓ {facts['backend']:14} {transport:16} {revision}   {', '.join(offers) or 'nothing'}   {_time(facts['seconds'])}"


def _down(facts: dict[str, Any]) -> str:
    retry = f"(retry in {_time(facts['seconds'])})"
    return f"  ✗ {facts['backend']:14} {facts['transport']:16} {_safe(facts['why'])}   {retry}"


def _listening(facts: dict[str, Any]) -> str:
    return "\n".join(f"  {facts['url']}{face}" for face in facts["faces"])


def _admin(facts: dict[str, Any]) -> str:
    return _safe(f"  admin {', '.join(facts[key] for key in ('socket', 'url') if key in facts)}")


def _ready(facts: dict[str, Any]) -> str:
    state = (
        "Ready" if facts["up"] == facts["backends"] else f"Degraded: {facts['up']} of {facts['backends']} backends up"
    )
    return "\n".join([*_faces(facts), f"{state}. Ctrl-C stops."])


def _reloaded(facts: dict[str, Any]) -> str:
    words = [f"{sign}{name}" for sign, key in (("-", "ended"), ("+", "began")) for name in facts[key]]
    return "\n".join([f"Reloaded in {_time(facts['seconds'])}. {' '.join(words)}".rstrip(), *_faces(facts)])


def _faces(facts: dict[str, Any]) -> list[str]:
    return [f"  {path}: {_offers(kinds)}" for path, kinds in facts["faces"].items()]


def _problem(facts: dict[str, Any]) -> str:
    hint = f" ({facts['hint']})" if facts["hint"] else ""
    return _safe(f"  {facts['at']}: {facts['key']}: {facts['what']}{hint}")


def _rejected(facts: dict[str, Any]) -> str:
    return _safe(f"Not reloaded, the configuration before goes on: {facts['why']}")


def _later(facts: dict[str, Any]) -> str:
    return _safe(f"  {facts['at']}: {facts['key']}: takes effect after a restart only")


def _offers(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


_EVENTS: dict[str, Draw] = {
    "backend up": _up,
    "backend down": _down,
    "listening": _listening,
    "admin": _admin,
    "ready": _ready,
    "not ready": _ready,
    "configuration reloaded": _reloaded,
    "configuration problem": _problem,
    "configuration rejected; the one before goes on": _rejected,
    "takes effect after a restart only": _later,
    "stopping": lambda _: "Stopping …",
    "stopped": lambda _: "Stopped.",
}
