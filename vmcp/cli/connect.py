"""``vmcp connect``: vmcp in the configuration of a client: what to put there, put there, looked after, taken out again.

The rule: without --write and --remove nothing is changed; what is changed is shown, and what was there before is kept.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmcp import outset

if TYPE_CHECKING:
    from vmcp.cli.clientfiles import Held
    from vmcp.clients.table import Client

OK, DIFFERENT, UNAVAILABLE, CANNOT_CREATE, BAD_CONFIG = 0, 1, 69, 73, 78
DEFAULT = "http://127.0.0.1:4483/mcp"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a client's file: which file, what entry, and the URL behind it if there is one."""

    client: "Client"
    held: "Held"
    entry: dict[str, Any]
    url: str | None
    token: str | None

    @property
    def path(self) -> tuple[str, ...]:
        """Where the entry stands."""
        from vmcp.clients.table import NAME

        return (*self.client.root, NAME)


@click.command()
@click.argument("client", required=False)
@click.option("--write", is_flag=True, help="Put the entry into the client's file.")
@click.option(
    "--replace", is_flag=True, help="With --write: in the place of an older one, and of all servers that vmcp serves."
)
@click.option("--check", is_flag=True, help="Say whether the entry is there, and whether vmcp answers.")
@click.option("--remove", is_flag=True, help="Take the entry out again.")
@click.option("--url", help="Where vmcp is.  [default: as the configuration says, else http://127.0.0.1:4483/mcp]")
@click.option("--group", help="The group to connect to, instead of groupRef.")
@click.option(
    "--stdio", is_flag=True, help="The client starts vmcp: with --url a bridge, else it serves the configuration."
)
@click.option("--token-env", metavar="NAME", help="Send the bearer token in this environment variable of the client.")
@click.option("--scope", type=click.Choice(["user", "project"]), default="user", show_default=True, help="Which file.")
@click.option(
    "--config", "-c", "config", envvar="VMCP_CONFIG", help="The configuration.  [default: vmcp.yaml if it is there]"
)
def command(client: str | None, write: bool, replace: bool, check: bool, remove: bool, **options: Any) -> None:
    """Print what a client needs to use vmcp, or put it into the client's own file.

    Without CLIENT: which clients there are, and where vmcp is in them.

    Exit codes: 0 done, 1 not there or different, 69 it does not answer, 73 the file cannot be changed, 78 a file is wrong,
    2 usage.
    """
    if sum((write, check, remove)) > 1 or (replace and not write):
        raise click.UsageError("give one of --write, --check and --remove; --replace goes with --write")
    if client is None:
        _list()
        return
    wanted = _guarded(lambda: _wanted(client, **options))
    if write:
        _guarded(lambda: _write(wanted, options["config"] if replace else None, replace=replace))
    elif check:
        sys.exit(_guarded(lambda: _check(wanted)))
    elif remove:
        _guarded(lambda: _remove(wanted, options["config"]))
    else:
        _print(wanted)


def _guarded(work: Any) -> Any:
    from vmcp.cli.clientfiles import Stopped
    from vmcp.cli.files import complain
    from vmcp.clients.edit import NotEditable
    from vmcp.errors import ConfigError

    try:
        return work()
    except ConfigError as error:
        complain(error.problems, ())
        sys.exit(BAD_CONFIG)
    except NotEditable as why:
        raise Stopped(f"{why}; put the entry there by hand: vmcp connect prints it", CANNOT_CREATE) from None


def _wanted(
    name: str, url: str | None, group: str | None, stdio: bool, token_env: str | None, scope: str, config: str | None
) -> Wanted:
    from vmcp.clients.table import BY_NAME, entry

    client = BY_NAME.get(name)
    if client is None:
        raise click.UsageError(f"no client of this name; there are {', '.join(BY_NAME)}")
    if url is not None and group is not None:
        raise click.UsageError("--url says it all; leave --group out")
    held = _held(client, scope)
    own = stdio and url is None
    where, token = (url, token_env) if url is not None else _place(config, group, token_env)
    if own:
        return Wanted(client, held, entry(client, "", None, _program(("--config", *_whole(config, group)))), None, None)
    assert where is not None
    bridge = stdio or client.remote is None or (token is not None and client.token is None)
    words = ("--url", where, *(("--token-env", token) if token else ()))
    return Wanted(client, held, entry(client, where, token, _program(words) if bridge else None), where, token)


