"""A server.json of the MCP registry → an entry as clients write it.

The rule: a remote comes before a package, and the first that can be used is used; what the others were is told.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vmcp.clients.entry import Finding
from vmcp.clients.secrets import variable

Data = Mapping[str, Any]
Way = Callable[[str, Data, list[Finding]], dict[str, Any] | None]
_COMMANDS = {
    "npm": ("npx", "-y"),
    "pypi": ("uvx",),
    "nuget": ("dnx",),
    "oci": ("docker", "run", "-i", "--rm"),
}


def server_json(data: Data) -> tuple[str, dict[str, Any] | None, list[Finding]]:
    """Its short name, the entry, and what is lost."""
    name = re.split(r"[/.]", data["name"])[-1] or "server"
    lost: list[Finding] = []
    ways: list[tuple[Way, Data]] = [(_remote, each) for each in _maps(data.get("remotes"))]
    ways += [(_package, each) for each in _maps(data.get("packages"))]
    made = None
    for way, each in ways:
        raw = way(name, each, lost) if made is None else None
        if raw is not None:
            made = raw
        else:
            kind = _get(each, "registryType") or _get(each, "type") or _get(each, "transportType") or "another"
            lost.append(
                Finding("dropped", name, f"a further way to reach it ({_word(kind)})" if made else _cannot(kind))
            )
    return name, made, lost


def _word(kind: object) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "", str(kind))[:20]


def _cannot(kind: object) -> str:
    return f"vmcp cannot start a package of this kind ({_word(kind)})"


def _maps(found: Any) -> list[Data]:
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, Sequence) else []


def _get(data: Data, key: str) -> Any:
    """A key in its form of today or in the snake_case of before."""
    return data.get(key, data.get(re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", key)))


def _remote(name: str, remote: Data, lost: list[Finding]) -> dict[str, Any] | None:
    url = remote.get("url")
    if not isinstance(url, str):
        return None
    variables = remote.get("variables")
    url = _filled(url, variables if isinstance(variables, Mapping) else {})
    headers = {}
    for each in _maps(remote.get("headers")):
        value = _value(each)
        if value is not None and isinstance(each.get("name"), str):
            headers[each["name"]] = value
        else:
            lost.append(Finding("approximated", name, "a header that it can do without is left out"))
    return {"type": _get(remote, "type") or _get(remote, "transportType") or "", "url": url, "headers": headers}


def _filled(text: str, variables: Data) -> str:
    """``{name}`` as ``${NAME}``, with the default that the file has."""

    def one(match: re.Match[str]) -> str:
        told = variables.get(match[1])
        default = told.get("default") or told.get("value") if isinstance(told, Mapping) else None
        return f"${{{variable(match[1])}{f':-{default}' if default else ''}}}"

    return re.sub(r"(?<!\$)\{([A-Za-z_][\w-]*)\}", one, text)


def _value(each: Data) -> str | None:
    """What an input is set to: its value, its default, a variable where it must be given; else nothing."""
    inner = each.get("variables")
    if isinstance(each.get("value"), str):
        return _filled(each["value"], inner if isinstance(inner, Mapping) else {})
    if each.get("default") is not None and not _get(each, "isSecret"):
        return str(each["default"])
    if _get(each, "isRequired") or _get(each, "isSecret"):
        return f"${{{variable(str(each.get('name') or _get(each, 'valueHint') or 'VALUE'))}}}"
    return None


def _package(name: str, package: Data, lost: list[Finding]) -> dict[str, Any] | None:
    kind, identifier = _get(package, "registryType") or _get(package, "registryName"), package.get("identifier")
    identifier = identifier or package.get("name")
    if not isinstance(kind, str) or kind not in _COMMANDS or not isinstance(identifier, str):
        return None
    transport = package.get("transport")
    if isinstance(transport, Mapping) and transport.get("type", "stdio") != "stdio":
        lost.append(
            Finding("approximated", name, "a package of it listens at a URL, and vmcp starts only what speaks stdio")
        )
        return None
    env = dict(_environment(name, package, lost))
    named = [word for key in env for word in ("-e", key)] if kind == "oci" else []
    runtime = [word for word in _arguments(_get(package, "runtimeArguments")) if word not in _COMMANDS[kind]]
    pinned = _pinned(identifier, package.get("version"), kind)
    return {
        "command": [*_COMMANDS[kind], *runtime, *named, pinned, *_arguments(_get(package, "packageArguments"))],
        "env": env,
    }


def _environment(name: str, package: Data, lost: list[Finding]) -> Iterator[tuple[str, str]]:
    for each in _maps(_get(package, "environmentVariables")):
        value = _value(each)
        if value is None:
            lost.append(Finding("approximated", name, "a variable that it can do without is left out"))
        elif isinstance(each.get("name"), str):
            yield each["name"], value


def _pinned(identifier: str, version: object, kind: str) -> str:
    """A package with its version, unless its name has one."""
    joint = ":" if kind == "oci" else "@"
    last = identifier.rpartition("/")[2]
    if not isinstance(version, str) or not version or "@" in identifier[1:] or (joint == ":" and ":" in last):
        return identifier
    return f"{identifier}{joint}{version}"


def _arguments(given: Any) -> Iterator[str]:
    for each in _maps(given):
        value, named = _value(each), each.get("type") == "named"
        if named and isinstance(each.get("name"), str) and (value is not None or not _get(each, "valueHint")):
            yield each["name"]
        if value is not None:
            yield value
