"""``vmcp top``: what passes through a running instance, on one screen that is drawn anew every second.

The rule: it asks the admin socket what the pages ask, and holds nothing of its own; without a terminal it is told once.
"""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click

from vmcp.cli import instance, output

EACH: Final = 1.0
ERRORS: Final = 8
SORTS: Final = ("count", "errors", "p95")
"""What tools are sorted by; the key s goes on to the next."""
_COLUMNS: Final = ["tool", "group", "backend", "count", "errors", "successRate", "median", "p95"]
Data = dict[str, Any]


@click.command()
@click.option("--once", is_flag=True, help="Say it once, and end.")
@click.option("--sort", type=click.Choice(SORTS), default="count", show_default=True, help="What tools are sorted by.")
@instance.option
@output.option
def command(once: bool, sort: str, where: str | None, form: str) -> None:
    """Watch what passes through a running instance: q quits, s sorts, p pauses, e shows errors only.

    Exit codes: 0 done, 3 it does not let you in, 4 there is none.
    """
    found = instance.find(where)
    if once or form != "table" or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _told(snapshot(found, sort), form)
    else:
        _watched(found, View(sort))


@dataclass
class View:
    """What is looked at. Mutable: keys change it."""

    sort: str
    paused: bool = False
    only_errors: bool = False
    over: bool = False

    def pressed(self, key: str) -> None:
        """What a key does."""
        if key in ("q", "\x03", "\x04"):
            self.over = True
        elif key == "p":
            self.paused = not self.paused
        elif key == "e":
            self.only_errors = not self.only_errors
        elif key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]


def snapshot(found: instance.Instance, sort: str) -> Data:
    """Everything that is shown. Raises ``Failed``."""
    status, rates, numbers = (found.get(each) for each in ("status", "rates", "statistics"))
    by_name = {each["backend"]: each for each in numbers["backends"]}
    nothing = {"requests": 0.0, "errors": 0.0}
    backends = [
        {**each, "rate": rates["backends"].get(each["name"], nothing), "calls": by_name.get(each["name"], {})}
        for each in found.get("backends")["backends"]
    ]
    return {
        "name": status["name"],
        "status": status["status"],
        "uptimeSeconds": status["uptimeSeconds"],
        "sessions": status["sessions"],
        "workers": status.get("workers", []),
        "loopLagSeconds": found.get("metrics")["metrics"].get("vmcp_load_loop_lag_seconds"),
        "now": rates["now"],
        "seconds": [each["requests"] for each in rates["seconds"]],
        "total": numbers["total"],
        "backends": backends,
        "tools": sorted(numbers["tools"], key=lambda each: -(each[sort] or 0)),
        "errors": found.get(f"traffic?q=outcome:error&limit={ERRORS}")["exchanges"],
    }


def _told(found: Data, form: str) -> None:
    """Without a terminal."""
    if form in ("json", "yaml"):
        output.data(found, form)
        return
    if form == "table":
        now = found["now"]
        shown = {"requests/s": now["requests"], "errors/s": now["errors"], "p95 (s)": now["p95"]}
        output.facts({"name": found["name"], "status": found["status"], **shown, "in flight": now["inFlight"]})
        click.echo()
    output.rows(found["tools"], _COLUMNS, form, name="tool")


def _watched(found: instance.Instance, view: View) -> None:
    from rich.live import Live

    from vmcp.cli import screen

    told = snapshot(found, view.sort)
    with _keys() as pressed, Live(screen.drawn(told, view), screen=True, auto_refresh=False) as live:
        until = time.monotonic() + EACH
        while not view.over:
            key = pressed(max(0.0, until - time.monotonic()))
            view.pressed(key)
            if not key:
                until = time.monotonic() + EACH
            if key == "s" or (not key and not view.paused):
                told = snapshot(found, view.sort)
            live.update(screen.drawn(told, view), refresh=True)


@contextmanager
def _keys() -> Iterator[Any]:
    """While the block runs, keys come one by one; the terminal is left as it was found."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed(patience: float) -> str:
        ready, _, _ = select.select([terminal], [], [], patience)
        return (os.read(terminal, 1).decode("ascii", "replace") or "q") if ready else ""

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
