"""``vmcp metrics``: what a running instance has counted, how everything does, and who has used what."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from vmcp.cli import instance, output

UNAVAILABLE: Final = 69
_BY: Final = {"tool": "tools", "backend": "backends", "method": "methods", "who": "people", "group": "groups"}
_COLUMNS: Final = ["count", "errors", "successRate", "mean", "median", "p95", "p99"]


@click.command()
@click.argument("what", type=click.Choice(["show"]), required=False, expose_value=False)
@click.option(
    "--statistics", is_flag=True, help="How methods, tools and backends do since the start, with percentiles."
)
@click.option("--usage", is_flag=True, help="Who has used what in the last days.")
@click.option("--days", default=7, show_default=True, type=click.IntRange(1, 3650), help="With --usage: so many.")
@click.option("--by", type=click.Choice([*_BY]), default="tool", show_default=True, help="What a line is about.")
@instance.option
@output.option
def command(statistics: bool, usage: bool, days: int, by: str, where: str | None, form: str) -> None:
    """Print what was counted. `metrics show` is the same.

    Exit codes: 0 done, 3 it does not let you in, 4 there is none, 69 usage is not kept.
    """
    if statistics and usage:
        raise click.UsageError("--statistics is since the start, --usage of days; choose one")
    found = instance.find(where)
    if usage:
        told = found.get(f"usage?days={days}")
        why = told.get("failing") if told["enabled"] else "telemetry.usage.enabled is false"
        if why and "total" not in told:
            raise instance.Failed(f"there are no usage statistics: {why}", UNAVAILABLE)
        if why:
            click.echo(f"note: {output.plain(why)}; what is told is in memory", err=True)
        _ranked(told, by, form)
    elif statistics:
        _ranked(found.get("statistics"), by, form)
    else:
        _counted(found.get("metrics")["metrics"], form)


def _ranked(told: Mapping[str, Any], by: str, form: str) -> None:
    if form in ("json", "yaml"):
        output.data(told, form)
    elif _BY[by] not in told:
        raise click.UsageError(f"--by {by} is not of these numbers")
    else:
        output.rows(told[_BY[by]], [by, *(("group", "backend") if by == "tool" else ()), *_COLUMNS], form, name=by)


def _counted(found: Mapping[str, Any], form: str) -> None:
    if form in ("json", "yaml"):
        output.data(found, form)
    else:
        output.rows([{"name": name, "value": value} for name, value in _flat(found)], ["name", "value"], form)


def _flat(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in found.items():
        name = f"{before}.{key}" if before else key
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value
