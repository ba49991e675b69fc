"""What somebody sees who has started vmcp in a terminal: backends as they come, what is served where, and what to do next.

The rule: it is drawn from the very events that JSON lines are made of, one after the other; control characters of others are
never printed as they are, and a colour never says something that a sign or a word does not say.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]
OWN = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
"""What every record has, whatever it is about."""
COLOURS = {"✓": "32", "!": "33", "✗": "31", "Ready": "1;32", "Degraded": "1;33", "title": "1"}
KINDS = (("tools", "tool"), ("prompts", "prompt"), ("resources", "resource"), ("resourceTemplates", "template"))


def extra(record: logging.LogRecord) -> dict[str, Any]:
    """The facts of an event."""
    return {key: value for key, value in record.__dict__.items() if key not in OWN}


def coloured() -> bool:
    """Whether what goes to stderr may be in colour."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def worth(record: logging.LogRecord) -> bool:
    """Whether it is shown to people: that a child process ended is said with the backend that is down."""
    return record.getMessage() != "process ended" or record.levelno > logging.INFO


class Screen(logging.Formatter):
    """Lines for a person. Mutable: it remembers where vmcp listens, and since when it draws."""

    def __init__(self, *, colour: bool = False) -> None:
        super().__init__()
        self._colour = colour
        self._url = ""
        self._began = time.time()
        self._seconds = 0.0
        self._events: Mapping[str, Callable[[Facts], str]] = {
            "backend up": self._up,
            "backend down": self._down,
            "quarantined": self._kept_out,
            "listening": self._listening,
            "admin": self._admin,
            "ready": self._ready,
            "not ready": self._not_ready,
            "configuration reloaded": self._reloaded,
            "configuration problem": _problem,
            "configuration rejected; the one before goes on": _rejected,
            "takes effect after a restart only": _later,
            "stopping": lambda _: "Stopping …",
            "stopped": lambda _: "Stopped.",
        }

    def format(self, record: logging.LogRecord) -> str:
        """A known event as its lines, any other as time, message and facts."""
        draw = self._events.get(record.getMessage())
        self._seconds = max(0.0, record.created - self._began)
        line = draw(extra(record)) if draw is not None else _plain(record)
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line

    def plain(self, record: logging.LogRecord) -> bool:
        """Whether it is an event like any other, that has no lines of its own."""
        return record.getMessage() not in self._events

    def _paint(self, kind: str, text: str) -> str:
        return f"\x1b[{COLOURS[kind]}m{text}\x1b[0m" if self._colour else text

    def _titled(self, title: str, text: str) -> str:
        return f"{self._paint('title', f'{title:8}')} {_safe(text)}"

    def _up(self, facts: Facts) -> str:
        offers = _offers(facts)
        where = f"{facts['backend']:14} {facts['transport']:16} {facts['revision']}"
        return f"  {self._paint('✓', '✓')} {where}   {offers:24} {_time(facts['seconds'])}"

    def _down(self, facts: Facts) -> str:
        """Who wants a login first has not failed."""
        name, refused = facts["backend"], bool(facts.get("refused"))
        sign = "!" if refused else "✗"
        next_ = f"→ vmcp auth login {name}" if facts.get("login") else f"(retry in {_time(facts['seconds'])})"
        return f"  {self._paint(sign, sign)} {name:14} {facts['transport']:16} {_safe(facts['why'])}   {next_}"

    def _kept_out(self, facts: Facts) -> str:
        what = f"{facts['backend']:14} {facts['target']} is kept out: {facts['why']}"
        return f"  {self._paint('!', '!')} {_safe(what)}"

    def _listening(self, facts: Facts) -> str:
        self._url = facts["url"]
        return self._titled("Listen", self._url)

    def _admin(self, facts: Facts) -> str:
        places = [f"unix:{facts['socket']}"] if "socket" in facts else []
        places += [facts["url"]] if "url" in facts else []
        lines = [self._titled("Admin", "   ".join(places))]
        return "\n".join([*lines, self._titled("Page", "vmcp ui")] if facts.get("ui") else lines)

    def _ready(self, facts: Facts) -> str:
        took, sign = _time(self._seconds), "Degraded" if facts["up"] < facts["backends"] else "Ready"
        state = f"{self._paint(sign, sign)} in {took}"
        if sign == "Degraded":
            state = f"{self._paint(sign, sign)}: {_up_of(facts)} after {took}; see vmcp status"
        return self._standing(facts, state)

    def _not_ready(self, facts: Facts) -> str:
        state = f"{_up_of(facts)} after {_time(self._seconds)}, and clients wait for those that are required; see vmcp status"
        return self._standing(facts, f"{self._paint('✗', 'Not ready')}: {state}")

    def _standing(self, facts: Facts, state: str) -> str:
        lines = self._groups(facts)
        if self._url:
            lines.append(
                f"{self._titled('Connect', 'vmcp connect claude-code')}   {self._titled('Reload', 'vmcp reload')}"
            )
        return "\n".join([*lines, f"{state}. Ctrl-C stops; twice to force."])

    def _reloaded(self, facts: Facts) -> str:
        words = [f"{sign}{name}" for sign, key in (("-", "ended"), ("+", "began")) for name in facts[key]]
        return "\n".join([f"Reloaded in {_time(facts['seconds'])}. {' '.join(words)}".rstrip(), *self._groups(facts)])

    def _groups(self, facts: Facts) -> list[str]:
        """A line for each group: what it has, what that costs a model, and where it is."""
        groups, faces = facts["groups"], facts["faces"]
        return [
            self._titled("Group", self._group(name, each, faces[each["paths"][0]])) for name, each in groups.items()
        ]

    def _group(self, name: str, group: Facts, offered: Facts) -> str:
        offers = _offers(offered)
        cost = f" (≈ {_thousands(group['tokens'])} tokens)" if group["tokens"] else ""
        return f"{name:14} {offers}{cost}   {self._url}{group['paths'][0]}"


def _plain(record: logging.LogRecord) -> str:
    facts = " ".join(f"{key}={_safe(value)}" for key, value in extra(record).items() if value is not None)
    return f"{time.strftime('%H:%M:%S')} {record.levelname.lower():7} {_safe(record.getMessage())} {facts}".rstrip()


def _safe(value: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value))


def _problem(facts: Facts) -> str:
    hint = f" ({facts['hint']})" if facts["hint"] else ""
    return _safe(f"  {facts['at']}: {facts['key']}: {facts['what']}{hint}")


def _rejected(facts: Facts) -> str:
    return _safe(f"Not reloaded, the configuration before goes on: {facts['why']}")


def _later(facts: Facts) -> str:
    return _safe(f"  {facts['at']}: {facts['key']}: takes effect after a restart only")


def _up_of(facts: Facts) -> str:
    return f"{facts['up']} of {_count(facts['backends'], 'backend')} up"


def _offers(facts: Facts) -> str:
    return ", ".join(_count(facts[key], word) for key, word in KINDS if key in facts) or "nothing"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _thousands(number: int) -> str:
    return f"{number / 1000:.1f}k" if number >= 1000 else str(number)


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
