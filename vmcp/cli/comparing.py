"""What ``plan`` and ``diff`` share: two configurations, what their backends offer, and how it is told.

The rule: a backend that both configurations have alike is asked once, so nothing differs by chance.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast, get_args
from urllib.parse import urlsplit

import click
import uvloop

from vmcp.cli import files, logs
from vmcp.config.model import BackendSpec, Config, Limits
from vmcp.config.values import Concealed
from vmcp.routing import saved, surface, telling
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog
from vmcp.routing.plan import Plan
from vmcp.routing.surface import Sheet

SAME, DIFFERS, UNAVAILABLE = 0, 1, 69
TOKEN = "VMCP_TOKEN"
WAIT = 30.0
"""Seconds for backends to answer."""

Catalogs = Mapping[str, Catalog]

form = click.option(
    "--output",
    "form",
    type=click.Choice(get_args(telling.Form)),
    default="text",
    show_default=True,
    help="How it is told.",
)
wait = click.option("--wait", default=WAIT, show_default=True, help="Seconds for the backends to answer.")
given = click.option(
    "--catalogs",
    "given",
    multiple=True,
    metavar="FILE",
    help="What backends offer, from a file that plan --save has made, instead of asking them. Given twice: before and after.",
)


@dataclass(frozen=True, slots=True)
class Side:
    """A configuration, and how its file is called; no configuration: there was nothing before."""

    name: str
    config: Config | None

    def sheets(self, catalogs: Catalogs) -> dict[str, Sheet]:
        """What clients see."""
        return {} if self.config is None else surface.surface(self.config, build(1, self.config, catalogs))


def side(paths: Sequence[str]) -> Side:
    """The configuration of these files. Ends the process where it cannot be used."""
    return Side(" + ".join(paths), files.configuration(files.read(paths)))


def catalogs(old: Config | None, new: Config, given: Sequence[str], wait: float) -> tuple[Catalogs, Catalogs]:
    """What the backends of both offer: from files, or asked now."""
    if len(given) > 2:
        raise click.UsageError(
            "--catalogs may be given twice at most: what was offered before, and what is offered now"
        )
    if given:
        found = [_saved(path) for path in given]
        return found[0], found[-1]
    logs.configure("error", "auto")
    return _asked(old, new, wait)


def _saved(path: str) -> Catalogs:
    try:
        return saved.parse(Path(path).read_bytes())
    except OSError as error:
        raise files.Unreadable(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise click.UsageError(f"{path} is no file of plan --save: {error}") from None


def _asked(old: Config | None, new: Config, wait: float) -> tuple[Catalogs, Catalogs]:
    from vmcp.server import probe

    now = uvloop.run(probe.catalogs(new.backends, new.server.limits, wait))
    if old is None:
        return now, now
    others = [spec for spec in old.backends if spec not in new.backends]
    before = {spec.name: now[spec.name] for spec in old.backends if spec not in others and spec.name in now}
    return {**before, **uvloop.run(probe.catalogs(others, old.server.limits, wait))}, now


def running(url: str, wait: float) -> Sheet:
    """What an instance serves at ``url`` to whoever has the token of the environment. Ends the process if it does not answer."""
    from vmcp.server import probe

    said = urlsplit(url)
    if said.scheme not in ("http", "https") or not said.netloc:
        raise click.UsageError("--url is no URL: write for example http://127.0.0.1:4483/mcp")
    logs.configure("error", "auto")
    token = os.environ.get(TOKEN)
    headers = {"Authorization": Concealed(f"Bearer {token}")} if token else {}
    spec = BackendSpec("running", "running", "streamable-http", url=url, headers=headers)
    found = uvloop.run(probe.catalogs([spec], Limits(), wait))
    if "running" not in found:
        hint = "" if token else f" If it asks who you are, set {TOKEN}."
        click.echo(f"vmcp: nothing that speaks MCP answers at {url}.{hint}", err=True)
        sys.exit(UNAVAILABLE)
    return surface.served(said.path, found["running"])


def show(plan: Plan, form: str) -> NoReturn:
    """Print a plan, and end the process with its exit code."""
    click.echo(telling.render(plan, cast("telling.Form", form)), nl=False)
    sys.exit(DIFFERS if not plan.same else UNAVAILABLE if plan.silent else SAME)
