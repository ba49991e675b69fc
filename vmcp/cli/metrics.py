"""``vmcp metrics``: what a running instance has counted."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from vmcp.cli import instance, output


@click.command()
@click.argument("what", type=click.Choice(["show"]), required=False, expose_value=False)
@instance.option
@output.option
def command(where: str | None, form: str) -> None:
    """Print what was counted. `metrics show` is the same.

    Exit codes: 0 done, 3 it does not let you in, 4 there is none.
    """
    found = instance.find(where).get("metrics")["metrics"]
    if form in ("json", "yaml"):
        output.data(found, form)
    else:
        output.rows([{"name": name, "value": value} for name, value in _flat(found)], ["name", "value"], form)


def _flat(found: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in found.items():
        name = f"{before}.{key}" if before else key
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value
