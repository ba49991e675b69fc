"""One backend: how it is reached, headers, secrets, strategies; each refusal beside what is fine."""

import pytest

from tests.config.samples import problems, told

URL = "url: https://a.example.com/mcp"
RUN = "command: [run]"


def of(settings: str, more: str = "") -> list[str]:
    """Rules and paths below one backend with these settings."""
    found = problems(f"name: x\ngroups: {{code: {{backends: {{a: {{{settings}}}}}}}}}\n{more}")
    return [f"{each.rule} {each.path.removeprefix('groups.code.backends.')}".rstrip() for each in found]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (URL, []),
        (RUN, []),
        (f"{URL}, transport: streamable-http", []),
        (f"{RUN}, transport: stdio", []),
        (f"{URL}, transport: stdio", ["contradiction a.transport"]),
        (f"{RUN}, transport: streamable-http", ["contradiction a.transport"]),
        (f"{URL}, {RUN}", ["contradiction a.command"]),
        ("required: true", ["missing-key a"]),
        ("url: 5", ["bad-type a.url"]),
        ("<<: *x", ["no-anchors"]),
        ("url: http://127.0.0.1:1/mcp", []),
        ("url: http://a.example.com/mcp", ["plain-http a.url"]),
        ("url: 'wss://a.example.com/mcp'", []),
        ("url: 'ws://localhost/mcp'", []),
        ("url: 'ws://a.example.com/mcp'", ["plain-http a.url"]),
        ("url: 'ftp://a.example.com/mcp'", ["bad-url a.url"]),
        ("url: 'ftp://a.example.com/mcp', transport: sse", ["bad-url a.url"]),
        ("url: 'wss://a/mcp', transport: websocket", []),
        ("url: 'wss://a/mcp', transport: sse", ["contradiction a.transport"]),
        ("url: 'wss://a/mcp', transport: streamable-http", ["contradiction a.transport"]),
        ("url: 'wss://a/mcp', headers: {A: b}, tls: {caBundlePath: c}", []),
        ("url: 'wss://a/mcp', pool: {maxSize: 2}", ["misplaced-key a.pool"]),
        ("url: 'ws://localhost/mcp', caBundlePath: c", ["misplaced-key a.caBundlePath"]),
        (f"{URL}, transport: websocket", ["contradiction a.transport"]),
        (f"{URL}, transport: sse, pool: {{maxSize: 2}}", []),
        (f"{URL}, transport: sse, protocol: '2025-11-25'", []),
        (f"{URL}, transport: sse, protocol: '2026-07-28'", ["contradiction a.protocol"]),
        ("url: 'https://a:b@c/mcp'", ["bad-url a.url"]),
        ("url: 'https://['", ["bad-url a.url"]),
        ("command: ['']", ["bad-value a.command[0]"]),
        ("command: [run, '']", []),
        (f"{RUN}, env: {{A: b}}, cwd: /srv", []),
        (f"{URL}, env: {{A: b}}, cwd: /srv", ["misplaced-key a.env", "misplaced-key a.cwd"]),
        (f"{URL}, headers: {{A: b}}, pool: {{maxSize: 2}}, tls: {{caBundlePath: c}}", []),
        (f"{RUN}, pool: {{maxSize: 2}}, tls: {{}}", ["misplaced-key a.pool", "misplaced-key a.tls"]),
        (f"{RUN}, headers: {{}}, caBundlePath: c", ["misplaced-key a.headers", "misplaced-key a.caBundlePath"]),
        (f"{URL}, tls: {{clientCertPath: c, clientKeyPath: k}}", []),
        (f"{URL}, tls: {{clientCertPath: c}}", ["missing-key a.tls.clientCertPath"]),
        (f"{URL}, tls: {{clientKeyPath: c}}", ["missing-key a.tls.clientKeyPath"]),
        (f"{URL}, tls: {{clientKeyPath: c, clientCertPath: 5}}", ["bad-type a.tls.clientCertPath"]),
        (f"{URL}, tls: {{caBundlePath: c}}, caBundlePath: d", ["contradiction a.caBundlePath"]),
        ("url: http://localhost/mcp, tls: {caBundlePath: c}", ["misplaced-key a.tls"]),
        ("url: http://localhost/mcp, caBundlePath: c", ["misplaced-key a.caBundlePath"]),
        (f"{URL}, name: b", ["misplaced-key a.name"]),
        (f"{URL}, timeouts: {{total: 0s}}", ["bad-value a.timeouts.total"]),
        (f"{URL}, pool: {{idleTimeout: 0s, acquireTimeout: 0s}}", []),
    ],
)
def test_reaching_it(settings: str, expected: list[str]) -> None:
    assert of(settings) == expected


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        ("allow: {sampling: true}", "warning"),
        ("allow: {elicitation: true}", "warning"),
        ("allow: {elicitation: {url: true}}", "warning"),
        ("allow: {roots: true}, protocol: '2024-11-05'", "error"),
        ("allow: {roots: true}, protocol: '2026-07-28'", None),
        ("allow: {roots: true}, isolation: identity", None),
        ("allow: {logging: true, roots: false, elicitation: {form: false}}", None),
    ],
)
def test_a_session_that_all_share_can_put_no_questions(settings: str, severity: str | None) -> None:
    found = problems(f"name: x\ngroups: {{code: {{backends: {{a: {{{RUN}, {settings}}}}}}}}}\n")
    assert [(each.rule, each.severity) for each in found] == ([("contradiction", severity)] if severity else [])
    assert of(f"{URL}, {settings}") == []
    assert bool(of(f"{URL}, isolation: shared, {settings.partition(', isolation')[0]}")) == (
        severity is not None or "identity" in settings
    )


