"""``vmcp serve``: load, listen, serve until told to stop."""

import os
import sys

import click
import msgspec
import uvloop

from vmcp import __version__
from vmcp.cli import files, logs
from vmcp.config.model import Config
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
def command(paths: tuple[str, ...], host: str | None, port: int | None, log_level: str | None, log_format: str) -> None:
    """Serve a configuration."""
    config = _config(paths or ("vmcp.yaml",), host, port)
    logs.configure(log_level or config.log_level, log_format)
    try:
        listening = serving.bind(config.server)
    except serving.PortTaken as taken:
        click.echo(f"vmcp: {taken}", err=True)
        sys.exit(taken.code)
    if sys.stderr.isatty() and log_format != "json":
        click.echo(f"vmcp {__version__}  ·  {', '.join(paths or ('vmcp.yaml',))}  ·  pid {os.getpid()}", err=True)
    try:
        uvloop.run(serving.serve(config, listening))
    except serving.NoEntrance as closed:
        click.echo(f"vmcp: {closed}", err=True)
        sys.exit(78)
    except serving.AuditUnavailable as closed:
        click.echo(f"vmcp: {closed}", err=True)
        sys.exit(73)


def _config(paths: tuple[str, ...], host: str | None, port: int | None) -> Config:
    """The files, and over them what the command line says: it passes the same checks."""
    read = files.read(paths)
    said = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    if said:
        read.append(("command line", msgspec.json.encode({"server": said}).decode()))
    return files.configuration(read)
