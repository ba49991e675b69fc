"""Who is calling. With ``incomingAuth.type: anonymous`` everybody is the same, and says so.

The rule: an identity comes from what was verified, never from what a client says about itself.
"""

from vmcp.call import Call, Handler, Identity, Middleware, Outcome, refine

ANONYMOUS = Identity(issuer="vmcp-local", subject="anonymous")


def anonymous() -> Middleware:
    """The layer that calls everybody ``anonymous``."""

    def layer(handler: Handler) -> Handler:
        async def handle(call: Call) -> Outcome:
            return await handler(refine(call, identity=ANONYMOUS))

        return handle

    return layer
