"""``vmcp read``: read a resource, as a client would."""

from typing import Any

import click
import msgspec

from vmcp.cli import output, target
from vmcp.cli.call import block
from vmcp.server.within import Insider


@click.command()
@click.argument("uri", required=False)
@target.options
@output.option
def command(uri: str | None, form: str, **meant: Any) -> None:
    """Read the resource URI; without it, list all resources.

    Exit codes: 0 done, 3 not let in, 4 nobody there, 5 it failed.
    """
    found = target.of(**meant)
    if uri is None:
        rows = target.run(found, lambda client: client.listed("resources/list", "resources"))
        output.rows(rows, ["uri", "name", "mimeType"], form, name="uri")
        return
    result = target.run(found, lambda client: _read(client, uri))
    if form in ("json", "yaml"):
        output.data(result, form)
    else:
        for each in result.get("contents", []):
            click.echo(block(each))


async def _read(client: Insider, uri: str) -> dict[str, Any]:
    result: dict[str, Any] = msgspec.json.decode(await client.request("resources/read", {"uri": uri}))
    return result
