"""Backends that want to see a certificate of vmcp's: they serve whoever has one of theirs, and nobody else."""

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_serve

from tests.egress.web import serving
from tests.upstream.fakes_backend import kept
from tests.upstream.issuing import Protected, user
from tests.upstream.test_credentials import shown
from tests.upstream.test_dial import Authority
from vmcp.config.model import BackendSpec, TlsSpec
from vmcp.config.outgoing import Bearer
from vmcp.config.values import SecretRef

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ours").mkdir()
    return Authority(tmp_path / "ours")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    (tmp_path / "other").mkdir()
    return Authority(tmp_path / "other")


def strict(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that takes certificates of ``authority`` only. In TLS 1.3 it refuses after the client's handshake is over."""
    context = authority.server("127.0.0.1")
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.bundle)
    return context


def shows(authority: Authority, issuer: Authority | None) -> TlsSpec:
    certificate, key = issuer.issue("vmcp") if issuer is not None else (None, None)
    return TlsSpec(authority.bundle, certificate, key)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_backend_sees_our_certificate_and_our_token(authority: Authority, version: ssl.TLSVersion) -> None:
    server = Protected("2025-11-25")
    async with serving(server, strict(authority, version)) as web:
        url = web.url("/mcp", scheme="https")
        spec = BackendSpec("time", "g", "streamable-http", url=url, auth=Bearer(SecretRef(env="T")))
        async with kept(replace(spec, tls=shows(authority, authority)), environ={"T": "token"}) as backend:
            await backend.up()
            assert await shown(backend, user("ann")) == "Bearer token"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shown_by", ["nobody", "another authority"])
async def test_without_a_certificate_of_theirs_nothing_is_served(
    authority: Authority, other: Authority, version: ssl.TLSVersion, shown_by: str
) -> None:
    server = Protected("2025-11-25")
    async with serving(server, strict(authority, version)) as web:
        tls = shows(authority, None if shown_by == "nobody" else other)
        spec = BackendSpec("time", "g", "streamable-http", url=web.url("/mcp", scheme="https"), tls=tls)
        async with kept(spec) as backend:
            why = await backend.down()
    assert "127.0.0.1" not in why
    assert why in ("the connection failed", "the connection closed before an answer", "the TLS handshake failed")
    assert (server.calls, web.asked) == ([], [])


@pytest.fixture
async def sockets(authority: Authority) -> AsyncIterator[str]:
    """A WebSocket server that wants a certificate."""

    async def speak(connection: ServerConnection) -> None:
        async for text in connection:
            message = json.loads(text)
            if "id" in message:
                result = Protected()._result(message["method"], "")
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))

    context = strict(authority, ssl.TLSVersion.TLSv1_3)
    async with websocket_serve(speak, "127.0.0.1", 0, ssl=context) as server:
        yield f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/mcp"


async def test_websockets_show_it_too(authority: Authority, sockets: str) -> None:
    spec = BackendSpec("time", "g", "websocket", url=sockets)
    async with kept(replace(spec, tls=shows(authority, authority))) as backend:
        await backend.up()
    async with kept(replace(spec, tls=shows(authority, None))) as backend:
        assert "127.0.0.1" not in await backend.down()
