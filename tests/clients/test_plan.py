"""Files of every client and format → our configuration. Rule: it passes the loader, and no secret of the file is in it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients.shapes import SECRETS, SHAPES, Shape
from vmcp.cli import imported
from vmcp.clients import emit
from vmcp.clients.edit import format_of
from vmcp.clients.plan import Plan, Source, plan, servers
from vmcp.clients.secrets import MOST, Around, Unclear, Vault, variable
from vmcp.clients.trial import stand_ins
from vmcp.config.load import load
from vmcp.config.source import compose
from vmcp.config.tree import flatten
from vmcp.errors import ConfigError

AROUND = Around("/home/me", "/proj")


def source(text: str, name: str = "a.json", client: str | None = None) -> Source:
    return Source(name, text, format_of(name), AROUND, client)


def entry(raw: object, client: str | None = None, name: str = "it") -> Plan:
    return plan([source(json.dumps({"mcpServers": {name: raw}}), client=client)])


def told(made: Plan) -> list[tuple[str, str]]:
    return [(each.status, each.what) for found in made.findings.values() for each in found]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.client or 'file'}-{shape.name}")
def test_every_shape_comes_out_as_ours(shape: Shape) -> None:
    made = plan([source(shape.text, shape.name, shape.client)])
    assert made.backends == shape.backends
    assert sorted(need.name for need in made.needs) == sorted(shape.needs)
    assert tuple(made.tools) == shape.tools


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.client or 'file'}-{shape.name}")
def test_what_comes_out_is_loaded_and_has_no_secret(shape: Shape) -> None:
    made = plan([source(shape.text, shape.name, shape.client)])
    text = imported.text(made, "gateway")
    load([("vmcp.yaml", text)], stand_ins(text))
    for seen in (text, imported.report(made), repr(made)):
        assert not [secret for secret in SECRETS if secret in seen]


def test_all_files_together_are_one_configuration() -> None:
    made = plan([source(shape.text, f"{number}-{shape.name}", shape.client) for number, shape in enumerate(SHAPES)])
    text = imported.text(made, "gateway")
    load([("vmcp.yaml", text)], stand_ins(text))
    assert not [secret for secret in SECRETS if secret in text + imported.report(made)]


def test_the_variables_are_kept_for_the_file_that_is_asked_for() -> None:
    made = entry({"command": "x", "env": {"API_KEY": "it's s3cr3t", "OTHER": "${UNSET}"}})
    assert imported.env_file(made) == "API_KEY='it'\\''s s3cr3t'\nUNSET=\n"


def test_the_same_server_twice_is_one_backend() -> None:
    raw = {"command": "npx", "args": ["x"], "env": {"KEY": "s3cr3t"}}
    text = json.dumps({"mcpServers": {"a": raw}}), json.dumps({"mcpServers": {"b": raw}})
    made = plan([source(text[0], "one.json"), source(text[1], "two.json")])
    assert list(made.backends) == ["a"]
    assert made.findings["two.json"][0].what == "it is the same as a"


def test_two_servers_of_one_name_stay_two_and_their_secrets_too() -> None:
    texts = [json.dumps({"mcpServers": {"a": {"command": c, "env": {"KEY": f"s3cr3t{c}"}}}}) for c in "xyz"]
    made = plan([source(text, f"{number}.json") for number, text in enumerate(texts)])
    assert {name: each["env"]["KEY"]["env"] for name, each in made.backends.items()} == {
        "a": "KEY",
        "a-2": "A_KEY",
        "a-3": "A_KEY_2",
    }


def test_a_literal_never_takes_the_name_of_a_variable_that_somebody_means() -> None:
    servers = {"a": {"command": "x", "env": {"KEY": "s3cr3t"}}, "b": {"command": "y", "env": {"KEY": "${KEY}"}}}
    made = plan([source(json.dumps({"mcpServers": servers}))])
    assert made.backends["a"]["env"] == {"KEY": {"env": "A_KEY"}}
    assert made.backends["b"]["env"] == {"KEY": {"env": "KEY"}}


@pytest.mark.parametrize(
    ("raw", "settings"),
    [
        ({"command": "docker", "args": ["run", "-i", "--rm", "-e", "T=s3cr3t", "-v", "/a:/b", "img", "-e", "A=b"]},
         {"command": ["docker", "run", "-i", "--rm", "-e", "T", "-v", "/a:/b", "img", "-e", "A=b"],
          "env": {"T": {"env": "T"}}}),
        ({"command": "docker", "args": ["run", "--odd", "-e", "A=b", "img"]},
         {"command": ["docker", "run", "--odd", "-e", "A=b", "img"]}),
        ({"command": "docker", "args": ["run", "--env=A=b", "img"]},
         {"command": ["docker", "run", "-e", "A", "img"], "env": {"A": "b"}}),
        ({"command": "env", "args": ["A=b", "npx", "x"]}, {"command": ["npx", "x"], "env": {"A": "b"}}),
        ({"command": "env", "args": ["-i", "x"]}, {"command": ["env", "-i", "x"]}),
        ({"command": "C:\\Windows\\cmd.exe", "args": ["/C", "npx", "x"]}, {"command": ["npx", "x"]}),
        ({"command": "cmd", "args": ["/c", "a & b"]}, {"command": ["cmd", "/c", "a & b"]}),
        ({"command": "pnpm", "args": ["dlx", "mcp-remote", "https://a.example/mcp", "--transport", "sse-only"]},
         {"url": "https://a.example/mcp", "transport": "sse"}),
        ({"command": "npx", "args": ["mcp-remote", "https://a.example/mcp", "9000", "--host", "x"]},
         {"command": ["npx", "mcp-remote", "https://a.example/mcp", "9000", "--host", "x"]}),
        ({"command": "npx", "args": ["-y", "supergateway", "--streamableHttp", "https://a.example/mcp", "--header",
                                     "X-A: b"]},
         {"url": "https://a.example/mcp", "headers": {"X-A": "b"}}),
        ({"command": "npx", "args": ["-y", "supergateway", "--stdio", "npx x"]},
         {"command": ["npx", "-y", "supergateway", "--stdio", "npx x"]}),
        ({"command": "uvx", "args": ["mcp-proxy", "--transport", "streamablehttp", "https://a.example/mcp"]},
         {"url": "https://a.example/mcp"}),
        ({"command": "uvx", "args": ["mcp-proxy", "--port", "1"]}, {"command": ["uvx", "mcp-proxy", "--port", "1"]}),
        ({"command": ["a", "b"], "environment": {"A": "b"}}, {"command": ["a", "b"], "env": {"A": "b"}}),
        ({"url": "wss://a.example/ws", "type": "ws"}, {"url": "wss://a.example/ws", "transport": "websocket"}),
        ({"url": "https://a.example", "headers": {"Accept": "x", "User-Agent": "me"}}, {"url": "https://a.example"}),
        ({"url": "https://a.example", "headers": {"X-A": "${file:/run/a}"}},
         {"url": "https://a.example", "headers": {"X-A": {"file": "/run/a"}}}),
        ({"url": "https://a.example", "headers": {"X-A": "a ${B} c"}},
         {"url": "https://a.example", "headers": {"X-A": "a ${B} c"}}),
        ({"command": "x", "args": ["a=${B:-c}"]}, {"command": ["x", "a=${B:-c}"]}),
        ({"command": "x", "args": ["${A}", "${A}"]}, {"command": ["x", "${A}", "${A}"]}),
        ({"command": "x", "env": {"KEY": "${KEY:-s3cr3t}", "MODE": "${MODE:-fast}", "a b": "c"}},
         {"command": ["x"], "env": {"KEY": {"env": "KEY"}, "MODE": "${MODE:-fast}"}}),
        ({"command": "x", "args": ["-H", "X-Page: two", "--header", "plain"]},
         {"command": ["x", "-H", "X-Page: two", "--header", "plain"]}),
        ({"command": "x", "env": {"H": '{"Authorization": "Bearer s3cr3t"}', "I": '{"Authorization": "Bearer ${T}"}'}},
         {"command": ["x"], "env": {"H": {"env": "H"}, "I": '{"Authorization": "Bearer ${T}"}'}}),
        ({"command": "x", "args": ["--token", "--flag"]}, {"command": ["x", "--token", "--flag"]}),
        ({"url": "https://a.example/mcp?page=2&k=${K:-v}&q="}, {"url": "https://a.example/mcp?page=2&k=${K:-v}&q="}),
        ({"command": "npx", "args": ["-y"]}, {"command": ["npx", "-y"]}),
        ({"command": "npx", "args": ["mcp-remote", "https://a.example/mcp", "--allow-http", "--header", "odd"]},
         {"command": ["npx", "mcp-remote", "https://a.example/mcp", "--allow-http", "--header", "odd"]}),
        ({"command": "npx", "args": ["mcp-remote", "https://a.example/mcp", "--allow-http", "--header", "X-A: b"]},
         {"url": "https://a.example/mcp", "headers": {"X-A": "b"}}),
        ({"command": "npx", "args": ["supergateway", "--sse", "https://a.example/sse", "--oauth2Bearer", "t", "--logLevel",
                                     "none"]},
         {"url": "https://a.example/sse", "transport": "sse", "auth": {"type": "bearer", "bearer": {"token": {"env":
          "IT_TOKEN"}}}}),
        ({"command": "uvx", "args": ["mcp-proxy", "-H", "X-A", "b", "https://a.example/sse"]},
         {"url": "https://a.example/sse", "transport": "sse", "headers": {"X-A": "b"}}),
        ({"command": "docker", "args": ["run", "-e"]}, {"command": ["docker", "run", "-e"]}),
        ({"url": "https://a.example", "bearerToken": "s3cr3t"},
         {"url": "https://a.example", "auth": {"type": "bearer", "bearer": {"token": {"env": "IT_TOKEN"}}}}),
        ({"url": "https://a.example", "headers": {"Authorization": "Basic s3cr3t"}},
         {"url": "https://a.example", "headers": {"Authorization": {"env": "IT_AUTHORIZATION"}}}),
    ],
)  # fmt: skip
def test_a_wrapper_comes_off_where_all_of_it_is_understood(raw: object, settings: object) -> None:
    ((_, found),) = entry(raw).backends.items()
    assert found == settings


@pytest.mark.parametrize(
    ("argument", "before"),
    [
        ("s3cr3t", "--api-key"),
        ("--token=s3cr3t", ""),
        ("API_KEY=s3cr3t", "-e"),
        ("Authorization: Bearer s3cr3t", "--header"),
        ("ghp_S3cretS3cretS3cret", ""),
        ("postgresql://me:p4ssw0rd@host/db", ""),
        ("https://a.example/?key=s3cr3t", ""),
        ("AbC123dEf456GhI789AbC123dEf456GhI789", ""),
        ("Server=x;Password=s3cr3t", ""),
        ('{"Authorization": "Bearer s3cr3t"}', "--headers-json"),
        ("--header=Authorization: Bearer s3cr3t", ""),
        ("s3cr3t", "--pw"),
    ],
)
def test_a_secret_on_a_command_line_is_lifted(argument: str, before: str) -> None:
    made = entry({"command": "x", "args": [before, argument] if before else [argument]})
    assert not [secret for secret in SECRETS if secret in imported.text(made, "g")]
    ((need),) = made.needs
    assert need.early
    assert need.value is not None
    assert need.value in argument


@pytest.mark.parametrize(
    "argument",
    ["@modelcontextprotocol/server-filesystem@2025.7.1", "/srv/docs", "img@sha256:" + "0a" * 32, "--key-file=/x/y.pem",
     "git+https://example.com/x@" + "0a" * 20, "https://a.example/?page=2", "stdio", "8080"],
)  # fmt: skip
def test_an_argument_that_is_no_secret_stays(argument: str) -> None:
    assert entry({"command": "x", "args": [argument]}).backends["it"]["command"] == ["x", argument]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({}, "it has neither a URL nor a command"),
        ({"command": ["x", {}]}, "its command is no list of texts"),
        ({"command": "vmcp", "args": ["stdio"]}, "it is vmcp itself"),
        ({"url": "https://a.example", "type": "carrier-pigeon"}, "its type is none that vmcp knows"),
        ({"url": "https://a.example", "type": "stdio"}, "it has a URL and says that it is a process"),
        ({"url": "ftp://a.example"}, "url: must begin with http://, https://, ws:// or wss://"),
        ({"command": "x", "args": ["${command:pick}"]}, "it has a ${…} that vmcp cannot know"),
        ({"command": "x", "args": ["${file:/x}"]}, "a variable stands where vmcp cannot put it in"),
        ({"command": "x", "args": ["$${A}"]}, "a variable stands where vmcp cannot put it in"),
        ({"url": "https://a.example", "headers": {"X": "ghp_S3cretS3cretS3cret ${A}"}},
         "a secret and a variable stand in one text"),
        ([], "it is no map of settings"),
        ({"command": "x", "args": ["eyJ" * 100_000]}, "a text in it is too long"),
        ({"command": "x", "env": {"A": "${A:-" * 50_000}}, "a text in it is too long"),
        ({"url": "https://a.example?" + "?" * 200_000}, "a text in it is too long"),
        ({"url": "https://a.example", "headers": {"Accept": "passw" * 50_000}}, "a text in it is too long"),
        ({"url": "https://a.example", "headers": {"X: s3cr3t": "y"}}, "it has a header whose name is none"),
        ({"url": "https://a.example", "headers": {"Mcp-Session-Id": "x"}},
         "headers.Mcp-Session-Id: is a header that vmcp sets itself, or never sends"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_dropped_and_told(raw: object, why: str) -> None:
    made = entry(raw)
    assert (made.backends, told(made)) == ({}, [("dropped", why)])
    assert made.needs == []


def test_what_is_lost_of_a_server_makes_it_approximated() -> None:
    made = entry({"url": "https://a.example", "oauth": {"clientId": "x"}}, name="a b")
    assert servers(made.findings["a.json"]) == {"a-b": "approximated"}
    assert made.count("approximated") == 1


def test_what_a_file_lost_is_told_of_the_server_as_it_is_called_here() -> None:
    made = plan([source('{"image": "i", "schema_version": "v1", "transport": "stdio", "name": "a b"}')])
    assert servers(made.findings["a.json"]) == {"a-b": "approximated"}


def test_vmcp_itself_is_not_imported() -> None:
    assert entry({"url": "http://127.0.0.1:4483/mcp"}, name="vmcp").backends == {}


TOOLHIVE = """name: theirs
groupRef: team
backends:
  - {name: a, url: "https://a.example/mcp", transport: streamable-http}
