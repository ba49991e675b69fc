"""One server as a client writes it down → one backend of ours, with what is lost on the way.

The rule: a key is carried over, told as approximated, or told as dropped; none disappears.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal
from urllib.parse import unquote

from vmcp.clients.secrets import Lift, Unclear, Variable, harmless, parts
from vmcp.clients.wrappers import bridge, plain, program
from vmcp.config.urls import is_loopback, split

Status = Literal["exact", "approximated", "dropped"]
_TRANSPORTS = {
    "http": "streamable-http",
    "streamable": "streamable-http",
    "streamablehttp": "streamable-http",
    "remote": "",
    "sse": "sse",
    "ws": "websocket",
    "websocket": "websocket",
    "stdio": "stdio",
    "local": "stdio",
}
URLS, COMMANDS = ("url", "uri", "serverUrl", "httpUrl"), ("command", "cmd")
_ENVIRONMENTS, _HEADERS = ("env", "envs", "environment"), ("headers", "http_headers")
_ONLY, _NEVER = (
    ("includeTools", "enabled_tools", "available_tools"),
    ("excludeTools", "disabled_tools", "disabledTools"),
)
_SECONDS, _MILLISECONDS = ("codex", "zed", "goose", "cline"), ("claude-code", "claude-desktop", "gemini")
_SILENT = frozenset(
    ["type", "transport", "transportType", "name", "args", "description", "source", "gallery", "version"]
)
_LOST = {
    "oauth": "the login of the client; add auth: {type: oauth} to this backend",
    "auth": "the login of the client; add auth: {type: oauth} to this backend",
    "authProviderType": "the login of the client; add auth: {type: oauth} to this backend",
    "headersHelper": "a program that prints headers; give the header a value in headers",
    "http_headers_helper": "a program that prints headers; give the header a value in headers",
    "envFile": "vmcp reads no environment file; name its variables under env",
    "trust": "whether the client asks before a call; that stays with the client",
    "autoApprove": "whether the client asks before a call; that stays with the client",
    "alwaysAllow": "whether the client asks before a call; that stays with the client",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a server or of a key of it."""

    status: Status
    server: str
    what: str


@dataclass(slots=True)
class Draft:
    """A backend to be: its name, where it stood, its settings, its choice of tools. Filled by ``draft``."""

    name: str
    place: str
    settings: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, list[str]] = field(default_factory=dict)
    lost: list[Finding] = field(default_factory=list)

    def tell(self, status: Status, what: str) -> None:
        self.lost.append(Finding(status, self.name, what))


def draft(name: str, raw: Mapping[str, Any], place: str, lift: Lift, client: str | None) -> Draft:
    """The backend that an entry means. Raises ``Unclear`` when it means none."""
    made = Draft(name, place)
    raw = _flat(raw)
    url = next((raw[key] for key in URLS if isinstance(raw.get(key), str) and raw[key]), "")
    if url:
        _remote(made, raw, url, lift, client)
    else:
        _local(made, raw, lift)
    _common(made, raw, client)
    return made


def _flat(raw: Mapping[str, Any]) -> dict[str, Any]:
    """An entry whose transport is an object of its own, as one map."""
    inner = raw.get("transport")
    return {**raw, **inner} if isinstance(inner, Mapping) else dict(raw)


def _remote(made: Draft, raw: Mapping[str, Any], url: str, lift: Lift, client: str | None) -> None:
    headers = dict(_map(raw, _HEADERS))
    for header, named in _map(raw, ("env_http_headers",)).items():
        headers[header] = f"${{{named}}}"
    for key, form in (("bearer_token_env_var", "Bearer ${%s}"), ("bearerToken", "Bearer %s")):
        if isinstance(raw.get(key), str):
            headers["Authorization"] = form % raw[key]
    kind = _transport(made, raw, url, client)
    _endpoint(made, url, kind, headers, lift)


