"""Keys, tokens and a tiny real issuer over HTTP, made for one test.

The rule: a good token is made here with the ``cryptography`` library alone, so that no code under test helps in making it; a
hostile one differs from it in one thing.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Json = dict[str, Any]
AUDIENCE = "https://gateway.example/mcp"
NOW = 1_800_000_000
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is to be refused
SHA256, SHA384 = hashes.SHA256(), hashes.SHA384()
EC = ec.generate_private_key(ec.SECP256R1())


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def jwk(key: Any, kid: str, **more: Any) -> Json:
    public = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA", "kid": kid, "n": number(public.n), "e": number(public.e), **more}
    return {"kty": "EC", "crv": "P-256", "kid": kid, "x": number(public.x, 32), "y": number(public.y, 32), **more}


def sign(key: Any, message: bytes, digest: hashes.HashAlgorithm) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return bytes(key.sign(message, padding.PKCS1v15(), digest))
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw(header: Any, payload: Any, key: Any = RSA, digest: hashes.HashAlgorithm = SHA256) -> str:
    """A signed token of two texts (JSON as it stands) or objects."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    message = ".".join(b64(part) for part in parts)
    return f"{message}.{b64(sign(key, message.encode(), digest))}"


def claims(issuer: str, now: float = NOW, **more: Any) -> Json:
    """Those of a good token; None takes one away."""
    told = {
        "iss": issuer,
        "sub": "ada",
        "aud": AUDIENCE,
        "iat": int(now),
        "exp": int(now) + 600,
        "scope": "tools",
    } | more
    return {name: value for name, value in told.items() if value is not None}


def header(alg: str = "RS256", **more: Any) -> Json:
    told = {"alg": alg, "kid": "one", "typ": "at+jwt"} | more
    return {name: value for name, value in told.items() if value is not None}


class TinyIssuer:
    """Serves what is in ``answers`` by path, and counts. ``keys`` is its key set."""

    def __init__(self, *keys: Json) -> None:
        self.keys: list[Json] = list(keys)
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def _answer(self, path: str) -> tuple[int, bytes]:
        told: Mapping[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"},
            "/jwks": {"keys": self.keys},
        }
        if path in self.answers:
            return self.answers[path]
        return (200, json.dumps(told[path]).encode()) if path in told else (404, b"{}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path = head.split(" ")[1]
        size = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0)
        self.bodies.append(await reader.readexactly(size))
        self.asked.append(path)
        await self.gate.wait()
        status, body = self._answer(path)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
        writer.close()
