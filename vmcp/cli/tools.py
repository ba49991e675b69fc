"""``vmcp tools``: the tools that a client would see, as signatures."""

from typing import Any

import click

from vmcp.cli import output, target
from vmcp.cli.arguments import signature


@click.command()
@click.argument("words", nargs=-1)
@click.option("--schema", is_flag=True, help="With their schemas, as JSON.")
@target.options
@output.option
def command(words: tuple[str, ...], schema: bool, form: str, **meant: Any) -> None:
    """List the tools of a URL, a running instance or a configuration; those in which all WORDS are.

    Exit codes: 0 done, 3 not let in, 4 nobody there, 78 bad configuration.
    """
    found = target.run(target.of(**meant), lambda client: client.listed("tools/list", "tools"))
    found = [each for each in found if all(word.lower() in _text(each) for word in words)]
    if schema or form in ("json", "yaml"):
        output.data(found, "json" if form in ("table", "name") else form)
        return
    for each in found:
        click.echo(output.plain(each["name"] if form == "name" else signature(each)))
        about = output.plain(each.get("description")).strip()
        if about and form == "table":
            click.echo(f"    {about[:100]}{'…' if len(about) > 100 else ''}")


def _text(tool: dict[str, Any]) -> str:
    return f"{tool['name']} {tool.get('title', '')} {tool.get('description', '')}".lower()