def _held(client: "Client", scope: str) -> "Held":
    from vmcp.cli import clientfiles
    from vmcp.clients.table import places

    if scope == "project":
        if client.project is None:
            raise click.UsageError(f"{client.title} has no file in a project")
        return clientfiles.read(Path.cwd() / client.project)
    return clientfiles.read(clientfiles.first(places(client, sys.platform, os.environ, str(Path.home()))))


def _whole(config: str | None, group: str | None) -> tuple[str, ...]:
    path = Path(config or "vmcp.yaml").absolute()
    if not path.is_file():
        raise click.UsageError("--stdio needs the configuration to serve (--config), or --url of a running instance")
    return (str(path), *(("--group", group) if group else ()))


def _program(words: tuple[str, ...]) -> tuple[str, ...]:
    """How this very program is started from anywhere."""
    import shutil

    started = Path(sys.argv[0])
    if started.name in ("vmcp", "vmcp.exe") and not getattr(sys, "frozen", False):
        found = shutil.which(str(started))
        if found is not None:
            return (str(Path(found).absolute()), "stdio", *words)
    return (*outset.ourselves(), "stdio", *words)


def _place(config: str | None, group: str | None, token_env: str | None) -> tuple[str, str | None]:
    """Where the configuration says that vmcp is, and the variable of the token if it wants keys."""
    if config is None and not Path("vmcp.yaml").is_file():
        return DEFAULT if group is None else DEFAULT.replace("/mcp", f"/{group}/mcp"), token_env
    from vmcp.cli import files
    from vmcp.clients.trial import stand_ins
    from vmcp.config.load import load

    ((name, text),) = files.read((config or "vmcp.yaml",))
    found, _ = load([(name, text)], {**stand_ins(text, os.environ), **os.environ})
    if group is not None and group not in found.groups:
        raise click.UsageError(f"there is no group of this name; there are {', '.join(found.groups)}")
    server = found.server
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(server.host, server.host)  # noqa: S104 - what it means for a client
    base = server.public_url or f"http://{f'[{host}]' if ':' in host and host[0] != '[' else host}:{server.port}"
    named = group or (None if found.group_ref is not None else next(iter(found.groups)))
    keys = found.incoming.type == "local" and bool(found.incoming.keys)
    return base.rstrip("/") + (f"/{named}/mcp" if named else "/mcp"), token_env or ("VMCP_TOKEN" if keys else None)


def _print(wanted: Wanted) -> None:
    from vmcp.clients import edit
    from vmcp.clients.table import official

    click.echo(f"{wanted.client.title}: in {wanted.held.label} there has to be", err=True)
    click.echo(edit.put("", wanted.client.form, wanted.path, wanted.entry), nl=False)
    words = official(wanted.client, wanted.url, wanted.token) if wanted.url and _by_url(wanted) else []
    if words:
        import shlex

        click.echo(f"\nThe same by {wanted.client.title} itself:\n  {shlex.join(words)}", err=True)
    click.echo(f"\nOr by vmcp: vmcp connect {wanted.client.name} --write", err=True)
    _hints(wanted)


def _by_url(wanted: Wanted) -> bool:
    return not any(key in wanted.entry for key in ("command", "cmd"))


def _hints(wanted: Wanted) -> None:
    if wanted.token:
        click.echo(f"{wanted.token} has to be set where {wanted.client.title} is started.", err=True)
    if wanted.client.then:
        click.echo(wanted.client.then, err=True)


def _write(wanted: Wanted, config: str | None, *, replace: bool) -> None:
    from vmcp.cli import clientfiles
    from vmcp.clients import edit

    client, held = wanted.client, wanted.held
    text = held.text or ""
    there = edit.at(edit.read(held.label, text, client.form), wanted.path)
    gone = _served(wanted, text, config) if replace else []
    if there == wanted.entry and not gone:
        click.echo(f"{client.title} has vmcp already ({held.label})", err=True)
        return
    if there is not None and there != wanted.entry and not replace:
        message = f"{held.label} has another entry of this name; --replace puts this one in its place"
        raise clientfiles.Stopped(message, DIFFERENT)
    new = _without(text, wanted, gone)
    new = edit.put(new, client.form, wanted.path, wanted.entry)
    _show(wanted, new, wanted.entry)
    if there is None or not held.backup.exists():
        clientfiles.keep(held)
    clientfiles.write(held, new)
    kept = f"; what was there before is {clientfiles.shown(held.backup)}" if held.text is not None else ""
    click.echo(f"wrote {held.label}{kept}", err=True)
    _hints(wanted)


def _without(text: str, wanted: Wanted, names: list[str]) -> str:
    from vmcp.clients import edit

    for name in names:
        text = edit.drop(text, wanted.client.form, (*wanted.client.root, name))
    return text


