"""The authorization server of the tests is a real one: what the standard has it refuse, it refuses.

The rule: a test that trusts it for a proof stands on these.
"""

from collections.abc import Iterator

import httpx
import pytest

from tests.real.issuer import CALLBACK, EXCHANGE, Issuer, claims, issuer

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

HERE, THERE = "https://gateway.example/mcp", "https://notes.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuer(tmp_path_factory.mktemp("issuer")) as made:
        yield made


def test_a_person_logs_in_by_the_code_flow_and_stays_by_refreshing(server: Issuer) -> None:
    login = server.login("ada", HERE)
    renewed = server.refreshed(login["refresh_token"], HERE)
    said, again = claims(login["access_token"]), claims(renewed["access_token"])
    assert (
        (said["sub"], said["aud"], said["iss"])
        == (again["sub"], again["aud"], again["iss"])
        == ("ada", HERE, server.url)
    )
    assert said["jti"] != again["jti"]


def test_there_is_no_code_without_pkce(server: Issuer) -> None:
    query = {"client_id": "agent", "response_type": "code", "redirect_uri": CALLBACK, "scope": "openid"}
    answer = httpx.get(f"{server.url}/auth", params=query, trust_env=False)
    assert "error=invalid_request" in answer.headers["location"]


def test_an_exchange_keeps_the_subject_and_names_who_acts(server: Issuer) -> None:
    token = server.login("ada", HERE)["access_token"]
    said = claims(server.exchanged(token, THERE)["access_token"])
    assert (said["sub"], said["aud"], said["act"]) == ("ada", THERE, {"sub": "gateway"})


@pytest.mark.parametrize("flaw", ["forged", "foreign", "nobody", "wrong client", "wrong secret"])
def test_an_exchange_is_refused(server: Issuer, flaw: str) -> None:
    token = server.login("ada", HERE)["access_token"]
    form = {"grant_type": EXCHANGE, "subject_token": token, "audience": THERE}
    form["subject_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
    client, secret = "gateway", server.secrets["gateway"]
    if flaw == "forged":
        head, _, signature = token.split(".")
        form["subject_token"] = ".".join((head, server.login("bob", HERE)["access_token"].split(".")[1], signature))
    elif flaw == "foreign":
        form["subject_token"] = server.login("ada", HERE)["id_token"][:-4] + "AAAA"
    elif flaw == "nobody":
        del form["subject_token"]
    elif flaw == "wrong client":
        client, secret = "robot", server.secrets["robot"]
    else:
        secret = server.secrets["robot"]
    answer = httpx.post(f"{server.url}/token", data=form, auth=(client, secret), trust_env=False)
    assert answer.status_code in (400, 401), answer.text
    assert "access_token" not in answer.json()


def test_its_keys_outlive_a_restart_and_may_be_joined_by_new_ones(server: Issuer) -> None:
    before = server.order()["kids"]
    server.stop()
    with pytest.raises(httpx.ConnectError):
        server.order()
    server.start()
    assert server.order()["kids"] == before
    assert server.order(rotate="ES256")["kids"][1:] == before
    assert server.exchanged(server.login("ada", HERE)["access_token"], THERE)["access_token"]
