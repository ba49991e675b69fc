"""Which servers vmcp serves already. Rule: only what reaches the same thing counts."""

import json

from vmcp.clients.plan import Source
from vmcp.clients.secrets import Around
from vmcp.clients.served import backends, served

OURS = """name: a
groups: {g: {backends: {
  one: {command: [x, "${ONE_TOKEN}"], env: {KEY: {env: A_KEY}}},
  two: {url: "https://two.example/mcp", auth: {type: bearer, bearer: {token: {env: T}}}}}}}
"""


def test_a_server_is_served_if_a_backend_reaches_the_same() -> None:
    servers = {
        "one": {"command": "x", "args": ["--", "y"]},
        "same": {"command": "x", "args": ["ghp_S3cretS3cretS3cret"], "env": {"KEY": "s3cr3t"}},
        "other-env": {"command": "x", "args": ["ghp_S3cretS3cretS3cret"]},
        "two": {"url": "https://two.example/mcp", "headers": {"Authorization": "Bearer s3cr3t"}},
        "three": {"url": "https://two.example/mcp/more"},
        "wrong": {},
    }
    source = Source("a", json.dumps({"mcpServers": servers}), "json", Around("/", "/"))
    assert served(source, ("mcpServers",), backends("vmcp.yaml", OURS)) == ["same", "two"]
    assert served(source, ("servers",), backends("vmcp.yaml", OURS)) == []


def test_a_configuration_that_cannot_be_read_serves_nothing() -> None:
    assert list(backends("vmcp.yaml", "a: [")) == []
