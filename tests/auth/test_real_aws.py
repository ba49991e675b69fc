"""Roles of AWS through the whole of vmcp: tokens of a real issuer, and a token service and a backend that check what they get.

The rule: as whom a call was signed is worked out by the backend, from the keys that were given out for that very token.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from jose import jwt

from tests.auth.house import AUDIENCE, Caller, House, Json, failed, serving
from tests.auth.settings import oidc
from tests.egress.web import Asked, Said
from tests.egress.web import serving as web
from tests.real.issuer import Issuer, issuer
from tests.upstream.test_aws import Signed, Sts

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

ROLE = "arn:aws:iam::123456789012:role/"


class Checking(Sts):
    """A token service that knows the issuer's keys, and lets nobody have a role by another's token."""

    issuer: Issuer

    async def __call__(self, asked: Asked) -> Said:
        keys = await asyncio.to_thread(lambda: httpx.get(f"{self.issuer.url}/jwks", trust_env=False).json())
        said = jwt.decode(asked.form["WebIdentityToken"], keys, audience=AUDIENCE, issuer=self.issuer.url)
        if said["sub"] != asked.form["RoleSessionName"]:
            return Said(403, b"<Error><Code>AccessDenied</Code></Error>")
        return await super().__call__(asked)


class World(NamedTuple):
    issuer: Issuer
    sts: Sts
    server: Signed
    house: House


@contextlib.contextmanager
def beside(sts: Sts, server: Signed) -> Iterator[tuple[str, str]]:
    """Both on a loop in a thread, as vmcp is a process; their URLs."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    done, urls = asyncio.Event(), []

    async def run() -> None:
        async with web(sts) as one, web(server) as other:
            urls.extend([one.url("/"), other.url("/mcp")])
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield urls[0], urls[1]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = stack.enter_context(issuer(tmp_path / "issuer"))
        sts = Checking()
        sts.issuer = made
        server = Signed("2025-11-25", sts=sts, strict=False)
        sts_url, url = stack.enter_context(beside(sts, server))
        yield World(made, sts, server, stack.enter_context(serving(config(made, sts_url, url), tmp_path)))


def config(made: Issuer, sts_url: str, url: str) -> Json:
    mappings = [
        {"matcher": '"staff" in claims.groups', "roleArn": f"{ROLE}ada"},
        {"claim": "bob", "roleArn": f"{ROLE}bob"},
    ]
    block = {"region": "eu-central-1", "stsUrl": sts_url, "roleClaim": "sub", "roleMappings": mappings}
    auth = {"type": "aws_sts", "awsSts": block}
    return {"incomingAuth": oidc(made), "groups": {"all": {"backends": {"cloud": {"url": url, "auth": auth}}}}}


def test_each_user_acts_in_his_own_role_and_who_has_none_does_not_act(world: World) -> None:
    tokens = {name: world.issuer.login(name, AUDIENCE)["access_token"] for name in ("ada", "bob", "eve")}
    callers = {name: Caller(world.house, token).open() for name, token in tokens.items()}
    with ThreadPoolExecutor(8) as pool:
        told = [(name, pool.submit(callers[name].call, "cloud_echo")) for _ in range(20) for name in ("ada", "bob")]
    for name, answer in told:
        text = answer.result()["result"]["content"][0]["text"]
        assert text.startswith(f"{name}#"), "signed with keys that were given out for this very user"
        assert text.endswith("eu-central-1 aws-mcp")
    assert failed(callers["eve"].call("cloud_echo"))
    roles = {form["RoleSessionName"]: form["RoleArn"] for form in world.sts.forms}
    assert roles == {"ada": f"{ROLE}ada", "bob": f"{ROLE}bob"}
    assert len(world.sts.forms) == 2, "one for each user, however many asked at once"
    assert world.server.others == 0
    log = world.house.log
    secrets = [each for known in world.sts.known.values() for each in known[:2]] + list(tokens.values())
    assert not [secret for secret in secrets if secret in log or json.dumps(secret)[1:-1] in log]
