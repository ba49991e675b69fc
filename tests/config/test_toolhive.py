"""ToolHive's files load and mean what they say; what they ask for that is not there yet is refused with the reason."""

from tests.config.samples import config, problems, told
from vmcp.config.model import SecretRef
from vmcp.config.toolhive import ca_bundle, entries, group_names

THEIRS = """\
name: engineering-vmcp
groupRef: engineering-team
backends:
  - name: github
    url: http://127.0.0.1:9001/mcp
    transport: streamable-http
    metadata: {team: platform}
  - name: jira
    url: https://jira.example.com/mcp
    transport: streamable-http
    type: entry
    caBundlePath: /etc/ssl/corp.pem
incomingAuth: {type: anonymous}
outgoingAuth:
  source: inline
  default: {type: unauthenticated}
  backends:
    jira:
      type: header_injection
      headerInjection: {headerName: Authorization, headerValueEnv: JIRA_AUTH}
aggregation:
  conflictResolution: priority
  conflictResolutionConfig: {priorityOrder: [jira, github]}
  tools:
    - {workload: github, filter: [search], overrides: {search: {name: find, annotations: {readOnlyHint: true}}}}
  excludeAllTools: false
operational:
  logLevel: debug
  timeouts: {default: 30s, perWorkload: {jira: 1m}}
  failureHandling: {partialFailureMode: fail}
metadata: {owner: platform}
"""


def test_their_file_means_what_it_says() -> None:
    found = config(THEIRS)
    assert list(found.groups) == ["engineering-team"]
    assert found.group_ref == "engineering-team"
    github, jira = found.backends
    assert (github.url, github.transport, dict(github.headers)) == ("http://127.0.0.1:9001/mcp", "streamable-http", {})
    assert github.metadata == {"team": "platform"}
    assert jira.headers == {"Authorization": SecretRef(env="JIRA_AUTH")}
    assert jira.tls.ca_bundle == "/etc/ssl/corp.pem"
    assert (github.timeouts.total, jira.timeouts.total) == (30, 60)
    assert found.aggregation.strategy == "priority"
    assert found.aggregation.priority_order == ("jira", "github")
    assert found.aggregation.tools["github"].filter == ("search",)
    assert found.aggregation.tools["github"].overrides["search"].name == "find"
    assert (found.log_level, found.partial_failure) == ("debug", "fail")
    assert found.metadata == {"owner": "platform"}


def test_their_features_that_are_not_built_are_refused_each_with_its_place() -> None:
    text = THEIRS.replace("{partialFailureMode: fail}", "{statusReportingInterval: 5s}").replace(
        "streamable-http", "sse", 1
    )
    text += "compositeToolRefs: [{name: a}]\n"
    assert told(problems(text)) == [
        "30:46 not-built operational.failureHandling.statusReportingInterval",
        "32:1 not-built compositeToolRefs",
    ]


def test_the_list_makes_a_group_of_its_own_beside_others() -> None:
    text = "name: a\ngroups: {code: {backends: {b: {command: [b]}}}}\nbackends: [{name: c, command: [c]}]\ngroupRef: code\n"
    assert told(problems(text)) == ["3:1 contradiction backends"]
    found = config(text.replace("groupRef: code\n", ""))
    assert {name: list(group.backends) for name, group in found.groups.items()} == {"code": ["b"], "default": ["c"]}
    assert found.group_ref is None


def test_entries_come_in_order_and_holes_are_left_out() -> None:
    data = {
        "groups": {"g": {"backends": {"a": {}, "none": None}}, "h": None},
        "backends": [None, {}, {"name": "b"}],
    }
    assert [(each.path, each.name, each.group) for each in entries(data)] == [
        (("groups", "g", "backends", "a"), "a", "g"),
        (("backends", 2), "b", "default"),
    ]
    assert group_names(data) == {"g": ("groups", "g"), "h": ("groups", "h"), "default": ("backends",)}


def test_the_certificate_bundle_is_found_in_both_forms() -> None:
    assert ca_bundle({}) is None
    assert ca_bundle({"caBundlePath": "a"}) == (("caBundlePath",), "a")
    assert ca_bundle({"tls": {"caBundlePath": "b"}, "caBundlePath": "a"}) == (("tls", "caBundlePath"), "b")
