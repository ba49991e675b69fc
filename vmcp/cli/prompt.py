"""``vmcp prompt``: get a prompt, as a client would get it."""

from typing import Any

import click
import msgspec

from vmcp.cli import arguments, instance, output, target
from vmcp.cli.call import block
from vmcp.server.within import Insider


@click.command()
@click.argument("name", required=False, shell_complete=instance.names("prompts", "prompts"))
@click.argument("pairs", metavar="[NAME=VALUE]...", nargs=-1)
@target.options
@output.option
def command(name: str | None, pairs: tuple[str, ...], form: str, **meant: Any) -> None:
    """Get the prompt NAME; without it, list all prompts.

    Exit codes: 0 done, 2 no such prompt, 3 not let in, 4 nobody there, 5 it failed.
    """
    found = target.of(**meant)
    if name is None:
        rows = target.run(found, lambda client: client.listed("prompts/list", "prompts"))
        output.rows(rows, ["name", "description"], form)
        return
    result = target.run(found, lambda client: _got(client, name, pairs))
    if form in ("json", "yaml"):
        output.data(result, form)
    else:
        for message in result.get("messages", []):
            click.echo(f"{output.plain(message.get('role'))}: {block(message.get('content'))}")


async def _got(client: Insider, name: str, pairs: tuple[str, ...]) -> dict[str, Any]:
    prompt = arguments.named(await client.listed("prompts/list", "prompts"), name)
    asked = {each["name"]: {"type": "string"} for each in prompt.get("arguments", [])}
    needed = [each["name"] for each in prompt.get("arguments", []) if each.get("required")]
    schema = {"name": name, "inputSchema": {"properties": asked, "required": needed}}
    wanted = {"name": name, "arguments": arguments.given(pairs, None, schema)}
    result: dict[str, Any] = msgspec.json.decode(await client.request("prompts/get", wanted))
    return result
