"""How often one user may ask the backends for something, whatever it is and whichever way he comes.

The rule: a bucket belongs to a principal, never to a session or an address, and is taken from before anything is looked up, so
that guessing is limited too. What a client only gives back is never refused. The limits that many share are in
``aggregator/metered``, behind authorization: who may not use something must not use it up for others.
"""

from collections.abc import Awaitable
from typing import Final

from vmcp.call import Call, Handler, Middleware, Outcome
from vmcp.errors import Throttled
from vmcp.state.buckets import Rate, Takes

METERED: Final = frozenset(
    [
        "tools/call",
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "completion/complete",
        "subscriptions/listen",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tasks/update",
    ]
)
"""What gives a backend work."""


def ratelimit(buckets: Takes, rate: Rate) -> Middleware:
    """The layer that refuses whoever has used up his ``rate``."""

    take_one = buckets.taker(rate)

    def layer(handler: Handler) -> Handler:
        def handle(call: Call) -> Awaitable[Outcome]:
            if call.method in METERED:
                identity = call.identity
                short = take_one(identity.principal if identity is not None else "")
                if short is not None:
                    call.trail.limited = short.rule
                    raise Throttled(short.rule, "you have asked too often", short.seconds)
            return handler(call)

        return handle

    return layer
