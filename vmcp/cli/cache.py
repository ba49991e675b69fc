"""``vmcp cache``: how the cache of a running instance does, and how to forget what it keeps."""

from typing import Final

import click

from vmcp.cli import instance, output

_BEFORE: Final = "vmcp_cache_"


@click.group(invoke_without_command=True)
@click.pass_context
@instance.option
@output.option
def command(ctx: click.Context, where: str | None, form: str) -> None:
    """Print how the cache does.

    Exit codes: 0 done, 3 it does not let you in, 4 there is none.
    """
    ctx.obj = where
    if ctx.invoked_subcommand is not None:
        return
    found = instance.find(where).get("metrics")["metrics"]
    told = {name.removeprefix(_BEFORE): value for name, value in found.items() if name.startswith(_BEFORE)}
    if form in ("json", "yaml"):
        output.data(told, form)
    else:
        output.rows([{"name": name, "value": value} for name, value in told.items()], ["name", "value"], form)


@command.command()
@click.argument("pattern", default="*")
@instance.option
@click.pass_context
def clear(ctx: click.Context, pattern: str, where: str | None) -> None:
    """Forget results that PATTERN fits, a glob of BACKEND/TOOL or BACKEND/URI; without, all of them."""
    told = instance.find(where or ctx.obj).ask("POST", "cache/clear", {"pattern": pattern})
    click.echo(f"cleared {told['cleared']}")
