"""The chain of layers and the call that passes it.

Rule: the order is that of the places, never that in which somebody named them.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from msgspec import Raw

from tests.routing.catalogs import catalog, config
from vmcp.call import PLACES, Call, Client, Complete, Handler, Identity, Middleware, Outcome, Peer, Trail, chain, refine
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.routing.build import build


class Deaf:
    """A client that cannot take notifications, nor be asked."""

    can_ask = False

    async def notify(self, method: str, params: Any) -> None:
        """Drop it."""

    async def ask(self, question: Question) -> Raw:
        raise AssertionError


def call() -> Call:
    made = catalog("git")
    table = build(1, config([made.backend]), {made.backend: made})
    client: Client = Deaf()
    return Call(
        id=b"1",
        method="ping",
        name=None,
        params={},
        meta={},
        tree={},
        peer=Peer(Revision.V2025_11_25),
        face=table.faces["/mcp"],
        table=table,
        client=client,
        deadline=1.0,
        trail=Trail(),
    )


def noted(place: str, seen: list[str]) -> Middleware:
    def wrap(handler: Handler) -> Handler:
        async def layer(passing: Call) -> Outcome:
            seen.append(f"{place} in")
            outcome = await handler(passing)
            seen.append(f"{place} out")
            return outcome

        return layer

    return wrap


async def passed(places: Sequence[str]) -> list[str]:
    seen: list[str] = []

    async def dispatch(passing: Call) -> Outcome:
        seen.append("dispatch")
        return Complete(b"{}", passing.peer.revision)

    outcome = await chain(dispatch, {place: noted(place, seen) for place in places})(call())
    assert outcome == Complete(b"{}", Revision.V2025_11_25)
    return seen


async def test_a_call_passes_the_places_from_the_outside_in() -> None:
    assert PLACES == ("telemetry", "audit", "auth", "ratelimit", "persona", "authz")
    ways = [f"{place} in" for place in PLACES], [f"{place} out" for place in reversed(PLACES)]
    assert await passed(PLACES) == [*ways[0], "dispatch", *ways[1]]


@pytest.mark.parametrize("named", list(permutations(["auth", "authz", "telemetry"])))
async def test_the_order_in_which_layers_are_named_is_nothing(named: Sequence[str]) -> None:
    seen = await passed(named)
    assert seen[:4] == ["telemetry in", "auth in", "authz in", "dispatch"]


async def test_without_layers_there_is_only_the_handler() -> None:
    async def dispatch(passing: Call) -> Outcome:
        return Complete(b"{}", passing.peer.revision)

    assert chain(dispatch, {}) is dispatch


def test_a_place_that_is_none_is_refused() -> None:
    async def dispatch(passing: Call) -> Outcome:
        return Complete(b"{}", passing.peer.revision)

    with pytest.raises(KeyError, match=r"\['Auth', 'dispatch'\]"):
        chain(dispatch, {place: noted(place, []) for place in ("dispatch", "auth", "Auth")})


def test_a_layer_that_knows_more_hands_on_a_new_call() -> None:
    old = call()
    new = refine(old, name="echo")
    assert (old.name, new.name, new.trail is old.trail) == (None, "echo", True)
    with pytest.raises(AttributeError):
        new.name = "other"  # type: ignore[misc]


def test_a_trail_is_written_by_whoever_knows() -> None:
    one, other = Trail(), Trail()
    one.backend = "git"
    assert (one.backend, other.backend, other.original, other.upstream_seconds) == ("git", None, None, 0.0)


def test_a_principal_is_one_text_that_nobody_else_has() -> None:
    people = [Identity(issuer, subject) for issuer in ("", "a", "ab", "1:a") for subject in ("", "b", "bc", "1:b")]
    assert len({person.principal for person in people}) == len(people)
    assert refine(call(), identity=people[1]).principal == people[1].principal
    assert call().principal == "", "nobody was asked"
    assert all(person.principal for person in people), "and is not taken for somebody"
