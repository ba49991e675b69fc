"""The table of clients: where each keeps its servers, under which key, and how it writes vmcp down.

The rule: this is data. What a client wants is a line here, and no other file knows the name of a client but to show it.

In paths ``{home}`` is the user's home, ``{config}`` his folder of configurations, ``{NAME}`` a variable of the environment: a
place that names one counts only where that is set, and then it counts alone. In entries ``{url}``, ``{token}`` (the name of the
variable with the token), ``{program}`` and ``{arguments}`` (of ``vmcp stdio``) are put in.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from vmcp.clients.edit import Format

Places = Mapping[str, tuple[str, ...]]
NAME: Final = "vmcp"


@dataclass(frozen=True, slots=True)
class Client:
    """One client. ``remote`` is None where its file takes no URL; ``token`` is what a bearer token adds to the entry."""

    name: str
    title: str
    form: Format
    root: tuple[str, ...]
    files: Places
    local: Mapping[str, Any]
    remote: Mapping[str, Any] | None = None
    token: Mapping[str, Any] | None = None
    project: str | None = None
    command: tuple[str, ...] = ()
    command_token: tuple[str, ...] = ()
    then: str = ""
    link: str = ""
    """Opens the client with the entry. ``{base64}`` and ``{quoted}`` are its JSON text, the latter with its name in it."""


_STDIO = {"command": "{program}", "args": "{arguments}"}
_EVERYWHERE = ("linux", "darwin", "win32")


def _same(*places: str) -> Places:
    return dict.fromkeys(_EVERYWHERE, places)


def _code(rest: str) -> Places:
    """A file under the user's folder of VS Code."""
    return {
        "linux": (f"{{config}}/Code/User/{rest}",),
        "darwin": (f"{{home}}/Library/Application Support/Code/User/{rest}",),
        "win32": (f"{{APPDATA}}/Code/User/{rest}",),
    }


def _bearer(form: str) -> Mapping[str, Any]:
    return {"headers": {"Authorization": f"Bearer {form}"}}