def _endpoint(made: Draft, url: str, kind: str, headers: dict[str, Any], lift: Lift) -> None:
    user, bare = _without_user(url)
    if user:
        headers.setdefault("Authorization", user)
        made.tell("approximated", "the user name and password of its URL are a header now")
    if "#" in url:
        made.tell("approximated", "the end of its URL from '#' on is never sent, and is left out")
    made.settings["url"] = lift.url(bare, f"{made.place}.url")
    if kind:
        made.settings["transport"] = kind
    for header, value in headers.items():
        _header(made, header, _text(value), lift)


def _without_user(url: str) -> tuple[str, str]:
    """The credentials of a URL as a header, and the URL without them."""
    found = re.match(r"([a-z]+://)([^/?#@]*)@(.*)", url, re.IGNORECASE | re.DOTALL)
    if found is None or "${" in found[2]:
        return "", url
    return f"Basic {b64encode(unquote(found[2]).encode()).decode()}", found[1] + found[3]


def _transport(made: Draft, raw: Mapping[str, Any], url: str, client: str | None) -> str:
    told = next((raw[key] for key in ("type", "transport", "transportType") if isinstance(raw.get(key), str)), "")
    kind = _TRANSPORTS.get(re.sub(r"[-_]", "", told.lower()), "") if told else ""
    if told and re.sub(r"[-_]", "", told.lower()) not in _TRANSPORTS:
        raise Unclear("its type is none that vmcp knows")
    if client == "cline" and not told:
        kind = "sse"
    if kind == "sse":
        made.tell(
            "approximated", "HTTP+SSE is the older transport; leave transport out if its server has the newer one"
        )
    if kind == "stdio":
        raise Unclear("it has a URL and says that it is a process")
    sockets = url.lower().startswith(("ws://", "wss://"))
    return "" if sockets == (kind == "websocket") and kind != "sse" and not told.startswith("ws") else kind


def _header(made: Draft, header: str, text: str, lift: Lift) -> None:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", header):
        raise Unclear("it has a header whose name is none")
    place = f"{made.place}.headers.{header}"
    pieces = parts(text, lift.around, bare=lift.bare)
    if header.lower() == "authorization" and "auth" not in made.settings:
        first = str(pieces[0]) if pieces else ""
        if first[:7].lower() == "bearer " and len(pieces) == 2 and first[7:] == "" and isinstance(pieces[1], Variable):
            made.settings["auth"] = _bearer(lift.alone("token", pieces[1], place))
            return
        if first[:7].lower() == "bearer " and len(pieces) == 1 and first[7:].strip():
            token = lift.vault.keep(f"{lift.server}_TOKEN", lift.server, first[7:].strip(), place)
            made.settings["auth"] = _bearer({"env": token})
            return
    if header.lower() in ("accept", "content-type", "host", "connection", "user-agent") and harmless(header, text, 12):
        made.tell("exact" if header.lower() != "user-agent" else "approximated", f"header {header}: vmcp sends its own")
        return
    made.settings.setdefault("headers", {})[header] = lift.secret(header, text, f"{lift.server}_{header}", place, 5)


def _bearer(token: Any) -> dict[str, Any]:
    return {"type": "bearer", "bearer": {"token": token}}


def _local(made: Draft, raw: Mapping[str, Any], lift: Lift) -> None:
    argv = _argv(raw)
    if not argv or not argv[0]:
        raise Unclear("it has neither a URL nor a command")
    argv, env = plain(argv, _map(raw, _ENVIRONMENTS))
    if program(argv[0]) == "vmcp" and "stdio" in argv[1:]:
        raise Unclear("it is vmcp itself")
    found = bridge(argv, env)
    if found is not None:
        for note in found.notes:
            made.tell("approximated", note)
        made.tell("exact", f"{_bridge_name(argv)} taken off: vmcp speaks to the server itself")
        kind = _TRANSPORTS.get(re.sub(r"[-_]", "", found.transport.lower()), "")
        _endpoint(made, found.url, "sse" if kind == "sse" else "", dict(found.headers), lift)
        return
    made.settings["command"] = lift.arguments(argv, f"{made.place}.args")
    for name in _list(raw, "env_vars", "env_keys"):
        env.setdefault(name, f"${{{name}}}")
    _environment(made, env, lift)
    if isinstance(raw.get("cwd"), str) and raw["cwd"]:
        cwd = lift.plain(raw["cwd"], f"{made.place}.cwd")
        made.settings["cwd"] = cwd if _absolute(cwd) else f"{lift.around.folder}/{cwd}"


