"""Who comes in, on every transport and verb; and what the others are told.

The rule: requests go over real sockets; each refusal stands beside somebody who comes in the same way.
"""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.middleware.jwts import AUDIENCE, OTHER_RSA, RSA, TinyIssuer, claims, header, jwk, raw
from tests.server.clients import listening, modern_meta, unnamed
from tests.server.peers import Server, config, echo, house, tool, until
from vmcp.call import Identity
from vmcp.config.incoming import Incoming, Issuer, LocalKey
from vmcp.config.model import ServerSpec
from vmcp.config.values import SecretRef
from vmcp.errors import Code
from vmcp.middleware.auth import ANONYMOUS, Unproven
from vmcp.server.asgi import Refused
from vmcp.server.attempts import BURST, EACH, Attempts, SharedAttempts
from vmcp.server.entrance import NoEntrance, Proofs, entrance
from vmcp.server.gate import OS_ISSUER, Gate, system_user
from vmcp.server.metadata import Metadata
from vmcp.state.crew import Common
from vmcp.tasks import Nest

Json = dict[str, Any]
BOTH = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
PUBLIC = "https://gateway.example"


def key(subject: str) -> LocalKey:
    return LocalKey(subject, hashlib.sha256(f"key of {subject}".replace(" ", "-").encode()).hexdigest())


def shown(subject: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-of-{subject}"}


LOCAL = Incoming("local", keys=(key("ada"), key("bob")))


class Site:
    """A house on a socket, and a client."""

    def __init__(self, port: int, http: httpx.AsyncClient) -> None:
        self.port, self.http = port, http
        self.url = f"http://localhost:{port}"

    async def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        params: Json | None = None,
        path: str = "/mcp",
        verb: str = "POST",
    ) -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        content = json.dumps(body) if verb == "POST" else None
        return await self.http.request(verb, self.url + path, content=content, headers=BOTH | dict(headers))

    async def open(self, headers: Mapping[str, str]) -> dict[str, str]:
        told = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer = await self.ask("initialize", headers, told)
        assert answer.status_code == 200, answer.text
        return {"mcp-session-id": answer.headers["mcp-session-id"]}


@contextlib.asynccontextmanager
async def site(monkeypatch: pytest.MonkeyPatch, incoming: Incoming, public: str | None = PUBLIC) -> AsyncIterator[Site]:
    spec = ServerSpec(public_url=public)
    backends = {"one": Server(tools=[tool("echo")], script=echo)}
    async with (
        house(monkeypatch, backends, incoming=incoming, server=spec) as running,
        listening(running.app, running.config) as found,
        httpx.AsyncClient(trust_env=False, timeout=10) as http,
    ):
        yield Site(found.port, http)


PATHS = ("/mcp", "/g/mcp", "/sse", "/g/sse", "/message", "/ws")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE", "PUT"])
async def test_every_path_and_verb_wants_a_credential(monkeypatch: pytest.MonkeyPatch, path: str, verb: str) -> None:
    async with site(monkeypatch, LOCAL) as made:
        for headers in ({}, shown("eve"), {"authorization": "Basic YTpi"}, {"cookie": "Bearer key-of-ada"}):
            answer = await made.ask("ping", headers, path=path + "?access_token=key-of-ada", verb=verb)
            assert answer.status_code == 401
            assert answer.json()["error"]["data"]["vmcpCode"] == Code.UNAUTHORIZED
            assert answer.headers["www-authenticate"].startswith("Bearer ")
        if path not in ("/sse", "/g/sse") or verb != "GET":
            assert (await made.ask("ping", shown("ada"), path=path, verb=verb)).status_code != 401


