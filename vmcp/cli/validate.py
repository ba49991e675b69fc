"""``vmcp validate``: everything that is wrong with a configuration, in one run.

The rule: it calls what ``serve`` calls, so what it accepts, ``serve`` starts.
"""

import os
import sys
from typing import get_args

import click

from vmcp.cli import files
from vmcp.config.load import load
from vmcp.config.model import Config
from vmcp.config.report import Form
from vmcp.errors import ConfigError, Problem

OK, BAD_CONFIG = 0, 78


@click.command()
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
def command(paths: tuple[str, ...], form: Form | None, strict: bool) -> None:
    """Check a configuration and say everything that is wrong with it.

    Exit codes: 0 good, 78 bad configuration, 66 no such file, 2 usage.
    """
    form = form or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")
    read = files.read(paths or ("vmcp.yaml",))
    config, problems = _checked(read)
    if problems or form in ("json", "sarif"):
        files.complain(problems, read, form)
    failed = config is None or (strict and bool(problems))
    if form == "text" and (failed or problems):
        click.echo(_count(problems), err=True)
    if config is not None and not failed and form in ("text", "github"):
        click.echo(_summary(config))
    sys.exit(BAD_CONFIG if failed else OK)


def _checked(read: list[tuple[str, str]]) -> tuple[Config | None, tuple[Problem, ...]]:
    try:
        return load(read, os.environ)
    except ConfigError as error:
        return None, error.problems


def _count(problems: tuple[Problem, ...]) -> str:
    errors = sum(problem.severity == "error" for problem in problems)
    counts = ((errors, "error"), (len(problems) - errors, "warning"))
    return ", ".join(_many(count, word) for count, word in counts if count)


def _many(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")


def _summary(config: Config) -> str:
    groups = ", ".join(f"{name} ({_many(len(group.backends), 'backend')})" for name, group in config.groups.items())
    return f"ok: {config.name}: {_many(len(config.groups), 'group')}: {groups}"
