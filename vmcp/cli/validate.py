"""``vmcp validate``: everything that is wrong with a configuration, in one run.

The rule: it calls what ``serve`` calls, so what it accepts, ``serve`` starts.
"""

import os
import sys
from collections.abc import Iterator
from typing import get_args

import click
from click.core import ParameterSource

from vmcp.cli import files
from vmcp.config import toolhive
from vmcp.config.load import Loaded
from vmcp.config.model import Config
from vmcp.config.report import Form
from vmcp.errors import ConfigError, Problem
from vmcp.server import locked

OK, BAD_CONFIG = 0, 78
BUDGET = 25_000


@click.command()
@click.argument("each", nargs=-1, metavar="[FILE]...")
@click.option(
    "--config",
    "-c",
    "paths",
    multiple=True,
    metavar="FILE",
    envvar="VMCP_CONFIG",
    help="A configuration file; later ones merge over earlier ones.  [default: vmcp.yaml]",
)
@click.option(
    "--output",
    "form",
    type=click.Choice(get_args(Form)),
    help="How problems are printed; github where GITHUB_ACTIONS is true, else text.",
)
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option("--probe", is_flag=True, help="Ask the backends too, and warn of what clients will have trouble with.")
@click.option("--wait", default=30.0, show_default=True, help="Seconds for the backends to answer.")
@click.option("--budget", type=click.IntRange(1), default=BUDGET, show_default=True, help="Tokens that tools may cost.")
def command(
    each: tuple[str, ...],
    paths: tuple[str, ...],
    form: Form | None,
    strict: bool,
    probe: bool,
    wait: float,
    budget: int,
) -> None:
    """Check a configuration and say everything that is wrong with it.

    Each FILE is a configuration of its own; those of --config are one together.

    Exit codes: 0 good, 78 bad configuration, 66 no such file, 2 usage.
    """
    if each and click.get_current_context().get_parameter_source("paths") is ParameterSource.COMMANDLINE:
        raise click.UsageError("FILE and --config exclude each other: files that are merged are all named by --config")
    form = form or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")
    wholes = [files.read([path]) for path in each] or [files.read(paths or ("vmcp.yaml",))]
    problems: tuple[Problem, ...] = ()
    good: list[Config] = []
    for read in wholes:
        found, wrong = _checked(read)
        if probe and found is not None:
            wrong = (*wrong, *_probed(found, wait, budget))
        good += [] if found is None or (strict and wrong) else [found.config]
        problems += wrong
    failed = len(good) < len(wholes)
    if problems or form not in ("text", "github"):
        files.complain(problems, [file for read in wholes for file in read], form)
    if form == "text" and (failed or problems):
        click.echo(_count(problems), err=True)
    if not failed and form in ("text", "github"):
        for config in good:
            click.echo(_summary(config))
    sys.exit(BAD_CONFIG if failed else OK)


def _checked(read: list[tuple[str, str]]) -> tuple[Loaded | None, tuple[Problem, ...]]:
    try:
        found = locked.load(read, os.environ)
    except ConfigError as error:
        return None, error.problems
    return found, found.warnings


def _probed(found: Loaded, wait: float, budget: int) -> Iterator[Problem]:
    """What shows when the backends are asked, each where the backend or the group stands in the file."""
    import uvloop

    from vmcp.cli import logs
    from vmcp.routing.build import build
    from vmcp.routing.lints import lints
    from vmcp.server import probe

    logs.configure("error", "auto")
    config, document = found.config, found.document
    catalogs = uvloop.run(probe.catalogs(config.backends, config.server.limits, wait))
    entries = {entry.name: entry.path for entry in toolhive.entries(document.data)}
    groups = toolhive.group_names(document.data)
    for lint in lints(config, build(1, config, catalogs), catalogs, budget):
        place = entries[lint.backend] if lint.backend is not None else groups[lint.group or ""]
        yield document.problem(lint.rule, place, lint.what, lint.hint, key=True, severity="warning")


def _count(problems: tuple[Problem, ...]) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    counts = ((errors, "error"), (len(problems) - errors, "warning"))
    return ", ".join(_many(count, word) for count, word in counts if count)


def _many(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _summary(config: Config) -> str:
    groups = ", ".join(f"{name} ({_many(len(group.backends), 'backend')})" for name, group in config.groups.items())
    return f"ok: {config.name}: {_many(len(config.groups), 'group')}: {groups}"
