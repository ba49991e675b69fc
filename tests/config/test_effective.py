"""Every value with its origin.

Rule: pure; a planted secret is in none of it, and a default is told only where it has an effect.
"""

from tests.config.samples import SMALL
from vmcp.config.effective import Value, effective
from vmcp.config.load import loaded

SECRET = "hush-7c1d"
ENVIRON = {"PLANTED": SECRET, "PORT": "5000"}


def told(text: str) -> dict[str, Value]:
    document = loaded([("vmcp.yaml", text)], ENVIRON, directory=lambda _: "/etc").document
    return {each.path: each for each in effective(document)}


def test_what_a_file_says_comes_with_its_place_and_the_rest_is_the_default() -> None:
    found = told(SMALL + "server: {allowedHosts: [a, b]}\nmetadata: {}\n")
    assert found["groups.code.backends.github.url"] == Value(
        "groups.code.backends.github.url", "https://mcp.example.com/mcp", "file", "vmcp.yaml:5:21"
    )
    assert (found["server.allowedHosts"].value, found["server.allowedHosts"].at) == (["a", "b"], "vmcp.yaml:6:24")
    assert found["metadata"].value == {}
    assert found["server.port"] == Value("server.port", 4483, "default", "")
    assert found["server.limits.pageSize"].value == 1000, "of a section in a section that always has an effect"
    assert next(iter(found)) == "name", "in the order of the file"


def test_a_feature_that_is_not_there_has_no_defaults() -> None:
    assert not [path for path in told(SMALL) if path.startswith(("audit", "cache", "telemetry"))]
    found = told(SMALL + "audit: {logFile: /var/log/a}\n")
    assert (found["audit.durability"].source, found["audit.logFile"].source) == ("default", "file")


def test_a_key_of_a_feature_that_is_not_built_is_not_told() -> None:
    assert "server.workers" in told(SMALL)
    assert "server.tls" not in told(SMALL)


def test_what_comes_from_the_environment_is_said_to_and_hidden() -> None:
    found = told(SMALL + "server: {port: '${PORT}'}\nmetadata: {note: '${PLANTED}', plain: '${UNSET:-this}'}\n")
    assert (found["server.port"].source, found["server.port"].value) == ("environment", "***")
    assert (found["metadata.note"].hidden, found["metadata.note"].value) == (True, "***")
    assert (found["metadata.plain"].source, found["metadata.plain"].value) == ("file", "this")


def test_a_secret_is_hidden_wherever_it_stands() -> None:
    text = (
        "name: acme\ngroups: {g: {backends: {"
        f"a: {{url: 'https://x.example.com/mcp?token={SECRET}', headers: {{X-A: {SECRET}, X-B: {{env: TOKEN}}}}}},"
        f"b: {{command: [run, {SECRET}], env: {{A: '${{PLANTED}}'}}}}}}}}}}\n"
    )
    found = told(text)
    assert SECRET not in repr(found)
    assert found["groups.g.backends.b.command"] == Value(
        "groups.g.backends.b.command", ["***", "***"], "file", "vmcp.yaml:2:138", hidden=True
    )
    assert found["groups.g.backends.a.headers.X-B.env"].value == "TOKEN"
    assert not found["groups.g.backends.a.url"].hidden


def test_a_list_of_maps_is_told_member_by_member() -> None:
    text = SMALL + "aggregation: {tools: [{workload: github, filter: [a, b]}]}\n"
    found = told(text)
    assert found["aggregation.tools[0].workload"].value == "github"
    assert found["aggregation.tools[0].filter"].value == ["a", "b"]
    assert "aggregation.tools" not in found
