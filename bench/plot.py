"""Pictures of what was measured, as SVG: bars on a logarithmic scale, and lines in panels, each in light and in dark.

The one rule: nothing but numbers and words comes in, and the same ones always give the same bytes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 800
FONT = "-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one picture; ``inks`` are those of lines, in order."""

    paper: str
    text: str
    quiet: str
    grid: str
    accent: str
    other: str
    reference: str
    inks: Sequence[str]


THEMES = {
    "light": Theme(
        "#ffffff", "#1f2328", "#59636e", "#d9dee3", "#0969da", "#b6c0cb", "#7d8590", ("#0969da", "#7d8590", "#bc4c00")
    ),
    "dark": Theme(
        "#0d1117", "#e6edf3", "#9198a1", "#2b323a", "#58a6ff", "#3d4650", "#7d8590", ("#58a6ff", "#8b949e", "#f0883e")
    ),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, what stands small beside the name, its length, and the words at its end. ``role`` is the name of a
    colour of the theme: accent, other or reference."""

    name: str
    note: str
    value: float
    words: str
    role: str = "other"


@dataclass(frozen=True, slots=True)
class Line:
    """Points from left to right, under a name that stands at the last one."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One system of axes, both logarithmic."""

    title: str
    across: str
    lines: Sequence[Line]
    ticks: Sequence[float]
    tick: Callable[[float], str]


def short(value: float) -> str:
    """1000 as 1k, 1048576 as 1m: as an axis says it."""
    for unit, size in (("m", 1_000_000), ("k", 1_000)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _text(x: float, y: float, words: str, fill: str, **told: object) -> str:
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in told.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}"{more}>{escape(words)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"/>'


def _page(title: str, height: float, theme: Theme, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
        f' font-family="{FONT}" font-size="13" role="img"><title>{escape(title)}</title>'
    )
    paper = f'<rect width="100%" height="100%" rx="6" fill="{theme.paper}"/>'
    return "\n".join([head, paper, *parts, "</svg>"]) + "\n"


def _decades(least: float, most: float) -> list[float]:
    """Every power of ten from at most the one to at least the other; two at least."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def bars(title: str, subtitle: str, rows: Sequence[Bar], theme: Theme) -> str:
    """Horizontal bars, in the order given."""
    left, right, top, step = 250.0, WIDTH - 110.0, 78.0, 30.0
    decades = _decades(min(bar.value for bar in rows) / 3, max(bar.value for bar in rows))  # the shortest is seen, too
    low, high = math.log10(decades[0]), math.log10(decades[-1])
    height = top + step * len(rows) + 16
    parts = [
        _text(20, 30, title, theme.text, font_size=16, font_weight=600),
        _text(20, 50, subtitle, theme.quiet, font_size=12),
    ]
    for decade in decades:
        x = left + (math.log10(decade) - low) / (high - low) * (right - left)
        parts.append(_rule(x, top - 6, x, height - 14, theme.grid))
        parts.append(_text(x, top - 10, short(decade), theme.quiet, font_size=11, text_anchor="middle"))
    for row, bar in enumerate(rows):
        parts += _bar(bar, top + step * row, (left, right), (low, high), theme)
    return _page(title, height, theme, parts)


def _bar(bar: Bar, y: float, across: tuple[float, float], scale: tuple[float, float], theme: Theme) -> list[str]:
    (left, right), (low, high) = across, scale
    length = max((math.log10(bar.value) - low) / (high - low) * (right - left), 1.0)
    ours = bar.role == "accent"
    fill = {"accent": theme.accent, "reference": theme.reference}.get(bar.role, theme.other)
    weight = 600 if ours else 400
    return [
        _text(left - 10, y + 11, bar.name, theme.text, text_anchor="end", font_weight=weight),
        _text(left - 10, y + 23, bar.note, theme.quiet, text_anchor="end", font_size=10),
        f'<rect x="{left:.1f}" y="{y + 1:.1f}" width="{length:.1f}" height="20" rx="2" fill="{fill}"/>',
        _text(left + length + 8, y + 16, bar.words, theme.text, font_weight=weight),
    ]


def panels(title: str, subtitle: str, each: Sequence[Panel], theme: Theme) -> str:
    """Systems of axes, two in a row, with the same scale upwards in all."""
    values = [y for panel in each for line in panel.lines for _, y in line.points]
    decades = _decades(min(values), max(values))
    width, tall, top = (WIDTH - 40) / 2, 250.0, 66.0
    parts = [
        _text(20, 30, title, theme.text, font_size=16, font_weight=600),
        _text(20, 50, subtitle, theme.quiet, font_size=12),
    ]
    for number, panel in enumerate(each):
        corner = (20 + width * (number % 2), top + tall * (number // 2))
        parts += _axes(panel, corner, (width, tall), decades, theme)
    return _page(title, top + tall * math.ceil(len(each) / 2) + 6, theme, parts)


def _axes(
    panel: Panel, corner: tuple[float, float], size: tuple[float, float], decades: Sequence[float], theme: Theme
) -> Iterator[str]:
    left, top = corner[0] + 44, corner[1] + 34
    right, bottom = corner[0] + size[0] - 62, corner[1] + size[1] - 42
    low, high = math.log10(decades[0]), math.log10(decades[-1])
    begin, end = math.log10(panel.ticks[0]), math.log10(panel.ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - begin) / (end - begin)
        return left + across * (right - left), bottom - (math.log10(y) - low) / (high - low) * (bottom - top)

    yield _text(left, corner[1] + 18, panel.title, theme.text, font_weight=600)
    for decade in decades:
        _, y = place(panel.ticks[0], decade)
        yield _rule(left, y, right, y, theme.grid)
        yield _text(left - 6, y + 4, short(decade), theme.quiet, font_size=11, text_anchor="end")
    for value in panel.ticks:
        x, y = place(value, decades[0])
        yield _text(x, y + 16, panel.tick(value), theme.quiet, font_size=11, text_anchor="middle")
    yield _text((left + right) / 2, bottom + 32, panel.across, theme.quiet, font_size=11, text_anchor="middle")
    for line, ink in zip(panel.lines, theme.inks, strict=False):
        yield from _drawn(line, [place(x, y) for x, y in line.points], ink)


def _drawn(line: Line, points: Sequence[tuple[float, float]], ink: str) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{ink}"/>'
    x, y = points[-1]
    yield _text(x + 8, y + 4, line.name, ink, font_size=12)
