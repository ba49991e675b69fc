"""One line per call: how it ended and what it cost, and never what was in it.

Rule: the layer is seen to change neither the outcome nor the error.
"""

import logging
from typing import Any

import pytest

from tests.middleware.calls import call
from vmcp.call import Call, Complete, Outcome
from vmcp.errors import ConsentRequired, McpError
from vmcp.middleware.telemetry import telemetry
from vmcp.protocol.revisions import Revision

DONE = Complete(b'{"answer":"hunter2"}', Revision.V2025_11_25)


async def serve(given: Call) -> Outcome:
    given.trail.backend = "b"
    given.trail.upstream_seconds = 0.25
    return DONE


async def refuse(given: Call) -> Outcome:
    raise McpError(-32602, "no " * 200, {"token": "hunter2"})


def facts(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    (record,) = caplog.records
    return record.__dict__


async def test_a_served_call_is_a_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "vmcp.call"):
        assert await telemetry()(serve)(call()) is DONE
    told = facts(caplog)
    assert (told["levelname"], told["message"]) == ("DEBUG", "call served")
    assert (told["method"], told["target"], told["backend"]) == ("tools/call", "secret_free_name", "b")
    assert (told["group"], told["revision"], told["upstream_seconds"]) == ("g", "2026-07-28", 0.25)
    assert 0 <= told["seconds"] < 5
    assert "hunter2" not in str(told)


async def test_a_failed_call_is_a_line_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "vmcp.call"), pytest.raises(McpError):
        await telemetry()(refuse)(call())
    told = facts(caplog)
    assert (told["levelname"], told["message"], told["code"]) == ("INFO", "call failed", -32602)
    assert len(told["why"]) <= 200
    assert "hunter2" not in str(told)


@pytest.mark.parametrize(("handler", "level"), [(serve, logging.INFO), (refuse, logging.WARNING)])
async def test_what_nobody_wants_to_read_is_not_written(
    caplog: pytest.LogCaptureFixture, handler: Any, level: int
) -> None:
    with caplog.at_level(level, "vmcp.call"):
        try:
            await telemetry()(handler)(call())
        except McpError:
            assert handler is refuse
    assert not caplog.records


async def test_a_link_that_is_for_its_user_alone_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    async def consent(given: Call) -> Outcome:
        raise ConsentRequired("b", "https://gw.example/oauth/start?invitation=hunter2")

    with caplog.at_level(logging.DEBUG, "vmcp.call"), pytest.raises(ConsentRequired, match="consent"):
        await telemetry()(consent)(call())
    assert facts(caplog)["why"] == "backend 'b' needs your consent first"


async def test_what_nobody_expected_passes_unseen(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(given: Call) -> Outcome:
        raise ZeroDivisionError

    with caplog.at_level(logging.DEBUG, "vmcp.call"), pytest.raises(ZeroDivisionError):
        await telemetry()(broken)(call())
    assert not caplog.records, "the door logs it, with its traceback"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("x" * 100_000, "x" * 256),
        ("https://u:hunter2@h.example/a?token=hunter2", "https://h.example/a?"),
        (None, "None"),
    ],
)
async def test_a_name_is_told_as_far_as_it_is_short_and_no_secret(
    name: str | None, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "vmcp.call"):
        await telemetry()(serve)(call(name=name, method="m" * 1000))
    told = facts(caplog)
    assert str(told["target"]).rstrip("…") == target
    assert len(told["method"]) <= 257
    assert "hunter2" not in str(told)