def _served(wanted: Wanted, text: str, config: str | None) -> list[str]:
    """The servers in a text of the file that the configuration has."""
    from vmcp.cli import files
    from vmcp.clients.plan import Source
    from vmcp.clients.secrets import Around
    from vmcp.clients.served import backends, served

    if config is None and not Path("vmcp.yaml").is_file():
        return []
    held, client = wanted.held, wanted.client
    around = Around(str(Path.home()), str(Path.cwd()))
    source = Source(held.label, text, client.form, around, client.name)
    ((name, ours),) = files.read((config or "vmcp.yaml",))
    return served(source, client.root, backends(name, ours))


def _remove(wanted: Wanted, config: str | None) -> None:
    from vmcp.cli import clientfiles
    from vmcp.clients import edit

    client, held = wanted.client, wanted.held
    text = held.text or ""
    there = edit.at(edit.read(held.label, text, client.form), wanted.path)
    if there is None:
        click.echo(f"{client.title} does not have vmcp ({held.label})", err=True)
        return
    before = _before(wanted, there)
    if before is None and edit.put("", client.form, wanted.path, there) == text:
        _show(wanted, "", there)
        held.path.resolve().unlink()
        click.echo(f"removed {held.label}: vmcp had made it", err=True)
        return
    new = before if before is not None else _back(wanted, edit.drop(text, client.form, wanted.path), config)
    _show(wanted, new, there)
    if before is None:
        clientfiles.keep(held)
    clientfiles.write(held, new)
    if before is not None:
        held.backup.unlink()
    click.echo(f"wrote {held.label}" + (", as it was before vmcp" if before is not None else ""), err=True)


def _before(wanted: Wanted, there: Any) -> str | None:
    """What was kept, if the file is still just what was made of it; None when it is not."""
    from vmcp.cli import clientfiles
    from vmcp.clients import edit

    client, kept = wanted.client, clientfiles.read(wanted.held.backup).text
    if kept is None:
        return None
    now = edit.at(edit.read("", wanted.held.text or "", client.form), client.root)
    then = edit.at(edit.read("", kept, client.form), client.root) or {}
    if not isinstance(then, dict) or wanted.path[-1] in then:
        return None
    gone = [name for name in then if name not in now]
    return kept if edit.put(_without(kept, wanted, gone), client.form, wanted.path, there) == wanted.held.text else None


def _back(wanted: Wanted, text: str, config: str | None) -> str:
    """The file without our entry, and with the servers again whose place it took."""
    from vmcp.cli import clientfiles
    from vmcp.clients import edit

    client, kept = wanted.client, clientfiles.read(wanted.held.backup).text
    if kept is None:
        return text
    then = edit.at(edit.read("", kept, client.form), client.root)
    now = edit.at(edit.read("", text, client.form), client.root) or {}
    for name in _served(wanted, kept, config):
        if name not in now:
            text = edit.put(text, client.form, (*client.root, name), then[name])
    return text


def _check(wanted: Wanted) -> int:
    from vmcp.clients import edit

    client, held = wanted.client, wanted.held
    there = edit.at(edit.read(held.label, held.text or "", client.form), wanted.path)
    if there != wanted.entry:
        state = "does not have vmcp" if there is None else "has another entry for vmcp"
        click.echo(f"{client.title} {state} ({held.label}); vmcp connect {client.name} --write", err=True)
        return DIFFERENT
    click.echo(f"{client.title} has vmcp ({held.label})")
    if wanted.url is None:
        return OK
    from vmcp.cli.reach import answers

    said = answers(wanted.url)
    click.echo(f"{wanted.url} {said or 'does not answer; is vmcp serve running?'}", err=said is None)
    return OK if said is not None else UNAVAILABLE


def _list() -> None:
    from vmcp.clients import edit
    from vmcp.clients.table import CLIENTS, NAME
    from vmcp.errors import ConfigError

    for client in CLIENTS:
        held = _held(client, "user")
        try:
            data = edit.read(held.label, held.text or "", client.form)
            state = "has vmcp" if edit.at(data, (*client.root, NAME)) is not None else "-"
        except ConfigError:
            state = "cannot be read"
        click.echo(f"{client.name:15} {state if held.text is not None else 'no file':15} {held.label}")


def _show(wanted: Wanted, new: str, entry: Any) -> None:
    """The difference, without the values that others wrote."""
    from vmcp.cli.differing import difference
    from vmcp.clients import edit

    held = wanted.held
    ours = edit.put("", wanted.client.form, wanted.path, entry)
    click.echo(difference(held.label, held.text or "", new, ours), nl=False)
