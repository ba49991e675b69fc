"""Entra's on-behalf-of: its own form of asking, and whose the token is that comes back."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.egress.web import Asked, Said, serving
from tests.upstream.issuing import Protected, jwt, said
from tests.upstream.test_credentials import CLIENT, MODERN, guarded, shown
from vmcp.call import Identity
from vmcp.config.outgoing import Client, OnBehalf
from vmcp.config.values import SecretRef
from vmcp.errors import Code, McpError

ISSUER = "https://login.example.com/tenant/v2.0"


@dataclass
class Entra:
    """A token endpoint that gives a token for an assertion. ``change`` spoils its answers."""

    change: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda answer: answer)
    forms: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, asked: Asked) -> Said:
        assert "authorization" not in asked.headers
        self.forms.append(asked.form)
        token = f"for-{asked.form['assertion']}.{len(self.forms)}"
        answer = self.change({"token_type": "Bearer", "expires_in": 600, "access_token": token})
        return said(answer, 400 if "error" in answer else 200)


def caller(name: str) -> Identity:
    return Identity(ISSUER, f"pairwise-{name}", {"oid": name}, token=f"subject-{name}", expires=time.time() + 600)


async def test_each_caller_acts_with_the_token_that_was_given_for_his() -> None:
    entra, server = Entra(), Protected(MODERN)
    async with serving(entra) as idp:
        auth = OnBehalf(idp.url("/token"), CLIENT, ("api://b/read", "openid"), listing=SecretRef(env="LIST"))
        async with guarded(server, auth) as backend:
            assert await shown(backend, caller("ann")) == "Bearer for-subject-ann.1"
            assert await shown(backend, caller("ben")) == "Bearer for-subject-ben.2"
            assert await shown(backend, caller("ann")) == "Bearer for-subject-ann.1"
            with pytest.raises(McpError, match="showed none"):
                await shown(backend, None)
    assert entra.forms[0] == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "requested_token_use": "on_behalf_of",
        "client_id": "vm cp",
        "client_secret": "s:e c",
        "assertion": "subject-ann",
        "scope": "api://b/read openid",
    }
    assert set(server.of("tools/list")) == {"Bearer listing"}


async def test_a_token_is_had_anew_as_long_before_its_end_as_was_said() -> None:
    entra, server = Entra(), Protected(MODERN)
    async with serving(entra) as idp:
        for skew, asked in ((0.0, 1), (3600.0, 3)):
            async with guarded(server, OnBehalf(idp.url("/"), Client("c"), ("x",), skew)) as backend:
                await shown(backend, caller("ann"))
                await shown(backend, caller("ann"))
                assert len(entra.forms) == asked
    assert "client_secret" not in entra.forms[0]


@pytest.mark.parametrize(
    "claims",
    [{"iss": ISSUER, "sub": "pairwise elsewhere", "oid": "ann"}, {"iss": "https://other.example", "oid": "x"}],
)
async def test_the_subject_may_have_another_name_for_another_application(claims: dict[str, Any]) -> None:
    token = jwt({**claims, "exp": time.time() + 600})
    entra, server = Entra(lambda answer: answer | {"access_token": token}), Protected(MODERN)
    async with serving(entra) as idp, guarded(server, OnBehalf(idp.url(), Client("c"), ("x",))) as backend:
        assert await shown(backend, caller("ann")) == f"Bearer {token}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda answer: {"error": "invalid_grant", "error_description": "AADSTS50013: canary"}, "invalid_grant"),
        (lambda answer: answer | {"access_token": "subject-ann"}, "gave back"),
        (lambda answer: answer | {"access_token": jwt({"iss": ISSUER, "oid": "ben"})}, "somebody else"),
        (lambda answer: answer | {"access_token": jwt({"iss": ISSUER, "sub": "pairwise-ann"})}, "somebody else"),
        (lambda answer: answer | {"access_token": jwt({"oid": "ann", "exp": 1})}, "has expired"),
        (lambda answer: answer | {"token_type": "pop"}, "another type"),
    ],
)
async def test_what_is_not_the_callers_token_is_refused(change: Any, told: str) -> None:
    entra, server = Entra(change), Protected(MODERN)
    async with serving(entra) as idp, guarded(server, OnBehalf(idp.url(), Client("c"), ("x",))) as backend:
        with pytest.raises(McpError, match=told) as caught:
            await shown(backend, caller("ann"))
    assert caught.value.vmcp_code == Code.UNAUTHORIZED
    assert "canary" not in str(caught.value)
    assert server.of("tools/call") == []
