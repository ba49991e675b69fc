"""Where the id of a task stands. Rule: everything beside it is compared byte for byte."""

import pytest
from msgspec import Raw

from vmcp.protocol import tasks
from vmcp.protocol.jsonrpc import LARGE
from vmcp.protocol.revisions import Revision

OLD, NEW = Revision.V2025_11_25, Revision.V2026_07_28
META = '"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"%s","x":1.0},"y":2.0}'


@pytest.mark.parametrize(
    ("result", "old", "new"),
    [
        ('{"content":[]}', None, None),
        ('{"content":[],"taskId":"a"}', None, None),
        ('{"resultType":"task","taskId":"a"}', None, "a"),
        ('{"result\\u0054ype":"task","task\\u0049d":"a"}', None, "a"),
        ('{"resultType":"complete","taskId":"a"}', None, None),
        ('{"task":{"taskId":"a"}}', "a", None),
        ('{"task":{"task\\u0049d":"a"}}', "a", None),
        ('{"task":{}}', None, None),
        ('{"task":7,"taskId":7}', None, None),
        ('["taskId"]', None, None),
        ('"\\ud800"', None, None),
    ],
)
def test_a_result_announces_a_task_in_the_shape_of_its_era(result: str, old: str | None, new: str | None) -> None:
    assert tasks.created(result.encode(), OLD) == old
    assert tasks.created(result.encode(), NEW) == new
    large = f'{{"long":"{"x" * LARGE}"' + ("," if len(result) > 2 else "") + result[1:]
    if result.startswith("{"):
        assert tasks.created(large.encode(), OLD) == old
        assert tasks.created(large.encode(), NEW) == new


def test_what_is_announced_gets_another_name_and_nothing_else() -> None:
    said = '{"resultType":"task","n":1.0,"taskId":"a","ttlMs":null}'
    assert tasks.announced(said.encode(), NEW, "N").decode() == said.replace('"a"', '"N"')
    said = '{"task":{"n":1.0,"taskId":"a"},' + META % "a" + "}"
    told = tasks.announced(said.encode(), OLD, "N").decode()
    assert told == said.replace('"a"', '"N"')


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"taskId":"a","n":1.0}', '{"taskId":"N","n":1.0}'),
        ('{"resultType":"complete"}', '{"resultType":"complete"}'),
        ('{"error":{"code":1,"message":"at 10.0.0.1","n":1.0}}', '{"error":{"code":1,"message":"at [host]","n":1.0}}'),
        ('{"_meta":{"y":2.0}}', '{"_meta":{"y":2.0}}'),
        ('{"_meta":7}', '{"_meta":7}'),
        (
            '{"_meta":{"io.modelcontextprotocol/related-task":7}}',
            '{"_meta":{"io.modelcontextprotocol/related-task":7}}',
        ),
    ],
)
def test_a_state_gets_another_name_and_nothing_else(said: str, expected: str) -> None:
    assert tasks.detailed(said.encode(), "N").decode() == expected


def test_a_relation_is_found_however_its_key_is_spelt() -> None:
    told = tasks.related({"_meta": Raw(b'{"io.modelcontextprotocol\\/related-task":{"taskId":"a"}}')}, str.upper)
    assert bytes(told["_meta"]) == b'{"io.modelcontextprotocol/related-task":{"taskId":"A"}}'
    assert tasks.related({"a": 1}, str.upper) == {"a": 1}


def test_a_list_is_read_by_ids() -> None:
    entries, cursor = tasks.listed(b'{"tasks":[{"taskId":"a","n":1.0},{"taskId":7},{}],"nextCursor":"c"}')
    assert [(id_, {key: bytes(raw) for key, raw in task.items()}) for id_, task in entries] == [
        ("a", {"taskId": b'"a"', "n": b"1.0"})
    ]
    assert cursor is not None
    assert bytes(cursor) == b'"c"'
    assert tasks.listed(b'{"nextCursor":null}') == ([], None)
    assert tasks.listed(b"{}") == ([], None)


@pytest.mark.parametrize(
    ("execution", "expected"),
    [
        (None, False),
        (b"{}", False),
        (b'{"taskSupport":"optional"}', False),
        (b'{"taskSupport":"required"}', True),
        (b'{"taskSupport":7}', False),
        (b'"required"', False),
    ],
)
def test_a_tool_says_whether_it_runs_as_a_task_only(execution: bytes | None, expected: bool) -> None:
    assert tasks.required(Raw(execution) if execution is not None else None) is expected


def test_the_result_of_a_task_is_told_as_that_of_a_call() -> None:
    assert tasks.unrelated(b'{"content":[]}') == b'{"content":[]}'
    assert tasks.unrelated(b'{"_meta":{"y":2.0},"n":1}') == b'{"_meta":{"y":2.0},"n":1}'
    both = ("{" + META % "a" + ',"n":1.0}').encode()
    assert tasks.unrelated(both) == b'{"n":1.0,"_meta":{"y":2.0}}'
    assert tasks.unrelated(b'{"_meta":{"io.modelcontextprotocol/related-task":{}}}') == b"{}"
