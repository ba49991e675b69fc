"""Tokens of a real authorization server at the door: which open it, which do not, new keys, and the server being away.

The rule: nothing here knows how vmcp checks; each refusal stands beside a token that is right in everything else.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.auth.house import AUDIENCE, Caller, House, serving
from tests.auth.recorder import Recorder, recording
from tests.auth.settings import house, oidc
from tests.real.issuer import Issuer, issuer
from tests.real.processes import wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

REFETCH = 40
"""Seconds until a key that vmcp has never seen must be known: it asks for keys at most every 30."""


class World(NamedTuple):
    """An issuer, another one that nobody trusts, a backend, and vmcp in front of it."""

    issuer: Issuer
    stranger: Issuer
    recorder: Recorder
    house: House


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("real-issuer")
    with ExitStack() as stack:
        ours, other = (stack.enter_context(issuer(folder / name)) for name in ("ours", "other"))
        recorder = stack.enter_context(recording())
        yield World(ours, other, recorder, stack.enter_context(serving(house(oidc(ours), recorder), folder)))


def refused(answer: httpx.Response, error: str | None = "invalid_token") -> None:
    """It was told to come back with another token, and where to get one."""
    challenge = answer.headers.get("www-authenticate", "")
    assert answer.status_code == 401, f"{answer.status_code} {answer.text}"
    assert challenge.startswith("Bearer "), challenge
    assert re.search(
        r'resource_metadata="https://gateway\.example/\.well-known/oauth-protected-resource[^"]*"', challenge
    )
    assert (f'error="{error}"' in challenge) if error else ("error=" not in challenge), challenge


class TestTheDoor:
    """One token each."""

    def test_a_person_who_logged_in_by_the_code_flow_may_call(self, world: World) -> None:
        caller = Caller(world.house, world.issuer.login("ada", AUDIENCE)["access_token"]).open()
        assert caller.call("notes_say", word="hello")["result"]["structuredContent"]["word"] == "hello"
        caller.close()

    def test_a_machine_with_client_credentials_may_call(self, world: World) -> None:
        caller = Caller(world.house, world.issuer.token_of("robot", AUDIENCE)).open()
        assert "result" in caller.call("notes_say", word="beep")
        caller.close()

    def test_the_backend_never_sees_the_token(self, world: World) -> None:
        token = world.issuer.login("carol", AUDIENCE)["access_token"]
        caller = Caller(world.house, token).open()
        assert caller.call("notes_whoami")["result"]["structuredContent"]["sub"] is None
        assert token.encode() not in world.recorder.bytes_of()
        assert b"authorization:" not in world.recorder.bytes_of().lower()
        caller.close()

    def test_nobody_is_told_where_to_log_in(self, world: World) -> None:
        refused(Caller(world.house, None).post("tools/list"), error=None)

    def test_the_metadata_name_the_issuer(self, world: World) -> None:
        for path in ("", "/mcp"):
            told = httpx.get(f"{world.house.url}/.well-known/oauth-protected-resource{path}", trust_env=False).json()
            assert told["authorization_servers"] == [world.issuer.url]
            assert told["resource"] in (AUDIENCE, "https://gateway.example")

    def test_a_token_for_somebody_else_is_refused(self, world: World) -> None:
        refused(
            Caller(world.house, world.issuer.login("ada", "https://elsewhere.example/mcp")["access_token"]).post("ping")
        )

    def test_a_token_for_a_longer_name_is_refused(self, world: World) -> None:
        refused(Caller(world.house, world.issuer.login("ada", f"{AUDIENCE}/more")["access_token"]).post("ping"))

    def test_the_identity_token_is_refused(self, world: World) -> None:
        refused(Caller(world.house, world.issuer.login("ada", AUDIENCE)["id_token"]).post("ping"))

    def test_an_issuer_that_nobody_configured_is_refused(self, world: World) -> None:
        refused(Caller(world.house, world.stranger.login("ada", AUDIENCE)["access_token"]).post("ping"))

    def test_another_payload_under_the_same_signature_is_refused(self, world: World) -> None:
        ada, bob = (world.issuer.login(name, AUDIENCE)["access_token"].split(".") for name in ("ada", "bob"))
        refused(Caller(world.house, ".".join((ada[0], bob[1], ada[2]))).post("ping"))

    def test_a_token_in_the_query_is_no_token(self, world: World) -> None:
        token = world.issuer.login("ada", AUDIENCE)["access_token"]
        refused(Caller(world.house, None, f"/mcp?access_token={token}").post("ping"), error=None)

    @pytest.mark.parametrize("path", ["/mcp", "/sse", "/ws", "/all/mcp"])
    def test_every_endpoint_wants_a_token(self, world: World, path: str) -> None:
        answer = httpx.get(f"{world.house.url}{path}", headers={"Accept": "text/event-stream"}, trust_env=False)
        assert answer.status_code == 401


def test_only_the_vmcp_that_a_token_is_for_accepts_it(tmp_path: Path) -> None:
    names = ("one", "two", "three")
    with ExitStack() as stack:
        made, recorder = stack.enter_context(issuer(tmp_path / "issuer")), stack.enter_context(recording())
        statuses = {}
        tokens = {name: made.login("ada", f"https://{name}.example/mcp")["access_token"] for name in names}
        for name in names:
            (tmp_path / name).mkdir()
            config = house(oidc(made, audience=f"https://{name}.example/mcp"), recorder)
            door = stack.enter_context(serving(config, tmp_path / name))
            told = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
            for whose, token in tokens.items():
                statuses[name, whose] = Caller(door, token).post("initialize", told).status_code
    assert statuses == {(one, other): 200 if one == other else 401 for one in names for other in names}


class TestKeys:
    """What happens to tokens when keys and servers come and go."""

    @pytest.fixture
    def alone(self, tmp_path: Path) -> Iterator[World]:
        with ExitStack() as stack:
            made, recorder = stack.enter_context(issuer(tmp_path / "ours")), stack.enter_context(recording())
            yield World(made, made, recorder, stack.enter_context(serving(house(oidc(made), recorder), tmp_path)))

    def test_a_new_key_is_fetched_and_the_old_one_still_counts(self, alone: World) -> None:
        old = alone.issuer.login("ada", AUDIENCE)["access_token"]
        assert Caller(alone.house, old).open().call("notes_say")["result"]
        alone.issuer.order(rotate="ES256")
        new = alone.issuer.login("ada", AUDIENCE)["access_token"]
        caller = Caller(alone.house, new)
        wait_for(lambda: caller.post("ping").status_code != 401, REFETCH, lambda: alone.house.log[-4000:])
        assert caller.open().call("notes_say")["result"]
        again = alone.issuer.login("bob", AUDIENCE)["access_token"]
        assert Caller(alone.house, again).open().call("notes_say")["result"]
        assert Caller(alone.house, old).open().call("notes_say")["result"]

    def test_tokens_with_unknown_keys_do_not_make_it_ask_for_each(self, alone: World) -> None:
        assert Caller(alone.house, alone.issuer.login("ada", AUDIENCE)["access_token"]).open()
        alone.issuer.order(forget=True)
        with issuer(alone.house.folder / "forger") as forger:
            header = forger.login("ada", AUDIENCE)["access_token"].split(".")[0]
            payload, signature = alone.issuer.login("bob", AUDIENCE)["access_token"].split(".")[1:]
            for _ in range(15):  # after 20 an address has to wait
                refused(Caller(alone.house, f"{header}.{payload}.{signature}").post("ping"))
        assert alone.issuer.order()["requests"].get("/jwks", 0) <= 1

    def test_known_keys_last_while_the_issuer_is_away(self, alone: World) -> None:
        tokens = [alone.issuer.login(name, AUDIENCE)["access_token"] for name in ("ada", "bob")]
        first = Caller(alone.house, tokens[0]).open()
        alone.issuer.order(rotate="ES256")
        unknown = alone.issuer.login("ada", AUDIENCE)["access_token"]
        alone.issuer.stop()
        assert first.call("notes_say")["result"]
        assert Caller(alone.house, tokens[1]).open().call("notes_say")["result"]
        assert Caller(alone.house, unknown).post("ping").status_code in (401, 503)

    def test_it_starts_without_the_issuer_and_lets_nobody_in_until_it_is_back(self, tmp_path: Path) -> None:
        with issuer(tmp_path / "ours") as made, recording() as recorder:
            token = made.login("ada", AUDIENCE)["access_token"]
            made.stop()
            with serving(house(oidc(made), recorder), tmp_path) as door:
                caller, begun = Caller(door, token), time.monotonic()
                assert caller.post("ping").status_code in (401, 503)
                assert caller.post("ping").status_code in (401, 503)
                assert time.monotonic() - begun < 12
                made.start()
                wait_for(lambda: caller.post("ping").status_code not in (401, 503), REFETCH, lambda: door.log[-4000:])
                assert caller.open().call("notes_say")["result"]
