"""Issuers over real HTTP: keys come and go, the issuer goes away, tokens are remembered and forgotten.

The rule: the clock is the test's, requests are counted where they arrive, and each refusal stands beside what is let in.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.middleware.jwts import AUDIENCE, EC, NOW, OTHER_RSA, RSA, TinyIssuer, claims, header, jwk, raw
from tests.server.peers import until
from vmcp.config.incoming import Issuer
from vmcp.egress.fetch import Fetcher
from vmcp.middleware.auth import Unproven
from vmcp.middleware.keyring import AGAIN, STALE, places
from vmcp.middleware.oidc import ASKED, REMEMBERED, Clocks, Oidc
from vmcp.tasks import Nest


class World:
    """A verifier, one issuer, and a clock that stands still until it is set."""

    def __init__(self, issuer: TinyIssuer, nest: Nest, *others: Issuer, **more: Any) -> None:
        self.issuer, self.now = issuer, float(NOW)
        self.fetcher = Fetcher()
        mine = Issuer(issuer.url, AUDIENCE, **{"plain_http": True} | more)
        clocks = Clocks(lambda: self.now, lambda: self.now)
        self.oidc = Oidc([mine, *others], {issuer.url: "s&cret"}, nest, lambda _: self.fetcher, clocks)

    def token(self, key: Any = RSA, kid: str = "one", **more: Any) -> str:
        return raw(
            header("RS256" if key is not EC else "ES256", kid=kid), claims(self.issuer.url, self.now, **more), key
        )

    async def who(self, token: str) -> str:
        found = self.oidc.known(token.encode()) or await self.oidc.verify(token)
        return found.subject

    async def status(self, token: str) -> int:
        try:
            await self.who(token)
        except Unproven as refused:
            return refused.status
        return 200

    @property
    def fetches(self) -> int:
        return self.issuer.asked.count("/jwks")


@contextlib.asynccontextmanager
async def world(*keys: Any, **more: Any) -> AsyncIterator[World]:
    async with TinyIssuer(*(keys or (jwk(RSA, "one"),))) as issuer, Nest("test") as nest:
        made = World(issuer, nest, **more)
        try:
            yield made
        finally:
            issuer.gate.set()
            await made.fetcher.close()


async def test_a_token_is_proven_once_and_remembered_by_all_of_it() -> None:
    async with world() as made:
        token = made.token()
        assert made.oidc.known(token.encode()) is None
        assert await made.who(token) == "ada"
        assert made.oidc.known(token.encode()) is not None
        assert made.oidc.known((token[:-1] + ("A" if token[-1] != "A" else "B")).encode()) is None
        assert made.oidc.known("é".encode()) is None
        assert made.issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


@pytest.mark.parametrize(("ttl", "until"), [(100, 100 + 30), (600, REMEMBERED)])
async def test_what_is_remembered_ends_with_the_token_or_sooner(ttl: int, until: float) -> None:
    async with world() as made:
        token = made.token(exp=NOW + ttl)
        await made.who(token)
        made.now = NOW + until - 1
        assert made.oidc.known(token.encode()) is not None
        made.now = NOW + until
        assert made.oidc.known(token.encode()) is None


async def test_a_hundred_at_once_fetch_the_keys_once_and_one_who_leaves_disturbs_nobody() -> None:
    async with world() as made:
        made.issuer.gate.clear()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(made.who(made.token(sub=f"user{n % 50}"))) for n in range(100)]
            await until(lambda: made.issuer.asked == ["/.well-known/openid-configuration"])
            tasks[0].cancel()
            made.issuer.gate.set()
        assert tasks[0].cancelled()
        assert [task.result() for task in tasks[1:]] == [f"user{n % 50}" for n in range(1, 100)]
        assert made.fetches == 1


async def test_an_unknown_key_is_looked_for_only_so_often() -> None:
    async with world() as made:
        await made.who(made.token())
        for number in range(200):
            assert await made.status(made.token(kid=f"made-up-{number}")) == 401
        assert made.fetches == 1
        made.now += AGAIN
        made.issuer.keys.append(jwk(EC, "two"))
        assert await made.who(made.token(EC, "two")) == "ada"
        assert await made.who(made.token()) == "ada"
        assert made.fetches == 2


async def test_a_key_that_is_gone_counts_no_more_not_even_for_what_was_remembered() -> None:
    async with world() as made:
        old = made.token()
        await made.who(old)
        made.issuer.keys = [jwk(EC, "two")]
        made.now += AGAIN
        assert await made.who(made.token(EC, "two")) == "ada"
        assert made.oidc.known(old.encode()) is None
        assert await made.status(old) == 401


async def test_keys_are_renewed_in_the_background_and_used_for_a_day_when_they_cannot_be() -> None:
    async with world() as made:
        await made.who(made.token())
        made.issuer.answers["/jwks"] = (500, b"")
        made.now += 3600
        assert await made.who(made.token()) == "ada"
        await until(lambda: made.fetches == 2)
        assert await made.status(made.token(kid="other")) == 401, "it is there, but has no such key"
        made.now += STALE - 3600 + 1
        assert await made.status(made.token()) == 503


@pytest.mark.parametrize(
    "answer", [(200, b"{}"), (200, b"nonsense"), (302, b""), (404, b""), (200, b"[" * 300_000)], ids=str
)
async def test_whoever_has_no_keys_has_to_turn_people_away_and_tries_again(answer: tuple[int, bytes]) -> None:
    async with world() as made:
        made.issuer.answers["/jwks"] = answer
        assert await made.status(made.token()) == 503
        assert await made.status(made.token()) == 503
        assert made.fetches == 1
        del made.issuer.answers["/jwks"]
        made.now += 2
        assert await made.status(made.token()) == 200


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://evil.example", "jwks_uri": "/jwks"},
        {"jwks_uri": "/jwks"},
        {"issuer": "", "jwks_uri": 5},
        {"issuer": "", "jwks_uri": "http://127.0.0.2:1/jwks"},
        {"issuer": "", "jwks_uri": "file:///etc/passwd"},
        [],
    ],
)
async def test_metadata_that_are_not_the_issuers_own_lead_nowhere(told: Any) -> None:
    async with world() as made:
        if isinstance(told, dict):
            told = {key: made.issuer.url + each if each in ("", "/jwks") else each for key, each in told.items()}
        made.issuer.answers["/.well-known/openid-configuration"] = (200, json.dumps(told).encode())
        assert await made.status(made.token()) == 503
        assert made.fetches == 0


async def test_keys_at_another_place_need_tls_or_a_word_in_the_config() -> None:
    async with world() as made, TinyIssuer(jwk(RSA, "one")) as other:
        body = json.dumps({"issuer": made.issuer.url, "jwks_uri": f"{other.url}/jwks"}).encode()
        made.issuer.answers["/.well-known/openid-configuration"] = (200, body)
        assert await made.status(made.token()) == 503
        assert not other.asked
    async with world(private_addresses=True) as made, TinyIssuer(jwk(RSA, "one")) as other:
        body = json.dumps({"issuer": made.issuer.url, "jwks_uri": f"{other.url}/jwks"}).encode()
        made.issuer.answers["/.well-known/openid-configuration"] = (200, body)
        assert await made.status(made.token()) == 200
    async with TinyIssuer(jwk(RSA, "one")) as other, world(jwks_url=f"{other.url}/jwks") as made:
        assert await made.status(made.token()) == 200
        assert not made.issuer.asked, "the config says where they are"


async def test_the_keys_of_one_issuer_do_not_count_for_another() -> None:
    async with TinyIssuer(jwk(OTHER_RSA, "one")) as other, TinyIssuer(jwk(RSA, "one")) as issuer, Nest("test") as nest:
        made = World(issuer, nest, Issuer(other.url, AUDIENCE, plain_http=True))
        assert await made.status(made.token()) == 200
        assert await made.status(raw(header(), claims(other.url), OTHER_RSA)) == 200
        assert await made.status(raw(header(), claims(other.url), RSA)) == 401
        assert await made.status(raw(header(), claims("https://third.example"), RSA)) == 401
        await made.fetcher.close()


async def test_a_key_that_is_for_another_algorithm_does_not_count() -> None:
    async with world(jwk(RSA, "one", alg="RS256"), jwk(RSA, "two", alg="RS384")) as made:
        assert await made.status(made.token()) == 200
        assert await made.status(made.token(kid="two")) == 401


def test_metadata_are_looked_for_by_both_standards() -> None:
    first, second = places("https://idp.example.com/tenant/")
    assert first == "https://idp.example.com/tenant/.well-known/openid-configuration"
    assert second == "https://idp.example.com/.well-known/oauth-authorization-server/tenant"


class TestIntrospection:
    """Opaque tokens."""

    @contextlib.asynccontextmanager
    async def asked(self, answer: Any, status: int = 200) -> AsyncIterator[World]:
        async with TinyIssuer() as issuer, Nest("test") as nest:
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            issuer.answers["/ask"] = (status, body)
            made = World(issuer, nest, introspection_url=f"{issuer.url}/ask", client_id="c", required_scopes=("tools",))
            yield made
            await made.fetcher.close()

    def good(self, **more: Any) -> Any:
        told = {"active": True, "sub": "ada", "aud": AUDIENCE, "scope": "tools", "exp": NOW + 600} | more
        return {name: value for name, value in told.items() if value is not None}

    @pytest.mark.parametrize("more", [{}, {"exp": None}, {"aud": ["x", AUDIENCE]}])
    async def test_an_active_token_is_accepted_and_asked_about_once_a_minute(self, more: Any) -> None:
        async with self.asked(self.good(**more)) as made:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(made.who("opaque")) for _ in range(50)]
            assert {task.result() for task in tasks} == {"ada"}
            assert made.issuer.asked == ["/ask"]
            assert b"token=opaque&" in made.issuer.bodies[0]
            made.now += ASKED
            await made.who("opaque")
            assert made.issuer.asked == ["/ask", "/ask"]

    @pytest.mark.parametrize(
        "more",
        [
            {"active": False},
            {"aud": None},
            {"aud": "other"},
            {"sub": None},
            {"exp": NOW - 60},
            {"nbf": NOW + 60},
            {"iss": "https://evil.example"},
        ],
    )
    async def test_what_is_not_ours_is_refused_and_that_is_remembered_for_a_moment(self, more: Any) -> None:
        async with self.asked(self.good(**more)) as made:
            assert [await made.status("opaque") for _ in range(3)] == [401] * 3
            assert made.issuer.asked == ["/ask"]

    async def test_a_missing_scope_is_another_refusal(self) -> None:
        async with self.asked(self.good(scope="other")) as made:
            assert await made.status("opaque") == 403

    @pytest.mark.parametrize(
        ("answer", "status"),
        [
            (b"nonsense", 200),
            ({}, 200),
            ({"active": "true"}, 200),
            ({"active": 1}, 200),
            ({"active": True}, 500),
            ([], 200),
        ],
    )
    async def test_no_answer_is_no_permission(self, answer: Any, status: int) -> None:
        async with self.asked(answer, status) as made:
            assert await made.status("opaque") == 503

    async def test_without_introspection_an_opaque_token_is_refused(self) -> None:
        async with world() as made:
            assert await made.status("opaque") == 401
            assert not made.issuer.asked

    async def test_a_signed_token_is_never_shown_to_the_issuer(self) -> None:
        async with self.asked(self.good()) as made:
            made.issuer.keys = [jwk(RSA, "one")]
            assert await made.status(made.token()) == 200
            assert await made.status(made.token(OTHER_RSA)) == 401
            assert "/ask" not in made.issuer.asked
