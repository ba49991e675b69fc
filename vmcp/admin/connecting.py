"""How clients get at what runs here: for each of them the entry in its own file, and the commands that make it.

The rule: the entries are those that ``vmcp connect`` writes, from the same table; a token is only ever the name of a variable.
"""

import shlex
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from vmcp.clients import edit
from vmcp.clients.table import CLIENTS, NAME, Client, deep_link, entry, official, places
from vmcp.config.model import Config
from vmcp.server.guard import ANYWHERE

Data = dict[str, Any]
TOKEN: Final = "VMCP_TOKEN"


def connections(config: Config, paths: Iterable[str], url: str, path: str | None, platform: str) -> Data | None:
    """What each client needs to get to ``path`` (the first endpoint without); None when there is no such endpoint."""
    base = address(config, url)
    known = list(paths)
    chosen = known[0] if path is None and known else path
    if chosen not in known:
        return None
    token = TOKEN if config.incoming.type == "local" and config.incoming.keys else None
    where = base + chosen
    return {
        "path": chosen,
        "url": where,
        "endpoints": [{"path": each, "url": base + each} for each in known],
        "token": token,
        "login": config.incoming.type == "oidc",
        "clients": [_told(client, where, token, platform) for client in CLIENTS],
    }


def address(config: Config, url: str) -> str:
    """Where clients find the listener, without a slash at the end: its public URL, else where it listens."""
    if config.server.public_url:
        return config.server.public_url.rstrip("/")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host not in ANYWHERE:
        return url
    return f"{parts.scheme}://{'[::1]' if ':' in host else '127.0.0.1'}:{parts.port}"


def _told(client: Client, url: str, token: str | None, platform: str) -> Data:
    bridge = client.remote is None or (token is not None and client.token is None)
    words = ("--url", url, *(("--token-env", token) if token else ()))
    start = ("vmcp", "stdio", *words) if bridge else None
    made = entry(client, url, token, start)
    own = official(client, url, token) if not bridge else []
    return {
        "name": client.name,
        "title": client.title,
        "file": next(iter(places(client, platform, {"APPDATA": "%APPDATA%"}, "~")), ""),
        "format": client.form,
        "way": "program" if bridge else "url",
        "entry": edit.put("", client.form, (*client.root, NAME), made),
        "command": shlex.join(own),
        "connect": shlex.join(["vmcp", "connect", client.name, *words, "--write"]),
        "then": client.then,
        "link": deep_link(client, made) if not bridge else "",
    }
