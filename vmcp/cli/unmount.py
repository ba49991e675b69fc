"""``vmcp unmount``: take a backend out of the configuration file, and let the running instance give it up."""

import click

from vmcp.cli import edit, instance
from vmcp.cli.mount import change


@click.command()
@click.argument("name", shell_complete=instance.names("backends", "backends"))
@click.option("--config", "-c", "path", help="The file.  [default: that of the running instance, or vmcp.yaml]")
@instance.option
def command(name: str, path: str | None, where: str | None) -> None:
    """Remove the backend NAME from the configuration file, and reload.

    Exit codes: 0 done, 2 usage or a file that has to be edited by hand, 66 no such file, 78 it would be no good configuration.
    """
    change(path, where, lambda text: edit.take(text, name))
    click.echo(f"unmounted {name}", err=True)
