"""Connecting: TLS with real certificates, addresses that do not answer, deadlines, and the words of refusals.

Rule: no message names a host or an address.
"""

import asyncio
import contextlib
import datetime
import errno
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.upstream.badserver import Peer, ok, serving, until
from vmcp.config.model import PoolSpec, Timeouts, TlsSpec
from vmcp.errors import Code
from vmcp.upstream.dial import _alternate, dial, why
from vmcp.upstream.endpoint import BadEndpoint, endpoint, tls_context
from vmcp.upstream.faults import UnsentOverdue, UnsentUnavailable
from vmcp.upstream.pool import Pool

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        self.bundle = self._write("ca", self._built(self.name, self.key, NOW + DAY, ca=True), self.key)[0]

    def _built(self, name: x509.Name, key, ends, *, ca: bool = False, host: str = "") -> x509.Certificate:  # type: ignore[no-untyped-def]
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 9 * DAY)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        if host:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, stem: str, certificate: x509.Certificate, key) -> tuple[str, str]:  # type: ignore[no-untyped-def]
        pem, private = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(pem), str(private)

    def issue(self, host: str, ends: datetime.datetime = NOW + DAY) -> tuple[str, str]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        return self._write(
            f"leaf-{key.private_numbers().private_value % 997}", self._built(name, key, ends, host=host), key
        )

    def server(self, host: str, ends: datetime.datetime = NOW + DAY) -> ssl.SSLContext:
        """A context for a server that calls itself ``host``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(host, ends))
        return context


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def hello(peer: Peer) -> None:
    while True:
        await peer.answer(ok(b"hello"))


@contextlib.asynccontextmanager
async def over_tls(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str = "127.0.0.1", said: bytes = b"hello"
) -> AsyncIterator[Pool]:
    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(ok(said))

    async with serving(script, server) as running:
        target = endpoint(f"https://{host}:{running.port}/", client)
        pool = Pool(target, PoolSpec(), Timeouts(connect=5), max_response=max(99, len(said)), name="time")
        try:
            yield pool
        finally:
            await pool.close()


async def post(pool: Pool) -> bytes:
    return await (await pool.request(b"POST", [], b"{}")).read()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tls_is_spoken_with_a_server_whose_authority_is_in_the_bundle(authority: Authority, host: str) -> None:
    client = tls_context(TlsSpec(ca_bundle=authority.bundle))
    async with over_tls(authority.server(host), client, host) as pool:
        for _ in range(2):
            assert await post(pool) == b"hello"
        assert (pool.active, pool.idle) == (0, 1)


async def test_a_large_body_comes_whole_over_tls_and_the_next_one_too(authority: Authority) -> None:
    body = bytes(range(256)) * 8000
    client = tls_context(TlsSpec(ca_bundle=authority.bundle))
    async with over_tls(authority.server("127.0.0.1"), client, said=body) as pool:
        for _ in range(3):
            assert await post(pool) == body
        assert (pool.active, pool.idle) == (0, 1)


UNTRUSTED = {
    "another host": ("example.org", NOW + DAY, True, "another host"),
    "expired": ("127.0.0.1", NOW - DAY, True, "has expired"),
    "an unknown authority": ("127.0.0.1", NOW + DAY, False, "is not trusted"),
}


@pytest.mark.parametrize(("name", "ends", "known", "words"), UNTRUSTED.values(), ids=UNTRUSTED.keys())
async def test_a_certificate_that_proves_nothing_is_refused(  # type: ignore[no-untyped-def]
    authority: Authority, name: str, ends, known: bool, words: str
) -> None:
    client = tls_context(TlsSpec(ca_bundle=authority.bundle) if known else TlsSpec())
    async with over_tls(authority.server(name, ends), client) as pool:
        with pytest.raises(UnsentUnavailable, match=f"certificate .*{words}") as caught:
            await post(pool)
        assert "127.0.0.1" not in caught.value.message
        assert caught.value.vmcp_code == Code.CONNECTION_FAILED
        assert (pool.active, pool.idle) == (0, 0)


async def test_a_server_that_speaks_no_tls_is_refused(authority: Authority) -> None:
    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        peer.close()

    async with serving(plain) as server:
        pool = Pool(endpoint(f"https://127.0.0.1:{server.port}/"), PoolSpec(), Timeouts(), max_response=9, name="time")
        with pytest.raises(UnsentUnavailable, match="the TLS handshake failed"):
            await post(pool)
        assert pool.active == 0


async def test_a_client_certificate_is_shown(authority: Authority) -> None:
    server = authority.server("127.0.0.1")
    server.verify_mode = ssl.CERT_REQUIRED
    server.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 would tell only with the first answer
    server.load_verify_locations(authority.bundle)
    certificate, key = authority.issue("client")
    shown = tls_context(TlsSpec(ca_bundle=authority.bundle, client_cert=certificate, client_key=key))
    async with over_tls(server, shown) as pool:
        assert await post(pool) == b"hello"
    async with over_tls(server, tls_context(TlsSpec(ca_bundle=authority.bundle))) as pool:
        with pytest.raises(UnsentUnavailable):
            await post(pool)


def test_a_client_key_that_is_not_of_the_certificate_is_refused(authority: Authority) -> None:
    certificate, _ = authority.issue("a")
    _, key = authority.issue("b")
    with pytest.raises(BadEndpoint, match="does not belong"):
        tls_context(TlsSpec(client_cert=certificate, client_key=key))


def test_a_client_key_with_a_password_is_refused_and_nobody_is_asked_for_it(authority: Authority) -> None:
    certificate, path = authority.issue("a")
    key = serialization.load_pem_private_key(Path(path).read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    Path(path).write_bytes(pem)
    with pytest.raises(BadEndpoint, match="protected by a password"):
        tls_context(TlsSpec(client_cert=certificate, client_key=path))


async def test_a_connection_that_does_not_come_about_in_time_is_given_up() -> None:
    """The socket listens, so that the kernel accepts, but nobody answers the TLS handshake."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        pool = Pool(endpoint(url), PoolSpec(), Timeouts(connect=0.05), max_response=9, name="time")
        with pytest.raises(UnsentOverdue, match=r"timeouts.connect is 0.05 s"):
            await post(pool)
        with pytest.raises(UnsentOverdue, match=r"timeouts.total is 0.0\d+ s"):
            await pool.request(b"POST", [], b"", total=asyncio.get_running_loop().time() + 0.02)
        assert pool.active == 0
        await pool.close()