incomingAuth: {type: anonymous}
outgoingAuth:
  source: inline
  backends:
    a: {type: header_injection, headerInjection: {headerName: X-Key, headerValue: s3cr3t}}
aggregation: {conflictResolution: prefix}
"""


def test_a_toolhive_configuration_is_carried_over_whole() -> None:
    made = plan([source(TOOLHIVE, "t.yaml")])
    data = made.data("mine")
    assert data["name"] == "theirs"
    assert data["groups"] == {
        "team": {"backends": {"a": {"url": "https://a.example/mcp", "transport": "streamable-http"}}}
    }
    injection = data["outgoingAuth"]["backends"]["a"]["headerInjection"]
    assert injection == {"headerName": "X-Key", "headerValue": {"env": "A_HEADERVALUE"}}
    assert [need.name for need in made.needs] == ["A_HEADERVALUE"]
    assert "s3cr3t" not in imported.text(made, "mine")


def test_beside_other_files_toolhive_gives_its_backends_and_says_so() -> None:
    made = plan([source(TOOLHIVE, "t.yaml"), source('{"mcpServers": {"b": {"command": "x"}}}')])
    assert set(made.backends) == {"a", "b"}
    assert any("beside its backends" in what for _, what in told(made))


def test_a_list_of_backends_alone_loses_nothing_beside_other_files() -> None:
    bare = "name: a\ngroupRef: g\nbackends: [{name: a, url: 'https://a.example/mcp'}]\n"
    made = plan([source(bare, "t.yaml"), source('{"mcpServers": {"b": {"command": "x"}}}')])
    assert [status for status, _ in told(made)] == ["exact", "exact"]


def test_a_variable_that_is_set_needs_nothing_in_its_place() -> None:
    assert stand_ins("url: ${A}\nb: ${B}${C:-x}${D:?why}$${E}", {"B": "b"}) == {
        "A": "https://not-set.invalid",
        "D": "x",
    }


def test_toolhive_that_finds_its_backends_itself_is_told() -> None:
    made = plan([source("name: a\ngroupRef: b\nincomingAuth: {type: anonymous}\n", "t.yaml")])
    assert (made.backends, made.findings["t.yaml"][0].status) == ({}, "dropped")


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.json", '{"mcpServers": {\n  "a": }', "a.json:2:8"),
        ("a.json", '{"a": 1, "a": 2}', "a.json:1:10"),
        ("a.json", "[" * 200_000, "a.json:1:65"),
        ("a.json", '{"a": "\x01"}', "a.json:1:7"),
        ("a.json", '{"a": "\\ud800"}', "a.json:1:7"),
        ("a.json", '{"a": "\\q"}', "a.json:1:7"),
        ("a.json", '{"a": 1e999}', "a.json:1:7"),
        ("a.json", '{"a": 0123}', "a.json:1:7"),
        ("a.json", '{"a" 1}', "a.json:1:6"),
        ("a.json", '{"a": 1} x', "a.json:1:10"),
        ("a.json", '{"a": 1 /* open', "a.json:1:9"),
        ("a.json", '{"a": [1 2]}', "a.json:1:10"),
        ("a.json", "[1]", "a.json:1:1"),
        ("a.json", '{"nothing": "known"}', "a.json:1:1"),
        ("a.json", '{"a": "\udcff"}', "a.json:1:1"),
        ("a.json", "{}" + " " * (1 << 24), "a.json:1:1"),
        ("a.json", json.dumps({"mcpServers": {str(n): {} for n in range(501)}}), "a.json:1:1"),
        ("a.toml", "[a\n", "a.toml:1:3"),
        ("a.toml", "a = " + "[" * 5000, "a.toml"),
        ("a.yaml", "a: &x [*x]\n", "a.yaml:1:4"),
        ("a.yaml", "a: !!python/object:os.system x\n", "a.yaml:1:4"),
        ("a.yaml", "a: [\n", "a.yaml"),
    ],
)
def test_a_hostile_file_is_refused_with_its_place(name: str, text: str, place: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan([source(text, name)])
    assert str(refused.value.problems[0].position).startswith(place)


def test_an_empty_file_has_no_servers() -> None:
    assert (
        plan([source(""), source("\ufeff{}", "b.json", "cursor"), source('{"x": 1}', "c.json", "zed")]).backends == {}
    )


def test_a_name_cannot_break_out_of_the_report_or_the_comment() -> None:
    made = plan([source('{"mcpServers": {"a\\u001b[2J\\nb: c": {"command": "x"}}}', "x\ny.json")])
    lost = plan([source('{"mcpServers": {"x\\u001b[2J": []}}')])
    text = imported.text(made, "g") + imported.report(made) + imported.report(lost)
    assert "\x1b" not in text
    assert "\nb: c" not in text
    assert text.splitlines()[0] == "# Made by vmcp init from x?y.json"


@pytest.mark.parametrize(
    ("data", "backends", "notes"),
    [
        ({"name": "a/b", "packages": [{"registryType": "mcpb", "identifier": "x"}]}, {},
         ["vmcp cannot start a package of this kind (mcpb)"]),
        ({"name": "a/b", "packages": [{"registryType": [], "identifier": "x"}], "remotes": [{"type": "sse"}]}, {},
         ["vmcp cannot start a package of this kind (sse)", "vmcp cannot start a package of this kind (another)"]),
        ({"name": "a/b", "packages": [{"registryType": "npm", "identifier": "x", "transport": {"type": "sse"}}]}, {},
         ["a package of it listens at a URL, and vmcp starts only what speaks stdio",
          "vmcp cannot start a package of this kind (npm)"]),
        ({"name": "a/b", "packages": [{"registryType": "pypi", "identifier": "x", "version": "1",
            "runtimeArguments": [{"type": "named", "name": "--offline"}, {"type": "positional", "value": "uvx"}],
            "packageArguments": [{"type": "named", "name": "--maybe", "valueHint": "x"}],
            "environmentVariables": [{"value": "nameless"}]}, {"registryType": "npm", "identifier": "x"}]},
         {"b": {"command": ["uvx", "--offline", "x@1"]}}, ["a further way to reach it (npm)"]),
        ({"name": "a/b", "packages": [{"registryType": "oci", "identifier": "h/x:2", "version": "1",
            "environmentVariables": [{"name": "A", "value": "{b}"}]}]},
         {"b": {"command": ["docker", "run", "-i", "--rm", "-e", "A", "h/x:2"], "env": {"A": {"env": "B"}}}}, []),
        ({"image": "i", "container_name": "c", "transport": "stdio", "secrets": [1], "env_vars": [], "cmd_args": 3},
         {"server": {"command": ["docker", "run", "-i", "--rm", "i"]}},
         ["docker runs it now, without ToolHive's permission profile"]),
        ({"remote_url": "https://a.example/mcp", "schema_version": "v1", "name": "far"},
         {"far": {"url": "https://a.example/mcp"}}, []),
        ({"mcp": {"targets": [{"name": "a", "stdio": {"cmd": "x"}, "policies": {"x": 1}}, 3], "policies": {"y": 1}}},
         {"a": {"command": ["x"]}},
         ["its policies; see auth and headers of a backend",
          "only MCP servers are imported; an OpenAPI target is none",
          "policies of agentgateway; see incomingAuth and rateLimiting"]),
        ({"binds": [3, {"listeners": [{"routes": [{"backends": [{"mcp": {"targets": [
            {"mcp": {"host": "h", "port": 80}}]}}]}]}]}]},
         {"server": {"url": "http://h:80/mcp"}}, []),
        ({"projects": {}}, {}, []),
    ],
)  # fmt: skip
def test_files_of_others_in_all_their_forms(data: object, backends: object, notes: list[str]) -> None:
    made = plan([source(json.dumps(data))])
    assert made.backends == backends
    assert [what for _, what in told(made) if what] == notes


def test_variables_that_toolhive_names_are_reported() -> None:
    text = """name: a
