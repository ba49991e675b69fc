"""Puts every call under the persona of its caller, whatever the method: what a persona hides is neither listed nor called.

The rule: the choice is made anew for each call, from what was verified about its caller; a persona is asked for, never claimed.
"""

from collections.abc import Awaitable

from vmcp.call import Call, Handler, Middleware, Outcome, narrowed, refine
from vmcp.routing.personas import Personas


def personas(known: Personas) -> Middleware:
    """The layer that narrows calls to the view of their caller's persona."""

    def layer(handler: Handler) -> Handler:
        def handle(call: Call) -> Awaitable[Outcome]:
            identity = call.identity
            asked = identity.persona if identity is not None else None
            view = known.choose(call.face, asked, identity.claims if identity is not None else {})
            if view is None:
                return handler(call)
            call.trail.persona = view.persona.name
            if identity is not None:
                call = refine(call, identity=refine(identity, persona=view.persona.name))
            face = call.face.dressed.get(view.persona.name)
            if face is not None:
                call = refine(call, face=face)
            return handler(narrowed(call, view.admits))

        return handle

    return layer
