"""``vmcp ui``: open the web pages of a running instance, by a link that works once."""

import os
import sys
from collections.abc import Mapping

import click

from vmcp.cli import instance


@click.command()
@instance.option
@click.option("--print", "only", is_flag=True, help="Print the link and open nothing.")
def command(where: str | None, only: bool) -> None:
    """Open the web pages of a running instance in a browser.

    The link works once, within a minute; the browser then stays logged in for twelve hours. Without a display it is printed.

    Exit codes: 0 there it is, 1 there are no pages, 3 it does not let you in, 4 there is no instance.
    """
    url = instance.find(where).ask("POST", "login", {})["url"]
    if only or not has_display(os.environ, sys.platform) or not _opened(url):
        click.echo(url)


def has_display(environ: Mapping[str, str], platform: str) -> bool:
    """Whether a browser would be seen by who types; not by somebody at the other end of a network."""
    if "SSH_CONNECTION" in environ:
        return False
    return platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _opened(url: str) -> bool:
    import webbrowser

    return webbrowser.open(url)