async def test_what_tells_nothing_of_anybody_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(monkeypatch, LOCAL) as made:
        for path in ("/livez", "/readyz"):
            assert (await made.http.get(made.url + path)).status_code == 200
        assert (await made.http.get(made.url + "/nowhere")).status_code == 404
        assert (await made.http.get(made.url + "/.well-known/oauth-protected-resource")).status_code == 404
        preflight = {"origin": "http://localhost", "access-control-request-method": "POST"}
        assert (await made.http.options(made.url + "/mcp", headers=preflight)).status_code == 204


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
async def test_a_key_counts_in_both_headers(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    value = "key-of-ada" if name == "x-api-key" else "bearer key-of-ada"
    async with site(monkeypatch, LOCAL) as made:
        session = await made.open({name: value})
        assert (await made.ask("tools/list", {name: value} | session)).status_code == 200


async def test_two_credentials_are_refused_although_each_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [("authorization", "Bearer key-of-ada"), ("x-api-key", "key-of-ada")]
    async with site(monkeypatch, LOCAL) as made:
        for fields in (pair, pair[::-1]):
            body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            answer = await made.http.post(made.url + "/mcp", json=body, headers=[*BOTH.items(), *fields])
            assert answer.status_code == 400
            assert 'error="invalid_request"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
async def test_a_session_is_its_owners_alone(monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    async with site(monkeypatch, LOCAL) as made:
        session = await made.open(shown("ada"))
        found = await made.ask("tools/list", shown("bob") | session, verb=verb)
        never = await made.ask("tools/list", shown("bob") | {"mcp-session-id": "x" * 43}, verb=verb)
        assert found.status_code == never.status_code == 404
        assert unnamed(found.content) == unnamed(never.content)
        assert (await made.ask("tools/list", shown("ada") | session)).json()["result"]


async def test_a_websocket_needs_a_key_and_is_told_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(monkeypatch, LOCAL) as made:
        url = f"ws://localhost:{made.port}/ws"
        async with connect(url, additional_headers=shown("ada"), proxy=None) as wire:
            await wire.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
            assert "result" in json.loads(await wire.recv())
        for headers in ({}, shown("eve")):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, additional_headers=headers, proxy=None)
            assert refused.value.response.status_code == 401
            assert refused.value.response.headers["www-authenticate"].startswith("Bearer ")


async def test_where_nobody_is_asked_a_credential_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(monkeypatch, Incoming()) as made:
        session = await made.open(shown("anybody"))
        assert (await made.ask("tools/list", session)).status_code == 200


class TestOneCredential:
    """What is read from the headers."""

    def gate(self) -> Gate:
        return entrance(config({}, incoming=LOCAL), Proofs(LOCAL, Nest("test")), [])

    async def refused(self, *headers: tuple[bytes, bytes]) -> Refused:
        gate = self.gate()
        assert gate.known(headers, None) is None
        with pytest.raises(Refused) as refused:
            await gate.admit(headers, "/mcp", None)
        return refused.value

    async def test_one_is_enough(self) -> None:
        for value in (b"Bearer key-of-ada", b"bEARER key-of-ada", b" Bearer key-of-ada "):
            found = self.gate().known([(b"authorization", value)], None)
            assert found is not None
            assert found.subject == "ada"

    async def test_two_are_too_many(self) -> None:
        pair = (b"authorization", b"Bearer key-of-ada")
        for headers in ([pair, pair], [pair, (b"x-api-key", b"key-of-ada")]):
            refused = await self.refused(*headers)
            assert refused.status == 400
            assert b'error="invalid_request"' in refused.headers[0][1]

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"Bearer",
            b"Bearer ",
            b"Bearer  x",
            b"Bearer a b",
            b"Bearer a,b",
            b"Bearer \xff",
            b"key-of-ada",
            b"Secret key-of-ada",
        ],
    )
    async def test_what_is_no_bearer_token_is_refused(self, value: bytes) -> None:
        assert (await self.refused((b"authorization", value))).status == 401

    async def test_an_endless_one_is_refused(self) -> None:
        assert (await self.refused((b"authorization", b"Bearer " + b"x" * 20_000))).status == 401

    @pytest.mark.parametrize("value", [b"${API_KEY}", b"$API_KEY", b"%API_KEY%", b"{{ secrets.KEY }}", b"${env:KEY}"])
    async def test_a_variable_that_was_not_expanded_is_explained(self, value: bytes) -> None:
        refused = await self.refused((b"authorization", b"Bearer " + value))
        assert "did not expand" in refused.why
        assert value.decode() not in refused.why

    async def test_whoever_shows_none_is_told_so_without_an_error_code(self) -> None:
        challenge = (await self.refused()).headers[0][1]
        assert b"error=" not in challenge


