"""``vmcp serve``: load, listen, serve until told to stop."""

import logging
import os
import sys

import click
import msgspec
import uvloop

from vmcp import __version__
from vmcp.admin.listening import Admin
from vmcp.cli import files, logs
from vmcp.config.model import Config
from vmcp.errors import CannotStart
from vmcp.server import serving


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
    config = files.configuration(_read(paths, host, port))
    source = _source(paths, host, port, log_level)
    logs.configure(log_level or config.log_level, log_format)
    try:
        listening = serving.bind(config.server)
    except serving.PortTaken as taken:
        click.echo(f"vmcp: {taken}", err=True)
        sys.exit(taken.code)
    if sys.stderr.isatty() and log_format != "json":
        click.echo(f"vmcp {__version__}  ·  {', '.join(paths)}  ·  pid {os.getpid()}", err=True)
    try:
        admin = Admin(config.admin, logs.kept())
        uvloop.run(serving.serve(config, listening, source, watch=watch, beside=admin))
    except CannotStart as cannot:
        click.echo(f"vmcp: {cannot}", err=True)
        sys.exit(cannot.code)


def _read(paths: tuple[str, ...], host: str | None, port: int | None) -> list[tuple[str, str]]:
    """The files, and over them what the command line says: it passes the same checks."""
    read = files.read(paths)
    said = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    if said:
        read.append(("command line", msgspec.json.encode({"server": said}).decode()))
    return read


def _source(paths: tuple[str, ...], host: str | None, port: int | None, log_level: str | None) -> serving.Source:
    def read() -> list[tuple[str, str]]:
        try:
            return _read(paths, host, port)
        except click.ClickException as wrong:
            raise serving.Unread(wrong.message) from None

    def on_adopted(config: Config) -> None:
        if log_level is None:
            logging.getLogger().setLevel(config.log_level.upper())

    return serving.Source(paths, read, on_adopted)
