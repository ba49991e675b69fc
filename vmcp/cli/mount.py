"""``vmcp mount``: put a backend into the configuration file, and let the running instance take it in.

The rule: the file is the truth. It is edited with its comments, checked before it is written, and written in one go.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from vmcp.cli import edit, files, fragment, instance, output
from vmcp.cli.edit import Uneditable
from vmcp.config.load import load
from vmcp.errors import ConfigError, Problem


@click.command()
@click.argument("name", metavar="NAME|FILE")
@click.argument("program", metavar="[-- COMMAND...]", nargs=-1)
@click.option("--url", help="Where it is, if it is no program.")
@click.option("--group", help="Into this group; there may be only one.")
@click.option(
    "--header", "-H", "headers", multiple=True, metavar="NAME=VALUE", help="With --url; write ${VAR} for secrets."
)
@click.option(
    "--env", "-e", "env", multiple=True, metavar="NAME=VALUE", help="For a program; write ${VAR} for secrets."
)
@click.option("--config", "-c", "path", help="The file.  [default: that of the running instance, or vmcp.yaml]")
@instance.option
def command(name: str, program: tuple[str, ...], url: str | None, group: str | None, **more: Any) -> None:
    """Add the backend NAME, a URL or a program, to the configuration file, and reload; or all backends of FILE (.yaml, .json), in
    their groups.

    Exit codes: 0 done, 2 usage or a file that has to be edited by hand, 66 no such file, 78 it would be no good configuration.
    """
    if url is None and not program and fragment.is_file(name):
        _mount(name, group, more)
        return
    if (url is None) == (not program):
        raise click.UsageError("give --url URL, or -- and a command")
    backend: dict[str, Any] = {"url": url} if url is not None else {"command": [*program]}
    for key, option, fits in (("headers", "--header", url is not None), ("env", "--env", url is None)):
        if more[key] and not fits:
            raise click.UsageError(f"{option} goes with {'a command' if key == 'env' else '--url'}")
        if more[key]:
            backend[key] = dict(_pair(each) for each in more[key])
    change(more["path"], more["where"], lambda text: edit.put(text, group, name, backend))
    click.echo(f"mounted {name}", err=True)


def _mount(path: str, group: str | None, more: Mapping[str, Any]) -> None:
    """All that stands in a file."""
    if more["headers"] or more["env"]:
        raise click.UsageError("--header and --env go with one backend, and not with a file")
    try:
        found = fragment.read(path)
    except Uneditable as why:
        raise click.UsageError(output.plain(f"{path}: {why}")) from None
    change(more["path"], more["where"], lambda text: fragment.put(text, found, group))
    click.echo(f"mounted {', '.join(fragment.names(found))}", err=True)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"'{name}' is not NAME=VALUE")
    return name, value


def change(path: str | None, where: str | None, edited: Callable[[str], str]) -> None:
    """Change a file, and let its instance reload. Ends the process where that cannot be."""
    found = _instance(where)
    known: list[str] = found.get("config")["files"] if found is not None else []
    if path is None and len(known) > 1:
        raise click.UsageError(f"name the file with --config: {', '.join(known)}")
    file = Path(path or (known[0] if known else "vmcp.yaml")).absolute()
    together = known if str(file) in known else [str(file)]
    before = files.read(together)
    try:
        after = [(name, edited(text) if name == str(file) else text) for name, text in before]
    except Uneditable as why:
        raise click.UsageError(output.plain(f"{file}: {why}")) from None
    worse = _worse(before, after)
    if worse:
        files.complain(worse, after)
        sys.exit(files.BAD_CONFIG)
    _write(file.resolve(), next(text for name, text in after if name == str(file)))
    if found is not None and together is known:
        _reloaded(found)


def _instance(where: str | None) -> instance.Instance | None:
    """The one that is meant; without ``where`` there may be none."""
    return instance.find(where) if where is not None or instance.running() else None


def _worse(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> list[Problem]:
    """The errors that were not there before: what this shell does not know, the instance may."""
    known = {(problem.path, problem.message) for problem in _problems(before)}
    return [problem for problem in _problems(after) if (problem.path, problem.message) not in known]


def _problems(texts: Sequence[tuple[str, str]]) -> list[Problem]:
    try:
        load(texts, os.environ)
    except ConfigError as error:
        return [problem for problem in error.problems if problem.severity == "error"]
    return []


def _write(file: Path, text: str) -> None:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        number, beside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(number, "w", encoding="utf-8", errors="surrogateescape", newline="") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        Path(beside).chmod(mode)
        Path(beside).replace(file)
    except OSError as error:
        raise files.Forbidden(f"{file} cannot be written: {error.strerror}") from None


def _reloaded(found: instance.Instance) -> None:
    told = found.ask("POST", "reload", {}, instance.LONG)
    for problem in told["problems"]:
        click.echo(f"  {output.plain(problem)}", err=True)
    if told["result"] == "rejected":
        click.echo("vmcp: the file is written, and the instance does not take it", err=True)
        sys.exit(files.BAD_CONFIG)
