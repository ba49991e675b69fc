"""``vmcp lock``: pin what backends offer, see what has changed since, approve it.

The rule: what is in the lock file changes only for what somebody named or saw: writing it anew over another one is refused.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from vmcp.cli import comparing, files
from vmcp.config import lock as lockfile
from vmcp.config.lock import Pinned, Pins
from vmcp.config.model import Config
from vmcp.routing import lock, members
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.lock import INSTRUCTIONS, WORDS, Drift
from vmcp.routing.telling import SIGNS
from vmcp.routing.words import NAME, visible
from vmcp.server import locked

SAME, DIFFERS, UNAVAILABLE = comparing.SAME, comparing.DIFFERS, comparing.UNAVAILABLE
_SHOWN = 400
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _Stand:
    """The lock file and what backends offer. ``pins`` None: there is no such file."""

    config: Config
    pins: Pins | None
    catalogs: comparing.Catalogs
    drifts: tuple[Drift, ...]
    silent: tuple[str, ...]

    @property
    def file(self) -> str:
        return self.config.lock.file


@dataclass(frozen=True, slots=True)
class _Options:
    """What all verbs understand, before or after their name."""

    paths: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    wait: float = comparing.WAIT

    def beside(self, before: "_Options") -> "_Options":
        """With what was said before the name of the verb, where nothing else is said after it."""
        wait = before.wait if self.wait == comparing.WAIT else self.wait
        return _Options(self.paths or before.paths, self.given or before.given, wait)


def _options(verb: F) -> F:
    config = click.option("--config", "-c", "paths", multiple=True, help="A configuration file.  [default: vmcp.yaml]")
    return config(comparing.given(comparing.wait(verb)))


@click.group(invoke_without_command=True)
@_options
@click.pass_context
def command(context: click.Context, paths: tuple[str, ...], given: tuple[str, ...], wait: float) -> None:
    """Write the lock file: the definitions of all tools, prompts and templates as they are now, by their hashes.

    Exit codes: 0 written or as it was, 1 there is one and something differs, 69 a backend did not answer, 78 bad
    configuration, 66 no such file, 2 usage.
    """
    context.obj = _Options(paths, given, wait)
    if context.invoked_subcommand is None:
        sys.exit(_written(_stand(context.obj)))


def _written(stand: _Stand) -> int:
    if stand.silent:
        return _unanswered(stand)
    if stand.pins is not None and stand.drifts:
        _list(stand.drifts)
        click.echo(f"{stand.file} says otherwise; look with: vmcp lock diff, then: vmcp lock approve", err=True)
        return DIFFERS
    if stand.pins is not None:
        click.echo(f"{stand.file}: everything is as it was locked")
        return SAME
    made = {name: lock.pinned(catalog) for name, catalog in stand.catalogs.items()}
    _write(stand, made)
    click.echo(f"{stand.file}: {_count(made)}")
    if stand.config.lock.policy == "off":
        click.echo("nothing is enforced yet: add lock: {policy: quarantine} to the configuration", err=True)
    return SAME


@command.command("diff")
@click.option("--output", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_options
@click.pass_obj
def difference(before: _Options, form: str, paths: tuple[str, ...], given: tuple[str, ...], wait: float) -> None:
    """Say what is not as it was locked.

    Exit codes: 0 nothing, 1 something, 69 nothing as far as backends answered.
    """
    stand = _existing(_Options(paths, given, wait).beside(before))
    if form == "json":
        click.echo(json.dumps(_data(stand), indent=2))
    else:
        for drift in stand.drifts:
            _list([drift])
            for line in _details(drift, stand.catalogs.get(drift.backend)):
                click.echo(f"    {line}")
        if not stand.drifts:
            click.echo("everything is as it was locked")
    code = _unanswered(stand) if stand.silent else SAME
    sys.exit(DIFFERS if stand.drifts else code)


@command.command()
@click.argument("names", nargs=-1)
@_options
@click.pass_obj
def approve(
    before: _Options, names: tuple[str, ...], paths: tuple[str, ...], given: tuple[str, ...], wait: float
) -> None:
    """Take what is offered now into the lock file: all of it, or of NAMES alone.

    A name is that of a backend, or BACKEND/NAME with the name that the backend itself gives to a tool, prompt or template.
    """
    stand = _existing(_Options(paths, given, wait).beside(before))
    wanted = [drift for drift in stand.drifts if not names or _names(drift) & set(names)]
    unknown = sorted(set(names) - {each for drift in stand.drifts for each in _names(drift)})
    if unknown:
        raise click.UsageError(f"nothing has changed that is called {', '.join(unknown)}; look with: vmcp lock diff")
    assert stand.pins is not None
    if wanted:
        _write(stand, lock.approved(stand.pins, stand.catalogs, wanted))
        _list(wanted)
    click.echo(f"{stand.file}: {len(wanted)} approved")
    if stand.silent:
        sys.exit(_unanswered(stand))


def _names(drift: Drift) -> set[str]:
    return {drift.backend, f"{drift.backend}/{drift.name or INSTRUCTIONS}"}


def _stand(options: _Options) -> _Stand:
    config = files.configuration(files.read(options.paths or _default()), pinned=False)
    _, catalogs = comparing.catalogs(None, config, options.given, options.wait)
    present = [spec.name for spec in config.backends]
    mine = {name: catalogs[name] for name in present if name in catalogs}
    silent = tuple(name for name in present if name not in mine)
    pins = _pins(config.lock.file)
    known = pins or Pins()
    changed = [drift for catalog in mine.values() for drift in lock.drifts(known, catalog)]
    return _Stand(config, pins, mine, (*changed, *lock.gone(known, mine, present)), silent)


def _default() -> Sequence[str]:
    return os.environ.get("VMCP_CONFIG", "").split() or ["vmcp.yaml"]


def _pins(path: str) -> Pins | None:
    try:
        return locked.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise files.Unreadable(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        click.echo(f"vmcp: {path} is no lock file: {error}", err=True)
        sys.exit(files.BAD_CONFIG)


def _existing(options: _Options) -> _Stand:
    stand = _stand(options)
    if stand.pins is None:
        raise files.Unreadable(f"no such file: {stand.file}. Write it with: vmcp lock")
    return stand


def _write(stand: _Stand, backends: Mapping[str, Pinned]) -> None:
    try:
        locked.write(stand.file, lockfile.text(backends))
    except OSError as error:
        raise files.Forbidden(f"{stand.file} cannot be written: {error.strerror}.") from None


def _unanswered(stand: _Stand) -> int:
    for name in stand.silent:
        click.echo(f"vmcp: backend '{name}' did not answer: what it offers is not known", err=True)
    return UNAVAILABLE


def _count(made: Mapping[str, Pinned]) -> str:
    counts = [
        (sum(len(each.tools) for each in made.values()), "tools"),
        (sum(len(each.prompts) for each in made.values()), "prompts"),
        (sum(len(each.resource_templates) for each in made.values()), "templates"),
    ]
    return ", ".join(f"{count} {word}" for count, word in counts) + f" of {len(made)} backends"


def _list(drifts: Sequence[Drift]) -> None:
    for drift in drifts:
        what = (
            f"{WORDS[drift.kind]} {drift.backend}/{drift.name}"
            if drift.kind in WORDS
            else f"instructions of {drift.backend}"
        )
        fields = f": {', '.join(drift.fields)}" if drift.fields else ""
        click.echo(f"{SIGNS[drift.change]} {visible(what + fields, NAME)}")


def _details(drift: Drift, catalog: Catalog | None) -> list[str]:
    """The words that are new, for whoever approves them."""
    if drift.now is None or catalog is None:
        return []
    if drift.kind == INSTRUCTIONS:
        return [f"now: {visible(catalog.instructions, _SHOWN)}"]
    (raw,) = [entry.raw for entry in catalog.entries[Kind(drift.kind)] if entry.name == drift.name]
    parts = members.split(raw) or {}
    shown = drift.fields if drift.pinned is not None else tuple(key for key in ("title", "description") if key in parts)
    return [
        f"{visible(key, NAME)} now: {visible(bytes(parts[key]).decode(errors='replace'), _SHOWN) if key in parts else 'nothing'}"
        for key in shown
    ]


def _data(stand: _Stand) -> dict[str, object]:
    listed = [
        {
            "backend": drift.backend,
            "kind": drift.kind,
            "name": drift.name,
            "change": drift.change,
            "fields": list(drift.fields),
            "pinned": drift.pinned,
            "now": drift.now,
        }
        for drift in stand.drifts
    ]
    return {"file": stand.file, "same": not listed, "unanswered": list(stand.silent), "differences": listed}
