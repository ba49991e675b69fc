"""``vmcp sessions``: who has a session at a running instance, and how to end one."""

from urllib.parse import quote

import click

from vmcp.cli import instance, output
from vmcp.cli.list import columns


@click.group(invoke_without_command=True)
@click.pass_context
@instance.option
@output.option
def command(ctx: click.Context, where: str | None, form: str) -> None:
    """List sessions, which clients up to 2025-11-25 have; `list sessions` is the same.

    Exit codes: 0 done, 3 it does not let you in, 4 there is none.
    """
    ctx.obj = where
    if ctx.invoked_subcommand is None:
        rows = instance.find(where).get("sessions")["sessions"]
        output.rows(rows, columns("sessions", rows), form, name="id")


@command.command()
@click.argument("name", metavar="ID", shell_complete=instance.names("sessions", "sessions", "id"))
@instance.option
@click.pass_context
def end(ctx: click.Context, name: str, where: str | None) -> None:
    """End the session ID, as `vmcp sessions` names it; its client is told to begin another one."""
    instance.find(where or ctx.obj).ask("DELETE", f"sessions/{quote(name, safe='')}")
    click.echo(f"ended {name}")
