"""The layer that measures and traces calls, in the place of ``telemetry`` where somebody asked for it.

The rule: it stands outside of everything, sees how a call ended, and changes nothing, but that an error of ours names the
trace in which its story is.
"""

import asyncio
from time import perf_counter
from typing import Protocol

from vmcp.call import Call, Complete, Handler, Middleware, Outcome, Sent, Watcher
from vmcp.errors import McpError
from vmcp.middleware.measures import Measures
from vmcp.middleware.telemetry import Tally, tell_failed, tell_served
from vmcp.protocol import outcomes


class Span(Sent, Watcher, Protocol):
    """A call that is traced."""

    trace: str
    """The id of its trace."""

    def end(self, error: str, code: int | None) -> None:
        """It is over; ``error`` is empty when it was served, ``code`` is of JSON-RPC."""


class Tracer(Protocol):
    """Who traces calls."""

    def begin(self, call: Call) -> Span:
        """A call has come."""


def watching(measures: Measures, tracer: Tracer | None = None, tally: Tally | None = None) -> Middleware:
    """What ``telemetry`` does, and measure every call besides, and trace it if there is a ``tracer``."""
    counted, flying, leave, tool_failed = tally or Tally(), measures.in_flight, measures.leave, outcomes.tool_failed
    lines = counted.lines

    def layer(handler: Handler) -> Handler:
        async def handle(call: Call) -> Outcome:
            began, trail, method = perf_counter(), call.trail, call.method  # the loop's own time is one of milliseconds
            flying[call.face.group] += 1
            span = None
            if tracer is None:
                trail.watcher = measures
            else:
                trail.watcher = span = tracer.begin(call)
                trail.trace = span.trace
            served, error, code = False, outcomes.INTERNAL, None
            try:
                outcome = await handler(call)
                served, error = True, ""
                if method == "tools/call" and type(outcome) is Complete and tool_failed(outcome.result):
                    error = outcomes.TOOL_ERROR
            except McpError as failed:
                error, code = outcomes.fault(failed), failed.code
                tell_failed(call, perf_counter() - began, failed)
                raise
            except asyncio.CancelledError:
                error = outcomes.CANCELLED
                raise
            finally:
                seconds = perf_counter() - began
                if not served:
                    counted.failed += 1
                # (What ``Tally.add`` does, which would cost each call more.)
                line = lines.get(method) or counted.line(method)
                line[0] += 1
                line[1] += seconds
                leave(call, error, seconds, span)
                if span is not None:
                    span.end(error, code)
            tell_served(call, seconds)
            return outcome

        return handle

    return layer
