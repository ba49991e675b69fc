"""``vmcp version``."""

import platform

import click

from vmcp import __version__
from vmcp.protocol.revisions import Revision


@click.command()
def command() -> None:
    """Print the version, the Python it runs on, and the revisions of MCP that it speaks."""
    click.echo(f"vmcp {__version__} (Python {platform.python_version()}, MCP {', '.join(Revision)})")
