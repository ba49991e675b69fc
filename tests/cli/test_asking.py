"""What a server wants of a person. Rule: on stderr alone; a question that nobody can answer is answered so."""

import pytest
from click.testing import CliRunner

from vmcp.cli import asking
from vmcp.errors import McpError


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"progress": 1, "total": 4, "message": "a\x1bb"}, "progress 1/4 a b\n"),
        ({"progress": 1.5}, "progress 1.5\n"),
        ({"progress": 1, "total": 0}, "progress 1\n"),
        ({"progress": 1, "total": "x"}, "progress 1\n"),
        ({"progress": "x"}, ""),
        ({}, ""),
    ],
)
def test_progress_is_a_line(params: dict[str, object], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    asking.told("notifications/progress", params)
    assert capsys.readouterr() == ("", line)


def test_at_a_terminal_it_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for params in ({"progress": 1, "total": 2, "message": "half"}, {"progress": 9, "total": 2}, {"progress": 3}):
        asking.told("notifications/progress", params)
    shown = capsys.readouterr().err
    assert "[############............]  50% half" in shown
    assert "[########################] 100% \n" in shown
    assert shown.endswith("3 ")


def test_messages_are_shown_and_the_rest_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    asking.told("notifications/message", {"level": "warning", "data": "careful\x07"})
    asking.told("notifications/tools/list_changed", {})
    assert capsys.readouterr() == ("", "warning: careful \n")


async def test_only_elicitation_is_answered() -> None:
    with pytest.raises(McpError):
        await asking.answer("sampling/createMessage", {})
    assert await asking.answer("elicitation/create", {"message": "?"}) == {"action": "cancel"}


@pytest.mark.parametrize(
    ("params", "typed", "answer"),
    [
        ({"mode": "url", "url": "https://x"}, "y\n", {"action": "accept"}),
        ({"mode": "url", "url": "https://x"}, "n\n", {"action": "decline"}),
        ({"mode": "url", "url": "https://x"}, "", {"action": "cancel"}),
        ({"requestedSchema": 5}, "y\n", {"action": "accept", "content": {}}),
        (
            {"requestedSchema": {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": 1}}},
            "\nn\nx\ny\n",
            {"action": "accept", "content": {"c": "x"}},
        ),
        (
            {"requestedSchema": {"properties": {"a": {"type": "integer"}}}},
            "y\n4\ny\n",
            {"action": "accept", "content": {"a": 4}},
        ),
        (
            {"requestedSchema": {"properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}},
            "z\ny\ny\n",
            {"action": "accept", "content": {"a": "y"}},
        ),
        (
            {"requestedSchema": {"properties": {"a": {"oneOf": [{"const": "x", "title": "X"}]}}, "required": ["a"]}},
            "x\nn\n",
            {"action": "decline"},
        ),
        (
            {"requestedSchema": {"properties": {"a": {"type": "boolean", "default": True}}, "required": ["a"]}},
            "\ny\n",
            {"action": "accept", "content": {"a": True}},
        ),
    ],
)
def test_a_form_is_asked_field_by_field(
    params: dict[str, object], typed: str, answer: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with CliRunner().isolation(input=typed):
        assert asking._elicited({"message": "?", **params}) == answer
