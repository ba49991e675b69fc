"""``vmcp version``.

The rule: the one line costs next to nothing; the whole truth is read when it is asked for.
"""

import platform

import click

from vmcp import __version__
from vmcp.protocol.revisions import Revision


@click.command()
@click.option(
    "--output",
    "-o",
    "form",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
    help="One line, or everything.",
)
@click.option("--licenses", "--licences", "licences", is_flag=True, help="Print the licences of all that is in it.")
def command(form: str, licences: bool) -> None:
    """Print the version, the Python it runs on, and the revisions of MCP that it speaks.

    The other forms tell the commit, the form of the build and the versions of all packages, too.
    """
    if licences:
        _licences(form)
    elif form == "text":
        click.echo(f"vmcp {__version__} (Python {platform.python_version()}, MCP {', '.join(Revision)})")
    else:
        from vmcp import about
        from vmcp.cli import output

        output.data(about.facts(), form)


def _licences(form: str) -> None:
    from vmcp import about
    from vmcp.cli import output

    found = about.licences()
    if form != "text":
        output.data(found, form)
        return
    for each in found:
        click.echo(f"{'=' * 78}\n{each['name']} {each['version']}: {each['licence']}")
        for name, text in each["texts"].items():
            click.echo(f"\n--- {name}\n\n{text.rstrip()}\n")