class TestTheOperatingSystemsUser:
    """``osUser``."""

    async def test_is_who_comes_without_a_key_and_nobody_else(self) -> None:
        incoming = replace(LOCAL, os_user=True)
        gate = entrance(config({}, incoming=incoming), Proofs(incoming, Nest("test")), [])
        found = await gate.admit([], "/mcp", None)
        assert found == system_user()
        assert found.issuer == OS_ISSUER != ANONYMOUS.issuer
        with pytest.raises(Refused):
            await gate.admit([(b"authorization", b"Bearer wrong")], "/mcp", None)


class TestAttempts:
    """Who guesses."""

    async def test_a_guesser_is_not_even_told_of_a_right_key_but_who_was_right_before_is_let_in(self) -> None:
        now = [0.0]
        gate = Gate(_Keys(), nobody=None, attempts=Attempts(lambda: now[0]))
        wrong, right = [(b"authorization", b"Bearer wrong")], [(b"authorization", b"Bearer right")]
        guesser, neighbour = ("192.0.2.1", 1), ("192.0.2.2", 1)
        assert gate.known([(b"authorization", b"Bearer also-right")], guesser) is not None
        for _ in range(BURST):
            with pytest.raises(Refused) as refused:
                await gate.admit(wrong, "/mcp", guesser)
            assert refused.value.status == 401
        for headers in (wrong, right):
            assert gate.known(headers, guesser) is None
            with pytest.raises(Refused) as refused:
                await gate.admit(headers, "/mcp", guesser)
            assert refused.value.status == 429
        assert refused.value.headers == [(b"retry-after", b"3")]
        assert gate.known([(b"authorization", b"Bearer also-right")], guesser) is not None
        assert gate.known(right, neighbour) is not None
        now[0] += EACH
        assert gate.known(right, guesser) is not None

    async def test_what_one_worker_has_seen_of_a_guesser_the_others_know_too(self) -> None:
        common, now = Common(()), [0.0]
        one, other = (Gate(_Keys(), nobody=None, attempts=SharedAttempts(common, lambda: now[0])) for _ in range(2))
        wrong, right = [(b"authorization", b"Bearer wrong")], [(b"authorization", b"Bearer right")]
        guesser, neighbour = ("192.0.2.1", 1), ("192.0.2.2", 1)
        assert one.known([(b"authorization", b"Bearer also-right")], guesser) is not None
        for number in range(BURST):
            with pytest.raises(Refused) as refused:
                await (one if number % 2 else other).admit(wrong, "/mcp", guesser)
            assert refused.value.status == 401
        for gate in (one, other):
            assert gate.known(right, guesser) is None
            with pytest.raises(Refused) as refused:
                await gate.admit(right, "/mcp", guesser)
            assert (refused.value.status, refused.value.headers) == (429, [(b"retry-after", b"3")])
            assert gate.known([(b"authorization", b"Bearer also-right")], guesser) is not None
            assert gate.known(right, neighbour) is not None
        now[0] += EACH
        assert other.known(right, guesser) is not None

    def test_what_a_worker_knows_by_itself_is_bounded_and_the_others_do_not_forget(self) -> None:
        common = Common(())
        one, other = (SharedAttempts(common, lambda: 0.0) for _ in range(2))
        one._most = 10
        for number in range(100):
            assert one.passes(f"192.0.2.{number}", "x")
        assert len(one.right) == 10
        for _ in range(BURST):
            other.failed("192.0.2.1")
        assert one.passes("192.0.2.1", "x")
        assert not one.passes("192.0.2.1", "y")

    async def test_no_credential_is_no_guess(self) -> None:
        gate = Gate(_Keys(), nobody=None, attempts=Attempts(lambda: 0.0))
        for _ in range(BURST * 2):
            with pytest.raises(Refused) as refused:
                await gate.admit([], "/mcp", None)
            assert refused.value.status == 401

    def test_memory_is_bounded(self) -> None:
        attempts = Attempts(lambda: 0.0, most=10)
        for number in range(100):
            attempts.failed(f"192.0.2.{number}")
            attempts.passes(str(number), "x")
        assert len(attempts._full) == len(attempts.right) == 10


