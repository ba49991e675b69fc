"""Numbers as shapes of an SVG: bars over time, and bars in a table.

The rule: what a shape shows stands beside it or in its title as a number; where a number is missing there is a gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

WIDTH: Final = 960
HEIGHT: Final = 150
GAP: Final = 0.24
"""Of the width of a bar."""
WIDEST: Final = 56
LABELS: Final = 8
DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Bar:
    """One span of time: its place, its height, and how much of that were errors."""

    x: float
    width: float
    y: float
    height: float
    bad: float
    title: str


@dataclass(frozen=True, slots=True)
class Bars:
    """A chart; ``ticks`` are the places and words below it, ``most`` what the highest bar stands for."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    most: int
    words: str


def bars(series: Sequence[Mapping[str, Any]], span: int, days: int, now: float) -> Bars:
    """``series`` of the last ``days``, a bar for each ``span`` seconds."""
    known = {int(each["at"]): each for each in series}
    last = int(now // span) * span
    moments = range(last - (days * DAY // span - 1) * span, last + span, span)
    most = max((each["count"] for each in series), default=0)
    step = WIDTH / len(moments)
    made = [_bar(place * step, step, at, known.get(at), span, most) for place, at in enumerate(moments)]
    every = max(1, -(-len(moments) // LABELS))
    ticks = [((place + 0.5) * step, _when(at, span)) for place, at in enumerate(moments) if place % every == 0]
    total, bad = (sum(each[key] for each in series) for key in ("count", "errors"))
    words = f"{total:,} calls in {len(moments)} {'hours' if span < DAY else 'days'}, {bad:,} with an error, at most {most:,}"
    return Bars(tuple(made), tuple(ticks), most, words)


def _bar(x: float, step: float, at: int, each: Mapping[str, Any] | None, span: int, most: int) -> Bar:
    count, errors = (each["count"], each["errors"]) if each is not None else (0, 0)
    height, bad = (HEIGHT * value / most if most else 0.0 for value in (count, errors))
    if count:
        height = max(height, 1.5)
    title = f"{_when(at, span)}: {count:,} calls, {errors:,} with an error"
    width = min(WIDEST, step * (1 - GAP))
    return Bar(round(x + (step - width) / 2, 2), round(width, 2), round(HEIGHT - height, 2), height, bad, title)


def _when(at: int, span: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%-d %b" if span >= DAY else "%a %H:%M")


def share(part: float, whole: float, width: int) -> float:
    """How long a bar is that shows a part of the whole."""
    return round(width * min(1.0, part / whole), 1) if whole > 0 else 0.0