groupRef: g
backends: [{name: b, url: "${B_URL}"}, 3]
incomingAuth: {type: anonymous}
outgoingAuth: {source: inline, backends: {b: {type: header_injection, headerInjection: {headerName: X, headerValueEnv: B_KEY}}}}
metadata: {note: "ghp_S3cretS3cretS3cret"}
aggregation: {conflictResolution: prefix}
"""
    made = plan([source(text, "t.yaml")])
    assert [(need.name, need.early) for need in made.needs] == [("B_URL", True), ("B_KEY", False), ("VMCP_VALUE", True)]


def test_a_broken_toolhive_file_is_refused() -> None:
    with pytest.raises(ConfigError):
        plan([source('{"groupRef": "x", "backends": []}'.replace("x", "\x7f"))])


def test_our_own_configuration_is_told_from_others() -> None:
    with pytest.raises(ConfigError) as refused:
        plan([source("name: a\ngroupRef: g\ngroups: {g: {backends: {}}}\n", "t.yaml")])
    assert refused.value.problems[0].hint == "it is a configuration of vmcp: vmcp serve --config"


@pytest.mark.parametrize("text", ["eyJ", "passw", "?a", "${A:?", "SG.a", "://"])
def test_a_long_text_of_toolhive_takes_no_time(text: str) -> None:
    made = plan([source(TOOLHIVE + "metadata: {a: '" + text * (120_000 // len(text)) + "'}\n", "t.yaml")])
    assert list(made.backends) == ["a"]


def test_names_of_variables_come_to_an_end() -> None:
    vault = Vault()
    for number in range(MOST):
        vault.keep("KEY", "a", str(number), "here")
    with pytest.raises(Unclear, match="too many variables"):
        vault.keep("KEY", "a", "one more", "here")
    assert variable("9 lives") == "X_9_LIVES"


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["${A}", "Bearer s3cr3t", "npx", "mcp-remote", "https://a.example/mcp", "-e", "$"]
)
VALUES = st.recursive(
    TEXTS | st.integers(-(10**12), 10**12) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
KEYS = [
    "command",
    "cmd",
    "args",
    "env",
    "url",
    "uri",
    "type",
    "transport",
    "headers",
    "cwd",
    "timeout",
    "enabled",
    "env_keys",
]
KEYS += ["targets", "name", "host", "stdio", "mcp", "includeTools", "remotes", "packages", "identifier", "registryType"]
RAW = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
ROOTS = [
    "mcpServers",
    "servers",
    "mcp_servers",
    "extensions",
    "context_servers",
    "mcp",
    "packages",
    "remotes",
    "name",
    "image",
]
ROOTS += ["schema_version", "binds", "groupRef", "backends", "server", "projects"]


@settings(max_examples=60, deadline=None)
@given(
    data=st.dictionaries(st.sampled_from(ROOTS), st.dictionaries(TEXTS, RAW | VALUES, max_size=3) | VALUES, max_size=4)
)
def test_whatever_a_file_holds_it_is_imported_or_refused(data: dict[str, object]) -> None:
    try:
        made = plan([source(json.dumps(data))])
        text = imported.text(made, "g")
    except ConfigError:
        return
    if any(settings.get("enabled", True) for settings in made.backends.values()):
        load([("vmcp.yaml", text)], stand_ins(text))


@given(value=st.dictionaries(st.text(min_size=1, max_size=30), VALUES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_is_written_as_yaml_is_read_as_the_same(value: dict[str, object]) -> None:
    text = "".join(f"{line}\n" for line in emit.block(value))
    root, problems = compose("a", text)
    if not value:
        return
    assert not problems, (text, problems)
    assert root is not None
    assert flatten(root).data == value
