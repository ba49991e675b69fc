"""``vmcp help``: what an error means and what to do about it, without a network; or how a verb is used.

The rule: the pages are those of ``docs/errors``, and go with the program, so that they are of its very release.
"""

import importlib.resources
import re
from pathlib import Path

import click

_PAGE = re.compile(r"[a-z0-9-]{1,40}")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("topics", metavar="[RULE|CODE|VERB]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, topics: tuple[str, ...]) -> None:
    """Tell what an error means: by the id of a rule of the configuration, or by an error code.

    `vmcp help unknown-key`, `vmcp help 2001`, `vmcp help -32602`; `vmcp help call` is `vmcp call --help`.

    Exit codes: 0 done, 2 there is no such page.
    """
    assert ctx.parent is not None
    if not topics:
        click.echo(ctx.parent.get_help())
    shown = [_found(ctx.parent, topic) for topic in topics]
    if shown:
        click.echo("\n\n".join(shown))


def _found(above: click.Context, topic: str) -> str:
    text = page(topic)
    if text is not None:
        return _LINK.sub(r"\1", text).rstrip()
    assert isinstance(above.command, click.Group)
    verb = above.command.get_command(above, topic)
    if verb is None:
        raise click.UsageError(f"there is no page '{topic}'; see docs/errors, or vmcp --help for the verbs")
    return verb.get_help(click.Context(verb, info_name=topic, parent=above))


def page(topic: str) -> str | None:
    """The page about a rule or a code, as Markdown."""
    name = topic.lower().removeprefix("vmcp-").removeprefix("-")
    if not _PAGE.fullmatch(name):
        return None
    packaged = importlib.resources.files("vmcp") / "_errors" / f"{name}.md"
    if packaged.is_file():
        return packaged.read_text("utf-8")
    beside = Path(__file__).parents[2] / "docs" / "errors" / f"{name}.md"
    return beside.read_text("utf-8") if beside.is_file() else None
