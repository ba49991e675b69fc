"""``vmcp explain``: whether somebody may use something, and what decides it.

The rule: it asks the functions that ``serve`` asks, of the same configuration and of what the backends offer now.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec
import uvloop

from vmcp.cli import files, logs
from vmcp.config.cedar.judge import NO_ARGUMENTS, Judge, world
from vmcp.config.model import Config
from vmcp.errors import McpError
from vmcp.routing import explain
from vmcp.routing.catalog import Kind
from vmcp.routing.personas import Personas
from vmcp.routing.table import Asked, Face, Route, resource_route
from vmcp.routing.things import thing

OK, NO_PERMISSION, BAD_CONFIG = 0, 77, 78
_METHODS = {Kind.TOOL: "tools/call", Kind.PROMPT: "prompts/get", Kind.RESOURCE: "resources/read"}
_WORDS = {Kind.TOOL: "tool", Kind.PROMPT: "prompt", Kind.RESOURCE: "resource", Kind.TEMPLATE: "resource template"}


@click.command()
@click.option(
    "--config", "-c", "paths", multiple=True, envvar="VMCP_CONFIG", help="A configuration file.  [default: vmcp.yaml]"
)
@click.option(
    "--as", "claims", metavar="FILE", help="Claims of the caller as a JSON object; without it he is anonymous."
)
@click.option("--tool", help="A tool, by its advertised name.")
@click.option("--prompt", help="A prompt, by its advertised name.")
@click.option("--resource", metavar="URI", help="A resource, or a URI that a template answers for.")
@click.option("--arguments", default="{}", metavar="JSON", help="Arguments of the call, for policies that read them.")
@click.option("--group", help="The group that he comes to, instead of groupRef.")
@click.option("--persona", help="The persona that he asks for.")
@click.option("--wait", default=30.0, show_default=True, help="Seconds for the backends to answer.")
def command(
    paths: tuple[str, ...],
    claims: str | None,
    arguments: str,
    group: str | None,
    persona: str | None,
    wait: float,
    **wanted: str | None,
) -> None:
    """Say whether a caller may use something, and which policy, filter and persona decide it.

    Exit codes: 0 he may, 77 he may not or it is not there, 78 bad configuration, 66 no such file, 2 usage.
    """
    kinds = [(kind, name) for kind, name in wanted.items() if name is not None]
    if len(kinds) != 1:
        raise click.UsageError("name one thing: --tool, --prompt or --resource")
    given = _object("--arguments", arguments)
    who = (
        _object(claims, files.read([claims])[0][1]) if claims is not None else {"sub": "anonymous", "iss": "vmcp-local"}
    )
    config = files.configuration(files.read(paths or ("vmcp.yaml",)))
    logs.configure("error", "auto")
    ((kind, name),) = kinds
    face = _face(config, group, persona, wait)
    allowed = True
    for line, admitted in _told(config, face, Kind[kind.upper()], name, (who, given, persona)):
        click.echo(line)
        allowed = allowed and admitted
    click.echo(f"so he may{'' if allowed else ' not'}")
    sys.exit(OK if allowed else NO_PERMISSION)


def _object(where: str, text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        found = None
    if not isinstance(found, dict):
        raise click.UsageError(f"{where} is no JSON object")
    return found


def _face(config: Config, group: str | None, persona: str | None, wait: float) -> Face:
    from vmcp.server.probe import probe

    if group is not None and group not in config.groups:
        raise click.UsageError(f"there is no group '{group}'; there are: {', '.join(config.groups)}")
    faces = uvloop.run(probe(config, wait)).faces
    path = f"/{group}/mcp" if group is not None else f"/persona/{persona}/mcp"
    path = path if path in faces else "/mcp"
    if path not in faces:
        raise click.UsageError(f"name one of the groups with --group: {', '.join(config.groups)}")
    return faces[path]


Circumstances = tuple[Mapping[str, Any], Mapping[str, Any], str | None]
"""The claims of the caller, the arguments of the call, and the persona asked for."""


def _told(config: Config, face: Face, kind: Kind, name: str, asked: Circumstances) -> Iterator[tuple[str, bool]]:
    """What decides, a line each, and whether it lets him."""
    claims, arguments, persona = asked
    sought = Asked(_METHODS[kind], name, lambda: _values(kind, name, asked))
    face = _dressed(config, face, claims, persona)
    route = resource_route(face, name) if kind is Kind.RESOURCE else face.routes[kind].get(name)
    if route is None and kind is Kind.RESOURCE and face.rules is not None:
        route = face.rules.reach(sought)
    if route is None:
        yield f"{_WORDS[kind]:<9} {name}: there is none at {face.path}", False
        yield from ((f"  perhaps {line}", False) for line in explain.explain(face) if _about(line, name, face))
        return
    yield f"{_WORDS[route.kind]:<9} {name}: {route.original} of backend {route.backend}", True
    concrete = route if route.worn is not None else msgspec.structs.replace(route, name=name)
    aimed = concrete if face.rules is None else face.rules.aim(sought, concrete)
    if aimed is not concrete:
        yield f"routing   a rule sends this call to backend {aimed.backend}", True
    for each in dict.fromkeys((concrete.backend, aimed.backend)):
        there = msgspec.structs.replace(concrete, backend=each)
        yield _persona(config, face, there, claims, persona)
        yield _policies(config, there, claims, arguments)


def _values(kind: Kind, name: str, asked: Circumstances) -> Mapping[str, Any]:
    """What the conditions of routing rules are about."""
    claims, arguments, persona = asked
    params = {"uri": name} if kind is Kind.RESOURCE else {"name": name, "arguments": arguments}
    scopes = frozenset(str(claims.get("scope", "")).split())
    principal = {"issuer": claims.get("iss"), "subject": claims.get("sub"), "claims": claims, "scopes": scopes}
    return {"method": _METHODS[kind], "name": name, "params": params, "principal": principal, "persona": persona}


def _about(line: str, name: str, face: Face) -> bool:
    return f"'{name}'" in line or any(line.startswith(f"backend '{backend}'") for backend in face.missing)


def _dressed(config: Config, face: Face, claims: Mapping[str, Any], asked: str | None) -> Face:
    """What he sees there: a persona may show tools in its own way."""
    try:
        view = Personas(config).choose(face, asked, claims)
    except McpError:
        return face  # that he may not have it is told beneath
    return face if view is None else face.dressed.get(view.persona.name, face)


def _persona(
    config: Config, face: Face, route: Route, claims: Mapping[str, Any], asked: str | None
) -> tuple[str, bool]:
    try:
        view = Personas(config).choose(face, asked, claims)
    except McpError as error:
        return f"persona   {error.message}", False
    if view is None:
        return "persona   none", True
    admitted = view.admits(route)
    return f"persona   {view.persona.name} {'shows' if admitted else 'hides'} it", admitted


def _policies(
    config: Config, route: Route, claims: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[str, bool]:
    if config.authz is None:
        return "policies  none: everybody may do everything (incomingAuth.authz)", True
    judge = Judge(config.authz, world(config))
    caller = judge.caller(str(claims.get("iss", "")), str(claims.get("sub", "")), claims)
    meant = arguments if route.worn is None else route.worn.effective(arguments)
    verdict = judge.decide(caller, thing(route), meant or NO_ARGUMENTS)
    by = f" by {', '.join(verdict.policies)}" if verdict.policies else ""
    why = "; ".join(filter(None, (verdict.why, verdict.detail)))
    return f"policies  {'permitted' if verdict.allowed else 'denied'}{by}{': ' if why else ''}{why}", verdict.allowed
