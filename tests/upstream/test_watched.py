"""Requests to backends while somebody watches. Rule: nothing is changed but the trace context, and the end is told once."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from tests.middleware.calls import call
from vmcp.call import Call, Complete
from vmcp.config.model import BackendSpec
from vmcp.errors import McpError, Overdue
from vmcp.protocol.revisions import MODERN
from vmcp.upstream.ask import Asker, Outgoing
from vmcp.upstream.watched import watched

SPEC = BackendSpec("b", "g", "streamable-http", "http://x/")
DONE = Complete(b"{}", MODERN)
CONTEXT = {"traceparent": "00-new", "tracestate": "a=1"}


class Watching:
    """Remembers how requests ended; they are to carry ``carrier``."""

    def __init__(self, carrier: dict[str, str] | None = None) -> None:
        self.carrier = carrier or {}
        self.asking: list[tuple[str, str, str | None]] = []
        self.ended: list[str] = []

    def ids(self) -> None:
        return None

    def asks(self, given: Call, backend: str, transport: str, name: str | None) -> "Watching":
        self.asking.append((backend, transport, name))
        return self

    def asked(self, sent: Any, given: Call, backend: str, transport: str, error: str, seconds: float) -> None:
        assert sent is self
        assert seconds >= 0
        self.ended.append(error)


async def test_what_goes_along_is_the_trace_context_and_nothing_else_changes() -> None:
    seen: list[tuple[Call, Outgoing]] = []

    async def send(given: Call, outgoing: Outgoing, asker: Asker | None) -> Complete:
        seen.append((given, outgoing))
        return DONE

    mine = {"mine": Raw(b"1"), "progressToken": Raw(b'"p"')}
    given = call(meta={**mine, "traceparent": Raw(b'"old"'), "fastmcp.traceparent": Raw(b'"older"')})
    watching, outgoing = Watching(CONTEXT), Outgoing({"a": 1}, "t")
    assert await watched(send, SPEC, given, outgoing, None, watching) is DONE
    ((asking, going),) = seen
    assert asking.meta == {**mine, "traceparent": Raw(b'"00-new"'), "tracestate": Raw(b'"a=1"')}
    assert going.trace == [(b"traceparent", b"00-new"), (b"tracestate", b"a=1")]
    assert (going.params, going.name, asking.trail) == (outgoing.params, "t", given.trail)
    assert (watching.asking, watching.ended) == ([("b", "streamable-http", "t")], [""])
    await watched(send, SPEC, given, outgoing, None, Watching())
    assert seen[1] == (given, outgoing), "whoever has nothing to say leaves everything as it is"


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (Overdue("b", "timeouts.total", 1.0), "timeout"),
        (McpError(-32602, "no"), "invalid_params"),
        (asyncio.CancelledError(), "cancelled"),
        (ZeroDivisionError(), "internal"),
    ],
)
async def test_a_failure_passes_and_is_told(failure: BaseException, word: str) -> None:
    async def send(given: Call, outgoing: Outgoing, asker: Asker | None) -> Complete:
        raise failure

    watching = Watching()
    with pytest.raises(type(failure)) as caught:
        await watched(send, SPEC, call(), Outgoing({}), None, watching)
    assert caught.value is failure
    assert watching.ended == [word]
