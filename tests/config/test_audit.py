"""The section ``audit`` and ``server.trustedProxies`` as values, and the schema beside them."""

import dataclasses

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.audit import TYPES, AuditSpec
from vmcp.config.model import SecretRef
from vmcp.config.schema import schema


def spec(text: str) -> AuditSpec | None:
    return config(SMALL + text).audit


def test_the_section_turns_it_on_and_enabled_false_off() -> None:
    assert spec("") is None
    assert spec("audit: {enabled: false, component: x}") is None
    assert spec("audit: {}") == spec("audit: {enabled: true}") == AuditSpec()


def test_every_key_is_honoured() -> None:
    found = spec(
        "audit: {component: c, eventTypes: [mcp_tool_call], excludeEventTypes: [mcp_ping], includeRequestData: true,"
        " includeResponseData: true, detectApplicationErrors: false, maxDataSize: 2KiB, maxDelegationDepth: 3,"
        " logFile: log/audit.jsonl, rotation: {maxBytes: 1MiB, keep: 4}, durability: fsync, onFailure: fail_open,"
        " key: {file: keys/audit}}"
    )
    assert found == AuditSpec(
        "/etc/vmcp/log/audit.jsonl",
        "c",
        frozenset({"mcp_tool_call"}),
        frozenset({"mcp_ping"}),
        requests=True,
        responses=True,
        application_errors=False,
        max_data=2048,
        delegation_depth=3,
        on_failure="fail_open",
        durability="fsync",
        rotate_bytes=1 << 20,
        keep=4,
        key=SecretRef(file="/etc/vmcp/keys/audit"),
    )
    assert all(
        getattr(found, field.name) != getattr(AuditSpec(), field.name) for field in dataclasses.fields(AuditSpec)
    )


def test_a_key_is_not_shown() -> None:
    assert "sesame" not in repr(spec("audit: {key: sesame}"))


def test_the_schema_says_the_same() -> None:
    part = schema()["properties"]["audit"]["properties"]
    assert schema()["$defs"]["auditEvent"]["enum"] == list(TYPES)
    plain = AuditSpec()
    assert part["onFailure"]["default"] == plain.on_failure
    assert part["durability"]["default"] == plain.durability
    assert part["maxDataSize"]["default"] == plain.max_data
    assert part["maxDelegationDepth"]["default"] == plain.delegation_depth
    assert part["rotation"]["properties"]["keep"]["default"] == plain.keep
    assert (part["rotation"]["properties"]["maxBytes"]["default"], plain.rotate_bytes) == ("100MiB", 100 << 20)
    assert part["includeRequestData"]["default"] is part["includeResponseData"]["default"] is plain.requests is False


def test_proxies_are_networks() -> None:
    found = config(SMALL + 'server: {trustedProxies: [10.0.0.0/8, "2001:db8::1"]}')
    assert found.server.trusted_proxies == ("10.0.0.0/8", "2001:db8::1")


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "localhost", '"::/0"', '""', "10.0.0"])
def test_what_is_no_network_or_all_of_them_is_refused(wrong: str) -> None:
    assert told(problems(SMALL + f"server: {{trustedProxies: [{wrong}]}}")) == [
        "6:27 bad-value server.trustedProxies[0]"
    ]


def test_an_element_of_another_type_is_told_once() -> None:
    assert told(problems(SMALL + "server: {trustedProxies: [5]}")) == ["6:27 bad-type server.trustedProxies[0]"]