CLIENTS: Final[tuple[Client, ...]] = (
    Client(
        "claude-code",
        "Claude Code",
        "json",
        ("mcpServers",),
        _same("{CLAUDE_CONFIG_DIR}/.claude.json", "{home}/.claude.json"),
        {"type": "stdio", **_STDIO, "env": {}},
        {"type": "http", "url": "{url}"},
        _bearer("${{token}}"),
        ".mcp.json",
        ("claude", "mcp", "add", "--transport", "http", NAME, "{url}", "--scope", "user"),
        ("--header", "Authorization: Bearer ${{token}}"),
        "Claude Code sees it in its next session; an entry of a project waits for your approval there.",
    ),
    Client(
        "claude-desktop",
        "Claude Desktop",
        "json",
        ("mcpServers",),
        {
            "linux": (
                "{config}/Claude/claude_desktop_config.json",
                "{config}/claude/claude_desktop_config.json",
            ),
            "darwin": ("{home}/Library/Application Support/Claude/claude_desktop_config.json",),
            "win32": ("{APPDATA}/Claude/claude_desktop_config.json",),
        },
        _STDIO,
        then="Quit Claude Desktop and start it again.",
    ),
    Client(
        "cursor",
        "Cursor",
        "json",
        ("mcpServers",),
        _same("{home}/.cursor/mcp.json"),
        _STDIO,
        {"url": "{url}"},
        _bearer("${env:{token}}"),
        ".cursor/mcp.json",
        then="Switch it on in Cursor's settings under MCP.",
        link="cursor://anysphere.cursor-deeplink/mcp/install?name=vmcp&config={base64}",
    ),
    Client(
        "vscode",
        "VS Code",
        "json",
        ("servers",),
        _code("mcp.json"),
        {"type": "stdio", **_STDIO},
        {"type": "http", "url": "{url}"},
        _bearer("${env:{token}}"),
        ".vscode/mcp.json",
        then="Start it with 'MCP: List Servers' in the command palette.",
        link="vscode:mcp/install?{quoted}",
    ),
    Client(
        "windsurf",
        "Windsurf",
        "json",
        ("mcpServers",),
        _same("{home}/.codeium/windsurf/mcp_config.json", "{home}/.codeium/mcp_config.json"),
        _STDIO,
        {"serverUrl": "{url}"},
        _bearer("${env:{token}}"),
        then="Press refresh in Windsurf's MCP panel; it takes at most 100 tools of all servers together.",
    ),
    Client(
        "codex",
        "Codex",
        "toml",
        ("mcp_servers",),
        _same("{CODEX_HOME}/config.toml", "{home}/.codex/config.toml"),
        _STDIO,
        {"url": "{url}"},
        {"bearer_token_env_var": "{token}"},
        ".codex/config.toml",
        ("codex", "mcp", "add", NAME, "--url", "{url}"),
        ("--bearer-token-env-var", "{token}"),
        "Codex sees it in its next session.",
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "json",
        ("mcpServers",),
        _same("{home}/.gemini/settings.json"),
        _STDIO,
        {"url": "{url}", "type": "http"},
        _bearer("${{token}}"),
        ".gemini/settings.json",
        ("gemini", "mcp", "add", "--transport", "http", "--scope", "user", NAME, "{url}"),
        ("--header", "Authorization: Bearer ${{token}}"),
        "Gemini CLI sees it in its next session; it takes no servers in a folder that it does not trust.",
    ),
    Client(
        "zed",
        "Zed",
        "json",
        ("context_servers",),
        {
            "linux": ("{config}/zed/settings.json",),
            "darwin": ("{home}/.config/zed/settings.json",),
            "win32": ("{APPDATA}/Zed/settings.json",),
        },
        {**_STDIO, "env": {}},
        {"url": "{url}"},
        project=".zed/settings.json",
        then="Zed sees it at once.",
    ),
    Client(
        "goose",
        "Goose",
        "yaml",
        ("extensions",),
        {
            "linux": ("{config}/goose/config.yaml",),
            "darwin": ("{home}/.config/goose/config.yaml",),
            "win32": ("{APPDATA}/Block/goose/config/config.yaml",),
        },
        {
            "type": "stdio",
            "name": NAME,
            "description": "",
            "cmd": "{program}",
            "args": "{arguments}",
            "timeout": 300,
            "enabled": True,
        },
        {
            "type": "streamable_http",
            "name": NAME,
            "description": "",
            "uri": "{url}",
            "timeout": 300,
            "enabled": True,
        },
        then="Goose sees it in its next session.",
    ),
    Client(
        "cline",
        "Cline",
        "json",
        ("mcpServers",),
        _code("globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
        {**_STDIO, "disabled": False},
        {"type": "streamableHttp", "url": "{url}", "disabled": False},
        then="Cline sees it at once.",
    ),
)
BY_NAME: Final[Mapping[str, Client]] = {client.name: client for client in CLIENTS}
"""In the order in which they are looked for and shown."""


def places(client: Client, platform: str, environ: Mapping[str, str], home: str) -> list[str]:
    """Where a client may keep its file here, the likeliest first."""
    known = {"home": home, "config": environ.get("XDG_CONFIG_HOME") or f"{home}/.config"}
    found = []
    for template in client.files.get(platform, client.files["linux"]):
        name = template[1:].partition("}")[0]
        value = known.get(name) or environ.get(name)
        if value:
            found.append(value + template[len(name) + 2 :])
            if name not in known:
                return found
    return found


def entry(client: Client, url: str, token: str | None, start: tuple[str, ...] | None) -> dict[str, Any]:
    """What a client has to have in its file: a URL, or a program that it starts (``start``)."""
    if start is None:
        assert client.remote is not None
        template = {**client.remote, **((client.token or {}) if token else {})}
    else:
        template = dict(client.local)
    values = {"{url}": url, "{program}": start[0] if start else "", "{token}": token or ""}
    found: dict[str, Any] = _filled(template, values, list(start[1:]) if start else [])
    return found


def deep_link(client: Client, entry: Mapping[str, Any]) -> str:
    """What a browser opens to give ``entry`` to the client; empty where it knows none."""
    text = json.dumps(entry, separators=(",", ":"))
    named = json.dumps({"name": NAME, **entry}, separators=(",", ":"))
    values = {"{base64}": quote(b64encode(text.encode()).decode(), safe=""), "{quoted}": quote(named, safe="")}
    return _put(client.link, values)


def official(client: Client, url: str, token: str | None) -> list[str]:
    """The client's own command for it; empty when it has none."""
    words = [*client.command, *(client.command_token if token and client.command else ())]
    return [_put(word, {"{url}": url, "{token}": token or ""}) for word in words]


def _filled(template: Any, values: Mapping[str, str], arguments: list[str]) -> Any:
    if isinstance(template, Mapping):
        return {key: _filled(value, values, arguments) for key, value in template.items()}
    if template == "{arguments}":
        return arguments
    return _put(template, values) if isinstance(template, str) else template


def _put(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text
