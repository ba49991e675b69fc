"""``vmcp info``: all that is known of one backend of a running instance."""

from typing import Any
from urllib.parse import quote

import click

from vmcp.cli import instance, output


@click.command()
@click.argument("name", required=False, shell_complete=instance.names("backends", "backends"))
@instance.option
@output.option
def command(name: str | None, where: str | None, form: str) -> None:
    """Tell all about the backend NAME: its health, its circuit breaker, its last words, what becomes of what it offers.

    Without NAME of the only backend that there is.

    Exit codes: 0 done, 1 there is no such backend, 3 it does not let you in, 4 there is no instance.
    """
    found = instance.find(where)
    backend = found.get(f"backends/{quote(name or _only(found), safe='')}")
    if form == "name":
        click.echo(output.plain(backend["name"]))
    elif form != "table":
        output.data(backend, form)
    else:
        _show(backend)


_PLACE = ("worker", "replica")
"""What says which of several connections to a backend is meant."""


def _only(found: instance.Instance) -> str:
    names: list[str] = [each["name"] for each in found.get("backends")["backends"]]
    if len(names) != 1:
        raise click.UsageError(f"name one of the backends: {', '.join(names)}")
    return names[0]


def _show(backend: dict[str, Any]) -> None:
    facts = dict(backend["facts"])
    keys = ("name", "group", "transport", "protocolVersion", "state", "health", "why", "isolation", "required", "tags")
    output.facts({key: backend[key] for key in keys if backend[key] not in ("", None, [])})
    for place in facts.pop("replicas", ()):
        where = ", ".join(f"{key} {place[key]}" for key in _PLACE if key in place)
        click.echo(f"\n{where}")
        _facts(place)
    click.echo()
    _facts(facts)
    click.echo()
    output.rows(backend["offers"], ["kind", "original", "name", "state", "why"], "table")


def _facts(found: dict[str, Any]) -> None:
    flat: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{below}": each for below, each in value.items()}
        elif key not in ("health", "stderr", *_PLACE):
            flat[key] = value
    output.facts(flat)
    if found.get("stderr"):
        click.echo("\nlast words on stderr")
        for line in found["stderr"]:
            click.echo(f"  {output.plain(line)}")
