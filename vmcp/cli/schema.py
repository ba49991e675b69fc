"""``vmcp schema``: the JSON Schema of the configuration, as editors want it. It prints the file as it is published."""

import click

from vmcp.config.schema import text


@click.command()
def command() -> None:
    """Print the JSON Schema of the configuration."""
    click.echo(text(), nl=False)