def _bridge_name(argv: list[str]) -> str:
    known = ("mcp-remote", "supergateway", "mcp-proxy")
    return next((name for name in known if any(name in word for word in argv)), "the bridge")


def _absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or path.startswith("$")


def _argv(raw: Mapping[str, Any]) -> list[str]:
    command: Any = next((raw[key] for key in COMMANDS if raw.get(key)), None)
    args = raw.get("args")
    if isinstance(command, Mapping):  # the oldest form of Zed
        command, args = command.get("path"), command.get("args")
    argv = command if isinstance(command, list) else [command] if command else []
    argv = [*argv, *(args if isinstance(args, list) else [])]
    if not all(isinstance(each, str | int | float) for each in argv):
        raise Unclear("its command is no list of texts")
    return [_text(each) for each in argv]


def _environment(made: Draft, env: Mapping[str, Any], lift: Lift) -> None:
    for name, value in env.items():
        if value is None:
            made.tell("exact", f"env {name}: is not set in a child of vmcp unless it is named")
        elif not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            made.tell("dropped", "a variable whose name is none")
        else:
            text, place = _text(value), f"{made.place}.env.{name}"
            made.settings.setdefault("env", {})[name] = lift.secret(name, text, name, place)


def _common(made: Draft, raw: Mapping[str, Any], client: str | None) -> None:
    for key in ("timeout", "tool_timeout_sec"):
        if isinstance(raw.get(key), int | float) and not isinstance(raw[key], bool) and raw[key] > 0:
            made.settings["timeouts"] = {"total": _seconds(raw[key], key, client)}
    if raw.get("disabled") is True or raw.get("enabled") is False:
        made.settings["enabled"] = False
    for ours, theirs in (("filter", _ONLY), ("exclude", _NEVER)):
        names = [re.sub(r"\(.*", "", each) for each in _list(raw, *theirs)]
        if names:
            made.tools[ours] = names
    for key in _rest(raw, made):
        made.tell("dropped", f"{_word(key)}: {_LOST.get(key, 'vmcp has nothing like it')}")


def _rest(raw: Mapping[str, Any], made: Draft) -> Iterator[str]:
    known = {*_SILENT, *URLS, *COMMANDS, *_ENVIRONMENTS, *_ONLY, *_NEVER, "disabled", "enabled", "timeout"}
    known |= {"tool_timeout_sec"}
    known |= (
        {*_HEADERS, "env_http_headers", "bearer_token_env_var", "bearerToken"}
        if "url" in made.settings
        else {"cwd", "env_vars", "env_keys"}
    )
    yield from (key for key, value in raw.items() if key not in known and value not in (None, [], {}, "", False))


def _word(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", key) else "a key"


def _seconds(value: float, key: str, client: str | None) -> str:
    """Claude and Gemini count milliseconds, the others seconds; where it is unknown, the number tells."""
    counted = client not in _SECONDS and (client in _MILLISECONDS or value >= 1000)
    seconds = value / 1000 if counted and key == "timeout" else value
    return f"{max(1, round(seconds))}s"


def _map(raw: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    found: Mapping[str, Any] = next((raw[key] for key in keys if isinstance(raw.get(key), Mapping)), {})
    return dict(found)


def _list(raw: Mapping[str, Any], *keys: str) -> list[str]:
    lists = [raw[key] for key in keys if isinstance(raw.get(key), list)]
    return [each for found in lists for each in found if isinstance(each, str)]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def itself(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a backend is a running vmcp that the client has already."""
    where = split(str(settings.get("url", "")))
    return where is not None and name == "vmcp" and is_loopback(where.hostname or "")
