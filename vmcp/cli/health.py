"""``vmcp health``: whether a running instance is ready, for people and for what restarts containers."""

import sys

import click

from vmcp.cli import instance, output


@click.command()
@click.argument("what", type=click.Choice(["check"]), required=False, expose_value=False)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing; the exit code tells.")
@instance.option
@output.option
def command(quiet: bool, where: str | None, form: str) -> None:
    """Say how every backend is. `health check` is the same.

    Exit codes: 0 it is ready, 1 it is not, 3 it does not let you in, 4 there is none.
    """
    found = instance.find(where)
    status = found.get("status")
    if not quiet:
        columns = ["name", "state", "health", "breakers", "why"]
        backends = found.get("backends")["backends"]
        if form in ("json", "yaml"):
            output.data({"status": status["status"], "ready": status["ready"], "backends": backends}, form)
        else:
            output.rows(backends, columns, form)
        if form == "table":
            click.echo(f"\n{status['name']} is {status['status']}")
    sys.exit(0 if status["ready"] else 1)
