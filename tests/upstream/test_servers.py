"""Which authorization server a backend trusts: what is found, and what is not believed.

The rule: each flaw of the metadata is tried alone, and nobody is sent anywhere for it.
"""

from dataclasses import replace
from typing import Any

import pytest

from tests.egress.web import Asked, Said, serving
from tests.upstream.authorizing import World, world
from tests.upstream.issuing import said
from vmcp.config.model import BackendSpec
from vmcp.config.oauth import OAuth, UserOAuth
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Unavailable
from vmcp.upstream.credentials.servers import Server, Servers


async def find(there: World, **changes: Any) -> Server:
    assert isinstance(there.spec.auth, OAuth)
    fetcher = Fetcher()
    try:
        return await Servers(there.spec, replace(there.spec.auth, **changes), fetcher).find()
    finally:
        await fetcher.close()


async def test_it_is_found_by_the_backends_challenge() -> None:
    async with world() as there:
        found = await find(there)
        assert (found.issuer, found.resource) == (there.authority.url, f"{there.locked.url}/mcp")
        assert (found.wanted, found.tells, found.documents) == (("read",), True, False)
        assert "offline_access" in found.offered
        assert ("ping", "") in there.locked.calls


async def test_without_a_challenge_the_usual_place_is_asked() -> None:
    async with world() as there:
        there.locked.challenge = 'Basic realm="x"'
        assert (await find(there)).issuer == there.authority.url


async def test_the_scopes_of_the_challenge_count_before_those_that_there_are() -> None:
    async with world() as there:
        place = f"{there.locked.url}/.well-known/oauth-protected-resource/mcp"
        there.locked.challenge = f'Bearer resource_metadata="{place}", scope="this that"'
        assert (await find(there)).wanted == ("this", "that")
        assert (await find(there, scopes=("mine",))).wanted == ("mine",)


async def test_a_backend_without_metadata_is_of_the_configured_server() -> None:
    async with world() as there:
        there.locked.challenge = "Bearer"
        there.locked.metadata = lambda told: []  # type: ignore[assignment,return-value]
        found = await find(there)
        assert (found.issuer, found.resource, found.wanted) == (there.authority.url, there.spec.url, ())


async def test_without_both_it_is_that_of_its_own_origin() -> None:
    async def both(asked: Asked) -> Said:
        if asked.path == "/.well-known/oauth-authorization-server":
            origin = f"http://{asked.headers['host']}"
            ends = {f"{each}_endpoint": f"{origin}/{each}" for each in ("authorization", "token")}
            return said({"issuer": origin, **ends, "code_challenge_methods_supported": ["S256"]})
        return Said(404)

    async with serving(both) as web:
        spec = BackendSpec("b", "g", "streamable-http", url=web.url("/mcp"), auth=UserOAuth())
        fetcher = Fetcher()
        found = await Servers(spec, UserOAuth(), fetcher).find()
        await fetcher.close()
        assert found.token_url == web.url("/token")
        assert (found.registration_url, found.revocation_url, found.methods) == (None, None, ("client_secret_basic",))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"resource": "https://elsewhere.example/mcp"}, "another resource"),
        ({"resource": "{}/mcp/other"}, "another resource"),
        ({"resource": "{}/mc"}, "another resource"),
        ({"resource": 1}, "another resource"),
        ({"resource": "{}/mcp#x"}, "another resource"),
        ({"resource": "http://u@{host}/mcp"}, "cannot be found"),
    ],
)
async def test_metadata_about_another_resource_are_not_believed(change: dict[str, Any], why: str) -> None:
    async with world() as there:
        host = there.locked.url.removeprefix("http://")
        fitted = {
            k: v.replace("{}", there.locked.url).replace("{host}", host) if isinstance(v, str) else v
            for k, v in change.items()
        }
        there.locked.metadata = lambda told: told | fitted
        with pytest.raises(Unavailable, match=why):
            await find(there)


@pytest.mark.parametrize("resource", ["{}", "{}/", "{}/mcp", "{}/mcp/"])
async def test_the_backend_may_be_below_the_resource(resource: str) -> None:
    async with world() as there:
        named = resource.replace("{}", there.locked.url)
        there.locked.metadata = lambda told: told | {"resource": named}
        assert (await find(there)).resource == named


@pytest.mark.parametrize("servers", [None, [], [1], "x"])
async def test_metadata_that_name_no_server_need_one_in_the_config(servers: object) -> None:
    async with world() as there:
        there.locked.metadata = lambda told: told | {"authorization_servers": servers}
        with pytest.raises(Unavailable, match="write oauth"):
            await find(there, issuer=None)
        assert (await find(there)).issuer == there.authority.url


async def test_metadata_elsewhere_are_not_even_asked_for() -> None:
    async with world() as there, serving(there.locked) as evil:
        there.locked.challenge = f'Bearer resource_metadata="{evil.url("/.well-known/oauth-protected-resource/mcp")}"'
        with pytest.raises(Unavailable, match="another origin"):
            await find(there)
        assert not evil.asked


async def test_a_learned_server_in_a_private_network_is_not_asked() -> None:
    async with world() as there:
        with pytest.raises(Unavailable, match="no TLS"):
            await find(there, issuer=None)
        there.locked.metadata = lambda told: told | {"authorization_servers": ["https://127.0.0.1:1/"]}
        with pytest.raises(Unavailable, match="not public"):
            await find(there, issuer=None)
        assert not there.authority.asked


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"issuer": "{}/"}, "another name"),
        ({"issuer": "https://evil.example"}, "another name"),
        ({"code_challenge_methods_supported": ["plain"]}, "S256"),
        ({"code_challenge_methods_supported": None}, "S256"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "https://"),
        ({"authorization_endpoint": "http://elsewhere.example/a"}, "no TLS"),
        ({"authorization_endpoint": "{}/a#b"}, "authorization_endpoint"),
        ({"token_endpoint": None}, "token_endpoint"),
        ({"token_endpoint": "http://169.254.169.254/latest"}, "no TLS"),
        ({"registration_endpoint": 1}, "registration_endpoint"),
    ],
)
async def test_a_servers_metadata_with_a_flaw_are_not_used(change: dict[str, Any], why: str) -> None:
    async with world() as there:
        fitted = {k: v.replace("{}", there.authority.url) if isinstance(v, str) else v for k, v in change.items()}
        there.authority.metadata = lambda told: told | fitted
        with pytest.raises(Unavailable, match=why):
            await find(there)


async def test_a_server_with_a_path_is_found_at_each_place() -> None:
    for place in (
        "/.well-known/oauth-authorization-server/tenant",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ):

        async def one(asked: Asked, place: str = place) -> Said:
            if asked.path != place:
                return Said(200, b"<html>") if "openid" in asked.path else Said(404)
            origin = f"http://{asked.headers['host']}/tenant"
            ends = {f"{each}_endpoint": f"{origin}/{each}" for each in ("authorization", "token")}
            return said({"issuer": origin, **ends, "code_challenge_methods_supported": ["S256"]})

        async with world() as there, serving(one) as web:
            assert (await find(there, issuer=web.url("/tenant"))).issuer == web.url("/tenant")


async def test_what_does_not_answer_is_told_without_its_place() -> None:
    async with world() as there:
        pass
    with pytest.raises(Unavailable, match="cannot be found") as failed:
        await find(there)
    assert "127.0.0.1" not in str(failed.value)
