"""What a command speaks MCP with: a URL, a running instance, or a configuration that is served for this one command.

The rule: it is all one: a house in this process with that behind it, so every transport and revision is spoken as by ``serve``.
"""

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import click
import msgspec
import uvloop

from vmcp.cli import files, instance, logs
from vmcp.cli.asking import CAPABILITIES, answer, told
from vmcp.config.load import load
from vmcp.config.model import Config
from vmcp.errors import CannotStart, Code, ConfigError, McpError
from vmcp.server.within import Insider, within

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
TOOL_FAILED: Final = 5
TOKEN: Final = "VMCP_TOKEN"
_SERVER: Final = "server"
_NAME: Final = "VMCP_HEADER_"
_AWAY: Final = range(Code.TRANSPORT_ERROR, Code.TRANSPORT_CLOSED + 1)
_DOWN: Final = (Code.SERVER_UNAVAILABLE, Code.ALL_SERVERS_DOWN, Code.NO_SERVER_FOUND)


@dataclass(frozen=True, slots=True)
class Target:
    """A configuration to serve here, the endpoint that is meant, and where its secrets are."""

    config: Config
    path: str
    environ: Mapping[str, str]
    remote: bool


def options(command: F) -> F:
    """The options that say with what."""
    for option in reversed(
        (
            click.option("--config", "-c", "paths", multiple=True, help="Serve this file for the command alone."),
            click.option("--url", help="An MCP endpoint."),
            click.option("--header", "-H", "headers", multiple=True, help="With --url: 'Name: value'."),
            click.option("--endpoint", metavar="PATH", help="Which of its endpoints, as /mcp."),
            click.option("--wait", default=30.0, show_default=True, help="Seconds for backends to come up."),
            instance.option,
        )
    ):
        command = option(command)
    return command


def of(
    paths: tuple[str, ...],
    url: str | None,
    headers: Sequence[str],
    endpoint: str | None,
    wait: float,
    where: str | None,
) -> Target:
    """What is meant. Raises ``click.ClickException``."""
    if paths and url is not None:
        raise click.UsageError("name one of --config and --url")
    if headers and paths:
        raise click.UsageError("--header goes with --url or a running instance")
    if paths:
        config = replace(files.configuration(files.read(paths)), start_deadline=wait)
        return Target(config, _path(config, endpoint), os.environ, remote=False)
    found = url if url is not None else _running(instance.find(where), endpoint)
    config, environ = _remote(found, headers)
    return Target(replace(config, start_deadline=wait), "/mcp", environ, remote=True)


def _path(config: Config, endpoint: str | None) -> str:
    paths = [f"/{group}/mcp" for group in config.groups]
    paths += ["/mcp"] if config.group_ref is not None else []
    path = endpoint or ("/mcp" if config.group_ref is not None else paths[0] if len(paths) == 1 else None)
    if path not in paths:
        raise click.UsageError(f"name one of the endpoints with --endpoint: {', '.join(paths)}")
    return path


def _running(found: instance.Instance, endpoint: str | None) -> str:
    urls: dict[str, str] = {each["path"]: each["url"] for each in found.get("status")["endpoints"]}
    path = endpoint or ("/mcp" if "/mcp" in urls else next(iter(urls)) if len(urls) == 1 else None)
    if path not in urls:
        raise click.UsageError(f"name one of the endpoints with --endpoint: {', '.join(urls)}")
    return urls[path]


def _remote(url: str, headers: Sequence[str]) -> tuple[Config, Mapping[str, str]]:
    """A configuration with one server behind it. Secrets are in the environment that it is given, and nowhere else."""
    environ = dict(os.environ)
    told: dict[str, dict[str, str]] = {}
    for number, header in enumerate(headers):
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError("--header is 'Name: value'")
        told[name.strip()] = {"env": f"{_NAME}{number}"}
        environ[f"{_NAME}{number}"] = value.strip()
    if environ.get(TOKEN) and "authorization" not in {name.lower() for name in told}:
        told["Authorization"] = {"env": f"{_NAME}T"}
        environ[f"{_NAME}T"] = f"Bearer {environ[TOKEN]}"
    backend: dict[str, Any] = {
        "url": url,
        "isolation": "session",
        "allow": {"elicitation": {"form": True, "url": True}},
    }
    if told:
        backend["headers"] = told
    whole = {
        "name": "vmcp",
        "groups": {_SERVER: {"backends": {_SERVER: backend}}},
        "aggregation": {
            "conflictResolution": "priority",
            "conflictResolutionConfig": {"priorityOrder": [_SERVER]},
        },
    }
    try:
        return load([("--url", msgspec.json.encode(whole).decode())], environ)[0], environ
    except ConfigError as error:
        problem = error.problems[0]
        raise click.UsageError(f"the server cannot be used ({problem.path}): {problem.message}") from None


def run(target: Target, work: Callable[[Insider], Coroutine[Any, Any, T]]) -> T:
    """What ``work`` gives. Raises ``Failed``."""
    logs.configure("error", "auto")
    try:
        return uvloop.run(_run(target, work))
    except McpError as error:
        raise failed(error) from None
    except CannotStart as cannot:
        raise instance.Failed(str(cannot), cannot.code) from None


async def _run(target: Target, work: Callable[[Insider], Coroutine[Any, Any, T]]) -> T:
    async with within(target.config, target.path, target.environ, answer, told) as client:
        if target.remote:
            _there(client)
        await client.greet(CAPABILITIES)
        return await work(client)


def _there(client: Insider) -> None:
    """Raises ``Failed`` when the server did not let us in, or is not there."""
    status = client.house.backends[_SERVER].status
    if status.health == "unauthenticated":
        raise instance.Failed(
            f"the server does not take our credential; set {TOKEN}, or use --header", instance.REFUSED
        )
    if status.state != "up":
        why = status.why or "it does not answer"
        raise instance.Failed(f"the server cannot be used: {why}", instance.UNREACHABLE)


def failed(error: McpError) -> instance.Failed:
    """An error of the protocol, with the exit code that fits."""
    data = msgspec.json.decode(error.data) if isinstance(error.data, msgspec.Raw) else error.data
    code = data.get("vmcpCode") if isinstance(data, dict) else None
    text = error.message if code is None else f"{error.message}\nhelp: vmcp help {code}"
    if code in (Code.UNAUTHORIZED, Code.INSUFFICIENT_PERMISSIONS, Code.SERVER_NOT_ALLOWED):
        return instance.Failed(text, instance.REFUSED)
    if code in _AWAY or code in _DOWN:
        return instance.Failed(text, instance.UNREACHABLE)
    return instance.Failed(text, TOOL_FAILED)
