"""What a file holds, by its shape: the servers of a client, of ToolHive, of agentgateway, or one of the registry.

The rule: the name of a file decides nothing; a shape that is not known is told, never guessed at.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vmcp.clients.edit import at
from vmcp.clients.entry import Finding
from vmcp.clients.registry import server_json

_ROOTS: Sequence[tuple[str, ...]] = (
    ("mcpServers",),
    ("mcp_servers",),
    ("context_servers",),
    ("extensions",),
    ("servers",),
    ("mcp", "servers"),
    ("amp.mcpServers",),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A server as it stands in a file, and where."""

    name: str
    place: str
    raw: Mapping[str, Any]


@dataclass(slots=True)
class Contents:
    """What was found in one file: servers, what else there was, and ToolHive's own configuration whole."""

    entries: list[Entry] = field(default_factory=list)
    lost: list[Finding] = field(default_factory=list)
    whole: Mapping[str, Any] | None = None


def contents(data: Mapping[str, Any], folder: str) -> Contents | None:
    """What a file holds; None when it has no shape that is known."""
    for read in (_toolhive, _run, _agentgateway, _registry):
        found = read(data)
        if found is not None:
            return found
    return _client(data, folder)


def _client(data: Mapping[str, Any], folder: str) -> Contents | None:
    roots = [root for root in _ROOTS if isinstance(at(data, root), Mapping | list)]
    if isinstance(at(data, ("projects", folder, "mcpServers")), Mapping):
        roots.append(("projects", folder, "mcpServers"))
    if not roots:
        return Contents() if isinstance(data.get("projects"), Mapping) else None
    found = Contents()
    for root in roots:
        label = "mcpServers" if root[0] == "projects" else ".".join(root)
        for name, raw in _named(at(data, root)):
            _entry(found, name, f"{label}.{name}", raw)
    return found


def _named(servers: Any) -> Iterator[tuple[str, Any]]:
    """A map of servers, or a list of servers with names."""
    if isinstance(servers, Mapping):
        yield from servers.items()
        return
    for number, raw in enumerate(servers):
        name = raw.get("name") if isinstance(raw, Mapping) else None
        yield name if isinstance(name, str) else f"server-{number + 1}", raw


def _entry(found: Contents, name: str, place: str, raw: Any) -> None:
    if not isinstance(raw, Mapping):
        found.lost.append(Finding("dropped", name, "it is no map of settings"))
    elif raw.get("bundled") is True or raw.get("type") in ("builtin", "platform", "frontend", "inline_python"):
        found.lost.append(Finding("dropped", name, "it is a part of the client itself"))
    else:
        found.entries.append(Entry(name, place, raw))


def _toolhive(data: Mapping[str, Any]) -> Contents | None:
    """A vmcp-config.yaml: we read it as it is."""
    if not isinstance(data.get("groupRef"), str) or "groups" in data or not isinstance(data.get("backends", []), list):
        return None
    found = Contents(whole=data)
    if not data.get("backends"):
        found.lost.append(Finding("dropped", "backends", "ToolHive finds them when it runs; list them in the file"))
    return found


def _run(data: Mapping[str, Any]) -> Contents | None:
    """The RunConfig that ``thv export`` writes."""
    remote, image = data.get("remote_url"), data.get("image")
    if not (
        (remote or image) and ("schema_version" in data or "container_name" in data or "permission_profile" in data)
    ):
        return None
    name = str(data.get("name") or data.get("base_name") or "server")
    found = Contents()
    given = data.get("env_vars")
    env = dict(given) if isinstance(given, Mapping) else {}
    env.pop("MCP_TRANSPORT", None)
    for secret in _listed(data, "secrets"):
        target = re.search(r"target=([A-Za-z_]\w*)", str(secret))
        if target:
            env[target[1]] = f"${{{target[1]}}}"
    if remote:
        found.entries.append(Entry(name, name, {"url": remote, "type": _proxied(data)}))
    elif data.get("transport") == "stdio":
        named = [word for key in env for word in ("-e", key)]
        command = ["docker", "run", "-i", "--rm", *named, image, *_listed(data, "cmd_args")]
        found.entries.append(Entry(name, name, {"command": command, "env": env}))
        found.lost.append(Finding("approximated", name, "docker runs it now, without ToolHive's permission profile"))
    else:
        url = (
            f"http://{data.get('host') or '127.0.0.1'}:{data.get('port')}/{'sse' if _proxied(data) == 'sse' else 'mcp'}"
        )
        found.entries.append(Entry(name, name, {"url": url, "type": _proxied(data)}))
        found.lost.append(Finding("approximated", name, "ToolHive goes on running it; vmcp uses its port"))
    return found