async def test_a_call_cancelled_while_connecting_leaves_no_socket() -> None:
    async with serving(hello) as server:
        pool = Pool(endpoint(f"http://localhost:{server.port}/"), PoolSpec(), Timeouts(), max_response=9, name="time")
        for ticks in range(60):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(post(pool))
                for _ in range(ticks % 12):
                    await asyncio.sleep(0.0001 if ticks % 2 else 0)
                task.cancel()
            assert pool.active == 0
        await pool.close()
        await until(lambda: server.open == 0)


class Resolver:
    """A resolver with one answer, which may be no address, or an address where nobody is."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def __call__(self, host: str, port: int, **options: object) -> list[tuple[object, ...]]:
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} is unknown")
        return [(0, 0, 0, "", (address, port)) for address in self.addresses]


@pytest.fixture
def only_asyncio(anyio_backend: tuple[str, dict[str, bool]]) -> None:
    if anyio_backend[1]["use_uvloop"]:
        pytest.skip("a uvloop's resolver cannot be replaced; the code is the same")


async def test_a_dead_address_does_not_keep_from_the_next_one(only_asyncio: None, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    loop, original = asyncio.get_running_loop(), asyncio.get_running_loop().create_connection
    tried = []

    async def connect(factory, host, port, **options):  # type: ignore[no-untyped-def]
        tried.append(host)
        if host == "192.0.2.1":  # TEST-NET-1: packets to it vanish
            await asyncio.Event().wait()
        return await original(factory, host, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", Resolver("192.0.2.1", "127.0.0.2", "127.0.0.1"))
    monkeypatch.setattr(loop, "create_connection", connect)
    async with serving(hello) as server:
        target = endpoint(f"http://backend.example:{server.port}/")
        pool = Pool(target, PoolSpec(), Timeouts(connect=0.9), max_response=9, name="time")
        assert await post(pool) == b"hello"
        await pool.close()
    assert tried == ["192.0.2.1", "127.0.0.2", "127.0.0.1"]


async def test_a_name_that_is_unknown_is_said_so(only_asyncio: None, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", Resolver())
    with pytest.raises(socket.gaierror) as caught:
        await dial(asyncio.Protocol(), endpoint("http://backend.example/"), loop.time() + 5)
    assert why(caught.value) == "its host name cannot be resolved"


def test_the_families_of_addresses_take_turns() -> None:
    assert _alternate(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]) == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    assert _alternate(["1.1.1.1", "2.2.2.2"]) == ["1.1.1.1", "2.2.2.2"]
    assert _alternate([]) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 80)"), "connection refused"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('10.0.0.1', 80)"), "no route to host"),
        (TimeoutError(errno.ETIMEDOUT, "Connect call failed ('10.0.0.1', 80)"), "connection timed out"),
        (ConnectionAbortedError("SSL handshake with 10.0.0.1"), "the connection failed"),
        (ssl.SSLError(1, "wrong version"), "the TLS handshake failed"),
    ],
)
def test_why_names_no_host(error: OSError, words: str) -> None:
    assert why(error) == words
