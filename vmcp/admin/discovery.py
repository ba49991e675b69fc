"""Servers that could be added: which are known, which are there already, and what to write down for each.

The rule: nothing is added from here: what a configuration says is written by people. A snippet is a whole configuration's worth
of that server, and names a variable wherever a secret belongs.
"""

import shlex
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from vmcp.admin.known import OAUTH, SERVERS, Known
from vmcp.clients.emit import block
from vmcp.config.model import BackendSpec, Config

Data = dict[str, Any]
_GROUP: Final = "main"
_STATE: Final = "/var/lib/vmcp"
"""Where the token of the gateway's own login is kept, for example."""


def discovered(config: Config, words: str = "") -> Data:
    """The known servers that have all ``words`` somewhere; those that the configuration has say under which names."""
    group = config.group_ref or next(iter(config.groups), _GROUP)
    wanted = words.lower().split()
    anonymous = config.incoming.type == "anonymous"
    state = config.state.directory is not None
    return {
        "group": group,
        "servers": [
            _told(each, group, anonymous=anonymous, state=state) | {"mounted": mounted(each, config.backends)}
            for each in SERVERS
            if all(word in _text(each) for word in wanted)
        ],
    }


def _text(server: Known) -> str:
    parts = (server.name, server.title, server.maker, server.about, server.url, *server.command, server.also)
    return " ".join(parts).lower()


def _told(server: Known, group: str, *, anonymous: bool, state: bool) -> Data:
    told: Data = {"groups": {group: {"backends": {server.name: backend(server, anonymous=anonymous)}}}}
    if server.auth and anonymous and not state:
        told["state"] = {"directory": _STATE}
    return {
        "name": server.name,
        "title": server.title,
        "maker": server.maker,
        "about": server.about,
        "way": "url" if server.url else "program",
        "reached": server.url or shlex.join(server.command),
        "variables": sorted(_variables(server)),
        "login": _login(server, anonymous=anonymous),
        "change": server.change,
        "words": server.also,
        "yaml": "\n".join(block(told)) + "\n",
        "mount": "" if server.auth else mount(server),
    }


def backend(server: Known, *, anonymous: bool) -> Data:
    """What stands in a configuration for it. Where callers have no names, a login can only be that of the gateway."""
    made: Data = {"url": server.url} if server.url else {"command": list(server.command)}
    if server.headers:
        made["headers"] = dict(server.headers)
    if server.env:
        made["env"] = dict(server.env)
    if server.auth == OAUTH:
        made["auth"] = {"type": "oauth", "oauth": {"mode": "gateway"}} if anonymous else {"type": "oauth"}
    return made


def mount(server: Known) -> str:
    """The command that writes it down."""
    words = ["vmcp", "mount", server.name]
    if server.url:
        words += ["--url", server.url]
        words += [word for key, value in server.headers.items() for word in ("-H", f"{key}={value}")]
    else:
        words += [word for key, value in server.env.items() for word in ("-e", f"{key}={value}")]
        words += ["--", *server.command]
    return shlex.join(words)


def _variables(server: Known) -> Iterable[str]:
    for value in (*server.env.values(), *server.headers.values()):
        yield value.partition("${")[2].partition("}")[0]


def _login(server: Known, *, anonymous: bool) -> str:
    if not server.auth:
        return ""
    return f"vmcp auth login {server.name}" if anonymous else "each user logs in once, in a browser"


def mounted(server: Known, backends: Iterable[BackendSpec]) -> list[str]:
    """The names under which a configuration has it."""
    return [each.name for each in backends if _same(server, each)]


def _same(server: Known, spec: BackendSpec) -> bool:
    if server.url:
        reached = (spec.url, *(each.url for each in spec.endpoints))
        return any(_place(url) == _place(server.url) for url in reached if url)
    packages = {_package(word) for word in spec.command}
    return _package(_named(server.command)) in packages


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.netloc.lower(), parts.path.rstrip("/")


def _named(command: tuple[str, ...]) -> str:
    """The package that a command starts."""
    return next(word for word in command[1:] if not word.startswith("-"))


def _package(word: str) -> str:
    """Without its version."""
    name, at, _ = word[1:].partition("@")
    return word[:1] + name if at else word
