"""``vmcp stdio``: for clients that only start processes: a configuration of their own, or a bridge to a running instance."""

import os
import sys

import click
import uvloop

from vmcp.cli import files, logs
from vmcp.config.model import Config
from vmcp.errors import CannotStart


@click.command()
@click.option(
    "--config",
    "-c",
    "paths",
    multiple=True,
    help="Serve this configuration file; later ones merge over earlier ones.",
)
@click.option("--group", help="Serve this group instead of groupRef.")
@click.option("--url", help="Be a bridge to an MCP server that is reached there over streamable HTTP.")
@click.option("--header", "-H", "headers", multiple=True, help="With --url: a header of every request, 'Name: value'.")
@click.option(
    "--token-env", metavar="NAME", help="With --url: a bearer token of every request, from this environment variable."
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Instead of operational.logLevel."
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
def command(
    paths: tuple[str, ...],
    group: str | None,
    url: str | None,
    headers: tuple[str, ...],
    token_env: str | None,
    log_level: str | None,
    log_format: str,
) -> None:
    """Speak MCP over stdin and stdout."""
    if url is not None:
        if paths or group:
            raise click.UsageError("--url is a bridge to something that is configured elsewhere; leave --config out")
        logs.configure(log_level or "info", log_format)
        _bridge(url, (*headers, *_token(token_env)))
        return
    if headers or token_env:
        raise click.UsageError(f"{'--header' if headers else '--token-env'} goes with --url")
    config = files.configuration(
        files.read(paths or tuple(filter(None, [os.environ.get("VMCP_CONFIG")])) or ("vmcp.yaml",))
    )
    logs.configure(log_level or config.log_level, log_format)
    _serve(config, _path(config, group))


def _path(config: Config, group: str | None) -> str:
    if group is None and config.group_ref is not None:
        return "/mcp"
    if group in config.groups:
        return f"/{group}/mcp"
    known = ", ".join(config.groups)
    raise click.UsageError(f"name one of the groups with --group: {known}")


def _serve(config: Config, path: str) -> None:
    from vmcp.server import pipes, stdio

    try:
        uvloop.run(stdio.serve(config, path, *pipes.claim()))
    except CannotStart as cannot:
        click.echo(f"vmcp: {cannot}", err=True)
        sys.exit(cannot.code)


def _bridge(url: str, headers: tuple[str, ...]) -> None:
    from vmcp.server.bridge_stdio import BadEndpoint, Bridge, serve
    from vmcp.server.pipes import claim

    fixed = [_header(header) for header in headers]
    try:
        bridge = Bridge(url, fixed)
    except BadEndpoint as wrong:
        raise click.UsageError(f"--url cannot be used: {wrong}") from None
    uvloop.run(serve(bridge, *claim()))


def _token(name: str | None) -> tuple[str, ...]:
    if name is None:
        return ()
    if not os.environ.get(name):
        raise click.UsageError(f"--token-env: {name} is not set where this was started")
    return (f"Authorization: Bearer {os.environ[name]}",)


def _header(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.isprintable() or not text.isascii():
        raise click.UsageError("--header is 'Name: value'")
    return name.strip().lower().encode(), value.strip().encode()
