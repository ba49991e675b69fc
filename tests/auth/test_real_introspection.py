"""Opaque tokens of a real authorization server, which only that server can read (RFC 7662).

The rule: no answer about a token is no permission.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.auth.house import AUDIENCE, Caller, House, serving
from tests.auth.recorder import recording
from tests.auth.settings import house, oidc
from tests.real.issuer import Issuer, issuer

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

OPAQUE = f"{AUDIENCE}/opaque"
"""The provider of the tests issues opaque tokens for audiences that end so."""


class World(NamedTuple):
    issuer: Issuer
    house: House


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with issuer(tmp_path / "issuer") as made, recording() as recorder:
        more = {"clientId": "gateway", "clientSecretEnv": "INTROSPECTION", "audience": OPAQUE}
        incoming = oidc(made, introspectionUrl=f"{made.url}/token/introspection", **more)
        with serving(house(incoming, recorder), tmp_path, {"INTROSPECTION": made.secrets["gateway"]}) as door:
            yield World(made, door)


def test_an_opaque_token_is_asked_about_once_and_opens_the_door(world: World) -> None:
    token = world.issuer.login("ada", OPAQUE)["access_token"]
    assert "." not in token
    world.issuer.order(forget=True)
    caller = Caller(world.house, token).open()
    assert caller.call("notes_say", word="hello")["result"]["structuredContent"]["word"] == "hello"
    assert world.issuer.order()["requests"]["/token/introspection"] == 1


def test_a_token_that_the_issuer_does_not_know_is_refused(world: World) -> None:
    answer = Caller(world.house, "N0tAT0kenThatAnybodyIssued").post("ping")
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_revoked_token_is_refused(world: World) -> None:
    token = world.issuer.login("ada", OPAQUE)["access_token"]
    told = {"token": token, "client_id": "agent"}
    assert httpx.post(f"{world.issuer.url}/token/revocation", data=told, trust_env=False).status_code == 200
    assert Caller(world.house, token).post("ping").status_code == 401


def test_an_opaque_token_for_somebody_else_is_refused(world: World) -> None:
    token = world.issuer.login("ada", "https://elsewhere.example/opaque")["access_token"]
    assert Caller(world.house, token).post("ping").status_code == 401


def test_nobody_new_comes_in_while_the_issuer_is_away(world: World) -> None:
    known, unknown = (world.issuer.login(name, OPAQUE)["access_token"] for name in ("ada", "bob"))
    caller = Caller(world.house, known).open()
    world.issuer.stop()
    assert "result" in caller.call("notes_say")
    assert Caller(world.house, unknown).post("ping").status_code in (401, 503)
