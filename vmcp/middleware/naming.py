"""The name of a request that failed: in the error that its client gets, in the log, and in the audit log.

The rule: it is made here and nowhere else, and only for what failed; an error that a backend answered is passed on as it is.
"""

import random

from vmcp.call import Trail
from vmcp.errors import McpError


def fresh() -> str:
    """A new name. It is no secret, and nothing is decided by it."""
    return f"{random.getrandbits(64):016x}"


def name(trail: Trail, error: McpError) -> str:
    """The name of a call that ``error`` ended; an error of ours says it, and the trace. Who shares an error shares its name."""
    told = error.data if error.data is not None else {}
    if error.theirs or not isinstance(told, dict):
        trail.request = trail.request or fresh()
        return trail.request
    known = told.get("requestId")
    trail.request = known if isinstance(known, str) else trail.request or fresh()
    error.data = {**told, "requestId": trail.request, **({"traceId": trail.trace} if trail.trace else {})}
    return trail.request
