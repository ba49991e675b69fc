"""Logins at a backend: through a real authorization server of the tests, from the first refusal to the renewed token.

The rule: who has not consented sends nothing; a login is its principal's alone; a refresh token is shown once.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.upstream.authorizing import BASE, World, consented, invited, person, visited, world
from tests.upstream.fakes_backend import Kept, kept
from tests.upstream.issuing import jwt, said
from vmcp.call import Identity
from vmcp.config.oauth import GatewayOAuth, UserOAuth
from vmcp.config.values import SecretRef
from vmcp.errors import Code, ConsentRequired, McpError, Unavailable
from vmcp.protocol.revisions import Revision
from vmcp.state.vault import Claim, Owner, VaultError
from vmcp.upstream.credentials import alone
from vmcp.upstream.credentials.consent import GATEWAY, Consent
from vmcp.upstream.credentials.person import OS_ISSUER, system_user

ADA, BOB = person("ada"), person("bob")
MODERN = "2026-07-28"


@contextlib.asynccontextmanager
async def opened(there: World, **changes: Any) -> AsyncIterator[Consent]:
    consent = there.consent(**changes)
    try:
        yield consent
    finally:
        await consent.close()


async def granted(consent: Consent, who: Identity = ADA) -> str:
    return await consent.token(who, asyncio.get_running_loop().time() + 10)


# --- the way in


async def test_who_has_not_consented_gets_a_link_of_his_own() -> None:
    async with world() as there, opened(there) as consent:
        with pytest.raises(ConsentRequired) as needed:
            await granted(consent)
        assert needed.value.url.startswith(f"{BASE}/oauth/start?invitation=")
        assert needed.value.url in needed.value.message
        assert needed.value.url not in str(needed.value) + repr(needed.value), "what is logged is not the link"
        with pytest.raises(ConsentRequired) as again:
            await granted(consent)
        assert again.value.url == needed.value.url, "one link at a time"
        with pytest.raises(ConsentRequired) as other:
            await granted(consent, BOB)
        assert other.value.url != needed.value.url


async def test_a_login_is_asked_for_by_the_book() -> None:
    async with world() as there, opened(there) as consent:
        url = await consent.depart(invited(consent, ADA), "browser")
        asked = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        assert asked.pop("state")
        assert len(asked.pop("code_challenge")) == 43
        assert asked == {
            "response_type": "code",
            "client_id": "client-1",
            "redirect_uri": f"{BASE}/oauth/callback",
            "code_challenge_method": "S256",
            "resource": f"{there.locked.url}/mcp",
            "scope": "read offline_access",
            "prompt": "consent",
        }
        about = there.authority.clients["client-1"]
        assert (about["redirect_uris"], about["token_endpoint_auth_method"]) == ([f"{BASE}/oauth/callback"], "none")
        assert about["application_type"] == "native"


async def test_after_consent_there_is_a_token_and_it_is_the_users_own() -> None:
    async with world() as there, opened(there) as consent:
        await consented(consent, ADA, there.authority)
        assert await granted(consent) == await granted(consent) == "access-2"
        with pytest.raises(ConsentRequired):
            await granted(consent, BOB)
        with pytest.raises(ConsentRequired):
            await granted(consent, Identity("https://other.example", "ada"))


async def test_vmcp_is_registered_once_for_all_users() -> None:
    async with world() as there, opened(there) as consent:
        await asyncio.wait_for(consented(consent, ADA, there.authority), 10)
        await consented(consent, BOB, there.authority)
        assert list(there.authority.clients) == ["client-1"]


async def test_a_client_that_the_server_forgot_is_registered_anew() -> None:
    async with world() as there, opened(there) as consent:
        answer = await visited(await consent.depart(invited(consent, ADA), "b"), there.authority)
        journey = consent.desk.back(answer["state"], "b")
        assert journey is not None
        there.authority._token = lambda form: _refusal("invalid_client")  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="invalid_client"):
            await consent.arrive(journey, answer)
        await consent.depart(invited(consent, ADA), "b")
        assert list(there.authority.clients) == ["client-1", "client-2"]


def _refusal(error: str) -> Any:
    return said({"error": error}, 400)


async def test_a_fixed_client_shows_its_secret_and_registers_nothing() -> None:
    fixed = UserOAuth(client_id="vm cp", client_secret=SecretRef(env="S"), scopes=("mine",))
    async with world(fixed) as there:
        consent = Consent(there.spec, there.spec.auth, lambda value: "s e")  # type: ignore[arg-type]
        async with contextlib.aclosing(_closing(consent)):
            await consented(consent, ADA, there.authority)
        assert not there.authority.clients
        path, query = there.authority.asked[0]
        assert (path, query["client_id"], query["scope"]) == ("/authorize", "vm cp", "mine offline_access")
        login = await consent.login_of(ADA)
        assert login is not None
        assert "s e" not in json.dumps(repr(login))
        assert (login.client.secret, login.client.configured) == ("", True)


async def _closing(consent: Consent) -> AsyncIterator[None]:
    yield
    await consent.close()


async def test_a_metadata_document_is_the_client_where_the_server_reads_such() -> None:
    public = UserOAuth(base="https://gw.example", redirect="https://gw.example/oauth/callback")
    async with world(public) as there, opened(there) as consent:
        there.authority.metadata = lambda told: told | {"client_id_metadata_document_supported": True}
        url = await consent.depart(invited(consent, ADA), "b")
        assert "client_id=https%3A%2F%2Fgw.example%2Foauth%2Fclient.json" in url
        assert not there.authority.clients


async def test_nobody_is_registered_where_the_server_does_not() -> None:
    async with world() as there, opened(there) as consent:
        there.authority.metadata = lambda told: {k: v for k, v in told.items() if k != "registration_endpoint"}
        with pytest.raises(Unavailable, match="clientId"):
            await consent.depart(invited(consent, ADA), "b")


# --- what is not accepted on the way back


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"iss": "https://evil.example"}, "another authorization server"),
        ({"iss": None}, "another authorization server"),
        ({"error": "access_denied"}, "no consent"),
        ({"code": None}, "no consent"),
        ({"code": "made-up"}, "invalid_grant"),
    ],
)
async def test_a_wrong_answer_is_no_login(change: dict[str, str | None], why: str) -> None:
    async with world() as there, opened(there) as consent:
        answer = await visited(await consent.depart(invited(consent, ADA), "b"), there.authority)
        spoiled = {key: value for key, value in {**answer, **change}.items() if value is not None}
        journey = consent.desk.back(answer["state"], "b")
        assert journey is not None
        with pytest.raises(Unavailable, match=why) as failed:
            await consent.arrive(journey, spoiled)
        assert "sensitive" not in str(failed.value)
        assert await consent.login_of(ADA) is None


async def test_a_server_that_tells_no_issuer_need_not() -> None:
    async with world() as there, opened(there) as consent:
        there.authority.metadata = lambda told: told | {"authorization_response_iss_parameter_supported": False}
        answer = await visited(await consent.depart(invited(consent, ADA), "b"), there.authority)
        journey = consent.desk.back(answer.pop("state"), "b")
        assert journey is not None
        del answer["iss"]
        await consent.arrive(journey, answer)
        assert await granted(consent)


@pytest.mark.parametrize(
    "change", [{"token_type": "DPoP"}, {"access_token": "a b"}, {"access_token": 1}, {"refresh_token": "\n"}]
)
async def test_an_odd_token_is_no_login(change: dict[str, object]) -> None:
    async with world() as there, opened(there) as consent:
        there.authority.tokens = lambda told: told | change
        with pytest.raises(Unavailable, match="not acceptable"):
            await consented(consent, ADA, there.authority)
        assert await consent.login_of(ADA) is None


async def test_somebody_else_than_was_invited_does_not_log_in_for_him() -> None:
    async with world() as there, opened(there) as consent:
        there.authority.tokens = lambda told: told | {"access_token": jwt({"iss": "https://idp.example", "sub": "eve"})}
        with pytest.raises(Unavailable, match="somebody else"):
            await consented(consent, ADA, there.authority)
        there.authority.tokens = lambda told: told | {"access_token": jwt({"iss": "https://idp.example", "sub": "ada"})}
        await consented(consent, ADA, there.authority)


# --- staying


async def test_a_token_that_is_over_is_renewed_once_however_many_ask() -> None:
    async with world() as there, opened(there) as consent:
        there.authority.life = 1
        await consented(consent, ADA, there.authority)
        there.authority.life = 600
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(granted(consent)) for _ in range(50)]
        assert {task.result() for task in asked} == {"access-3"}
        assert there.authority.grants() == ["authorization_code", "refresh_token"]


async def test_a_token_that_the_backend_refuses_is_renewed() -> None:
    async with world() as there, opened(there) as consent:
        await consented(consent, ADA, there.authority)
        consent.refused(ADA, await granted(consent))
        assert await granted(consent) == "access-3"
        login = await consent.login_of(ADA)
        assert login is not None
        assert login.refresh == "refresh-3"


async def test_who_cannot_be_renewed_consents_again() -> None:
    async with world() as there, opened(there) as consent:
        await consented(consent, ADA, there.authority)
        there.authority.refreshes.clear()
        consent.refused(ADA, await granted(consent))
        with pytest.raises(ConsentRequired):
            await granted(consent)
        assert await consent.login_of(ADA) is None
        await consented(consent, ADA, there.authority)
        assert await granted(consent)


async def test_a_server_that_forgot_vmcp_registers_it_anew() -> None:
    async with world() as there, opened(there) as consent:
        await consented(consent, ADA, there.authority)
        token = there.authority._token
        there.authority._token = lambda form: _refusal("invalid_client")  # type: ignore[method-assign]
        consent.refused(ADA, await granted(consent))
        with pytest.raises(ConsentRequired):
            await granted(consent)
        there.authority._token = token  # type: ignore[method-assign]
        await consented(consent, ADA, there.authority)
        assert list(there.authority.clients) == ["client-1", "client-2"]


@pytest.mark.parametrize(
    ("said", "days"), [(None, 3650), ("x", 3650), (True, 3650), (-5, 0), (86_400 * 30, 30), ("86400", 1), (1e99, 3650)]
)
async def test_a_token_lives_as_long_as_is_said_and_else_until_it_is_refused(said: object, days: int) -> None:
    async with world() as there, opened(there) as consent:
        there.authority.tokens = lambda told: {**told, "expires_in": said, "refresh_token": ""}
        await consented(consent, ADA, there.authority)
        login = await consent.login_of(ADA)
        assert login is not None
        assert round((login.until - time.time()) / 86_400) == days


async def test_a_login_that_cannot_be_renewed_is_used_to_its_end(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there:
        async with opened(there) as consent:
            there.authority.tokens = lambda told: {k: v for k, v in told.items() if k in ("access_token", "token_type")}
            await consented(consent, ADA, there.authority)
        async with opened(there) as consent:
            token = await granted(consent)
            consent.refused(ADA, token)
            with pytest.raises(ConsentRequired):
                await granted(consent)


async def test_a_server_that_is_down_ends_no_login() -> None:
    async with world() as there, opened(there) as consent:
        await consented(consent, ADA, there.authority)
        there.authority.tokens = lambda told: {"error": "temporarily_unavailable"}
        consent.refused(ADA, await granted(consent))
        with pytest.raises(Unavailable) as failed:
            await granted(consent)
        assert not isinstance(failed.value, ConsentRequired)
        assert await consent.login_of(ADA) is not None


async def test_a_renewed_token_is_stored_before_it_is_used(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there, opened(there) as consent:
        await consented(consent, ADA, there.authority)
        consent.refused(ADA, await granted(consent))
        put, full = consent._vault.put, True

        def failing(*given: Any) -> None:
            if full:
                raise VaultError("no space")
            put(*given)

        consent._vault.put = failing  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(Unavailable, match="not be stored"):
                await granted(consent)
        assert there.authority.grants().count("refresh_token") == 1, "the old refresh token is not shown again"
        full = False
        assert await granted(consent) == "access-3"
        login = await consent.login_of(ADA)
        assert login is not None
        assert login.refresh == "refresh-3"


async def test_another_process_may_have_been_faster(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there, opened(there) as one, opened(there) as two:
        await consented(one, ADA, there.authority)
        stale = await two._kept(next(two._vault.owners("notes")))
        assert stale is not None
        one.refused(ADA, await granted(one))
        fresh = await granted(one)
        renewed = await two._renewed(next(two._vault.owners("notes")), stale)
        assert renewed is not None
        assert renewed.access == fresh


async def test_several_processes_renew_a_login_once(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there, contextlib.AsyncExitStack() as stack:
        one, *others = [await stack.enter_async_context(opened(there)) for _ in range(4)]
        await consented(one, ADA, there.authority)
        old = await granted(one)
        assert {await granted(each) for each in others} == {old}
        for each in (one, *others):
            each.refused(ADA, old)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(granted(each)) for each in (one, *others)]
        assert {task.result() for task in asked} == {"access-3"}
        assert there.authority.grants() == ["authorization_code", "refresh_token"]
    assert not await asyncio.to_thread(lambda: list(tmp_path.glob("tokens/*.lock")))


async def test_a_login_that_is_ended_elsewhere_meanwhile_is_not_renewed(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there, opened(there) as one, opened(there) as two:
        await consented(one, ADA, there.authority)
        one.refused(ADA, await granted(one))
        claim = two._vault.claim(Owner("notes", ADA.principal))
        assert claim is not None
        loop, waits, real = asyncio.get_running_loop(), asyncio.Event(), one._vault.claim

        def claimed(owner: Owner) -> Claim | None:
            found = real(owner)
            loop.call_soon_threadsafe(waits.set)
            return found

        one._vault.claim = claimed  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(_asked_again(one))
            await waits.wait()
            two._vault.drop(Owner("notes", ADA.principal))
            claim.end()
        assert asked.result() == "asked"
        assert there.authority.grants() == ["authorization_code"]


async def _asked_again(consent: Consent) -> str:
    with pytest.raises(ConsentRequired):
        await granted(consent)
    return "asked"


async def test_nobody_waits_for_ever_for_who_keeps_a_login_to_himself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "PATIENCE", 0.01)
    async with world(directory=str(tmp_path)) as there, opened(there) as one, opened(there) as two:
        await consented(one, ADA, there.authority)
        one.refused(ADA, await granted(one))
        claim = two._vault.claim(Owner("notes", ADA.principal))
        assert claim is not None
        with pytest.raises(Unavailable, match="keeps its login to itself"):
            await granted(one)
        claim.end()
        assert await granted(one) == "access-3"


async def test_a_login_outlives_the_process_where_there_is_a_folder(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there:
        async with opened(there) as consent:
            await consented(consent, ADA, there.authority)
            token = await granted(consent)
        files = list((tmp_path / "tokens").glob("*.sealed"))
        assert len(files) == 2, "a client and a login"
        assert all(token.encode() not in file.read_bytes() for file in files)
        async with opened(there) as consent:
            assert await granted(consent) == token
            assert await consent.end(ADA)
            assert not await consent.end(ADA)
            assert there.authority.revoked == ["refresh-2"]
            with pytest.raises(ConsentRequired):
                await granted(consent)


# --- through a backend


@contextlib.asynccontextmanager
async def through(there: World) -> AsyncIterator[Kept]:
    there.locked.open_listing = True
    async with kept(there.spec) as backend:
        await backend.up()
        yield backend


async def call(backend: Kept, who: Identity | None, name: str = "echo") -> str:
    modern = backend.spec.protocol == MODERN
    client = Revision.V2026_07_28 if modern else Revision.V2025_11_25
    session = None if modern or who is None else f"session of {who.subject}"
    outcome = await backend.ask(name=name, identity=who, client=client, session=session)
    return str(json.loads(bytes(outcome.result))["content"][0]["text"])


@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
async def test_every_call_carries_its_own_callers_token(revision: str) -> None:
    async with world(revision=revision) as there, through(there) as backend:
        consent = backend.backend.consent
        assert consent is not None
        with pytest.raises(ConsentRequired):
            await call(backend, ADA)
        assert not there.locked.shown()
        await consented(consent, ADA, there.authority)
        await consented(consent, BOB, there.authority)
        mine, his = await granted(consent, ADA), await granted(consent, BOB)
        async with asyncio.TaskGroup() as group:
            asked = [(who, group.create_task(call(backend, who))) for who in (ADA, BOB) * 20]
        assert all(task.result() == (mine if who is ADA else his) for who, task in asked)
        assert set(there.locked.shown()) == {mine, his}
        with pytest.raises(McpError) as nobody:
            await call(backend, None)
        assert nobody.value.vmcp_code == Code.UNAUTHORIZED


@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
async def test_a_call_whose_token_was_withdrawn_goes_with_a_new_one(revision: str) -> None:
    async with world(revision=revision) as there, through(there) as backend:
        consent = backend.backend.consent
        assert consent is not None
        await consented(consent, ADA, there.authority)
        first = await call(backend, ADA)
        there.authority.live.clear()
        assert await call(backend, ADA) != first


async def test_a_tool_that_wants_more_asks_for_more_and_others_go_on() -> None:
    async with world(revision=MODERN) as there, through(there) as backend:
        consent = backend.backend.consent
        assert consent is not None
        await consented(consent, ADA, there.authority)
        with pytest.raises(ConsentRequired) as needed:
            await call(backend, ADA, "admin")
        assert await call(backend, ADA)
        invitation = consent.desk.invited(parse_qs(urlsplit(needed.value.url).query)["invitation"][0])
        assert invitation is not None
        assert invitation.scopes == ("write",)
        await consented(consent, ADA, there.authority, invitation.scopes)
        assert await call(backend, ADA, "admin")
        assert there.authority.asked[-2][1]["scope"] == "read write offline_access"


async def test_the_gateways_login_is_everybodys(tmp_path: Path) -> None:
    async with world(GatewayOAuth(), directory=str(tmp_path)) as there:
        async with opened(there) as consent:
            await consented(consent, GATEWAY, there.authority)
        async with kept(there.spec) as backend:
            await backend.up()
            assert await call(backend, ADA) == await call(backend, BOB) == await call(backend, None)
            assert set(there.locked.shown("tools/list")) == set(there.locked.shown())


async def test_without_the_gateways_login_the_backend_says_what_to_do(tmp_path: Path) -> None:
    async with world(GatewayOAuth(), directory=str(tmp_path)) as there, kept(there.spec) as backend:
        assert "run: vmcp auth login notes" in await backend.down()
        assert not [token for _, token in there.locked.calls if token]


async def test_what_is_listed_for_users_is_listed_with_the_login_of_who_runs_it(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there:
        async with kept(there.spec) as backend:
            assert "vmcp auth login notes" in await backend.down()
        async with opened(there) as consent:
            await consented(consent, system_user(), there.authority)
            token = await granted(consent, system_user())
        async with kept(there.spec) as backend:
            await backend.up()
            assert set(there.locked.shown("tools/list")) == {token}
            with pytest.raises(ConsentRequired):
                await call(backend, ADA)
            assert not there.locked.shown()


async def test_who_runs_it_is_told_the_command_too(tmp_path: Path) -> None:
    async with world(directory=str(tmp_path)) as there, opened(there) as consent:
        with pytest.raises(ConsentRequired) as needed:
            await granted(consent, system_user())
        assert "(or run: vmcp auth login notes)" in needed.value.message
        assert consent.lister.issuer == OS_ISSUER


async def test_a_broken_folder_is_told_and_nothing_is_sent(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir(mode=0o755)
    (tmp_path / "tokens").chmod(0o755)
    async with world(directory=str(tmp_path)) as there, opened(there) as consent:
        with pytest.raises(VaultError, match="mode 700"):
            await asyncio.to_thread(consent._vault.put, Owner("notes", ADA.principal), b"x")
        with pytest.raises(Unavailable, match="mode 700"):
            await consented(consent, ADA, there.authority)


async def test_the_search_for_a_server_that_is_not_there_is_not_made_by_each(tmp_path: Path) -> None:
    async with world() as there, opened(there, issuer="http://127.0.0.1:9") as consent:
        before = len(there.locked.calls)
        for who in (ADA, BOB, ADA):
            with pytest.raises(Unavailable, match="no login is possible"):
                await granted(consent, who)
        assert len(there.locked.calls) == before + 1
