"""Who is calling when nobody is asked.

Rule: what a client says of itself changes nothing.
"""

from typing import Any

from tests.middleware.calls import call
from vmcp.call import Call, Complete, Identity, Outcome, Peer
from vmcp.middleware.auth import ANONYMOUS, anonymous
from vmcp.protocol.revisions import Revision


async def test_everybody_is_anonymous_and_says_so() -> None:
    seen: list[Call] = []

    async def handler(given: Call) -> Outcome:
        seen.append(given)
        return Complete(b"{}", Revision.V2025_11_25)

    asked = call()
    outcome = await anonymous()(handler)(asked)
    assert isinstance(outcome, Complete)
    assert seen[0].identity == ANONYMOUS == Identity("vmcp-local", "anonymous")
    assert asked.identity is None, "the call that came in is as it was"
    assert seen[0].trail is asked.trail


async def test_a_client_cannot_say_who_it_is() -> None:
    seen: list[Call] = []

    async def handler(given: Call) -> Outcome:
        seen.append(given)
        return Complete(b"{}", Revision.V2025_11_25)

    forged: dict[str, Any] = {
        "identity": Identity("evil", "root"),
        "peer": Peer(Revision.V2025_11_25, info=b'{"name":"root"}', headers={"authorization": "Bearer root"}),
    }
    await anonymous()(handler)(call(**forged))
    assert seen[0].identity == ANONYMOUS
