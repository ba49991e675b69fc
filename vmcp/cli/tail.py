"""``vmcp logs``: the last lines of a running instance's log, those that come, and its level."""

import json
import time
from typing import Any

import click

from vmcp.cli import instance, output

EACH = 0.5


@click.group(invoke_without_command=True)
@click.pass_context
@click.option("--lines", "-n", default=50, show_default=True, type=click.IntRange(0), help="So many lines.")
@click.option("--follow", "-f", is_flag=True, help="And those that come.")
@click.option("--json", "as_json", is_flag=True, help="As they were written.")
@instance.option
def command(ctx: click.Context, lines: int, follow: bool, as_json: bool, where: str | None) -> None:
    """Print the last lines of the log.

    Exit codes: 0 done, 3 not let in, 4 there is none.
    """
    ctx.obj = where
    if ctx.invoked_subcommand is not None:
        return
    found = instance.find(where)
    seen = _print(found, lines, 0, as_json=as_json)
    while follow:
        time.sleep(EACH)
        seen = _print(found, 1000, seen, as_json=as_json)


def _print(found: instance.Instance, lines: int, since: int, *, as_json: bool) -> int:
    """Print what is newer than ``since``; the number of the newest."""
    told = found.get(f"log?lines={lines}&since={since}")
    for line in told["lines"]:
        click.echo(line if as_json else _readable(line))
    return int(told["last"])


def _readable(line: str) -> str:
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError:
        return output.plain(line)
    at, level, message = (told.pop(key, "") for key in ("ts", "level", "msg"))
    told.pop("logger", None)
    facts = " ".join(f"{key}={output.plain(value)}" for key, value in told.items() if value is not None)
    return f"{str(at)[11:19]} {output.painted(level, 7)} {output.plain(message)} {facts}".rstrip()


@command.command()
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_context
def level(ctx: click.Context, level: str) -> None:
    """Log at LEVEL from now on, until a reload that changes something."""
    told = instance.find(ctx.obj).ask("POST", "log/level", {"level": level})
    click.echo(f"{told['before']} → {told['level']}")
