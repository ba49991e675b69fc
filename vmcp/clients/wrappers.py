"""Command lines that only stand in for something else: bridges to a URL, shells of Windows, ``env``, ``docker run -e``.

The rule: a wrapper is taken off only where every one of its arguments is understood; else the command stays as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_RUNNERS = {
    "npx": ("-y", "--yes", "-q", "--quiet", "--prefer-offline"),
    "bunx": ("--bun", "-y"),
    "uvx": ("-q", "--quiet"),
}
_FIRST = {("pnpm", "dlx"): "npx", ("yarn", "dlx"): "npx", ("bun", "x"): "bunx", ("npm", "exec"): "npx"}
_META = re.compile(r"[&|<>^%\"'`;\n]")
_DOCKER_WITH_VALUE = frozenset(
    [
        "-e",
        "--env",
        "-v",
        "--volume",
        "--mount",
        "--name",
        "--network",
        "--net",
        "-p",
        "--publish",
        "-w",
        "--workdir",
        "-u",
        "--user",
        "--entrypoint",
        "--platform",
        "--pull",
        "-l",
        "--label",
        "--add-host",
        "--env-file",
        "--memory",
        "-m",
        "--cpus",
        "-h",
        "--hostname",
        "--security-opt",
        "--cap-add",
        "--cap-drop",
        "--tmpfs",
    ]
)
_DOCKER_ALONE = frozenset(
    [
        "-i",
        "-t",
        "-it",
        "-ti",
        "--rm",
        "--interactive",
        "--tty",
        "--init",
        "--read-only",
        "--privileged",
        "-q",
        "--quiet",
    ]
)


@dataclass(slots=True)
class Bridge:
    """What a bridge leads to."""

    url: str = ""
    transport: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def program(argument: str) -> str:
    """The name of a program, without its folder and without the endings of Windows."""
    name = re.split(r"[/\\]", argument)[-1].lower()
    return re.sub(r"\.(exe|cmd|bat)$", "", name)


def plain(command: Sequence[str], env: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """A command and its environment without ``cmd /c`` and ``env K=V``, secrets of ``docker run -e`` in the environment."""
    argv, found = list(command), dict(env)
    if len(argv) > 2 and program(argv[0]) == "cmd" and argv[1].lower() == "/c" and not _META.search(" ".join(argv[2:])):
        argv = argv[2:]
    if program(argv[0]) == "env" and len(argv) > 2:
        rest = argv[1:]
        given = {}
        while rest and re.match(r"[A-Za-z_][A-Za-z0-9_]*=", rest[0]):
            name, _, value = rest.pop(0).partition("=")
            given[name] = value
        if given and rest and not rest[0].startswith("-"):
            argv, found = rest, found | given
    if program(argv[0]) in ("docker", "podman") and argv[1:2] == ["run"]:
        return _docker(argv, found)
    return argv, found


def _docker(argv: list[str], env: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """``-e NAME=value`` before the image as ``-e NAME`` and a variable: docker hands on what it is started with."""
    done, found, rest = argv[:2], dict(env), argv[2:]
    while rest and rest[0].startswith("-"):
        flag, equals, value = rest[0].partition("=")
        if flag in _DOCKER_ALONE and not equals:
            done.append(rest.pop(0))
            continue
        if flag not in _DOCKER_WITH_VALUE or (not equals and len(rest) < 2):
            return argv, env
        given, rest = ([rest[0]], rest[1:]) if equals else (rest[:2], rest[2:])
        name, told, text = (value if equals else given[1]).partition("=")
        if flag in ("-e", "--env") and told:
            given, found[name] = ["-e", name], text
        done += given
    return [*done, *rest], found


def bridge(command: Sequence[str], env: Mapping[str, Any]) -> Bridge | None:
    """Where a command leads to, if it is a bridge to a URL of which all is understood."""
    name, rest = _package(command)
    read = _READERS.get(name)
    found = Bridge()
    if read is None or not read(rest, found) or not re.match(r"https?://", found.url):
        return None
    for header, value in found.headers.items():
        found.headers[header] = _own(value, env)
    return found


def _own(text: str, env: Mapping[str, Any]) -> str:
    """``${NAME}`` that the bridge itself puts in from its own environment."""
    return re.sub(r"\$\{(\w+)\}", lambda m: str(env[m[1]]) if m[1] in env else m[0], text)


def _package(command: Sequence[str]) -> tuple[str, list[str]]:
    """The package that a runner runs, without its version, and its arguments."""
    runner, rest = program(command[0]), list(command[1:])
    if rest and (runner, rest[0]) in _FIRST:
        runner, rest = _FIRST[runner, rest[0]], rest[1:]
    if runner in _RUNNERS:
        while rest and (rest[0] in _RUNNERS[runner] or rest[0] == "--"):
            rest.pop(0)
        if not rest:
            return "", []
        runner = rest.pop(0)
    return re.sub(r"(?<=.)@[^/]*$", "", runner), rest


def _mcp_remote(rest: list[str], found: Bridge) -> bool:
    while rest:
        word = rest.pop(0)
        if word in ("--allow-http", "--debug", "--silent", "--enable-proxy"):
            continue
        if word == "--transport" and rest:
            strategy = rest.pop(0)
            found.transport = {"http-only": "http", "sse-only": "sse"}.get(strategy, "")
        elif word == "--header" and rest:
            name, colon, value = rest.pop(0).partition(":")
            if not colon:
                return False
            found.headers[name.strip()] = value.strip()
        elif not found.url and not word.startswith("-"):
            found.url = word
        elif not word.isdecimal():
            return False
    if not any(name.lower() == "authorization" for name in found.headers):
        found.notes.append("mcp-remote logs in where it has to: add auth: {type: oauth} if this server wants a login")
    return True


def _supergateway(rest: list[str], found: Bridge) -> bool:
    while rest:
        word = rest.pop(0)
        if word in ("--sse", "--streamableHttp") and rest:
            found.url, found.transport = rest.pop(0), "sse" if word == "--sse" else "http"
        elif word == "--header" and rest and ":" in rest[0]:
            name, _, value = rest.pop(0).partition(":")
            found.headers[name.strip()] = value.strip()
        elif word == "--oauth2Bearer" and rest:
            found.headers["Authorization"] = f"Bearer {rest.pop(0)}"
        elif word in ("--logLevel", "--outputTransport") and rest:
            rest.pop(0)
        else:
            return False
    return True


def _mcp_proxy(rest: list[str], found: Bridge) -> bool:
    found.transport = "sse"
    while rest:
        word = rest.pop(0)
        if word in ("-H", "--headers") and len(rest) > 1:
            name, value = rest.pop(0), rest.pop(0)
            found.headers[name] = value
        elif word == "--transport" and rest:
            found.transport = rest.pop(0)
        elif not found.url and not word.startswith("-"):
            found.url = word
        else:
            return False
    return True


_READERS = {
    "mcp-remote": _mcp_remote,
    "@geelen/mcp-remote": _mcp_remote,
    "supergateway": _supergateway,
    "mcp-proxy": _mcp_proxy,
}
