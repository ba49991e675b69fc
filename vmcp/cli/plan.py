"""``vmcp plan``: what a configuration would change, against another one or a running instance.

The rule: it builds the tables that ``serve`` would build, of what the backends offer now or of what was saved.
"""

import sys
from pathlib import Path

import click

from vmcp.cli import comparing, files
from vmcp.cli.comparing import Side
from vmcp.routing import saved
from vmcp.routing.plan import plan
from vmcp.routing.settings import settings


@click.command()
@click.argument("new", nargs=-1)
@click.option(
    "--against", "old", multiple=True, metavar="OLD", help="The configuration before; several merge in order."
)
@click.option("--url", help="Compare with what a running instance serves here, such as http://127.0.0.1:4483/mcp.")
@comparing.given
@click.option("--save", metavar="FILE", help="Write down what the backends offer, for --catalogs.")
@comparing.form
@comparing.wait
def command(
    new: tuple[str, ...],
    old: tuple[str, ...],
    url: str | None,
    given: tuple[str, ...],
    save: str | None,
    form: str,
    wait: float,
) -> None:
    """Say what the configuration NEW would change for clients, and at the gateway.

    Several files merge in order. Against nothing else, all that NEW would serve is told as added.

    Exit codes: 0 nothing differs, 1 something does, 69 nothing does as far as backends answered, 78 bad configuration,
    66 no such file, 2 usage.
    """
    if old and url is not None:
        raise click.UsageError("choose one of --against and --url")
    after = comparing.side(new or ("vmcp.yaml",))
    assert after.config is not None
    before = comparing.side(old) if old else Side(url or "nothing", None)
    was, now = comparing.catalogs(before.config, after.config, given, wait)
    if save is not None:
        _save(save, now)
        if not old and url is None:
            sys.exit(_saved(save, now, after))
    names, sheets = (before.name, after.name), after.sheets(now)
    if url is not None:
        there = comparing.running(url, wait)
        here = {path: sheet for path, sheet in sheets.items() if path == there.path}
        comparing.show(plan(names, {there.path: there}, here), form)
    if before.config is None:
        comparing.show(plan(names, {}, sheets), form)
    differ = settings(before.config, after.config)
    comparing.show(plan(names, before.sheets(was), sheets, differ), form)


def _save(path: str, catalogs: comparing.Catalogs) -> None:
    try:
        Path(path).write_bytes(saved.text(catalogs))
    except OSError as error:
        raise files.Unreadable(f"{path} cannot be written: {error.strerror}.") from None


def _saved(path: str, catalogs: comparing.Catalogs, side: Side) -> int:
    """Say what was saved, and of whom nothing was."""
    assert side.config is not None
    missing = [spec.name for spec in side.config.backends if spec.name not in catalogs]
    click.echo(f"{path}: what {len(catalogs)} backend{' offers' if len(catalogs) == 1 else 's offer'}", err=True)
    for name in missing:
        click.echo(f"vmcp: backend '{name}' did not answer and is not in it", err=True)
    return comparing.UNAVAILABLE if missing else comparing.SAME
