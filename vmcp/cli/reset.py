"""``vmcp reset``: let calls to a backend through again, whatever its circuit breaker has seen."""

from urllib.parse import quote

import click

from vmcp.cli import instance


@click.command()
@click.argument("name", metavar="BACKEND", shell_complete=instance.names("backends", "backends"))
@instance.option
def command(name: str, where: str | None) -> None:
    """Close the circuit breaker of BACKEND (of all its replicas).

    Exit codes: 0 done, 1 there is no such backend, 3 it does not let you in, 4 there is none.
    """
    instance.find(where).ask("POST", f"backends/{quote(name, safe='')}/reset", {})
    click.echo(f"reset {name}")