class _Keys:
    def known(self, token: bytes) -> Identity | None:
        return Identity("i", "ada", proof=token.decode()) if token.endswith(b"right") else None

    async def verify(self, token: str) -> Identity:
        raise Unproven("no")


class TestMetadata:
    """RFC 9728."""

    ONE = Issuer("https://idp.example.com", AUDIENCE, scopes=("openid", "tools"), required_scopes=("tools",))

    def told(self, metadata: Metadata, path: str, host: str = "gw:1") -> Json:
        raw_path = f"/.well-known/oauth-protected-resource{path}".encode()
        assert metadata.serves(raw_path)
        return dict(json.loads(metadata.document(raw_path, host)))

    def test_each_endpoint_has_its_own_and_they_name_the_issuer(self) -> None:
        metadata = Metadata("gw", PUBLIC, [self.ONE], ["/mcp", "/a/mcp"])
        assert self.told(metadata, "/a/mcp") == {
            "resource": f"{PUBLIC}/a/mcp",
            "authorization_servers": ["https://idp.example.com"],
            "bearer_methods_supported": ["header"],
            "resource_name": "gw",
            "scopes_supported": ["tools", "openid"],
        }
        assert self.told(metadata, "")["resource"] == AUDIENCE
        assert not metadata.serves(b"/.well-known/oauth-protected-resource/b/mcp")
        assert metadata.scopes(needed=True) == "tools"
        assert metadata.scopes(needed=False) == "tools openid"

    def test_below_a_path_of_a_proxy(self) -> None:
        metadata = Metadata("gw", f"{PUBLIC}/below/", [self.ONE], ["/mcp"])
        assert metadata.place("/mcp", "") == f"{PUBLIC}/.well-known/oauth-protected-resource/below/mcp"
        assert self.told(metadata, "/below/mcp")["resource"] == f"{PUBLIC}/below/mcp"
        assert self.told(metadata, "/mcp")["resource"] == f"{PUBLIC}/below/mcp"

    def test_without_a_public_url_the_host_of_the_request_counts(self) -> None:
        metadata = Metadata("gw", None, [self.ONE], ["/mcp"])
        assert metadata.place("/mcp", "gw:1") == "http://gw:1/.well-known/oauth-protected-resource/mcp"
        assert self.told(metadata, "/mcp")["resource"] == "http://gw:1/mcp"

    def test_what_the_config_calls_it_counts_everywhere(self) -> None:
        metadata = Metadata("gw", PUBLIC, [replace(self.ONE, resource="urn:gw")], ["/mcp"])
        assert self.told(metadata, "/mcp")["resource"] == self.told(metadata, "")["resource"] == "urn:gw"


@pytest.mark.parametrize(
    "incoming",
    [
        Incoming("local", keys=(LocalKey("ci", SecretRef(env="NOT_SET")),)),
        Incoming("local", keys=(LocalKey("ci", "no hash"),)),
        Incoming("oidc", issuers=(Issuer("https://i", "a", client_id="c", client_secret=SecretRef(env="NOT_SET")),)),
    ],
)
async def test_what_cannot_be_resolved_keeps_it_from_starting(incoming: Incoming) -> None:
    with pytest.raises(NoEntrance, match="incomingAuth"):
        Proofs(incoming, Nest("test"), {})


# --- tokens over the wire


@contextlib.asynccontextmanager
async def guarded(monkeypatch: pytest.MonkeyPatch, **more: Any) -> AsyncIterator[tuple[Site, TinyIssuer]]:
    async with TinyIssuer(jwk(RSA, "one")) as issuer:
        rules = Issuer(issuer.url, AUDIENCE, **{"plain_http": True, "leeway": 0.0} | more)
        async with site(monkeypatch, Incoming("oidc", issuers=(rules,))) as made:
            yield made, issuer


def token(issuer: TinyIssuer, seconds: float = 600, sub: str = "ada", key: Any = RSA, **more: Any) -> dict[str, str]:
    now = time.time()
    told = claims(issuer.url, now - 5, exp=int(now + seconds), sub=sub, **more)
    return {"authorization": f"Bearer {raw(header(), told, key)}"}


