"""The cache in the file: what it becomes, and what is told of what could never keep anything."""

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.cache import CacheSpec, DiskSpec
from vmcp.config.globs import globs
from vmcp.config.quantities import size
from vmcp.config.schema import schema


def test_it_becomes_values() -> None:
    text = """\
cache:
  enabled: true
  memory: {maxEntries: 10, maxBytes: 1MiB}
  disk: {path: kept, maxBytes: 2MiB}
  ttl: {resources/read: 60s}
  tools: {"search_*": 5m, lookup: 1s}
  trustPublic: [github]
"""
    assert config(SMALL + text).cache == CacheSpec(
        10,
        1 << 20,
        DiskSpec("/etc/vmcp/kept", 2 << 20),
        {"resources/read": 60.0},
        ((globs(["search_*"]), False, 300.0), (globs(["lookup"]), True, 1.0)),
        frozenset({"github"}),
    )


@pytest.mark.parametrize("text", ["", "cache: {enabled: false}", "cache: {enabled: false, memory: {maxEntries: 5}}"])
def test_nothing_is_kept_unless_it_is_said(text: str) -> None:
    assert config(SMALL + text).cache is None


def test_the_defaults_of_the_schema_are_those_of_the_model() -> None:
    said = schema()["properties"]["cache"]["properties"]
    memory, disk = said["memory"]["properties"], said["disk"]["properties"]
    assert config(SMALL + "cache: {enabled: true}").cache == CacheSpec(
        memory["maxEntries"]["default"], size(memory["maxBytes"]["default"])
    )
    assert DiskSpec("/x").max_bytes == size(disk["maxBytes"]["default"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache: {memory: {maxEntries: 5}}", "6:1 missing-key cache"),
        ("cache: {enabled: true, ttl: {tools/list: 5m}}", '6:30 unknown-key cache.ttl["tools/list"]'),
        ("cache: {enabled: true, tools: {a: soon}}", "6:35 bad-value cache.tools.a"),
        ("cache: {enabled: true, disk: {}}", "6:24 missing-key cache.disk"),
        ("cache: {enabled: true, trustPublic: [gitlab]}", "6:38 unknown-reference cache.trustPublic[0]"),
        ("cache: 5", "6:8 bad-type cache"),
    ],
)
def test_what_could_keep_nothing_is_told(text: str, expected: str) -> None:
    assert told(problems(SMALL + text)) == [expected]
