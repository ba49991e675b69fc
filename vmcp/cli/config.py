"""``vmcp config``: the configuration of a running instance or of files, as it counts; and other names for other verbs."""

import importlib
import os
import sys
from typing import Any, Final

import click

from vmcp.cli import files, instance, output
from vmcp.config.load import loaded
from vmcp.config.shown import origins, shown
from vmcp.errors import ConfigError

OTHERS: Final = {"validate": "vmcp.cli.validate", "init": "vmcp.cli.init"}


class _Config(click.Group):
    """Its own commands, and those that are verbs too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *OTHERS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in OTHERS:
            return super().get_command(ctx, cmd_name)
        found: click.Command = importlib.import_module(OTHERS[cmd_name]).command
        return found


@click.group(cls=_Config)
def command() -> None:
    """Show the configuration; `config validate` is `validate`."""


@command.command()
@click.option("--config", "-c", "paths", multiple=True, help="These files instead of a running instance.")
@click.option("--origin", is_flag=True, help="Where each value stands.")
@instance.option
@click.option("--output", "-o", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def show(paths: tuple[str, ...], origin: bool, where: str | None, form: str) -> None:
    """Print the configuration that counts, without its secrets.

    Exit codes: 0 done, 3 not let in, 4 there is no instance, 78 bad configuration, 66 no such file.
    """
    config, places, disk = _of_files(paths) if paths else _of_instance(where)
    output.data(places if origin else config, form)
    if disk not in ("", "same"):
        click.echo(f"vmcp: the files say something else: {disk}", err=True)


def _of_instance(where: str | None) -> tuple[Any, Any, str]:
    found = instance.find(where).get("config")
    if "config" not in found:
        raise instance.Failed(f"it cannot be shown any more: the files have changed ({found['disk']})", 1)
    return found["config"], found["origins"], found["disk"]


def _of_files(paths: tuple[str, ...]) -> tuple[Any, Any, str]:
    read = files.read(paths)
    try:
        found = loaded(read, os.environ)
    except ConfigError as error:
        files.complain(error.problems, read)
        sys.exit(files.BAD_CONFIG)
    return shown(found.document), origins(found.document), ""
