"""``vmcp call``: call a tool, of a URL, a running instance, or a configuration that is served for this one call."""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from vmcp.cli import arguments, instance, output, target
from vmcp.server.within import Insider


@click.command()
@click.argument("tool", shell_complete=instance.names("tools", "tools"))
@click.argument("pairs", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--json", "text", metavar="JSON", help="The arguments as a JSON object.")
@click.option("--args-file", metavar="FILE", help="A file with that object; - is stdin.")
@target.options
@output.option
def command(
    tool: str, pairs: tuple[str, ...], text: str | None, args_file: str | None, form: str, **meant: Any
) -> None:
    """Call TOOL. What it says goes to stdout, progress and questions to the terminal.

    VMCP_TOKEN, if set, is shown as the bearer token.

    Exit codes: 0 done, 2 no such tool or wrong arguments, 3 not let in, 4 nobody there, 5 the tool failed.
    """
    if args_file is not None:
        text = sys.stdin.read() if args_file == "-" else _file(args_file)
    found = target.of(**meant)
    result = target.run(found, lambda client: _called(client, tool, pairs, text))
    show(result, form)
    sys.exit(target.TOOL_FAILED if result.get("isError") is True else 0)


async def _called(client: Insider, tool: str, pairs: tuple[str, ...], text: str | None) -> dict[str, Any]:
    definition = arguments.named(await client.listed("tools/list", "tools"), tool)
    wanted = {"name": tool, "arguments": arguments.given(pairs, text, definition)}
    result: dict[str, Any] = msgspec.json.decode(await client.request("tools/call", wanted))
    return result


def _file(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from None


def show(result: dict[str, Any], form: str) -> None:
    """Print a result: its texts, or all of it for a program."""
    if form in ("json", "yaml"):
        output.data(result, form)
        return
    content = result.get("content", [])
    for each in content:
        click.echo(block(each))
    if not content and "structuredContent" in result:
        output.data(result["structuredContent"], "json")


def block(each: Any) -> str:
    """A piece of content for a terminal: texts as they are but for what would act on the terminal."""
    if not isinstance(each, dict):
        return output.plain(each)
    inner = each.get("resource", each)
    if "text" in inner:
        return readable(inner["text"])
    size = len(str(inner.get("data", inner.get("blob", "")))) * 3 // 4
    about = inner.get("mimeType") or each.get("type", "content")
    return f"[{output.plain(about)}{f', {size} bytes' if size else ''} {output.plain(inner.get('uri'))}]".replace(
        " ]", "]"
    )


def readable(text: Any) -> str:
    """Text with its lines and tabs, without other control characters."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in str(text))
