"""``vmcp serve``: load, listen, serve until told to stop."""

import logging
import os
import socket
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

import click
import msgspec
import uvloop

from vmcp import __version__
from vmcp.admin.listening import Admin
from vmcp.cli import files, instance, logs
from vmcp.config.model import Config
from vmcp.errors import CannotStart
from vmcp.server import handed, serving
from vmcp.server.herald import Herald, heralded
from vmcp.server.tether import Tether


@click.command()
@click.option(
    "--config",
    "-c",
    "paths",
    multiple=True,
    envvar="VMCP_CONFIG",
    help="A configuration file; later ones merge over earlier ones.",
)
@click.option("--host", help="Listen here instead of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen here instead of server.port; 0 is any free port.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that serve, instead of server.workers.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Instead of operational.logLevel."
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
@click.option(
    "--watch/--no-watch", default=True, show_default=True, help="Reload when a file of the configuration has changed."
)
def command(
    paths: tuple[str, ...],
    host: str | None,
    port: int | None,
    workers: int | None,
    log_level: str | None,
    log_format: str,
    watch: bool,
) -> None:
    """Serve a configuration. SIGHUP reloads it."""
    paths = paths or ("vmcp.yaml",)
    given = _given(host, port)
    over = _over(host, port) if given is None else _over(*handed.address(given), "socket of systemd")
    over += _said("command line", {"workers": workers})
    config = files.configuration(_read(paths, over))
    source = _source(paths, over, log_level)
    logs.configure(log_level or config.log_level, log_format)
    listening = given or _bound(config)
    if sys.stderr.isatty() and log_format != "json":
        click.echo(_title(paths, config), err=True)
    try:
        with heralded(os.environ) as herald:
            _serve(config, listening, source, herald, watch=watch)
    except CannotStart as cannot:
        click.echo(f"vmcp: {cannot}", err=True)
        sys.exit(cannot.code)


def _serve(
    config: Config, listening: socket.socket, source: serving.Source, herald: Herald | None, *, watch: bool
) -> None:
    """To the end; with several workers, this is where each of them begins, and where the process that keeps them ends."""
    teller: Herald | Tether | None = herald
    crew = None
    if config.server.workers > 1:
        from vmcp.server.supervisor import Supervisor

        keeper = Supervisor(config, listening, source, herald, watch=watch)
        logs.left(keeper.common)
        made = keeper.run()
        if isinstance(made, int):
            sys.exit(made)
        crew, teller, config = made
        logs.of_worker(crew.index)
    admin = Admin(config.admin, logs.kept())
    uvloop.run(serving.serve(config, listening, source, watch=watch, beside=admin, herald=teller, crew=crew))


def _bound(config: Config) -> socket.socket:
    try:
        return serving.bind(config.server)
    except serving.PortTaken as taken:
        click.echo(f"vmcp: {taken}{_holder(config.server.port)}", err=True)
        sys.exit(taken.code)


def _title(paths: tuple[str, ...], config: Config) -> str:
    several = f"  ·  {config.server.workers} workers" if config.server.workers > 1 else ""
    return f"vmcp {__version__}  ·  {', '.join(paths)} ({config.digest[:6]})  ·  pid {os.getpid()}{several}"


def _given(host: str | None, port: int | None) -> socket.socket | None:
    """The socket that systemd hands over."""
    try:
        given = handed.handed(os.environ)
    except CannotStart as cannot:
        click.echo(f"vmcp: {cannot}", err=True)
        sys.exit(cannot.code)
    if given is not None and (host is not None or port is not None):
        raise click.UsageError("systemd hands over a socket, so --host and --port have no meaning; see ListenStream=")
    return given


def _over(host: str | None, port: int | None, who: str = "command line") -> list[tuple[str, str]]:
    """What goes over the files: where to listen."""
    return _said(who, {"host": host, "port": port})


def _said(who: str, words: Mapping[str, str | int | None]) -> list[tuple[str, str]]:
    """What somebody says of the listener, as one more file."""
    said = {key: value for key, value in words.items() if value is not None}
    return [(who, msgspec.json.encode({"server": said}).decode())] if said else []


def _read(paths: tuple[str, ...], over: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The files, and over them what the command line says: it passes the same checks."""
    return [*files.read(paths), *over]


def _holder(port: int) -> str:
    """Who has the port, if that is a vmcp of this user."""
    for where in instance.running():
        found = instance.Instance(where).get("status")
        if urlsplit(found["url"]).port == port:
            return f" (it is vmcp '{found['name']}', pid {found['pid']}; end it with: vmcp stop --admin {where})"
    return ""


def _source(paths: tuple[str, ...], over: list[tuple[str, str]], log_level: str | None) -> serving.Source:
    def read() -> list[tuple[str, str]]:
        try:
            return _read(paths, over)
        except click.ClickException as wrong:
            raise serving.Unread(wrong.message) from None

    def on_adopted(config: Config) -> None:
        if log_level is None:
            logging.getLogger().setLevel(config.log_level.upper())

    return serving.Source(paths, read, on_adopted)
