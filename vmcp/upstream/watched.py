"""A request to a backend while somebody watches: how long it took, how it ended, and the trace that it is part of.

The rule: whoever watches changes nothing but the trace context that goes along, in ``_meta`` and in headers; what the caller
said there is replaced, as the request is ours.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from time import perf_counter
from typing import Any, Final

from msgspec import Raw

from vmcp.call import Call, Complete, Watcher, refine
from vmcp.config.model import BackendSpec
from vmcp.errors import VmcpError
from vmcp.protocol import jsonrpc, outcomes
from vmcp.upstream.ask import Asker, Outgoing

Sending = Callable[[Call, Outgoing, Asker | None], Coroutine[Any, Any, Complete]]
TRACE_KEYS: Final = frozenset({"traceparent", "tracestate", "fastmcp.traceparent", "fastmcp.tracestate"})


async def watched(
    send: Sending, spec: BackendSpec, call: Call, outgoing: Outgoing, asker: Asker | None, watcher: Watcher
) -> Complete:
    """What ``send`` gives. Raises what it raises."""
    sent = watcher.asks(call, spec.name, spec.transport, outgoing.name)
    asking = call
    if sent is not None and sent.carrier:
        asking, outgoing = carrying(call, outgoing, sent.carrier)
    began, complete = perf_counter(), None
    try:
        complete = await send(asking, outgoing, asker)
    finally:
        error = "" if complete is not None else fault(sys.exception())
        watcher.asked(sent, call, spec.name, spec.transport, error, perf_counter() - began)
    return complete


def fault(failed: BaseException | None) -> str:
    """How a request ended that ``failed`` ended, in one word."""
    if isinstance(failed, VmcpError):
        return outcomes.error_type(failed)
    return outcomes.CANCELLED if isinstance(failed, asyncio.CancelledError) else outcomes.INTERNAL


def carrying(call: Call, outgoing: Outgoing, carrier: Mapping[str, str]) -> tuple[Call, Outgoing]:
    """The same with the trace context of ``carrier``, and no other."""
    meta = {key: value for key, value in call.meta.items() if key not in TRACE_KEYS}
    meta.update({key: Raw(jsonrpc.encode(value)) for key, value in carrier.items()})
    headers = [(key.encode(), value.encode("latin-1")) for key, value in carrier.items()]
    return refine(call, meta=meta), refine(outgoing, trace=headers)
