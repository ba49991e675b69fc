"""``vmcp status``: how a running instance is, in one screen."""

from collections.abc import Mapping
from typing import Any, Final

import click

from vmcp.cli import instance, output

WORKERS: Final = [
    "worker",
    "pid",
    "status",
    "up for",
    "connections",
    "sessions",
    "in flight",
    "memory",
    "restarts",
    "config",
]


@click.command()
@instance.option
@output.option
def command(where: str | None, form: str) -> None:
    """Say how a running instance is.

    Exit codes: 0 it runs, 3 it does not let you in, 4 there is none.
    """
    found = instance.find(where).get("status")
    if form == "name":
        click.echo(output.plain(found["name"]))
    elif form != "table":
        output.data(found, form)
    else:
        _show(found)


def _show(found: dict[str, object]) -> None:
    backends, config = found["backends"], found["config"]
    assert isinstance(backends, dict)
    assert isinstance(config, dict)
    waiting = found["waitingFor"]
    facts = {
        "name": found["name"],
        "status": found["status"],
        **({"waiting for": waiting} if waiting else {}),
        "version": found["version"],
        "pid": found["pid"],
        "up for": lasting(float(str(found["uptimeSeconds"]))),
        "config": f"{config['digest']}{_reloads(config['reloads'])}",
        "backends": f"{backends['healthy']} of {backends['total']} healthy",
        "sessions": found["sessions"],
        "in flight": found["requestsInFlight"],
    }
    output.facts(facts)
    workers, endpoints = found.get("workers"), found["endpoints"]
    if isinstance(workers, list) and workers:
        click.echo()
        output.rows([_worker(each) for each in workers], WORKERS, "table")
    assert isinstance(endpoints, list)
    click.echo()
    columns = ["url", "group", "tools", "prompts", "resources", "tokens", "missing"]
    output.rows(endpoints, columns, "table")
    for each in endpoints:
        for kept in each["quarantined"]:
            click.echo(f"{each['path']}: {output.plain(kept['name'])} of {kept['backend']} is kept out: {kept['why']}")


def _worker(each: Mapping[str, Any]) -> dict[str, Any]:
    """For a table."""
    told = {"worker": each["index"], **each, "in flight": each.get("requestsInFlight")}
    if "rssBytes" in each:
        told |= {"memory": f"{each['rssBytes'] / (1 << 20):.0f} MiB", "up for": lasting(each["ageSeconds"])}
    return told


def _reloads(counts: dict[str, int]) -> str:
    told = ", ".join(f"{count} {result}" for result, count in counts.items())
    return f" (reloads: {told})" if told else ""


def lasting(seconds: float) -> str:
    """A time in words."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
