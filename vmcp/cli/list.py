"""``vmcp list``: what a running instance has: backends, what they offer, who is connected."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from vmcp.cli import instance, output

COLUMNS = {
    "backends": ["name", "group", "transport", "protocolVersion", "state", "health", "breakers", "tools", "why"],
    "groups": ["name", "path", "url", "tools", "prompts", "resources", "tokens", "missing"],
    "tools": ["name", "group", "backend", "tokens", "description"],
    "prompts": ["name", "group", "backend", "description"],
    "resources": ["name", "group", "backend", "title"],
    "templates": ["name", "group", "backend", "title"],
    "sessions": ["id", "path", "protocolVersion", "client", "subject", "ageSeconds", "idleSeconds", "calls", "streams"],
}
_NARROW = 60


@click.command()
@click.argument("kind", type=click.Choice(list(COLUMNS)), default="backends")
@click.option("--endpoint", metavar="PATH", help="Only what is listed there, as /mcp.")
@instance.option
@output.option
def command(kind: str, endpoint: str | None, where: str | None, form: str) -> None:
    """List what a running instance has.

    Exit codes: 0 done, 3 it does not let you in, 4 there is none.
    """
    found = instance.find(where)
    rows = _groups(found) if kind == "groups" else _things(found, kind, endpoint)
    shown = [_narrow(each) for each in rows] if form == "table" else rows
    output.rows(shown, columns(kind, rows), form, name="id" if kind == "sessions" else "name")


def columns(kind: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a table of them shows; of several workers whose each is."""
    return [*COLUMNS[kind], *(["worker"] if any("worker" in each for each in rows) else [])]


def _things(found: instance.Instance, kind: str, endpoint: str | None) -> list[dict[str, Any]]:
    key = "resourceTemplates" if kind == "templates" else kind
    below = f"?path={quote(endpoint, safe='')}" if endpoint is not None else ""
    things: list[dict[str, Any]] = found.get(key + below)[key]
    return things


def _groups(found: instance.Instance) -> list[dict[str, Any]]:
    return [{"name": each["group"], **each} for each in found.get("status")["endpoints"]]


def _narrow(each: Mapping[str, Any]) -> dict[str, Any]:
    """For a table: texts that others wrote are cut."""
    short = {}
    for key, value in each.items():
        text = output.plain(value)
        short[key] = f"{text[: _NARROW - 1]}…" if key in ("description", "why") and len(text) > _NARROW else value
    return short
