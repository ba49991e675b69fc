"""The page of traffic: the calls that have just ended, filtered, as they come.

The rule: what is shown of a call is its name and its numbers; what was asked and what was answered is not kept anywhere.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from vmcp.admin import figures, mates
from vmcp.admin.desk import Asked, Desk, Wrong
from vmcp.admin.filters import Words
from vmcp.admin.pages.charts import share
from vmcp.admin.pages.page import Context, Made, Page
from vmcp.protocol.outcomes import OTHER
from vmcp.server.pace import Pace

WIDTH: Final = 90
"""Of the bars of the slowest calls."""
CALM: Final = frozenset({"ok", "cancelled"})
DOUBTFUL: Final = frozenset({"rate_limited", "consent_required", "insufficient_permissions", "unauthorized"})
READY: Final = (
    ("Errors", "outcome:error"),
    ("Slow", "ms:>500"),
    ("Tool calls", "method:tools/call"),
    ("Not pings", "-method:ping"),
)
"""Filters that are one click away."""


async def _traffic(desk: Desk, asked: Asked) -> Made:
    asked, filtering = filtered(asked, figures.WORDS)
    shown = await figures.traffic(desk, asked)
    slowest = max((each["ms"] for each in shown["exchanges"]), default=0.0)
    pace: Pace = (await mates.together(desk, asked.now, "pace"))["pace"]
    return {
        **shown,
        **filtering,
        "exchanges": [_drawn(each, slowest) for each in shown["exchanges"]],
        "now": pace.now(),
        "seconds": pace.seconds(),
        "ready": READY,
        "width": WIDTH,
    }


def filtered(asked: Asked, words: Words) -> tuple[Asked, Context]:
    """What was asked, without its filter if that is none; then a form shows it, with what is wrong with it."""
    wrong = ""
    try:
        figures.wanted(asked, words)
    except Wrong as why:
        wrong = str(why)
    told = {"q": asked.query.get("q", ""), "wrong": wrong, "words": words}
    kept = {key: value for key, value in asked.query.items() if key != "q" or not wrong}
    return replace(asked, query=kept), told


def _drawn(each: dict[str, Any], slowest: float) -> dict[str, Any]:
    time = datetime.fromtimestamp(each["at"], UTC)
    length = max(1.5, share(each["ms"], slowest, WIDTH))
    return {
        **each,
        "time": f"{time:%H:%M:%S}.{time.microsecond // 1000:03}",
        "tone": tone(each["outcome"]),
        "ended": "error" if each["outcome"] == OTHER else each["outcome"].replace("_", " "),
        "bar": length,
        "behind": share(each["backendMs"], each["ms"], 1) * length,
    }


def tone(outcome: str) -> str:
    """Which state a badge shows for it."""
    return outcome if outcome in CALM else "warning" if outcome in DOUBTFUL else "error"


PAGES: Final = (Page("GET", "traffic", "read", "traffic.html", _traffic, "Traffic"),)
