"""Tokens of one issuer for several gateways, and gateways that were started again: only what was meant for this one counts.

The rule: the whole matrix is tried, so that each refusal stands beside the permission in its row and in its column.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.auth.house import Caller, House, serving
from tests.auth.recorder import recording
from tests.auth.settings import house, oidc
from tests.real.issuer import Issuer, issuer

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

NAMES = ("one", "two", "three")


def audience(name: str) -> str:
    """As close to each other as they can be: one is the beginning of the next."""
    return "https://gateway.example/mcp" + "/x" * NAMES.index(name)


class World(NamedTuple):
    houses: dict[str, House]
    tokens: dict[str, str]
    issuer: Issuer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("audience")
    with ExitStack() as stack:
        made, recorder = stack.enter_context(issuer(folder / "issuer")), stack.enter_context(recording())
        houses = {}
        for name in NAMES:
            (folder / name).mkdir()
            config = house(oidc(made, audience=audience(name)), recorder)
            houses[name] = stack.enter_context(serving(config, folder / name))
        yield World(houses, {name: made.login("ada", audience(name))["access_token"] for name in NAMES}, made)


@pytest.mark.parametrize("served", NAMES)
@pytest.mark.parametrize("meant", NAMES)
def test_a_token_opens_the_gateway_that_it_was_made_for_and_no_other(world: World, served: str, meant: str) -> None:
    caller = Caller(world.houses[served], world.tokens[meant])
    if meant == served:
        assert caller.open().call("notes_say")["result"]
        caller.close()
    else:
        answer = caller.post("tools/list")
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert "resource_metadata=" in answer.headers["www-authenticate"]


def test_after_a_restart_a_session_is_nobodys_and_its_owner_opens_another(world: World, tmp_path: Path) -> None:
    owner = world.issuer.login("ada", audience("one"))["access_token"]
    stranger = world.issuer.login("bob", audience("one"))["access_token"]
    with recording() as recorder:
        config = house(oidc(world.issuer, audience=audience("one")), recorder)
        with serving(config, tmp_path) as before:
            session = Caller(before, owner).open().session
        with serving(config, tmp_path) as after:
            for token in (owner, stranger):
                caller = Caller(after, token, session=session)
                assert caller.post("tools/list").status_code == 404
                assert caller.http.delete(f"{after.url}/mcp", headers=caller.headers()).status_code == 404
            assert Caller(after, None, session=session).post("tools/list").status_code == 401
            assert Caller(after, owner).open().call("notes_say")["result"]
