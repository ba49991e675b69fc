"""The limit of each user: beside every call that passes stands the one that does not.

Rule: what a client says of itself, and through which session it comes, changes nothing.
"""

from typing import Any

import pytest

from tests.middleware.calls import call
from vmcp.call import Call, Complete, Identity, Outcome, Peer
from vmcp.errors import Throttled
from vmcp.middleware.ratelimit import METERED, ratelimit
from vmcp.protocol.revisions import REQUESTS, Revision
from vmcp.state.buckets import Buckets, Rate

DONE = Complete(b"{}", Revision.V2025_11_25)
ANN, BOB = Identity("https://idp", "ann"), Identity("https://idp", "bob")


async def serve(_: Call) -> Outcome:
    return DONE


def limited(tokens: int = 1) -> Any:
    return ratelimit(Buckets(lambda: 0.0), Rate("rateLimiting.perUser", tokens, 90.5))(serve)


async def test_a_user_who_has_asked_too_often_is_told_when_to_come_back_and_others_are_served() -> None:
    handler = limited(2)
    assert [await handler(call(identity=ANN)) for _ in range(2)] == [DONE, DONE]
    refused = call(identity=ANN)
    with pytest.raises(Throttled) as told:
        await handler(refused)
    assert told.value.data == {"retryAfter": 46}
    assert told.value.message == "you have asked too often; try again in 46 s"
    assert refused.trail.limited == told.value.rule == "rateLimiting.perUser"
    assert await handler(call(identity=BOB)) is DONE


async def test_another_session_token_or_name_is_no_way_around() -> None:
    handler = limited()
    await handler(call(identity=ANN, peer=Peer(Revision.V2025_11_25, session="one")))
    for more in (
        {"peer": Peer(Revision.V2025_11_25, session="two"), "identity": ANN},
        {"identity": Identity("https://idp", "ann", {"groups": ["x"]}, frozenset(["s"]), "another", "persona")},
        {"identity": ANN, "name": "nothing", "method": "prompts/get"},
    ):
        with pytest.raises(Throttled):
            await handler(call(**more))
    assert await handler(call(identity=Identity("https://other", "ann"))) is DONE, "the same name elsewhere is another"


@pytest.mark.parametrize("method", ["ping", "initialize", "tools/list", "tasks/cancel", "resources/unsubscribe"])
async def test_what_gives_no_backend_work_is_free(method: str) -> None:
    handler = limited()
    await handler(call(identity=ANN))
    assert await handler(call(identity=ANN, method=method)) is DONE


@pytest.mark.parametrize("method", sorted(METERED))
async def test_what_does_is_not(method: str) -> None:
    assert method in REQUESTS
    handler = limited()
    await handler(call(identity=ANN, method=method))
    with pytest.raises(Throttled):
        await handler(call(identity=ANN, method=method))
