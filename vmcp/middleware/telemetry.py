"""What every call cost and how it ended: one log line per call, for who looks.

The rule: it only watches. Names of tools are said, arguments and results never.
"""

import asyncio
import logging

from vmcp.call import Call, Handler, Middleware, Outcome
from vmcp.errors import McpError

log = logging.getLogger("vmcp.call")


def telemetry() -> Middleware:
    """The layer that times calls: served ones are logged at debug, failed ones at info."""

    def layer(handler: Handler) -> Handler:
        async def handle(call: Call) -> Outcome:
            now = asyncio.get_running_loop().time
            began = now()
            try:
                outcome = await handler(call)
            except McpError as error:
                if log.isEnabledFor(logging.INFO):
                    facts = _facts(call, now() - began)
                    log.info("call failed", extra={**facts, "code": error.code, "why": error.message[:200]})
                raise
            if log.isEnabledFor(logging.DEBUG):
                log.debug("call served", extra=_facts(call, now() - began))
            return outcome

        return handle

    return layer


def _facts(call: Call, seconds: float) -> dict[str, object]:
    return {
        "method": call.method,
        "target": call.name,
        "group": call.face.group,
        "backend": call.trail.backend,
        "revision": str(call.peer.revision),
        "seconds": round(seconds, 6),
        "upstream_seconds": round(call.trail.upstream_seconds, 6),
    }