async def test_a_token_opens_and_a_wrong_one_is_challenged(monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(monkeypatch, required_scopes=("tools",)) as (made, issuer):
        session = await made.open(token(issuer))
        refreshed = token(issuer, 900)
        assert (await made.ask("tools/list", refreshed | session)).status_code == 200
        assert (await made.ask("tools/list", token(issuer, sub="bob") | session)).status_code == 404
        where = f'resource_metadata="{PUBLIC}/.well-known/oauth-protected-resource/mcp"'
        wrong = await made.ask("tools/list", token(issuer, key=OTHER_RSA) | session)
        assert wrong.status_code == 401
        assert where in wrong.headers["www-authenticate"]
        assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
        none = await made.ask("tools/list", session)
        assert none.status_code == 401
        assert where in none.headers["www-authenticate"]
        assert 'scope="tools openid"' in none.headers["www-authenticate"]
        less = await made.ask("tools/list", token(issuer, scope="other"))
        assert less.status_code == 403
        assert 'error="insufficient_scope"' in less.headers["www-authenticate"]
        assert 'scope="tools"' in less.headers["www-authenticate"]
        metadata = await made.http.get(made.url + "/.well-known/oauth-protected-resource/mcp")
        assert metadata.json()["authorization_servers"] == [issuer.url]
        assert (await made.http.post(made.url + "/.well-known/oauth-protected-resource")).status_code == 405


async def test_a_websocket_waits_for_the_keys_of_the_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(monkeypatch) as (made, issuer):
        issuer.gate.clear()
        url = f"ws://localhost:{made.port}/ws"
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(_connected(url, token(issuer)))
            await until(lambda: issuer.asked)
            assert not opening.done()
            issuer.gate.set()
        wire = opening.result()
        await wire.send('{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert "result" in json.loads(await wire.recv())
        await wire.close()
        with pytest.raises(InvalidStatus) as refused:
            await _connected(url, token(issuer, key=OTHER_RSA))
        assert refused.value.response.status_code == 401


async def _connected(url: str, headers: dict[str, str]) -> Any:
    return await connect(url, additional_headers=headers, proxy=None)


async def test_an_issuer_that_is_away_is_our_trouble_and_not_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    async with guarded(monkeypatch) as (made, issuer):
        issuer.answers["/jwks"] = (500, b"")
        answer = await made.ask("ping", token(issuer))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"


class TestWhatStandsOpen:
    """Streams end with their token, at most five seconds later."""

    async def test_the_stream_of_a_session(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with guarded(monkeypatch) as (made, issuer), asyncio.timeout(8):
            session = await made.open(token(issuer))
            short = token(issuer, 2) | session | {"accept": "text/event-stream"}
            async with made.http.stream("GET", made.url + "/mcp", headers=short) as stream:
                assert stream.status_code == 200
                _ = [line async for line in stream.aiter_lines()]
            assert (await made.ask("ping", short | BOTH)).status_code == 401
            assert (await made.ask("ping", token(issuer) | session)).status_code == 200, "the session lives on"

    async def test_the_stream_of_2024(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with (
            guarded(monkeypatch) as (made, issuer),
            asyncio.timeout(8),
            made.http.stream("GET", made.url + "/sse", headers=token(issuer, 2)) as stream,
        ):
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            place = made.url + [await anext(lines), await anext(lines)][1].partition(" ")[2]
            body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            for who, status in ((token(issuer, sub="bob"), 404), (token(issuer, 4), 202)):
                assert (await made.http.post(place, json=body, headers=BOTH | who)).status_code == status
            began = time.time()
            _ = [line async for line in lines]
            assert time.time() - began > 2.5, "a newer token counts"

    async def test_a_websocket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with guarded(monkeypatch) as (made, issuer), asyncio.timeout(8):
            wire = await _connected(f"ws://localhost:{made.port}/ws", token(issuer, 2))
            with pytest.raises(ConnectionClosed) as closed:
                await wire.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008

    async def test_what_listens_in_2026(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with guarded(monkeypatch) as (made, issuer), asyncio.timeout(8):
            told = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
            params = {"_meta": modern_meta(), "notifications": {"toolsListChanged": True}}
            answer = await made.ask("subscriptions/listen", token(issuer, 2) | told, params)
            assert "notifications/subscriptions/acknowledged" in answer.text
            assert "the token has expired" in answer.text
