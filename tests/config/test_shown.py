"""A configuration as it is shown. Rule: pure; a planted secret is in none of it."""

import json

from tests.config.samples import SMALL
from vmcp.config.load import loaded
from vmcp.config.shown import origins, shown
from vmcp.config.tree import Document

SECRET = "hush-7c1d"


def document(text: str) -> Document:
    return loaded([("vmcp.yaml", text)], {"PLANTED": SECRET}, directory=lambda _: "/etc").document


def test_what_is_no_secret_is_shown_as_it_counts() -> None:
    found = shown(document(SMALL + "server: {port: 5000, allowedHosts: [a, b]}\noperational: {logLevel: info}\n"))
    assert found["server"] == {"port": 5000, "allowedHosts": ["a", "b"]}
    assert found["groups"]["code"]["backends"]["github"] == {"url": "https://mcp.example.com/mcp"}


def test_secrets_are_not() -> None:
    text = (
        "name: acme\ngroups: {g: {backends: {"
        f"a: {{url: 'https://x.example.com/mcp?token={SECRET}', headers: {{X-A: {SECRET}, X-B: {{env: TOKEN}}}}}},"
        f"b: {{command: [run, {SECRET}], env: {{A: '${{PLANTED}}'}}}}, c: {{url: '${{PLANTED:-}}https://x.example.com'}}}}}}}}\n"
        "metadata: {note: '${PLANTED}'}\n"
    ).replace("'${PLANTED:-}https://x.example.com'", "'${UNSET:-https://y.example.com}'")
    found = shown(document(text))
    assert SECRET not in json.dumps(found)
    backends = found["groups"]["g"]["backends"]
    assert backends["a"]["url"] == "https://x.example.com/mcp?***"
    assert backends["a"]["headers"] == {"X-A": "***", "X-B": {"env": "TOKEN"}}
    assert backends["b"] == {"command": ["***", "***"], "env": {"A": "***"}}
    assert found["metadata"] == {"note": "***"}


def test_a_key_that_may_be_a_secret_is_not_shown_either() -> None:
    found = document(SMALL)
    found.veiled.add(("groups", "code"))
    assert list(shown(found)["groups"]) == ["…"]


def test_every_value_has_its_place() -> None:
    found = origins(document(SMALL + "server: {allowedHosts: [a, b], allowedOrigins: []}\nmetadata: {}\n"))
    assert found == {
        "name": "vmcp.yaml:1:7",
        "groups.code.backends.github.url": "vmcp.yaml:5:21",
        "server.allowedHosts[0]": "vmcp.yaml:6:25",
        "server.allowedHosts[1]": "vmcp.yaml:6:28",
        "server.allowedOrigins": "vmcp.yaml:6:48",
        "metadata": "vmcp.yaml:7:11",
    }
