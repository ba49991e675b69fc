"""How facts become HTML: the templates, what they can call, and the assets beside them.

The rule: all that is printed is escaped, and a name that nobody gave is an error; whatever is loaded comes out of the package.
"""

import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote, urlencode

import jinja2
import msgspec

from vmcp.admin.routes import BEFORE

HOME: Final = "/ui/"
TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HERE = importlib.resources.files("vmcp") / "admin" / "pages"


def environment() -> jinja2.Environment:
    """All templates, and what they may use."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    made.globals.update(link=link, twin=twin, asset=asset, curve=curve)
    filters: dict[str, Callable[..., Any]] = {
        "number": number,
        "ms": milliseconds,
        "bytes": size,
        "duration": duration,
        "clock": clock,
        "pretty": pretty,
    }
    made.filters.update(filters)
    return made


def _template(name: str) -> str | None:
    try:
        return (_HERE / "templates" / name).read_text("utf-8")
    except FileNotFoundError:
        return None


@cache
def assets() -> Mapping[str, bytes]:
    """What pages load, by its name."""
    found = (_HERE / "assets").iterdir()
    return {each.name: each.read_bytes() for each in found if each.name.rpartition(".")[2] in TYPES}


def digest(content: bytes) -> str:
    """What tells one content from another."""
    return blake2b(content, digest_size=8).hexdigest()


def asset(name: str) -> str:
    """Where one is; the address changes with its content."""
    return f"{HOME}assets/{digest(assets()[name])}/{name}"


def link(*steps: str, **query: object) -> str:
    """The address of a page."""
    return _address(HOME, steps, query)


def twin(*steps: str, **query: object) -> str:
    """The address of the JSON route that says the same."""
    return _address(BEFORE, steps, query)


def _address(before: str, steps: Sequence[str], query: Mapping[str, object]) -> str:
    asked = {key: value for key, value in query.items() if value not in (None, "")}
    path = before + "/".join(quote(step, safe="") for step in steps)
    return f"{path}?{urlencode(asked)}" if asked else path


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of numbers as paths of an SVG, and in words for who does not see it."""

    line: str
    area: str
    words: str


def curve(points: Sequence[float | None], width: int, height: int) -> Curve:
    """From 0 at the bottom to the largest at the top; where a number is missing, so is the line."""
    there = [point for point in points if point is not None]
    if not there:
        return Curve("", "", "nothing yet")
    step, most = width / max(1, len(points) - 1), max(there) or 1.0
    line, area, pen = [], [], "M"
    for number_, point in enumerate(points):
        if point is None:
            pen = "M"
            continue
        x, y = number_ * step, 2 + height * (1 - point / most)
        line.append(f"{pen}{x:.1f} {y:.1f}")
        area.append(f"{'M' if pen == 'M' else 'L'}{x:.1f} {y:.1f}")
        pen = "L"
    return Curve("".join(line), _closed(area, height + 2), f"now {number(there[-1])}, at most {number(max(there))}")


def _closed(line: Sequence[str], floor: int) -> str:
    """The area between each piece of a line and the floor."""
    pieces: list[list[str]] = []
    for each in line:
        if each.startswith("M"):
            pieces.append([])
        pieces[-1].append(each[1:])
    return "".join(
        f"M{piece[0].split()[0]} {floor}L{'L'.join(piece)}L{piece[-1].split()[0]} {floor}Z" for piece in pieces
    )


# --- how values are written


def number(value: float | None) -> str:
    """1234567 is 1,234,567; small ones have a decimal; None is a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    """Milliseconds, as seconds where they are many."""
    if value is None:
        return "–"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"


def duration(seconds: float | None) -> str:
    """A time in words."""
    if seconds is None:
        return "–"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock(moment: float | None) -> str:
    """A UNIX time, as UTC."""
    return "–" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def pretty(value: object) -> str:
    """JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
