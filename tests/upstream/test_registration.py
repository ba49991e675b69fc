"""How vmcp becomes a client: what it asks for, what it takes for an answer, and for how long."""

import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.egress.web import Asked, Said, serving
from tests.upstream.issuing import said
from vmcp.config.oauth import OAuth, UserOAuth
from vmcp.config.values import SecretRef
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Unavailable
from vmcp.state.vault import Vault
from vmcp.upstream.credentials.logins import Client
from vmcp.upstream.credentials.registration import Registration
from vmcp.upstream.credentials.servers import Server

HERE = "https://gw.example/oauth/callback"
LOOPBACK = "http://127.0.0.1:5555/oauth/callback"


@dataclass
class Office:
    """An endpoint that registers clients; ``change`` spoils its answers."""

    change: dict[str, Any] = field(default_factory=dict)
    status: int = 201
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, asked: Asked) -> Said:
        told = json.loads(asked.body)
        self.asked.append(told)
        return said({**told, "client_id": f"c{len(self.asked)}", **self.change}, self.status)


@contextlib.asynccontextmanager
async def registering(
    office: Office, auth: OAuth | None = None, **server: Any
) -> AsyncIterator[tuple[Registration, Server]]:
    fetcher = Fetcher()
    async with serving(office) as web:
        there = Server("https://as.example", "https://as.example/a", "https://as.example/t", "https://b.example")
        there = replace(there, registration_url=web.url("/register"), **server)
        yield (
            Registration("notes", auth or UserOAuth(base="https://gw.example", redirect=HERE), fetcher, Vault()),
            there,
        )
        await fetcher.close()


async def test_the_pages_have_one_registration_and_each_shell_its_own() -> None:
    office = Office()
    async with registering(office, methods=("none",)) as (registration, server):
        made = [(await registration.client(server, redirect, exempt=True)).id for redirect in (HERE, LOOPBACK) * 2]
        assert made == ["c1", "c2", "c1", "c3"]
        assert [each["application_type"] for each in office.asked] == ["web", "native", "native"]
        await registration.forget(server.issuer, HERE)
        assert (await registration.client(server, HERE, exempt=True)).id == "c4"


@pytest.mark.parametrize(
    ("methods", "change", "method"),
    [
        (("none", "client_secret_basic"), {}, "none"),
        (("none",), {"client_secret": "unwanted"}, "none"),
        (("client_secret_post",), {"client_secret": "s"}, "client_secret_post"),
        (("private_key_jwt",), {"client_secret": "s"}, "client_secret_basic"),
        (("none",), {"client_secret": "s", "token_endpoint_auth_method": "client_secret_post"}, "client_secret_post"),
    ],
)
async def test_how_it_proves_itself_is_agreed(methods: tuple[str, ...], change: dict[str, Any], method: str) -> None:
    async with registering(Office(change), methods=methods) as (registration, server):
        client = await registration.client(server, HERE, exempt=True)
        assert (client.method, client.secret) == (method, "" if method == "none" else "s")
        assert "s'" not in repr(client).replace(repr(client.id), "")


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": ""},
        {"client_id": 5},
        {"client_secret": 5},
        {"redirect_uris": ["https://evil.example/"]},
        {"redirect_uris": HERE},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "client_secret_basic"},
    ],
)
async def test_an_odd_registration_is_not_used(change: dict[str, Any]) -> None:
    async with registering(Office(change), methods=("none",)) as (registration, server):
        with pytest.raises(Unavailable):
            await registration.client(server, HERE, exempt=True)


async def test_a_refusal_is_told_as_a_number() -> None:
    async with registering(Office(status=403), methods=("none",)) as (registration, server):
        with pytest.raises(Unavailable, match="HTTP 403"):
            await registration.client(server, HERE, exempt=True)
        with pytest.raises(Unavailable, match="no TLS"):
            await registration.client(server, HERE, exempt=False)


async def test_a_registration_that_has_ended_is_made_anew() -> None:
    office = Office({"client_secret_expires_at": time.time() - 1})
    async with registering(office, methods=("none",)) as (registration, server):
        await registration.client(server, HERE, exempt=True)
        office.change = {"client_secret_expires_at": time.time() + 1000}
        for _ in range(2):
            assert (await registration.client(server, HERE, exempt=True)).id == "c2"


@pytest.mark.parametrize(
    ("auth", "server", "client"),
    [
        (UserOAuth(client_id="i"), {}, Client("i")),
        (
            UserOAuth(client_id="i", client_secret=SecretRef(env="S")),
            {},
            Client("i", "client_secret_basic", configured=True),
        ),
        (
            UserOAuth(registration="fixed", client_id="i", client_secret="s"),
            {"methods": ("client_secret_post",)},
            Client("i", "client_secret_post", configured=True),
        ),
        (UserOAuth(base="https://gw"), {"documents": True}, Client("https://gw/oauth/client.json")),
        (UserOAuth(base="https://gw", registration="metadataDocument"), {}, Client("https://gw/oauth/client.json")),
        (UserOAuth(base="http://gw"), {"documents": True, "methods": ("none",)}, Client("c1")),
        (UserOAuth(base="https://gw", registration="dynamic"), {"documents": True, "methods": ("none",)}, Client("c1")),
    ],
)
async def test_which_way_is_taken(auth: OAuth, server: dict[str, Any], client: Client) -> None:
    async with registering(Office(), auth, **server) as (registration, there):
        assert await registration.client(there, HERE, exempt=True) == client