@pytest.mark.parametrize("name", ["X-Team", "Authorization", "Cookie", "User-Agent", "x_y", "Traceparent"])
def test_headers_that_may_be_set(name: str) -> None:
    assert of(f"{URL}, headers: {{{name}: {{env: A}}}}") == []


REFUSED = """
    Host connection Keep-Alive TE Trailer Transfer-Encoding Upgrade Content-Length Content-Type Accept Mcp-Session-Id
    Sec-WebSocket-Protocol MCP-Protocol-Version Mcp-Name X-Forwarded-For Forwarded Proxy-Authorization
"""


@pytest.mark.parametrize("name", REFUSED.split())
def test_headers_that_may_not_be_set(name: str) -> None:
    assert of(f"{URL}, headers: {{{name}: a}}") == [f"bad-header a.headers.{name}"]
    injected = f"headerInjection: {{headerName: {name}, headerValue: a}}"
    assert of(f"{URL}, auth: {{type: header_injection, {injected}}}") == [
        "bad-header a.auth.headerInjection.headerName"
    ]


@pytest.mark.parametrize("value", ['"a\\r\\nX: y"', '"a\\nb"', '"\\0"', "bücher", '"\\x7f"'])
def test_header_values_that_would_break_a_request(value: str) -> None:
    assert of(f"{URL}, headers: {{X-A: {value}}}") == ["bad-value a.headers.X-A"]


def test_header_names_ignore_case() -> None:
    assert of(f"{URL}, headers: {{X-A: a, x-a: b}}") == ["bad-header a.headers.x-a"]


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        (f"{URL}, headers: {{Authorization: Bearer abc}}", "headers.Authorization"),
        (f"{URL}, headers: {{X-Api-Key: abc}}", "headers.X-Api-Key"),
        (f"{URL}, headers: {{X-A: ghp_0123456789abcdefghij}}", "headers.X-A"),
        (f"{URL}, headers: {{X-A: sk-0123456789abcdefghij}}", "headers.X-A"),
        (f"{RUN}, env: {{GITHUB_TOKEN: abc}}", "env.GITHUB_TOKEN"),
        (f"{RUN}, env: {{A: AKIAIOSFODNN7EXAMPLE}}", "env.A"),
        (
            f"{URL}, auth: {{type: header_injection, headerInjection: {{headerName: X-Token, headerValue: abc}}}}",
            "auth.headerInjection.headerValue",
        ),
        (f"{URL}, headers: {{X-Team: platform}}", None),
        (f"{URL}, headers: {{Authorization: {{env: A}}}}", None),
        (f"{URL}, headers: {{Authorization: {{file: a}}}}", None),
        (f"{URL}, headers: {{Authorization: ''}}", None),
        (f"{URL}, headers: {{Authorization: 'Bearer ${{TOKEN}}'}}", None),
        (f"{RUN}, env: {{LOG_LEVEL: warn, TOKEN_COUNT: '5'}}", None),
    ],
)
def test_a_secret_in_the_file_is_a_warning(settings: str, warned: str | None) -> None:
    found = problems(f"name: x\ngroups: {{code: {{backends: {{a: {{{settings}}}}}}}}}\n", {"TOKEN": "hush"})
    assert [(each.rule, each.severity) for each in found] == ([("literal-secret", "warning")] if warned else [])
    assert not warned or found[0].path == f"groups.code.backends.a.{warned}"


GOOD = "{type: header_injection, headerInjection: {headerName: X-A, headerValueEnv: B}}"


@pytest.mark.parametrize(
    ("settings", "more", "expected"),
    [
        (f"{URL}, auth: {GOOD}", "", []),
        (URL, f"outgoingAuth: {{default: {GOOD}}}", []),
        (URL, f"outgoingAuth: {{backends: {{a: {GOOD}}}}}", []),
        (f"{URL}, auth: {{type: unauthenticated}}", "", []),
        (RUN, f"outgoingAuth: {{default: {GOOD}}}", []),
        (RUN, f"outgoingAuth: {{backends: {{a: {GOOD}}}}}", ["misplaced-key outgoingAuth.backends.a.type"]),
        (f"{RUN}, auth: {GOOD}", "", ["misplaced-key a.auth.type"]),
        (f"{URL}, auth: {GOOD}, headers: {{x-a: b}}", "", ["contradiction a.auth.headerInjection.headerName"]),
        (f"{URL}, auth: {{type: header_injection}}", "", ["missing-key a.auth"]),
        (
            f"{URL}, auth: {{type: header_injection, headerInjection: {{headerName: A}}}}",
            "",
            ["missing-key a.auth.headerInjection"],
        ),
        (
            f"{URL}, auth: {{type: header_injection, headerInjection: {{headerValue: A}}}}",
            "",
            ["missing-key a.auth.headerInjection"],
        ),
        (
            f"{URL}, auth: {{type: header_injection, headerInjection: {{headerName: A, headerValue: 5}}}}",
            "",
            ["bad-type a.auth.headerInjection.headerValue"],
        ),
        (
            f"{URL}, auth: {{type: header_injection, headerInjection: {{headerName: A, headerValue: b, headerValueEnv: C}}}}",
            "",
            ["contradiction a.auth.headerInjection.headerValueEnv"],
        ),
        (
            f"{URL}, auth: {{type: unauthenticated, headerInjection: {{headerName: A, headerValue: b}}}}",
            "",
            ["misplaced-key a.auth.headerInjection"],
        ),
    ],
)
def test_strategies(settings: str, more: str, expected: list[str]) -> None:
    assert of(settings, more) == expected


def test_positions_are_those_of_the_cause() -> None:
    text = "name: x\nbackends:\n  - name: a\n    url: https://a.example.com/mcp\n    env: {A: b}\n"
    assert told(problems(text)) == ["5:5 misplaced-key backends[0].env"]
