"""One file of every client and format, with what has to come out of it; the secrets in them are never to be seen again.

Rule: every value that is a secret stands in ``SECRETS``.
"""

from typing import Any, NamedTuple

SECRETS = (
    "ghp_S3cretS3cretS3cret",
    "hunter2hunter2",
    "lin_api_S3cretS3cret",
    "s3cr3t",
    "p4ssw0rd",
    "AbC123dEf456GhI789",
)


class Shape(NamedTuple):
    """A file: its name, whose it is, its text, our backends, choices of tools, variables."""

    name: str
    client: str | None
    text: str
    backends: dict[str, Any]
    needs: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()


def bearer(name: str) -> dict[str, Any]:
    return {"type": "bearer", "bearer": {"token": {"env": name}}}


SHAPES = (
    Shape(
        "claude_desktop_config.json",
        "claude-desktop",
        """{"mcpServers": {
          "github": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-github"],
                     "env": {"GITHUB_TOKEN": "ghp_S3cretS3cretS3cret", "LOG_LEVEL": "debug"}},
          "linear": {"command": "npx", "args": ["-y", "mcp-remote@0.1.37", "https://mcp.linear.app/sse", "--header",
                     "Authorization:${AUTH}"], "env": {"AUTH": "Bearer lin_api_S3cretS3cret"}},
          "off": {"command": "cmd", "args": ["/c", "npx", "-y", "thing"], "disabled": true}}}""",
        {
            "github": {
                "command": ["npx", "-y", "@modelcontextprotocol/server-github"],
                "env": {"GITHUB_TOKEN": {"env": "GITHUB_TOKEN"}, "LOG_LEVEL": "debug"},
            },
            "linear": {"url": "https://mcp.linear.app/sse", "auth": bearer("LINEAR_TOKEN")},
            "off": {"command": ["npx", "-y", "thing"], "enabled": False},
        },
        ("GITHUB_TOKEN", "LINEAR_TOKEN"),
    ),
    Shape(
        ".claude.json",
        "claude-code",
        """{"mcpServers": {
          "docs": {"type": "http", "url": "https://docs.example.com/mcp", "headers": {"Authorization": "Bearer ${DOCS}"}},
          "team": {"type": "sse", "url": "${TEAM_URL:-https://team.example.com}/sse", "timeout": 60000}},
         "projects": {"/proj": {"mcpServers": {"here": {"command": "server", "args": ["${PORT}"]}}},
                      "/elsewhere": {"mcpServers": {"there": {"command": "server"}}}}}""",
        {
            "docs": {"url": "https://docs.example.com/mcp", "auth": bearer("DOCS")},
            "team": {
                "url": "${TEAM_URL:-https://team.example.com}/sse",
                "transport": "sse",
                "timeouts": {"total": "60s"},
            },
            "here": {"command": ["server", "${PORT}"]},
        },
        ("DOCS", "PORT"),
    ),
    Shape(
        "mcp.json",
        "cursor",
        """{
          // as Cursor keeps it
          "mcpServers": {
            "api": {"url": "https://api.example.com/mcp?api_key=hunter2hunter2", "headers": {"X-Team": "platform"}},
            "files": {"command": "npx", "args": ["fs", "${workspaceFolder}", "${userHome}/x"], "envFile": ".env"},
          },
        }""",
        {
            "api": {"url": "https://api.example.com/mcp?api_key=${API_API_KEY}", "headers": {"X-Team": "platform"}},
            "files": {"command": ["npx", "fs", "/proj", "/home/me/x"]},
        },
        ("API_API_KEY",),
    ),
    Shape(
        "mcp.json",
        "vscode",
        """{"inputs": [{"type": "promptString", "id": "gh-token", "password": true}],
            "servers": {"gh": {"type": "http", "url": "https://gh.example.com/mcp",
                               "headers": {"Authorization": "Bearer ${input:gh-token}"}},
                        "local": {"type": "stdio", "command": "srv", "cwd": "sub", "env": {"N": 3, "GONE": null},
                                  "dev": {"watch": "src"}}}}""",
        {
            "gh": {"url": "https://gh.example.com/mcp", "auth": bearer("GH_TOKEN")},
            "local": {"command": ["srv"], "env": {"N": "3"}, "cwd": "/proj/sub"},
        },
        ("GH_TOKEN",),
    ),
    Shape(
        "mcp_config.json",
        "windsurf",
        """{"mcpServers": {"w": {"serverUrl": "https://w.example.com/mcp", "headers": {"X-Api-Key": "s3cr3t"},
                                 "disabledTools": ["drop"]}}}""",
        {"w": {"url": "https://w.example.com/mcp", "headers": {"X-Api-Key": {"env": "W_X_API_KEY"}}}},
        ("W_X_API_KEY",),
        ({"workload": "w", "exclude": ["drop"]},),
    ),
    Shape(
        "config.toml",
        "codex",
        """[mcp_servers.fig]
url = "https://fig.example.com/mcp"
bearer_token_env_var = "FIG"
env_http_headers = { X-Org = "ORG" }
tool_timeout_sec = 90
enabled_tools = ["a"]
[mcp_servers.loc]
command = "srv"
args = ["--token", "s3cr3t"]
env_vars = ["HOMEY"]
enabled = false
""",
        {
            "fig": {
                "url": "https://fig.example.com/mcp",
                "headers": {"X-Org": {"env": "ORG"}},
                "auth": bearer("FIG"),
                "timeouts": {"total": "90s"},
            },
            "loc": {
                "command": ["srv", "--token", "${LOC_TOKEN}"],
                "env": {"HOMEY": {"env": "HOMEY"}},
                "enabled": False,
            },
        },
        ("FIG", "HOMEY", "LOC_TOKEN", "ORG"),
        ({"workload": "fig", "filter": ["a"]},),
    ),
    Shape(
        "settings.json",
        "gemini",
        """{"mcp": {"allowed": ["g"]}, "mcpServers": {
          "g": {"httpUrl": "https://g.example.com/mcp", "headers": {"X-Key": "$GKEY"}, "timeout": 5000, "trust": true,
                "includeTools": ["one(x)"]}}}""",
        {
            "g": {
                "url": "https://g.example.com/mcp",
                "headers": {"X-Key": {"env": "GKEY"}},
                "timeouts": {"total": "5s"},
            }
        },
        ("GKEY",),
        ({"workload": "g", "filter": ["one"]},),
    ),
    Shape(
        "settings.json",
        "zed",
        """{ // Zed
          "theme": "One", "context_servers": {
            "new": {"command": "srv", "args": ["x"], "env": {}, "timeout": 30},
            "old": {"source": "custom", "command": {"path": "/bin/old", "args": ["y"], "env": {}}}}}""",
        {"new": {"command": ["srv", "x"], "timeouts": {"total": "30s"}}, "old": {"command": ["/bin/old", "y"]}},
    ),
    Shape(
        "config.yaml",
        "goose",
        """GOOSE_MODEL: x
extensions:
  developer: {type: builtin, name: developer, enabled: true, bundled: true}
  far: {type: streamable_http, uri: "https://far.example.com/mcp", name: far, enabled: true, timeout: 300}
  near: {type: stdio, cmd: uvx, args: [near], envs: {A: b}, env_keys: [NEAR_KEY], enabled: false}
""",
        {
            "far": {"url": "https://far.example.com/mcp", "timeouts": {"total": "300s"}},
            "near": {"command": ["uvx", "near"], "env": {"A": "b", "NEAR_KEY": {"env": "NEAR_KEY"}}, "enabled": False},
        },
        ("NEAR_KEY",),
    ),
    Shape(
        "cline_mcp_settings.json",
        "cline",
        """{"mcpServers": {
          "old": {"url": "https://old.example.com/sse", "autoApprove": ["x"], "timeout": 60},
          "new": {"transport": {"type": "streamableHttp", "url": "https://new.example.com/mcp"}}}}""",
        {
            "old": {"url": "https://old.example.com/sse", "transport": "sse", "timeouts": {"total": "60s"}},
            "new": {"url": "https://new.example.com/mcp"},
        },
    ),
    Shape(
        "config.yaml",
        None,
        """binds:
- port: 3000
  listeners:
  - routes:
    - policies: {cors: {allowOrigins: ["*"]}}
      backends:
      - mcp:
          targets:
          - {name: every, stdio: {cmd: npx, args: ["@modelcontextprotocol/server-everything"]}}
          - {name: far, mcp: {host: "https://far.example.com/mcp"}}
          - {name: parts, sse: {host: parts.example.com, port: 443, path: /events}}
          - {name: pets, openapi: {schema: {file: x.json}, host: localhost, port: 80}}
""",
        {
            "every": {"command": ["npx", "@modelcontextprotocol/server-everything"]},
            "far": {"url": "https://far.example.com/mcp"},
            "parts": {"url": "https://parts.example.com:443/events", "transport": "sse"},
        },
    ),
    Shape(
        "server.json",
        None,
        """{"$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
          "name": "io.github.example/weather", "description": "", "version": "1.2.0",
          "packages": [{"registryType": "npm", "identifier": "@example/weather", "version": "1.2.0",
            "transport": {"type": "stdio"},
            "packageArguments": [{"type": "named", "name": "--units", "value": "si"}, {"type": "positional",
              "valueHint": "city", "isRequired": true}],
            "environmentVariables": [{"name": "WEATHER_KEY", "isRequired": true, "isSecret": true},
              {"name": "OPTIONAL"}, {"name": "LANG_CODE", "default": "en"}]}]}""",
        {
            "weather": {
                "command": ["npx", "-y", "@example/weather@1.2.0", "--units", "si", "${CITY}"],
                "env": {"WEATHER_KEY": {"env": "WEATHER_KEY"}, "LANG_CODE": "en"},
            }
        },
        ("CITY", "WEATHER_KEY"),
    ),
    Shape(
        "server-remote.json",
        None,
        """{"server": {"name": "com.example/crm", "version_detail": {"version": "1"}, "remotes": [
            {"transport_type": "streamable-http", "url": "https://{tenant}.crm.example.com/mcp",
             "headers": [{"name": "X-Key", "is_secret": true, "is_required": true}, {"name": "X-Opt"}],
             "variables": {"tenant": {"default": "eu"}}}],
            "packages": [{"registry_type": "oci", "identifier": "ghcr.io/example/crm", "version": "1"}]}}""",
        {"crm": {"url": "https://${TENANT:-eu}.crm.example.com/mcp", "headers": {"X-Key": {"env": "X_KEY"}}}},
        ("X_KEY",),
    ),
    Shape(
        "run.json",
        None,
        """{"schema_version": "v0.1.0", "image": "ghcr.io/github/github-mcp-server:1", "name": "github",
          "transport": "stdio", "env_vars": {"MCP_TRANSPORT": "stdio", "TOOLSETS": "all"}, "cmd_args": ["stdio"],
          "secrets": ["gh,target=GITHUB_TOKEN"], "permission_profile": {}}""",
        {
            "github": {
                "command": [
                    "docker",
                    "run",
                    "-i",
                    "--rm",
                    "-e",
                    "TOOLSETS",
                    "-e",
                    "GITHUB_TOKEN",
                    "ghcr.io/github/github-mcp-server:1",
                    "stdio",
                ],
                "env": {"TOOLSETS": "all", "GITHUB_TOKEN": {"env": "GITHUB_TOKEN"}},
            }
        },
        ("GITHUB_TOKEN",),
    ),
    Shape(
        "run-proxy.json",
        None,
        """{"schema_version": "v0.1.0", "image": "mcp/fetch", "name": "fetch", "transport": "streamable-http",
            "host": "127.0.0.1", "port": 12345}""",
        {"fetch": {"url": "http://127.0.0.1:12345/mcp"}},
    ),
    Shape(
        "list.yaml",
        None,
        """mcpServers:
  - {name: one, url: "https://one.example.com/mcp#here"}
  - {name: two, url: "https://me:p4ssw0rd@two.example.com/mcp"}
  - {name: three, url: "https://hooks.example.com/s/AbC123dEf456GhI789/mcp"}
""",
        {
            "one": {"url": "https://one.example.com/mcp"},
            "two": {"url": "https://two.example.com/mcp", "headers": {"Authorization": {"env": "TWO_AUTHORIZATION"}}},
            "three": {"url": "https://hooks.example.com/s/${THREE_URL_PART}/mcp"},
        },
        ("THREE_URL_PART", "TWO_AUTHORIZATION"),
    ),
)
