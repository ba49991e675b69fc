"""The layer that puts on a call who was let in.

Rule: what a client says of itself changes nothing.
"""

from typing import Any

import pytest

from tests.middleware.calls import call
from vmcp.call import Call, Complete, Identity, Outcome, Peer
from vmcp.errors import Code, McpError
from vmcp.middleware.auth import ANONYMOUS, identified
from vmcp.protocol.revisions import Revision


async def seen(asked: Call) -> Call:
    found: list[Call] = []

    async def handler(given: Call) -> Outcome:
        found.append(given)
        return Complete(b"{}", Revision.V2025_11_25)

    assert isinstance(await identified()(handler)(asked), Complete)
    return found[0]


async def test_a_call_is_whose_it_was_found_to_be_at_the_door() -> None:
    asked = call(peer=Peer(Revision.V2025_11_25, identity=ANONYMOUS))
    given = await seen(asked)
    assert given.identity == ANONYMOUS == Identity("vmcp-local", "anonymous")
    assert asked.identity is None, "the call that came in is as it was"
    assert given.trail is asked.trail


async def test_a_call_that_nobody_vouches_for_is_refused() -> None:
    with pytest.raises(McpError) as refused:
        await seen(call(identity=Identity("evil", "root")))
    assert refused.value.vmcp_code == Code.UNAUTHORIZED


async def test_a_client_cannot_say_who_it_is() -> None:
    said: dict[str, Any] = {"info": b'{"name":"root"}', "headers": {"authorization": "Bearer root"}}
    peer = Peer(Revision.V2025_11_25, identity=ANONYMOUS, **said)
    assert (await seen(call(identity=Identity("evil", "root"), peer=peer))).identity == ANONYMOUS
