"""A checked document → Config: every key arrives where it belongs, in seconds and bytes."""

from math import inf

import pytest

from tests.config.samples import SMALL, config
from vmcp.config.model import (
    Allow,
    ArgumentOverride,
    BackendSpec,
    Concealed,
    Limits,
    Paths,
    PoolSpec,
    SecretRef,
    Selection,
    Timeouts,
    TlsSpec,
)

FULL = """\
name: acme
groupRef: code
metadata: {owner: me}
groups:
  code:
    description: Code.
    backends:
      remote:
        url: https://a.example.com/mcp
        protocol: "2025-11-25"
        required: true
        isolation: shared
        headers: {X-Plain: text, X-Env: {env: N}, X-File: {file: secrets/a}}
        tls: {caBundlePath: ca.pem, clientCertPath: ../c.pem, clientKeyPath: /k.pem}
        timeouts: {connect: 250ms, firstByte: 1m30s, total: 2m, idleStream: 1h}
        pool: {maxSize: 2, idleTimeout: 0s, acquireTimeout: 1s, minSize: 0}
        metadata: {a: b}
      local:
        command: [run, --fast]
        env: {A: b, C: {env: D}}
        cwd: .
      off: {command: [run], enabled: false}
  more: {backends: {other: {url: https://b.example.com/mcp, auth: {type: unauthenticated}}}}
outgoingAuth:
  default: {type: header_injection, headerInjection: {headerName: X-Key, headerValue: {file: key}}}
aggregation:
  conflictResolution: manual
  conflictResolutionConfig: {prefixFormat: "{workload}-", priorityOrder: [local, remote]}
  tools:
    - workload: remote
      filter: []
      exclude: [b*]
      matchOn: advertised
      excludeAll: true
      readOnlyOnly: true
      overrides:
        x:
          name: y
          title: T
          description: D
          annotations: {readOnlyHint: true, title: A}
          arguments:
            p: {name: q, description: d, default: {a: [1, null]}, hide: true}
            r: {fixed: null}
  prompts: [{workload: local, excludeAll: true}]
  resources: [{workload: remote, filter: ["file:*"]}]
  excludeAllTools: true
  defaultToolVisibility: deny
  maxNameLength: 32
operational:
  logLevel: debug
  timeouts: {default: 10s, perWorkload: {other: 20s, remote: 30s}}
  failureHandling: {partialFailureMode: fail}
server:
  host: "::1"
  port: 0
  allowAnonymousNetwork: true
  allowedHosts: [a.example.com]
  allowedOrigins: ["https://a.example.com"]
  publicUrl: https://a.example.com/
  limits: {bodyBytes: 0, headerBytes: 64KiB, headerTimeout: 500ms, sessions: 0, jsonDepth: 5, responseBytes: 1024,
    sessionsPerPrincipal: 7, sessionMax: 1h, uriBytes: 8KiB, bodyRate: 16KiB, writeStall: 1m, connections: 20000,
    connectionsPerAddress: 9, requests: 99, unreadBytes: 1GiB, memoryBytes: 4GiB}
  paths: {mcp: /mcp, sse: /events, ws: /a/socket}
"""


def test_a_backend_over_http() -> None:
    remote, _, _ = config(FULL).backends
    assert remote == BackendSpec(
        name="remote",
        group="code",
        transport="streamable-http",
        url="https://a.example.com/mcp",
        protocol="2025-11-25",
        guessed=True,
        required=True,
        headers={
            "X-Plain": "text",
            "X-Env": SecretRef(env="N"),
            "X-File": SecretRef(file="/etc/vmcp/secrets/a"),
            "X-Key": SecretRef(file="/etc/vmcp/key"),
        },
        tls=TlsSpec("/etc/vmcp/ca.pem", "/etc/c.pem", "/k.pem"),
        timeouts=Timeouts(0.25, 90, 120, 3600),
        pool=PoolSpec(2, 0, 1),
        metadata={"a": "b"},
    )


def test_a_child_process() -> None:
    _, local, _ = config(FULL).backends
    assert local == BackendSpec(
        name="local",
        group="code",
        transport="stdio",
        guessed=True,
        command=("run", "--fast"),
        env={"A": "b", "C": SecretRef(env="D")},
        cwd="/etc/vmcp",
        timeouts=Timeouts(total=10, first_byte=inf),
    )


@pytest.mark.parametrize(
    ("settings", "transport", "guessed", "isolation"),
    [
        ("url: https://a/mcp", "streamable-http", True, "session"),
        ("url: https://a/mcp, transport: streamable-http, isolation: request", "streamable-http", False, "request"),
        ("url: https://a/sse, transport: sse, isolation: identity", "sse", False, "identity"),
        ("url: 'WSS://a/ws'", "websocket", True, "session"),
        ("url: 'wss://a/ws', transport: websocket", "websocket", False, "session"),
        ("command: [run]", "stdio", True, "shared"),
        ("command: [run], isolation: session", "stdio", True, "session"),
    ],
)
def test_the_way_to_a_backend_and_who_shares_it(settings: str, transport: str, guessed: bool, isolation: str) -> None:
    (found,) = config(f"name: x\ngroups: {{code: {{backends: {{a: {{{settings}}}}}}}}}\n").backends
    assert (found.transport, found.guessed, found.isolation) == (transport, guessed, isolation)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", Allow()),
        ("{sampling: true, roots: true, logging: false}", Allow(sampling=True, roots=True, logging=False)),
        ("{elicitation: true}", Allow(form=True, url=True)),
        ("{elicitation: false}", Allow(form=False, url=False)),
        ("{elicitation: {url: true}}", Allow(form=True, url=True)),
        ("{elicitation: {form: false}}", Allow(form=False)),
    ],
)
def test_what_a_backend_may_ask(text: str, expected: Allow) -> None:
    (found,) = config(
        f"name: x\ngroups: {{code: {{backends: {{a: {{url: https://a/mcp, allow: {text}}}}}}}}}\n"
    ).backends
    assert found.allow == expected