def _listed(data: Mapping[str, Any], key: str) -> list[Any]:
    found = data.get(key)
    return found if isinstance(found, list) else []


def _proxied(data: Mapping[str, Any]) -> str:
    return "sse" if data.get("transport") == "sse" else "http"


def _agentgateway(data: Mapping[str, Any]) -> Contents | None:
    targets = list(_targets(data, ""))
    if not targets:
        return None
    found = Contents()
    for place, target in targets:
        _target(found, place, target)
    for place in _policies(data, ""):
        found.lost.append(Finding("dropped", place, "policies of agentgateway; see incomingAuth and rateLimiting"))
    return found


def _targets(data: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(data, Mapping):
        mcp = data.get("mcp")
        if isinstance(mcp, Mapping) and isinstance(mcp.get("targets"), list):
            yield from ((f"{place}mcp.targets[{number}]", each) for number, each in enumerate(mcp["targets"]))
        for key in ("binds", "listeners", "routes", "backends"):
            for number, each in enumerate(data[key] if isinstance(data.get(key), list) else ()):
                yield from _targets(each, f"{place}{key}[{number}].")


def _policies(data: Any, place: str) -> Iterator[str]:
    if isinstance(data, Mapping):
        if data.get("policies"):
            yield f"{place}policies"
        for key in ("mcp", "binds", "listeners", "routes", "backends"):
            inner = data.get(key)
            for number, each in enumerate(inner if isinstance(inner, list) else [inner] if key == "mcp" else ()):
                yield from _policies(each, f"{place}{key}." if key == "mcp" else f"{place}{key}[{number}].")


def _target(found: Contents, place: str, target: Any) -> None:
    name = str(target.get("name") or "server") if isinstance(target, Mapping) else "server"
    kinds = [
        key for key in ("stdio", "mcp", "sse") if isinstance(target, Mapping) and isinstance(target.get(key), Mapping)
    ]
    if not kinds:
        what = "only MCP servers are imported; an OpenAPI target is none"
        found.lost.append(Finding("dropped", name, what))
        return
    raw = dict(target[kinds[0]])
    if kinds[0] != "stdio":
        raw = {"url": _url(raw, kinds[0]), "type": "http" if kinds[0] == "mcp" else "sse"}
    found.entries.append(Entry(name, place, raw))
    if target.get("policies"):
        found.lost.append(Finding("dropped", name, "its policies; see auth and headers of a backend"))


def _url(raw: Mapping[str, Any], kind: str) -> str:
    host = str(raw.get("host", ""))
    if "://" in host:
        return host
    port = f":{raw['port']}" if raw.get("port") else ""
    scheme = "https" if raw.get("port") == 443 else "http"
    return f"{scheme}://{host}{port}{raw.get('path') or ('/sse' if kind == 'sse' else '/mcp')}"


def _registry(data: Mapping[str, Any]) -> Contents | None:
    inner = data.get("server")
    body = inner if isinstance(inner, Mapping) and "name" in inner else data
    if not isinstance(body.get("name"), str) or not (body.get("packages") or body.get("remotes")):
        return None
    name, raw, lost = server_json(body)
    found = Contents(lost=lost)
    if raw is not None:
        found.entries.append(Entry(name, name, raw))
    return found
