"""Names, references, aggregation, listener: what is refused, beside what is nearly the same and fine."""

import pytest

from tests.config.samples import SMALL, problems, told

TWO = """\
name: acme
groups:
  code:
    backends:
      a: {url: https://a.example.com/mcp}
      b: {url: https://b.example.com/mcp}
"""
SPLIT = """\
name: acme
groupRef: code
groups:
  code: {backends: {a: {url: https://a.example.com/mcp}}}
  more: {backends: {b: {url: https://b.example.com/mcp}}}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMALL, []),
        (SMALL + "groupRef: code", []),
        (SMALL + "groupRef: none", ["6:11 unknown-reference groupRef"]),
        (SPLIT, []),
        (SPLIT.replace("groupRef: code\n", ""), ["2:1 nothing-served groups"]),
        ("name: a\n", ["1:1 missing-key"]),
        ("name: a\ngroups: {}\n", ["1:1 missing-key"]),
        ("name: a\ngroups: {code: {backends: {}}}\n", ["2:10 nothing-served groups.code"]),
        ("name: a\nbackends: []\n", ["2:1 nothing-served backends"]),
        (
            "name: a\ngroups: {code: {backends: {x: {command: [x], enabled: false}}}}\n",
            ["2:10 nothing-served groups.code"],
        ),
        ("name: a\ngroupRef: mcp\nbackends: [{name: x, command: [x]}]\n", ["2:11 reserved-name groupRef"]),
        ("name: a\ngroups: {MCP: {backends: {x: {command: [x]}}}}\n", ["2:10 reserved-name groups.MCP"]),
        ("name: a\ngroups: {mcp1: {backends: {x: {command: [x]}}}}\n", []),
        ("name: a\ngroups: {a b: {backends: {x: {command: [x]}}}}\n", ['2:10 bad-name groups["a b"]']),
        (SPLIT.replace("b: {url", "a: {url"), ["5:21 duplicate-name groups.more.backends.a"]),
    ],
)
def test_groups_and_names(text: str, expected: list[str]) -> None:
    assert told(problems(text)) == expected


AT = "aggregation.conflictResolutionConfig"
DENY = "{defaultToolVisibility: deny, tools: [{workload: a}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", []),
        ("{conflictResolution: prefix}", []),
        ("{conflictResolution: prefix, conflictResolutionConfig: {prefixFormat: 'x_{workload}'}}", []),
        ("{conflictResolutionConfig: {prefixFormat: x}}", [f"7:56 prefix-format {AT}.prefixFormat"]),
        ("{conflictResolution: priority, conflictResolutionConfig: {priorityOrder: [a]}}", []),
        ("{conflictResolution: priority}", ["7:35 missing-key aggregation.conflictResolution"]),
        (
            "{conflictResolution: priority, conflictResolutionConfig: {priorityOrder: []}}",
            ["7:35 missing-key aggregation.conflictResolution"],
        ),
        ("{conflictResolution: priority, conflictResolutionConfig: 5}", [f"7:71 bad-type {AT}"]),
        (
            "{conflictResolution: priority, conflictResolutionConfig: {priorityOrder: 5}}",
            [f"7:87 bad-type {AT}.priorityOrder"],
        ),
        (
            "{conflictResolution: priority, conflictResolutionConfig: {priorityOrder: [a, a]}}",
            [f"7:87 bad-value {AT}.priorityOrder"],
        ),
        (
            "{conflictResolution: priority, conflictResolutionConfig: {priorityOrder: [a, 5]}}",
            [f"7:91 bad-type {AT}.priorityOrder[1]"],
        ),
        ("{conflictResolution: manual, tools: [{workload: a}]}", []),
        ("{conflictResolution: manual}", ["7:35 missing-key aggregation.conflictResolution"]),
        ("{conflictResolution: manual, tools: 5}", ["7:50 bad-type aggregation.tools"]),
        ("{tools: [{workload: a}, {workload: b}]}", []),
        ("{tools: [{workload: a}, {workload: a}]}", ["7:49 duplicate-name aggregation.tools[1].workload"]),
        ("{prompts: [{workload: c}]}", ["7:36 unknown-reference aggregation.prompts[0].workload"]),
        ("{resources: [{filter: [x]}]}", ["7:27 missing-key aggregation.resources[0]"]),
        (
            "{tools: [5, {workload: a, overrides: 5}]}",
            ["7:23 bad-type aggregation.tools[0]", "7:51 bad-type aggregation.tools[1].overrides"],
        ),
        ("{defaultToolVisibility: deny, tools: [{workload: a}]}", []),
        ("{defaultToolVisibility: deny}", ["7:38 nothing-served aggregation.defaultToolVisibility"]),
        ("{defaultToolVisibility: deny, tools: 5}", ["7:51 bad-type aggregation.tools"]),
        (
            f"{DENY}, conflictResolution: priority, conflictResolutionConfig: {{priorityOrder: [a, b]}}}}",
            [f"7:144 contradiction {AT}.priorityOrder[1]"],
        ),
    ],
)
def test_the_aggregation(text: str, expected: list[str]) -> None:
    assert told(problems(f"{TWO}aggregation: {text}\n")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {name: x}, b: {name: y}", []),
        ("a: {name: x}, b: {name: x}", 1),
        ("a: {arguments: {p: {name: q}, r: {name: s}}}", []),
        ("a: {arguments: {p: {name: q}, r: {name: q}}}", 1),
        ("a: {arguments: {p: {default: 1}, q: {fixed: 1}}}", []),
        ("a: {arguments: {p: {default: null, fixed: 1}}}", 1),
        ("a: {title: x}, b: {title: x}", []),
    ],
)
def test_overrides(text: str, expected: object) -> None:
    found = problems(f"{TWO}aggregation: {{tools: [{{workload: a, overrides: {{{text}}}}}]}}\n")
    assert len(found) == (expected or 0)


@pytest.mark.parametrize(
    ("groups", "strategy", "count"), [(TWO, "manual", 1), (TWO, "prefix", 0), (SPLIT, "manual", 0)]
)
def test_one_name_from_two_backends_collides_only_where_names_are_final(groups: str, strategy: str, count: int) -> None:
    rename = "overrides: {x: {name: y}, z: {title: t}}"
    tools = f"[{{workload: a, {rename}}}, {{workload: b, {rename}}}]"
    assert len(problems(f"{groups}aggregation: {{conflictResolution: {strategy}, tools: {tools}}}\n")) == count


def test_names_of_backends_are_only_missed_where_all_of_them_could_be_read() -> None:
    reference = "operational: {timeouts: {perWorkload: {c: 30s}}}\n"
    assert told(problems(TWO + reference)) == ["7:40 unknown-reference operational.timeouts.perWorkload.c"]
    assert told(problems(TWO + "      c: 5\n" + reference)) == ["7:10 bad-type groups.code.backends.c"]
    assert told(problems("name: a\nbackends: [{command: [x]}]\n" + reference)) == ["2:12 missing-key backends[0]"]
    assert told(problems("name: a\nbackends: 5\n" + reference)) == ["2:11 bad-type backends"]
    assert told(problems("name: a\nbackends: [5]\n" + reference)) == ["2:12 bad-type backends[0]"]
    text = "name: a\nbackends: [{name: 5, command: [x]}]\n"
    assert told(problems(text + reference)) == ["2:19 bad-type backends[0].name"]


def test_an_unreadable_group_ref_is_told_once() -> None:
    assert told(problems(SPLIT.replace("groupRef: code", "groupRef: ${G}"))) == ["2:11 env-missing groupRef"]
    assert told(problems(SPLIT.replace("groupRef: code", "grouRef: code"))) == ["2:1 unknown-key grouRef"]


def test_hints_name_what_there_is_but_never_what_came_from_the_environment() -> None:
    (found,) = problems(TWO + "outgoingAuth: {backends: {zzz: {type: unauthenticated}}}")
    assert found.hint == "there are: a, b"
    text = "name: x\nbackends: [{name: '${A}', command: [x]}, {name: b, command: [x]}]\naggregation: {tools: [{workload: %s}]}"
    (found,) = problems(text % "hushh", {"A": "hush"})
    assert found.hint == "there are: b"
    (found,) = problems(text % "'${B}'", {"A": "hush", "B": "husk"})
    assert (found.message, found.hint) == ("the value (hidden) is no backend of this file", "there are: b")
    assert not problems(text % "hush", {"A": "hush"})
    many = "".join(f"      x{number}: {{command: [x]}}\n" for number in range(20))
    (found,) = problems(TWO + many + "outgoingAuth: {backends: {zzz: {type: unauthenticated}}}")
    assert found.hint == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{host: 127.0.0.1}", []),
        ("{host: localhost}", []),
        ("{host: 0.0.0.0}", ["6:16 anonymous-network server.host"]),
        ("{host: '::'}", ["6:16 anonymous-network server.host"]),
        ("{host: 0.0.0.0, allowAnonymousNetwork: false}", ["6:16 anonymous-network server.host"]),
        ("{host: 0.0.0.0, allowAnonymousNetwork: true}", []),
        ("{host: 'a b'}", ["6:16 bad-value server.host"]),
        ("{port: 0}", []),
        ("{port: -1}", ["6:16 bad-value server.port"]),
        ("{publicUrl: 'https://gw.example.com/'}", []),
        ("{publicUrl: gw.example.com}", ["6:21 bad-value server.publicUrl"]),
        ("{publicUrl: 'ftp://gw'}", ["6:21 bad-url server.publicUrl"]),
        ("{allowedHosts: [gw.example.com, 'gw:8080', '[::1]:80']}", []),
        (
            "{allowedHosts: [me@gw, 5]}",
            ["6:25 bad-value server.allowedHosts[0]", "6:32 bad-type server.allowedHosts[1]"],
        ),
        ("{allowedOrigins: [https://a.example.com]}", []),
        ("{allowedOrigins: [a.example.com]}", ["6:27 bad-url server.allowedOrigins[0]"]),
        ("{allowedOrigins: [5]}", ["6:27 bad-type server.allowedOrigins[0]"]),
        ("{paths: {sse: /events, message: /a/b, ws: /socket}}", []),
        ("{paths: {sse: /message, message: /sse}}", []),
        ("{paths: {sse: /ws}}", ["6:23 contradiction server.paths.sse"]),
        ("{paths: {sse: /mcp}}", ["6:23 contradiction server.paths.sse"]),
        ("{paths: {sse: /a, ws: /a}}", ["6:31 contradiction server.paths.ws"]),
        ("{paths: {sse: /}}", ["6:23 contradiction server.paths.sse"]),
        ("{paths: {sse: /a/../b}}", ["6:23 contradiction server.paths.sse"]),
        ("{paths: {sse: /a/}}", ["6:23 contradiction server.paths.sse"]),
        ("{paths: {sse: /healthz}}", ["6:23 contradiction server.paths.sse"]),
        ("{paths: {sse: /code/sse}}", ["6:23 contradiction server.paths.sse"]),
        ("{paths: {sse: sse}}", ["6:23 bad-value server.paths.sse"]),
    ],
)
def test_the_listener(text: str, expected: list[str]) -> None:
    assert told(problems(f"{SMALL}server: {text}\n")) == expected


def test_the_network_may_come_in_where_clients_prove_who_they_are() -> None:
    oidc = "incomingAuth: {type: oidc, oidc: {issuer: 'https://idp.example.com', audience: a}}\n"
    assert not problems(SMALL + oidc + "server: {host: 0.0.0.0}\n")