def test_its_own_strategy_goes_before_the_default() -> None:
    _, _, other = config(FULL).backends
    assert other.headers == {}
    assert other.timeouts.total == 20


def test_groups_and_the_rest() -> None:
    found = config(FULL)
    assert (found.name, found.group_ref, dict(found.metadata)) == ("acme", "code", {"owner": "me"})
    assert {name: (group.description, list(group.backends)) for name, group in found.groups.items()} == {
        "code": ("Code.", ["remote", "local"]),
        "more": ("", ["other"]),
    }
    assert (found.log_level, found.partial_failure) == ("debug", "fail")


def test_the_aggregation() -> None:
    found = config(FULL).aggregation
    assert (found.strategy, found.prefix_format, found.priority_order) == ("manual", "{workload}-", ("local", "remote"))
    assert (found.exclude_all_tools, found.default_tool_visibility, found.max_name_length) == (True, "deny", 32)
    selection = found.tools["remote"]
    assert (selection.filter, selection.exclude, selection.match_on) == ((), ("b*",), "advertised")
    assert (selection.exclude_all, selection.read_only_only) == (True, True)
    override = selection.overrides["x"]
    assert (override.name, override.title, override.description) == ("y", "T", "D")
    assert override.annotations == {"readOnlyHint": True, "title": "A"}
    assert override.arguments == {
        "p": ArgumentOverride("q", "d", default=b'{"a":[1,null]}', hide=True),
        "r": ArgumentOverride(fixed=b"null"),
    }
    assert found.prompts == {"local": Selection(exclude_all=True)}
    assert found.resources == {"remote": Selection(filter=("file:*",))}


def test_the_listener() -> None:
    found = config(FULL).server
    assert (found.host, found.port, found.public_url) == ("::1", 0, "https://a.example.com/")
    assert (found.allowed_hosts, found.allowed_origins) == (("a.example.com",), ("https://a.example.com",))
    assert found.allow_anonymous_network
    assert found.limits == Limits(
        body_bytes=0,
        header_bytes=65536,
        header_timeout=0.5,
        sessions=0,
        sessions_per_principal=7,
        session_max=3600,
        json_depth=5,
        response_bytes=1024,
        uri_bytes=8192,
        body_rate=16384,
        write_stall=60.0,
        connections=20_000,
        connections_per_address=9,
        requests=99,
        unread_bytes=1 << 30,
        memory_bytes=4 << 30,
    )
    assert found.paths == Paths(sse="/events", message="/message", ws="/a/socket")


def test_the_smallest_file_has_the_defaults() -> None:
    found = config(SMALL)
    (github,) = found.backends
    assert github == BackendSpec(
        "github", "code", "streamable-http", url="https://mcp.example.com/mcp", guessed=True, isolation="session"
    )
    assert (found.group_ref, found.log_level, found.partial_failure, found.server.port) == (
        "code",
        "info",
        "best_effort",
        4483,
    )
    assert (found.server.limits, found.server.paths) == (Limits(), Paths())


@pytest.mark.parametrize("port", ["4484", "4484.0"])
def test_a_port_is_a_whole_number(port: str) -> None:
    found = config(f"{SMALL}server: {{port: {port}}}").server.port
    assert (found, type(found)) == (4484, int)


def test_the_digest_names_the_content() -> None:
    one = config(SMALL)
    assert one.digest == config("# a comment\n" + SMALL).digest
    assert one.digest != config(SMALL.replace("acme", "acne")).digest
    secret = SMALL.replace("mcp}", "mcp, headers: {A: '${S}'}}")
    assert config(secret, {"S": "a"}).digest != config(secret, {"S": "b"}).digest


def test_text_that_may_be_a_secret_is_not_in_a_repr() -> None:
    found = config(SMALL.replace("mcp}", "mcp, headers: {A: '${S}'}}"), {"S": "hush"})
    assert "hush" not in repr(found)
    assert "***" in repr(found)
    assert found.backends[0].headers["A"] == "hush"
    assert f"{Concealed('hush')}" == "hush"


def test_an_injected_header_from_the_environment_and_in_plain() -> None:
    text = SMALL + "outgoingAuth: {default: {type: header_injection, headerInjection: {headerName: A, %s}}}"
    assert config(text % "headerValueEnv: B").backends[0].headers == {"A": SecretRef(env="B")}
    assert config(text % "headerValue: b").backends[0].headers == {"A": "b"}
    own = (text % "headerValue: b").replace("mcp}", "mcp, headers: {a: own}}")
    assert config(own).backends[0].headers == {"a": "own"}
