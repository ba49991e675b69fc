"""The layer that measures and traces. Rule: neither outcome nor error is changed, but that ours names its trace."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.middleware.calls import call
from vmcp.call import Call, Complete, InputRequired, Middleware, Outcome
from vmcp.errors import Code, McpError
from vmcp.middleware.measures import Measures
from vmcp.middleware.telemetry import Tally, telemetry
from vmcp.middleware.watching import watching
from vmcp.protocol.revisions import MODERN


class Span:
    """Remembers how it ended."""

    trace = "1" * 32

    def __init__(self) -> None:
        self.carrier: dict[str, str] = {}
        self.ended: list[tuple[str, int | None]] = []

    def begin(self, given: Call) -> "Span":
        return self

    def ids(self) -> tuple[str, str] | None:
        return self.trace, "2" * 16

    def asks(self, *given: Any) -> None:
        return None

    def asked(self, *given: Any) -> None:
        return None

    def end(self, error: str, code: int | None) -> None:
        self.ended.append((error, code))


def told(measures: Measures) -> list[str]:
    return [labels[2] for labels, *_ in measures.server.snapshot()]


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Complete(b'{"isError":true}', MODERN), "tool_error"),
        (Complete(b'{"isError":false}', MODERN), ""),
        (InputRequired({}), ""),
    ],
)
async def test_a_call_is_counted_by_how_it_ended(outcome: Outcome, error: str) -> None:
    async def serve(given: Call) -> Outcome:
        assert given.trail.watcher is measures
        assert measures.in_flight == {"g": 1}
        return outcome

    measures = Measures()
    assert await watching(measures)(serve)(call()) is outcome
    assert told(measures) == [error]
    assert measures.in_flight == {"g": 0}


@pytest.mark.parametrize(
    "layer", [telemetry, lambda tally: watching(Measures(), tally=tally)], ids=["plain", "watching"]
)
async def test_calls_are_counted_for_the_house_whoever_watches(layer: Callable[[Tally], Middleware]) -> None:
    async def serve(given: Call) -> Outcome:
        if given.method == "made/up":
            raise McpError(-32601, "no")
        await asyncio.sleep(0)
        return InputRequired({})

    tally = Tally()
    handle = layer(tally)(serve)
    for method in ("tools/call", "tools/call", "initialize", "made/up"):
        with contextlib.suppress(McpError):
            await handle(call(method=method))
    told = tally.numbers()
    seconds = told.pop("vmcp_request_duration_seconds")
    assert list(told.values()) == [4, 3, 1, 1]
    assert {method: each["count"] for method, each in seconds.items()} == {"tools/call": 2, "initialize": 1, "other": 1}
    assert min(line[1] for line in tally.lines.values()) > 0 or layer is telemetry


async def test_what_is_no_call_of_a_tool_is_not_looked_into() -> None:
    async def serve(given: Call) -> Outcome:
        return Complete(b'{"isError":true}', MODERN)

    measures = Measures()
    await watching(measures)(serve)(call(method="resources/read"))
    assert told(measures) == [""]


@pytest.mark.parametrize(
    ("failure", "error", "code"),
    [
        (McpError(-32603, "no"), "internal_error", -32603),
        (McpError(-32602, "no"), "", -32602),
        (asyncio.CancelledError(), "cancelled", None),
        (ZeroDivisionError(), "internal", None),
    ],
)
async def test_a_failure_passes_and_is_counted(failure: BaseException, error: str, code: int | None) -> None:
    async def fail(given: Call) -> Outcome:
        raise failure

    measures, span = Measures(), Span()
    with pytest.raises(type(failure)) as caught:
        await watching(measures, span)(fail)(call())
    assert caught.value is failure
    assert told(measures) == [error]
    assert span.ended == [(error, code)]
    assert measures.in_flight == {"g": 0}


@pytest.mark.parametrize(
    ("data", "ours", "said"),
    [
        (None, True, {"traceId": Span.trace}),
        ({"a": 1}, True, {"a": 1, "traceId": Span.trace}),
        ([1], True, [1]),
        (None, False, None),
        ({"a": 1}, False, {"a": 1}),
    ],
)
async def test_an_error_of_ours_names_the_trace_and_a_backends_own_is_left_alone(
    data: Any, ours: bool, said: Any
) -> None:
    async def fail(given: Call) -> Outcome:
        assert given.trail.trace == Span.trace
        error = McpError(-32603, "no", data)
        error.theirs = not ours
        raise error

    with pytest.raises(McpError) as caught:
        await watching(Measures(), Span())(fail)(call())
    told = caught.value.data
    name = told.pop("requestId") if isinstance(told, dict) and ours else ""
    assert (told, len(name)) == (said, 16 if ours and isinstance(said, dict) else 0)
    with pytest.raises(McpError) as plain:
        await watching(Measures())(_untraced)(call())
    assert isinstance(plain.value.data, dict)
    assert plain.value.data.keys() == {"requestId"}


async def _untraced(given: Call) -> Outcome:
    assert given.trail.trace == ""
    raise McpError(-32603, "no", vmcp_code=Code.GATEWAY_ERROR)
