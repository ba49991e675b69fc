"""Credentials on their way: through ``Backend`` to a real protected server, with tokens of a real endpoint.

The rule: every call carries its own caller's credential, whatever happens beside it.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_serve

from tests.egress.web import Said, serving
from tests.upstream.badserver import serving as sse_serving
from tests.upstream.fakes_backend import Kept, kept
from tests.upstream.fakes_sse import SseServer
from tests.upstream.issuing import Endpoint, Protected, jwt, user
from vmcp.call import Identity
from vmcp.config.model import BackendSpec, Isolation, Limits
from vmcp.config.outgoing import Auth, Basic, Bearer, Client, CrossApp, PassThrough, ServiceAccount, TokenExchange
from vmcp.config.values import SecretRef
from vmcp.errors import Code, McpError
from vmcp.protocol.revisions import Revision
from vmcp.tasks import Nest
from vmcp.upstream.connector import Connector
from vmcp.upstream.credentials.source import Credentials
from vmcp.upstream.credentials.tokens import Token

CLIENT = Client("vm cp", SecretRef(env="SECRET"))
ENVIRON = {"SECRET": "s:e c", "LIST": "listing"}
MODERN = "2026-07-28"


@contextlib.asynccontextmanager
async def guarded(
    server: Protected,
    auth: Auth | None,
    *,
    isolation: Isolation = "session",
    environ: Mapping[str, str] = ENVIRON,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Kept]:
    async with serving(server) as web:
        spec = BackendSpec(
            "time",
            "g",
            "streamable-http",
            url=web.url("/mcp"),
            protocol=server.revision,
            isolation=isolation,
            auth=auth,
            headers=headers or {},
        )
        async with kept(spec, environ=environ) as backend:
            await backend.up()
            yield backend


async def shown(backend: Kept, who: Identity | None, **more: Any) -> str:
    """The ``Authorization`` that a call of somebody came with."""
    modern = backend.spec.protocol == MODERN
    session = None if modern or who is None else f"session of {who.subject}"
    client = Revision.V2026_07_28 if modern else Revision.V2025_11_25
    outcome = await backend.ask(identity=who, client=client, **{"session": session} | more)
    return str(json.loads(bytes(outcome.result))["content"][0]["text"])


# --- the same for everybody


@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
async def test_fixed_credentials_go_with_every_request(revision: str) -> None:
    basic = "Basic " + base64.b64encode(b"vmcp:s:e c").decode()
    for auth, expected in (
        (Bearer(SecretRef(env="SECRET")), "Bearer s:e c"),
        (Basic("vmcp", CLIENT.secret or ""), basic),
    ):
        server = Protected(revision)
        async with guarded(server, auth) as backend:
            assert await shown(backend, user("ann")) == expected
            assert await shown(backend, None) == expected
        assert {credential for _, credential in server.calls} == {expected}


async def test_a_missing_secret_is_told_by_its_name(tmp_path: Path) -> None:
    spec = BackendSpec("time", "g", "streamable-http", url="http://127.0.0.1:1/", auth=Bearer(SecretRef(env="GONE")))
    async with kept(spec) as backend:
        assert await backend.down() == "missing secret: environment variable GONE is not set"


async def test_a_service_account_has_one_token_for_all_and_another_when_that_is_refused() -> None:
    endpoint, server = Endpoint(), Protected()
    async with serving(endpoint) as idp:
        account = ServiceAccount(idp.url("/token"), CLIENT, "api", ("read", "write"))
        async with guarded(server, account) as backend:
            assert await shown(backend, user("ann")) == "Bearer gateway.1"
            assert await shown(backend, user("ben")) == "Bearer gateway.1"
            server.refuses = {"Bearer gateway.1"}
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(shown(backend, user(name))) for name in ("ann", "ben", "cid")]
            assert {each.result() for each in asked} == {"Bearer gateway.2"}
            server.refuses = {"Bearer gateway.2", "Bearer gateway.3"}
            with pytest.raises(McpError, match="HTTP 401") as caught:
                await shown(backend, user("ann"))
    assert "evil" not in str(caught.value)
    assert endpoint.count["gateway"] == 3 or endpoint.count["gateway"] == 4
    assert endpoint.forms[0] == {"grant_type": "client_credentials", "audience": "api", "scope": "read write"}
    assert set(endpoint.clients) == {"vm cp:s:e c"}


# --- each caller's own


@pytest.mark.parametrize("isolation", ["session", "identity", "request"])
@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
async def test_pass_through_shows_each_caller_and_lists_with_what_is_given_for_that(
    revision: str, isolation: Isolation
) -> None:
    server = Protected(revision, refuses={""})
    async with guarded(server, PassThrough(SecretRef(env="LIST")), isolation=isolation) as backend:
        assert await shown(backend, user("ann")) == "Bearer subject-ann"
        assert await shown(backend, user("ben")) == "Bearer subject-ben"
        assert await shown(backend, user("ann", "renewed")) == "Bearer renewed"
    assert set(server.of("tools/list")) == {"Bearer listing"}
    assert "Bearer listing" not in server.of("tools/call")


NOBODY = [None, Identity("i", "ann"), Identity("i", "x", token="a\r\nb: c"), Identity("i", "x", token="a b")]


async def test_without_a_caller_or_a_token_nothing_is_sent() -> None:
    endpoint, server = Endpoint(), Protected()
    async with serving(endpoint) as idp:
        exchange = TokenExchange(idp.url("/token"), Client())
        crossed = CrossApp(idp.url("/idp"), Client(), idp.url("/as"), Client(), "https://as")
        for auth, refused in ((PassThrough(), NOBODY), (exchange, NOBODY[:2]), (crossed, NOBODY[:2])):
            async with guarded(server, auth) as backend:
                for who in refused:
                    with pytest.raises(McpError) as caught:
                        await shown(backend, who)
                    assert caught.value.vmcp_code == Code.UNAUTHORIZED
    assert (server.of("tools/call"), endpoint.forms) == ([], [])


async def test_a_401_is_an_error_of_ours_and_of_no_use_to_phish() -> None:
    server = Protected(refuses={"Bearer subject-ann"})
    async with guarded(server, PassThrough()) as backend:
        with pytest.raises(McpError) as caught:
            await shown(backend, user("ann"))
        assert caught.value.code == Code.INTERNAL_ERROR
        assert "it refused the credential of its outgoingAuth strategy (HTTP 401)" in caught.value.message
        assert "evil" not in f"{caught.value.message}{caught.value.data}"
        assert server.of("initialize").count("Bearer subject-ann") == 1  # nothing to ask again with
        assert await shown(backend, user("ben")) == "Bearer subject-ben"


async def test_a_backend_that_must_not_be_listed_without_credentials_says_what_is_missing() -> None:
    async with serving(Protected(refuses={""})) as web:
        spec = BackendSpec("time", "g", "streamable-http", url=web.url(), auth=PassThrough())
        async with kept(spec) as backend:
            assert "listingToken" in await backend.down()


async def test_a_listing_token_that_is_refused_is_not_tried_again() -> None:
    server = Protected(refuses={"Bearer listing"})
    async with serving(server) as web:
        auth = PassThrough(SecretRef(env="LIST"))
        spec = BackendSpec("time", "g", "streamable-http", url=web.url(), protocol="2025-11-25", auth=auth)
        async with kept(spec, environ=ENVIRON) as backend:
            assert "refused the credential" in await backend.down()
            assert server.calls == [("initialize", "Bearer listing")]


async def test_a_client_that_may_not_act_for_itself_is_told_how_the_backend_can_be_listed() -> None:
    async with serving(Endpoint(lambda answer: {"error": "unauthorized_client"})) as idp, serving(Protected()) as web:
        exchange = TokenExchange(idp.url(), CLIENT)
        spec = BackendSpec("time", "g", "streamable-http", url=web.url(), auth=exchange)
        async with kept(spec, environ=ENVIRON) as backend:
            why = await backend.down()
            assert "listingToken" in why
            assert "unauthorized_client" in why


async def test_a_session_that_was_opened_for_one_caller_serves_no_other() -> None:
    server = Protected()
    async with guarded(server, PassThrough()) as backend:
        assert await shown(backend, user("ann"), session="s") == "Bearer subject-ann"
        assert await shown(backend, user("ann", "renewed"), session="s") == "Bearer renewed"
        for other in (user("ben"), Identity("https://other.example", "ann", token="subject-ann")):
            with pytest.raises(McpError, match="another caller's"):
                await shown(backend, other, session="s")
    assert "Bearer subject-ben" not in [credential for _, credential in server.calls]


@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
async def test_each_caller_acts_with_the_token_that_was_exchanged_for_his(revision: str) -> None:
    endpoint, server = Endpoint(), Protected(revision)
    async with serving(endpoint) as idp:
        exchange = TokenExchange(idp.url("/token"), CLIENT, "api", ("read",))
        async with guarded(server, exchange) as backend, asyncio.TaskGroup() as group:
            asked = {
                (name, number): group.create_task(shown(backend, user(name)))
                for number in range(40)
                for name in ("ann", "ben")
            }
    for (name, _), call in asked.items():
        assert call.result() == f"Bearer for-subject-{name}.1"
    assert endpoint.count == {"gateway": 1, "for-subject-ann": 1, "for-subject-ben": 1}
    assert set(server.of("tools/list")) == {"Bearer gateway.1"}
    form = next(form for form in endpoint.forms if "subject_token" in form)
    assert form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": form["subject_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": "api",
        "scope": "read",
    }
    assert not any("subject-" in credential and "for-" not in credential for _, credential in server.calls)


async def test_a_token_is_exchanged_anew_for_another_token_another_issuer_and_after_a_refusal() -> None:
    endpoint, server = Endpoint(), Protected()
    async with serving(endpoint) as idp, guarded(server, TokenExchange(idp.url("/token"), Client("public"))) as backend:
        ann = user("ann")
        assert await shown(backend, ann) == "Bearer for-subject-ann.1"
        assert await shown(backend, ann) == "Bearer for-subject-ann.1"
        assert await shown(backend, user("ann", "renewed")) == "Bearer for-renewed.1"
        other = Identity("https://other.example", "ann", token="subject-ann")
        assert await shown(backend, other, session="another") == "Bearer for-subject-ann.2"
        server.refuses = {"Bearer for-subject-ann.1"}
        assert await shown(backend, ann) == "Bearer for-subject-ann.3"
    assert endpoint.forms[0]["client_id"] == "public"
    assert set(server.of("tools/list")) == {""}


async def test_what_was_had_for_a_callers_token_is_not_kept_longer_than_that() -> None:
    endpoint, server = Endpoint(), Protected()
    async with serving(endpoint) as idp, guarded(server, TokenExchange(idp.url("/token"), Client())) as backend:
        ann = user("ann", expires=time.time() - 1)
        assert await shown(backend, ann) != await shown(backend, ann)


SPOILT = [
    (lambda answer: {"error": "invalid_target", "error_description": "canary"}, "invalid_target"),
    (lambda answer: {"error": "<b>canary</b>"}, "HTTP 400"),
    (lambda answer: answer | {"access_token": "subject-ann"}, "gave back"),
    (lambda answer: answer | {"access_token": ""}, "no usable token"),
    (lambda answer: answer | {"access_token": "a\r\nx: y"}, "no usable token"),
    (lambda answer: answer | {"access_token": 5}, "no usable token"),
    (lambda answer: answer | {"token_type": "DPoP"}, "another type"),
    (lambda answer: {key: value for key, value in answer.items() if key != "token_type"}, "another type"),
    (lambda answer: answer | {"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "something else"),
    (lambda answer: {key: value for key, value in answer.items() if key != "issued_token_type"}, "something else"),
    (lambda answer: answer | {"access_token": jwt({"aud": "elsewhere"})}, "another audience"),
    (lambda answer: answer | {"access_token": jwt({"sub": "ann"})}, "another audience"),
    (
        lambda answer: answer | {"access_token": jwt({"aud": ["api"], "iss": "https://idp.example", "sub": "ben"})},
        "somebody else",
    ),
    (lambda answer: answer | {"access_token": jwt({"aud": "api", "exp": time.time() - 1})}, "has expired"),
    (lambda answer: answer | {"access_token": jwt({"aud": "api", "exp": "soon"})}, "has expired"),
    (lambda answer: answer | {"access_token": jwt({"aud": "api", "exp": True})}, "has expired"),
    (lambda answer: answer | {"access_token": jwt({"aud": "api", "act": "x"})}, "no proper way"),
    (lambda answer: answer | {"access_token": jwt({"aud": "api", "act": {"iss": "x"}})}, "no proper way"),
    (lambda answer: answer | {"access_token": jwt({"aud": "api", "act": actors(11)})}, "no proper way"),
]


def actors(count: int) -> dict[str, Any] | None:
    return {"sub": "x", "act": actors(count - 1)} if count else None


@pytest.mark.parametrize(
    "claims",
    [
        {
            "aud": "api",
            "iss": "https://idp.example",
            "sub": "ann",
            "exp": 4e9,
            "act": {"sub": "x", "act": {"sub": "y"}},
        },
        {"aud": ["other", "api"], "iss": "https://other.example", "sub": "known there by another name"},
        {"aud": "api", "act": actors(9)},
    ],
)
async def test_a_token_that_can_be_read_and_is_right_is_used(claims: dict[str, Any]) -> None:
    token = jwt(claims)
    endpoint, server = Endpoint(lambda answer: answer | {"access_token": token}), Protected()
    async with serving(endpoint) as idp, guarded(server, TokenExchange(idp.url("/token"), Client(), "api")) as backend:
        assert await shown(backend, user("ann")) == f"Bearer {token}"


@pytest.mark.parametrize(("change", "told"), SPOILT)
async def test_what_is_no_token_for_the_backend_is_refused_and_never_replaced_by_the_callers(
    change: Any, told: str
) -> None:
    endpoint, server = Endpoint(change), Protected()
    async with serving(endpoint) as idp, guarded(server, TokenExchange(idp.url("/token"), Client(), "api")) as backend:
        with pytest.raises(McpError, match=told) as caught:
            await shown(backend, user("ann"))
        assert caught.value.vmcp_code == Code.UNAUTHORIZED
        assert "canary" not in str(caught.value)
    assert server.of("tools/call") == []
    assert {credential for _, credential in server.calls} == {""}


async def test_an_endpoint_that_is_down_or_no_endpoint_fails_the_call_and_not_the_next() -> None:
    endpoint, server = Endpoint(), Protected()
    answers = iter([Said(503, b"<html>canary"), Said(200, b'{"access_token": "\xff"}'), Said(200, b"[" * 20_000)])

    async def flaky(asked: Any) -> Said:
        return next(answers, None) or await endpoint(asked)

    async with serving(flaky) as idp, guarded(server, TokenExchange(idp.url("/token"), Client())) as backend:
        for status in (503, 200, 200):
            with pytest.raises(McpError, match=f"HTTP {status}"):
                await shown(backend, user("ann"))
        assert await shown(backend, user("ann")) == "Bearer for-subject-ann.1"
    async with guarded(Protected(), TokenExchange("http://127.0.0.1:1/", Client())) as backend:
        with pytest.raises(McpError, match="gave no answer: the connection failed"):
            await shown(backend, user("ann"))


async def test_one_who_gives_up_leaves_the_exchange_to_the_others() -> None:
    endpoint, server, arrived, go = Endpoint(), Protected(), asyncio.Event(), asyncio.Event()

    async def slow(asked: Any) -> Said:
        arrived.set()
        await go.wait()
        return await endpoint(asked)

    async with serving(slow) as idp, guarded(server, TokenExchange(idp.url("/token"), Client())) as backend:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(shown(backend, user("ann"), session="1"))
            await arrived.wait()
            second = group.create_task(shown(backend, user("ann"), session="2"))
            first.cancel()
            await asyncio.sleep(0)
            go.set()
        assert second.result() == "Bearer for-subject-ann.1"
    assert endpoint.count["for-subject-ann"] == 1


async def test_a_cross_application_token_takes_two_steps() -> None:
    endpoint, server = Endpoint(), Protected()
    async with serving(endpoint) as idp:
        target = Client("at target", SecretRef(env="SECRET"))
        spec = CrossApp(idp.url("/idp"), CLIENT, idp.url("/as"), target, "https://as", "https://mcp", ("x",))
        async with guarded(server, spec) as backend:
            assert await shown(backend, user("ann")) == "Bearer crossed-subject-ann.1"
            assert await shown(backend, user("ben")) == "Bearer crossed-subject-ben.1"
            assert await shown(backend, user("ann")) == "Bearer crossed-subject-ann.1"
    own, step, grant = endpoint.forms[:3]
    assert own["grant_type"] == "client_credentials"
    assert (step["audience"], step["resource"], step["scope"]) == ("https://as", "https://mcp", "x")
    assert step["requested_token_type"] == "urn:ietf:params:oauth:token-type:id-jag"
    assert step["subject_token_type"] == "urn:ietf:params:oauth:token-type:id_token"
    assert grant["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert "audience" not in grant
    assert endpoint.clients[1:3] == ["vm cp:s:e c", "at target:s:e c"]


OTHERS = {"aud": "https://as", "resource": "https://mcp", "iss": "https://idp.example", "sub": "ben"}


async def test_an_assertion_that_comes_back_is_no_token() -> None:
    shown_to_target: list[str] = []

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        if answer["token_type"] == "N_A":
            shown_to_target.append(answer["access_token"])
            return answer
        return answer | {"access_token": shown_to_target[0]}

    endpoint, server = Endpoint(change), Protected()
    async with serving(endpoint) as idp:
        spec = CrossApp(idp.url("/idp"), Client(), idp.url("/as"), Client(), "https://as")
        async with guarded(server, spec) as backend:
            with pytest.raises(McpError, match="gave back"):
                await shown(backend, user("ann"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda answer: answer | {"token_type": "Bearer"}, "else than an ID-JAG"),
        (
            lambda answer: answer | {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"},
            "else than an ID-JAG",
        ),
        (lambda answer: answer | {"access_token": "opaque"}, "another audience"),
        (lambda answer: answer | {"access_token": "a.!.c"}, "no usable token"),
        (lambda answer: answer | {"access_token": "a.e30.c"}, "another audience"),
        (lambda answer: answer | {"access_token": "a.e.c"}, "another audience"),
        (lambda answer: answer | {"access_token": jwt(OTHERS)}, "somebody else"),
        (lambda answer: answer | {"access_token": "a.W10.c"}, "another audience"),
        (lambda answer: answer | {"access_token": "a.eyJhdWQiOlsiaHR0cHM6Ly9hcyJdfQ.c"}, "another resource"),
        (lambda answer: answer | {"access_token": "subject-ann"}, "gave back"),
        (lambda answer: answer | {"access_token": "a.b.c.d"}, "another audience"),
    ],
)
async def test_an_assertion_for_somebody_else_is_not_shown_to_the_target(change: Any, told: str) -> None:
    endpoint, server = Endpoint(change), Protected()
    async with serving(endpoint) as idp:
        spec = CrossApp(idp.url("/idp"), Client(), idp.url("/as"), Client(), "https://as", "https://mcp")
        async with guarded(server, spec) as backend:
            with pytest.raises(McpError, match=told):
                await shown(backend, user("ann"))
    assert len(endpoint.forms) == 1
    assert server.of("tools/call") == []


# --- transports of one connection


async def test_a_service_account_serves_transports_of_one_connection_too() -> None:
    endpoint, old, upgrades = Endpoint(), SseServer(), []

    async def upgraded(peer: ServerConnection) -> None:
        assert peer.request is not None
        upgrades.append(peer.request.headers["Authorization"])

    async with serving(endpoint) as idp, sse_serving(old) as state, websocket_serve(upgraded, "127.0.0.1", 0) as live:
        old.port = state.port
        port = next(iter(live.sockets)).getsockname()[1]
        auth = ServiceAccount(idp.url("/token"), CLIENT)
        sse = BackendSpec("time", "g", "sse", url=old.url, auth=auth)
        for spec in (sse, BackendSpec("time", "g", "websocket", url=f"ws://127.0.0.1:{port}/", auth=auth)):
            credentials = Credentials(spec, ENVIRON)
            async with Nest("test") as nest:
                connector = Connector(spec, Limits(), ENVIRON, nest)
                connector.own = credentials.own
                wire = await connector.open()
                if spec is sse:
                    await wire.tell(b"{}", ())
                await wire.close()
                await connector.close()
            await credentials.close()
    assert [told.headers["authorization"] for told in old.heard] == ["Bearer gateway.1"] * 2
    assert upgrades == ["Bearer gateway.2"]


async def test_what_is_each_callers_own_does_not_fall_back_to_a_stream_for_all() -> None:
    verbs: list[str] = []

    async def old(asked: Any) -> Said:
        verbs.append(asked.method)
        return Said(405)

    async with serving(old) as web:
        spec = BackendSpec("time", "g", "streamable-http", url=web.url(), guessed=True, auth=PassThrough())
        async with kept(spec) as backend:
            assert "HTTP 405" in await backend.down()
        assert set(verbs) == {"POST"}
        async with kept(replace(spec, auth=None)) as backend:
            await backend.down()
        assert set(verbs) == {"POST", "GET"}


# --- what belongs to no call


async def test_the_callers_own_session_is_opened_told_and_ended_with_his_credential() -> None:
    server, deleted = Protected(), []

    async def noting(asked: Any) -> Said:
        if asked.method == "DELETE":
            deleted.append(asked.headers.get("authorization", ""))
        return await server(asked)

    async with serving(noting) as web:
        spec = BackendSpec(
            "time",
            "g",
            "streamable-http",
            url=web.url(),
            protocol="2025-11-25",
            isolation="session",
            auth=PassThrough(),
        )
        async with kept(spec) as backend:
            await backend.up()
            await shown(backend, user("ann"))
    assert server.of("initialize") == ["", "Bearer subject-ann"]
    assert server.of("notifications/initialized") == ["", "Bearer subject-ann"]
    assert sorted(deleted) == ["", "Bearer subject-ann"]


async def test_nothing_is_subscribed_with_vmcps_own_credential_for_a_caller() -> None:
    async with guarded(Protected(MODERN), PassThrough(SecretRef(env="LIST"))) as backend:
        call = backend.call("resources/subscribe", "r", client=Revision.V2026_07_28, identity=user("ann"))
        with pytest.raises(McpError, match="nothing can be subscribed"):
            await backend.backend.source(call)
    async with guarded(Protected(MODERN), None) as backend:
        assert await backend.backend.source(call) is None


def test_no_repr_tells_a_token() -> None:
    assert "subject-ann" not in repr(user("ann"))
    assert "secret" not in repr(Token("secret", 1.0))
