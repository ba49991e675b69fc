"""``vmcp reload``: let a running instance read its configuration anew, and say how that has ended."""

import sys

import click

from vmcp.cli import instance, output

REJECTED = 78


@click.command()
@instance.option
@output.option
def command(where: str | None, form: str) -> None:
    """Read the configuration anew.

    Exit codes: 0 applied or unchanged, 78 rejected (the one before goes on), 3 it does not let you in, 4 there is none.
    """
    found = instance.find(where).ask("POST", "reload", {}, instance.LONG)
    if form in ("json", "yaml"):
        output.data(found, form)
    else:
        click.echo(found["result"])
        for problem in found["problems"]:
            click.echo(f"  {output.plain(problem)}", err=True)
    sys.exit(0 if found["result"] in ("applied", "unchanged") else REJECTED)
