"""The screen of ``vmcp top``, drawn with rich.

The rule: what others have said is text and never markup; what does not fit is cut, and the screen never scrolls.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vmcp.cli.output import BAD, DOUBTFUL, GOOD, plain
from vmcp.cli.status import lasting

KEYS: Final = "q quit · s sort · p pause · e errors only"
TOOLS: Final = 12
BACKENDS: Final = 12
_TICKS: Final = "▁▂▃▄▅▆▇█"
Data = dict[str, Any]


class View(Protocol):
    """What is looked at."""

    sort: str
    paused: bool
    only_errors: bool


def drawn(told: Data, view: View) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [_head(told, view)]
    if not view.only_errors:
        parts += [_backends(told["backends"]), _tools(told["tools"], view.sort)]
    parts += [_errors(told["errors"]), Text(KEYS, style="dim")]
    return Group(*parts)


def _head(told: Data, view: View) -> RenderableType:
    now, total, lag = told["now"], told["total"], _time(max(0.0, told["loopLagSeconds"] or 0.0))
    first = Text.assemble(
        (plain(told["name"]), "bold"),
        "  ",
        _state(told["status"]),
        f"  up {lasting(told['uptimeSeconds'])}  {told['sessions']} sessions",
        ("  PAUSED" if view.paused else "", "bold yellow"),
    )
    numbers = Text.assemble(
        (f"{now['requests']:.1f}", "bold"),
        " requests/s   ",
        (f"{now['errors']:.1f}", "bold red" if now["errors"] else "bold"),
        " errors/s   p95 ",
        (_time(now["p95"]), "bold"),
        f"   {now['inFlight']} in flight   loop lag {lag}   {total['count']:,} calls since the start",
    )
    workers = [_workers(told["workers"])] if told.get("workers") else []
    return Group(first, numbers, *workers, Text(spark(told["seconds"]), style="cyan"), Text())


def _workers(workers: Sequence[Data]) -> Text:
    """How each is, and what it has in hand."""
    text = Text("workers ")
    for each in workers:
        busy = f" {each['connections']} connections, {each.get('requestsInFlight', 0)} in flight   "
        text.append_text(Text.assemble(f" {each['index']} ", _state(each["status"]), busy))
    return text


def spark(points: Sequence[float]) -> str:
    """A line of blocks, the highest for the most."""
    most = max(points, default=0)
    return "".join(_TICKS[round(point / most * (len(_TICKS) - 1))] if most else _TICKS[0] for point in points)


def _backends(backends: Sequence[Data]) -> Table:
    table = _table("Backend", "Health", "Circuit", ">req/s", ">err/s", ">Calls", ">p95", "Why")
    for each in backends[:BACKENDS]:
        rate, calls = each["rate"], each["calls"]
        _add(
            table,
            plain(each["name"]),
            _state(each["health"]),
            _state(plain(each["breakers"]) or "–"),
            f"{rate['requests']:.1f}",
            _count(rate["errors"], ".1f"),
            f"{calls.get('count', 0):,}",
            _time(calls.get("p95")),
            Text(plain(each["why"])[:60], style="dim"),
        )
    return table


def _tools(tools: Sequence[Data], sort: str) -> Table:
    table = _table(f"Tool (by {sort})", "Backend", ">Calls", ">Errors", ">Well", ">Median", ">p95", ">p99")
    for each in tools[:TOOLS]:
        _add(
            table,
            plain(each["tool"]),
            plain(each["backend"]) or "–",
            f"{each['count']:,}",
            _count(each["errors"], ","),
            f"{each['successRate'] * 100:.1f} %",
            *(_time(each[key]) for key in ("median", "p95", "p99")),
        )
    return table


def _errors(errors: Sequence[Data]) -> Table:
    table = _table("Last errors", "Method", "Target", "Backend", ">Took", "Who")
    for each in errors:
        at = datetime.fromtimestamp(each["at"], UTC)
        _add(
            table,
            Text(f"{at:%H:%M:%S} {plain(each['outcome'])}", style="red"),
            plain(each["method"]),
            plain(each["target"]),
            plain(each["backend"]) or "–",
            _time(each["ms"] / 1000),
            plain(each["who"]),
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), header_style="dim")
    for title in titles:
        right = title.startswith(">")
        table.add_column(title.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    return table


def _add(table: Table, *cells: str | Text) -> None:
    table.add_row(*(Text(each) if isinstance(each, str) else each for each in cells))


def _state(word: str) -> Text:
    colour = "green" if word in GOOD else "red" if word in BAD else "yellow" if word in DOUBTFUL else ""
    return Text(word, style=colour)


def _count(value: float, form: str) -> Text:
    return Text(format(value, form), style="red" if value else "")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return (
        f"{seconds:.1f} s"
        if seconds >= 1
        else f"{seconds * 1000:.0f} ms"
        if seconds >= 0.01
        else f"{seconds * 1000:.1f} ms"
    )
