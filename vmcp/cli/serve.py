"""``vmcp serve``: load, listen, serve until told to stop."""

import logging
import os
import socket
import sys
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
from vmcp.server.herald import heralded


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
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Instead of operational.logLevel."
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
@click.option(
    "--watch/--no-watch", default=True, show_default=True, help="Reload when a file of the configuration has changed."
)
def command(
    paths: tuple[str, ...], host: str | None, port: int | None, log_level: str | None, log_format: str, watch: bool
) -> None:
    """Serve a configuration. SIGHUP reloads it."""
    paths = paths or ("vmcp.yaml",)
    given = _given(host, port)
    over = _over(host, port) if given is None else _over(*handed.address(given), "socket of systemd")
    config = files.configuration(_read(paths, over))
    source = _source(paths, over, log_level)
    logs.configure(log_level or config.log_level, log_format)
    try:
        listening = given or serving.bind(config.server)
    except serving.PortTaken as taken:
        click.echo(f"vmcp: {taken}{_holder(config.server.port)}", err=True)
        sys.exit(taken.code)
    if sys.stderr.isatty() and log_format != "json":
        named = f"{', '.join(paths)} ({config.digest[:6]})"
        click.echo(f"vmcp {__version__}  ·  {named}  ·  pid {os.getpid()}", err=True)
    try:
        admin = Admin(config.admin, logs.kept())
        with heralded(os.environ) as herald:
            uvloop.run(serving.serve(config, listening, source, watch=watch, beside=admin, herald=herald))
    except CannotStart as cannot:
        click.echo(f"vmcp: {cannot}", err=True)
        sys.exit(cannot.code)


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
    said = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
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
