"""What every call cost and how it ended: counted, and one log line per call for who looks.

The rule: it only watches. Names of tools are said, arguments and results never.
"""

import asyncio
import hashlib
import logging
from typing import Any

from vmcp.call import Call, Handler, Middleware, Outcome
from vmcp.errors import McpError
from vmcp.middleware import event
from vmcp.middleware.naming import name
from vmcp.protocol.revisions import REQUESTS

log = logging.getLogger("vmcp.call")


class Tally:
    """How many calls there were, and how they went. Mutable; written by this layer, or by the one in its place."""

    def __init__(self) -> None:
        self.failed = 0
        self.lines: dict[str, list[float]] = {}
        """How many there were of each method, and the seconds of all of them."""

    def line(self, method: str) -> list[float]:
        """Where calls of ``method`` are counted."""
        # A client can call a method whatever it likes, and each name that was heard would stay for ever.
        return self.lines.setdefault(method if method in REQUESTS else "other", [0, 0.0])

    def add(self, method: str, seconds: float, *, served: bool) -> None:
        """One call has ended."""
        self.failed += not served
        line = self.lines.get(method) or self.line(method)
        line[0] += 1
        line[1] += seconds

    def numbers(self) -> dict[str, Any]:
        """By the names of ``vmcp/metrics``."""
        total = sum(count for count, _ in self.lines.values())
        return {
            "vmcp_requests_total": total,
            "vmcp_requests_success_total": total - self.failed,
            "vmcp_requests_failed_total": self.failed,
            "vmcp_connections_total": self.lines.get("initialize", [0])[0],
            "vmcp_request_duration_seconds": {
                method: {"count": count, "sum": round(seconds, 6)} for method, (count, seconds) in self.lines.items()
            },
        }


def telemetry(tally: Tally | None = None) -> Middleware:
    """The layer that times and counts calls: served ones are logged at debug, failed ones at info."""
    counted = tally or Tally()
    now = asyncio.get_running_loop().time

    def layer(handler: Handler) -> Handler:
        async def handle(call: Call) -> Outcome:
            began = now()
            served = False
            try:
                outcome = await handler(call)
                served = True
            except McpError as error:
                tell_failed(call, now() - began, error)
                raise
            finally:
                counted.add(call.method, now() - began, served=served)
            tell_served(call, now() - began)
            return outcome

        return handle

    return layer


def tell_failed(call: Call, seconds: float, error: McpError) -> None:
    """Give a call that failed a name, and tell one line of it to who wants to read it."""
    told = {"request_id": name(call.trail, error)}
    if log.isEnabledFor(logging.INFO):
        log.info("call failed", extra={**_facts(call, seconds), **told, "code": error.code, "why": str(error)[:200]})


def tell_served(call: Call, seconds: float) -> None:
    """One line of a call that was served, for who wants to read that much."""
    if log.isEnabledFor(logging.DEBUG):
        log.debug("call served", extra=_facts(call, seconds))


def _told(id_: bytes) -> str:
    """A number as it is; a text, which may be anything that a client had at hand, by the beginning of its digest."""
    return id_[:64].decode() if id_[:1] != b'"' else "#" + hashlib.sha256(id_).hexdigest()[:12]


def _facts(call: Call, seconds: float) -> dict[str, object]:
    return {
        "method": event.cut(call.method),
        "jsonrpc_id": _told(call.id),
        "target": None if call.name is None else event.plain(call.name),
        "group": call.face.group,
        "backend": call.trail.backend,
        "revision": str(call.peer.revision),
        "seconds": round(seconds, 6),
        "upstream_seconds": round(call.trail.upstream_seconds, 6),
        **({"trace_id": call.trail.trace} if call.trail.trace else {}),
    }
