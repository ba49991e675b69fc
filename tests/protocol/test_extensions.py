"""Which extensions are relayed and who declared them. Rule: what is not well-formed is not declared."""

import json
from typing import Any

import pytest

from vmcp.errors import McpError
from vmcp.protocol import extensions
from vmcp.protocol.extensions import TASKS, UI
from vmcp.protocol.revisions import Revision

OLD, NEW = Revision.V2025_11_25, Revision.V2026_07_28


def declaring(**settings: Any) -> bytes:
    return json.dumps({"extensions": {TASKS: {}, **settings}}).encode()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (b"{}", False),
        (b"", False),
        (b"[]", False),
        (b'{"extensions":[]}', False),
        (b'{"extensions":{}}', False),
        (b'{"extensions":{"io.modelcontextprotocol/tasks":true}}', False),
        (b'{"tasks":{}}', False),
        (declaring(), True),
        (b'{"extensions":{"io.modelcontextprotocol\\/tasks":{}}}', True),
        (declaring(more="x" * 5000), True),
    ],
)
def test_an_extension_is_declared_by_an_object(capabilities: bytes, expected: bool) -> None:
    assert extensions.declares(capabilities, TASKS) is expected
    if expected:
        extensions.require(capabilities, TASKS)
    else:
        with pytest.raises(McpError) as refused:
            extensions.require(capabilities, TASKS)
        assert refused.value.code == -32021
        assert refused.value.data == {"requiredCapabilities": {"extensions": {TASKS: {}}}}


def test_nobody_of_the_handshake_era_declares_tasks_of_the_other() -> None:
    said = b'{"roots":{"x":1.0},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}'
    assert extensions.without_tasks(said) == b'{"roots":{"x":1.0},"extensions":{"a/b":{}}}'
    assert extensions.without_tasks(b'{"roots": {}}') == b'{"roots": {}}'


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], {}),
        ([(NEW, {})], {}),
        ([(NEW, {"extensions": None}), (NEW, {"extensions": {TASKS: None}})], {}),
        ([(NEW, {"extensions": {TASKS: {}, "a/skills": {}}})], {TASKS: {}}),
        ([(OLD, {"extensions": {TASKS: {}, UI: {"a": 1}}}), (NEW, {"extensions": {UI: {"a": 1}}})], {UI: {"a": 1}}),
        ([(OLD, {"extensions": {UI: {"a": 1}}}), (NEW, {"extensions": {UI: {"a": 2}}})], {UI: {}}),
    ],
)
def test_what_is_relayed_is_promised(said: Any, expected: Any) -> None:
    assert extensions.offered(said) == expected
