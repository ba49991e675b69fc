"""``vmcp init``: a first configuration: from the MCP servers that clients on this machine have, from a file, or a plain one.

The rule: no secret gets into the file or onto the screen, and no file is replaced unless that is asked for.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vmcp.clients.plan import Source

NO_INPUT, BAD_CONFIG = 66, 78
_STARTER = """\
# A first configuration of vmcp. Check it with: vmcp validate   Serve it with: vmcp serve
# Import the servers that your clients have already with: vmcp init --from auto --force
name: {name}

groups:
  default:
    backends:
      # A server at a URL; a header that is a secret is read from the environment:
      example:
        url: https://mcp.example.com/mcp
        # headers: {{X-Api-Key: {{env: EXAMPLE_API_KEY}}}}
      # A server that vmcp starts:
      # files:
      #   command: [npx, -y, "@modelcontextprotocol/server-filesystem", /srv/docs]

aggregation:
  conflictResolution: prefix
  conflictResolutionConfig: {{prefixFormat: "{{workload}}_"}}
"""


@click.command()
@click.option(
    "--from",
    "origins",
    multiple=True,
    metavar="auto|CLIENT|FILE",
    help="Import from all clients that are found, from one, or from a file ('-' is stdin). Several are merged.",
)
@click.option("--output", "-o", default="vmcp.yaml", show_default=True, help="The file to write; '-' prints it.")
@click.option("--name", help="What the gateway is called.  [default: the folder]")
@click.option("--env-file", metavar="FILE", help="Write the secrets that were lifted there, for this user alone.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def command(origins: tuple[str, ...], output: str, name: str | None, env_file: str | None, force: bool) -> None:
    """Make a configuration, from the MCP servers that clients have if you like.

    Clients: claude-code, claude-desktop, cursor, vscode, windsurf, codex, gemini, zed, goose, cline. Files are known by
    their shape: those of these clients, of ToolHive and agentgateway, and server.json.

    Exit codes: 0 written, 66 nothing to import, 73 the file is there already, 78 a file cannot be used, 2 usage.
    """
    _vacant(output, force)
    _vacant(env_file, force)
    name = name or _named(Path.cwd().name)
    if not origins and sys.stdin.isatty() and sys.stdout.isatty():
        origins, name = _asked(name)
    if not origins:
        _write(output, _STARTER.format(name=name), force)
        click.echo("Next: put your servers in, then: vmcp validate", err=True)
        return
    _import(origins, output, name, env_file, force)


def _vacant(output: str | None, force: bool) -> None:
    from vmcp.cli import clientfiles

    if output not in (None, "-") and not force and Path(output).exists():
        raise clientfiles.Stopped(f"{output} is there already; --force replaces it", clientfiles.CANNOT_CREATE)


def _named(folder: str) -> str:
    """A name that is plain in YAML."""
    kept = "".join(char for char in folder if char.isascii() and (char.isalnum() or char in "-_"))
    return kept.strip("-_") if kept.strip("-_")[:1].isalpha() else "vmcp"


def _asked(name: str) -> tuple[tuple[str, ...], str]:
    """What to import, as a person answers."""
    from vmcp.clients.plan import read

    found = []
    for source in _readable(_found()):
        number = len(read(source).entries)
        if number and click.confirm(
            f"Import {number} MCP server{'s' * (number > 1)} from {source.label}?", default=True
        ):
            found.append(source.label)
    return tuple(found), _named(click.prompt("Name of the gateway", default=name))


def _import(origins: tuple[str, ...], output: str, name: str, env_file: str | None, force: bool) -> None:
    from vmcp.cli import clientfiles, imported
    from vmcp.cli.files import complain
    from vmcp.clients.plan import plan
    from vmcp.errors import ConfigError

    try:
        made = plan(list(dict.fromkeys(source for origin in origins for source in _sources(origin))))
        text = imported.text(made, name)
    except ConfigError as error:
        complain(error.problems, ())
        sys.exit(BAD_CONFIG)
    click.echo(imported.report(made), err=True, nl=False)
    if not any(settings.get("enabled", True) for settings in made.backends.values()):
        raise clientfiles.Stopped("nothing was written: there is no server that is switched on to import", NO_INPUT)
    _write(output, text, force)
    if env_file is not None:
        clientfiles.create(Path(env_file), imported.env_file(made), force=force, mode=0o600)
        click.echo(f"wrote {env_file}, for this user alone: set -a; . ./{env_file}; set +a", err=True)
    click.echo("Next: vmcp validate, then vmcp serve, then vmcp connect CLIENT --write --replace", err=True)


def _write(output: str, text: str, force: bool) -> None:
    from vmcp.cli import clientfiles

    if output == "-":
        click.echo(text, nl=False)
        return
    clientfiles.create(Path(output), text, force=force)
    click.echo(f"wrote {output}", err=True)


def _sources(origin: str) -> "list[Source]":
    """The files that one --from means."""
    from vmcp.cli import clientfiles
    from vmcp.clients.edit import format_of
    from vmcp.clients.table import BY_NAME

    if origin == "auto":
        found = _readable(_found())
        if not found:
            known = ", ".join(BY_NAME)
            raise clientfiles.Stopped(f"no client was found here ({known}); name a file with --from", NO_INPUT)
        return found
    if origin in BY_NAME:
        found = _found(origin)
        if not found:
            raise clientfiles.Stopped(f"{BY_NAME[origin].title} has no file here; name it with --from FILE", NO_INPUT)
        return found
    if origin == "-":
        text = clientfiles.given()
        start = text.lstrip("\ufeff \t\r\n")[:1]
        form = "json" if start in ("{", "/") else "yaml"
        return [_source("stdin", text, form, None, Path.cwd())]
    path = Path(origin).expanduser()
    same = [each for each in _found() if each.label == clientfiles.shown(path.absolute())]
    if same:
        return same
    held = clientfiles.read(path)
    if held.text is None:
        raise clientfiles.Stopped(f"no such file or client: {origin}", NO_INPUT)
    return [_source(held.label, held.text, format_of(path.name), None, path.absolute().parent)]


def _found(only: str | None = None) -> "list[Source]":
    """The files of clients that are there: the user's own, and those of this folder."""
    from vmcp.cli import clientfiles
    from vmcp.clients.table import CLIENTS, places

    found = []
    for client in CLIENTS:
        if only not in (None, client.name):
            continue
        own = clientfiles.first(places(client, sys.platform, os.environ, str(Path.home())))
        for path in [own, *([Path.cwd() / client.project] if client.project else [])]:
            held = clientfiles.read(path)
            if held.text is not None:
                found.append(_source(held.label, held.text, client.form, client.name, Path.cwd()))
    return found


def _readable(sources: "list[Source]") -> "list[Source]":
    """Those that can be read; of the others it is told why not."""
    from vmcp.cli.files import complain
    from vmcp.clients.plan import read
    from vmcp.errors import ConfigError

    good = []
    for source in sources:
        try:
            read(source)
            good.append(source)
        except ConfigError as error:
            complain(error.problems, ())
    return good


def _source(label: str, text: str, form: str, client: str | None, folder: Path) -> "Source":
    from vmcp.clients.edit import Format
    from vmcp.clients.plan import Source
    from vmcp.clients.secrets import Around

    kind: Format = "toml" if form == "toml" else "yaml" if form == "yaml" else "json"
    return Source(label, text, kind, Around(str(Path.home()), str(folder)), client)
