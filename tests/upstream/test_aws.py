"""Roles taken at a token service, and requests that a server takes only when their signature is right; both are real HTTP.

The rule: the server works the signature out by itself, from the bytes that came and the keys that the service gave out.
"""

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.egress.web import Asked, Said, serving
from tests.upstream.fakes_backend import Kept, kept
from tests.upstream.issuing import Protected, user
from tests.upstream.test_credentials import MODERN, shown
from vmcp.call import Identity
from vmcp.config.aws import AwsSts, RoleMapping
from vmcp.config.balancing import EndpointSpec
from vmcp.config.model import BackendSpec, Isolation
from vmcp.config.values import SecretRef
from vmcp.errors import Code, McpError
from vmcp.upstream.balancer import Balanced
from vmcp.upstream.credentials.aws import Wanted
from vmcp.upstream.credentials.source import Credentials
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.wire import Signing, carried

READER, FALLBACK = "arn:aws:iam::123456789012:role/reader", "arn:aws:iam::123456789012:role/fallback"
ENVIRON = {"WEB": "web-identity"}
XML = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>
 <SubjectFromWebIdentityToken>x</SubjectFromWebIdentityToken><Credentials>
  <AccessKeyId>{access}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
  <SessionToken>{session}</SessionToken><Expiration>{ends}</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


def instant(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(time.time() + seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Sts:
    """A token service. ``change`` spoils its answers; ``known`` are the keys that it gave out, by access key."""

    change: Callable[[str], Said] = field(default=lambda text: Said(200, text.encode(), {"Content-Type": "text/xml"}))
    ends: float = 3600
    forms: list[dict[str, str]] = field(default_factory=list)
    known: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    async def __call__(self, asked: Asked) -> Said:
        assert "authorization" not in asked.headers
        self.forms.append(asked.form)
        number = len(self.forms)
        access, secret, session = f"ASIA{number}", f"se/cret+{number}", f"ses/sion={number}"
        self.known[access] = (secret, session, f"{asked.form['RoleSessionName']}#{number}")
        return self.change(XML.format(access=access, secret=secret, session=session, ends=instant(self.ends)))


def proven(sts: Sts, asked: Asked) -> str:
    """Whose request it is, by its signature alone; raises KeyError and AssertionError when it is nobody's."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/([\w-]+)/aws4_request, SignedHeaders=(\S+), Signature=(\w+)",
        asked.headers["authorization"],
    )
    assert found is not None
    access, day, region, service, names, given = found.groups()
    secret, session, who = sts.known[access]
    assert asked.headers["x-amz-security-token"] == session
    assert {"host", "x-amz-date", "x-amz-security-token"} <= set(names.split(";"))
    lines = "".join(f"{name}:{asked.headers[name]}\n" for name in names.split(";"))
    body = hashlib.sha256(asked.body).hexdigest()
    request = f"{asked.method}\n/mcp\n\n{lines}\n{names}\n{body}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    span = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{asked.headers['x-amz-date']}\n{span}\n{hashlib.sha256(request.encode()).hexdigest()}"
    assert hmac.new(key, text.encode(), "sha256").hexdigest() == given
    return f"{who} {region} {service}"


@dataclass
class Signed(Protected):
    """A protected server that takes signed requests only, and says as their text who signed them."""

    sts: Sts = field(default_factory=Sts)
    expired: set[str] = field(default_factory=set)
    why: bytes = b'{"message": "The security token included in the request is expired"}'
    others: int = 0
    strict: bool = True
    verbs: list[str] = field(default_factory=list)

    async def __call__(self, asked: Asked) -> Said:
        if "authorization" not in asked.headers and not self.strict:
            return await super().__call__(asked)
        self.verbs.append(asked.method)
        try:
            who = proven(self.sts, asked)
        except (KeyError, AssertionError):
            self.others += 1
            return Said(403, b'{"message": "Missing Authentication Token"}')
        if who.partition(" ")[0] in self.expired:
            return Said(403, self.why, {"Content-Type": "application/json"})
        return await super().__call__(
            Asked(asked.method, asked.path, {**asked.headers, "authorization": who}, asked.body)
        )


SPEC = AwsSts("eu-central-1", "aws-mcp", FALLBACK, (RoleMapping(READER, "readers"),), duration=900)


@contextlib.asynccontextmanager
async def signed(
    server: Signed,
    spec: AwsSts = SPEC,
    *,
    isolation: Isolation = "session",
    environ: Mapping[str, str] = ENVIRON,
) -> AsyncIterator[Kept]:
    async with serving(server.sts) as sts, serving(server) as web:
        auth = replace(spec, sts_url=sts.url("/"))
        backend = BackendSpec("time", "g", "streamable-http", url=web.url("/mcp"), protocol=server.revision, auth=auth)
        async with kept(replace(backend, isolation=isolation), environ=environ) as made:
            await made.up()
            yield made


def caller(name: str, *groups: str, expires: float | None = None) -> Identity:
    claims = {"sub": name, "groups": list(groups), "email": f"{name}@example.com"}
    return Identity("https://idp.example", name, claims, token=f"subject-{name}", expires=expires or time.time() + 600)


@pytest.mark.parametrize("isolation", ["session", "identity", "request"])
@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
async def test_every_request_is_signed_with_the_keys_of_its_callers_role(revision: str, isolation: Isolation) -> None:
    server = Signed(revision, strict=False)
    async with signed(server, isolation=isolation) as backend:
        async with asyncio.TaskGroup() as group:
            asked = {
                (name, number): group.create_task(shown(backend, caller(name, "readers")))
                for number in range(10)
                for name in ("ann", "ben")
            }
        for (name, _), call in asked.items():
            assert re.fullmatch(rf"{name}#\d eu-central-1 aws-mcp", call.result())
    assert len(server.sts.forms) == 2
    form = next(form for form in server.sts.forms if form["RoleSessionName"] == "ann")
    assert form == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": READER,
        "RoleSessionName": "ann",
        "WebIdentityToken": "subject-ann",
        "DurationSeconds": "900",
    }
    assert server.others == 0
    assert set(server.of("tools/list")) == {""}
    if isolation == "session" and revision != MODERN:
        assert {"POST", "GET", "DELETE"} <= set(server.verbs)  # the stream and the goodbye of a session too


async def test_roles_and_names_are_those_of_the_claims() -> None:
    server = Signed(MODERN, strict=False)
    async with signed(server, AwsSts("us-east-1", "execute-api", FALLBACK, session_claim="email")) as backend:
        assert await shown(backend, caller("ann")) == "ann@example.com#1 us-east-1 execute-api"
        assert server.sts.forms[0]["RoleArn"] == FALLBACK
        for claims in ({}, {"email": "x"}, {"email": ["ann"]}, {"email": "ann|x"}, {"email": "a" * 65}):
            with pytest.raises(McpError, match="sessionNameClaim") as caught:
                await shown(backend, Identity("i", "ann", claims, token="t"))
            assert caught.value.vmcp_code == Code.UNAUTHORIZED
    async with signed(server, AwsSts("us-east-1", mappings=SPEC.mappings)) as backend:
        assert await shown(backend, caller("ann", "readers")) == "ann#2 us-east-1 aws-mcp"
        with pytest.raises(McpError, match="no role of its awsSts is for this caller"):
            await shown(backend, caller("ann", "others"))
        with pytest.raises(McpError, match="showed none"):
            await shown(backend, Identity("i", "ann"))
    assert len(server.sts.forms) == 2


async def test_vmcp_lists_with_a_token_of_its_own_and_reads_it_anew() -> None:
    server = Signed("2025-11-25")
    async with signed(server, AwsSts("us-east-1", fallback=FALLBACK, listing=SecretRef(env="WEB"))) as backend:
        assert set(server.of("tools/list")) == {"vmcp#1 us-east-1 aws-mcp"}
        assert await shown(backend, caller("ann")) == "ann#2 us-east-1 aws-mcp"
    assert server.sts.forms[0]["WebIdentityToken"] == "web-identity"
    assert server.sts.forms[0]["RoleArn"] == FALLBACK
    assert server.others == 0


def spec_of(auth: AwsSts) -> BackendSpec:
    return BackendSpec("time", "g", "streamable-http", url="http://127.0.0.1:1/mcp", auth=auth)


async def test_a_token_file_of_vmcps_own_may_change_meanwhile(tmp_path: Path) -> None:
    token, sts = tmp_path / "token", Sts()
    token.write_text("first")
    async with serving(sts) as service:
        listing = SecretRef(file=str(token))
        credentials = Credentials(spec_of(AwsSts("r-1", fallback=FALLBACK, sts_url=service.url(), listing=listing)), {})
        own, soon = credentials.own, asyncio.get_running_loop().time() + 5
        assert own is not None
        first = await own.headers(soon)
        token.write_text("second")
        assert await own.headers(soon) == first
        assert own.refused(first)
        assert await own.headers(soon) != first
        assert not own.refused([(b"authorization", b"Bearer x")])
        await credentials.close()
    assert [form["WebIdentityToken"] for form in sts.forms] == ["first", "second"]


async def test_without_a_listing_token_or_a_role_for_it_vmcp_lists_with_nothing() -> None:
    for spec in (SPEC, AwsSts("us-east-1", mappings=SPEC.mappings, listing=SecretRef(env="WEB"))):
        credentials = Credentials(spec_of(spec), ENVIRON)
        assert (credentials.own, credentials.per_user) == (None, True)
        await credentials.close()


async def test_keys_that_have_expired_are_had_anew_once() -> None:
    server = Signed(MODERN, strict=False)
    async with signed(server) as backend:
        ann = caller("ann")
        assert (await shown(backend, ann)).startswith("ann#1 ")
        server.expired = {"ann#1"}
        assert (await shown(backend, ann)).startswith("ann#2 ")
        assert (await shown(backend, ann)).startswith("ann#2 ")
        server.expired = {"ann#2", "ann#3"}
        with pytest.raises(McpError, match="HTTP 403") as caught:
            await shown(backend, ann)
        assert "security token" not in str(caught.value)
        assert len(server.sts.forms) == 3


async def test_a_403_for_another_reason_asks_nobody_for_other_keys() -> None:
    server = Signed(MODERN, strict=False, why=b'{"message": "User is not authorized to access this resource"}')
    async with signed(server) as backend:
        await shown(backend, caller("ann"))
        server.expired = {"ann#1"}
        with pytest.raises(McpError, match="HTTP 403"):
            await shown(backend, caller("ann"))
        assert len(server.sts.forms) == 1


async def test_keys_are_kept_no_longer_than_the_token_that_they_were_had_for() -> None:
    server = Signed(MODERN, strict=False)
    async with signed(server) as backend:
        gone = caller("ann", expires=time.time() - 1)
        assert await shown(backend, gone) != await shown(backend, gone)


def _without(name: str) -> Callable[[str], Said]:
    return lambda text: Said(200, re.sub(f"<{name}>.*?</{name}>", "", text).encode())


SPOILT = [
    (lambda _: Said(403, b"<Error><Code>AccessDenied</Code><Message>canary</Message></Error>"), r"\(AccessDenied\)"),
    (lambda _: Said(400, b"<Error><Code><b>canary</Code></Error>"), r"\(HTTP 400\)"),
    (lambda _: Said(200, b"\xff canary"), "holds no credentials"),
    *((_without(name), "holds no credentials") for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")),
    (lambda text: Said(200, (text + text).encode()), "holds no credentials"),
    (lambda text: Said(200, text.replace("ses/sion=1", "a\r\nx: canary").encode()), "holds no credentials"),
    (lambda text: Said(200, re.sub("<Exp.*?</Exp", "<Expiration>2000-01-01T00:00:00Z</Exp", text).encode()), "have expired"),
    (lambda text: Said(200, re.sub("<Exp.*?</Exp", "<Expiration>soon</Exp", text).encode()), "no time that can be read"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told"), SPOILT)
async def test_what_is_no_answer_of_the_token_service_sends_nothing(change: Any, told: str) -> None:
    server = Signed(MODERN, sts=Sts(change), strict=False)
    async with signed(server) as backend:
        with pytest.raises(McpError, match=told) as caught:
            await shown(backend, caller("ann"))
        assert caught.value.vmcp_code == Code.UNAUTHORIZED
    assert not re.search("canary|se/cret|subject-ann", str(caught.value))
    assert server.of("tools/call") == []


async def test_a_server_that_lists_nothing_unsigned_says_what_is_missing() -> None:
    server = Signed()
    async with serving(server) as web:
        spec = replace(spec_of(SPEC), url=web.url("/mcp"))
        async with kept(spec) as backend:
            assert "listingToken" in await backend.down()
    assert server.others


async def test_no_log_has_what_a_role_was_taken_with(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = Signed(MODERN, strict=False)
    async with signed(server) as backend:
        await shown(backend, caller("ann"))
        server.expired = {"ann#1", "ann#2"}
        with pytest.raises(McpError):
            await shown(backend, caller("ann"))
    assert caplog.records
    assert not re.search("se/cret|ses/sion|subject-ann|ASIA", caplog.text)
    assert "subject-ann" not in repr(Wanted(READER, "ann", "subject-ann"))


async def test_a_token_service_that_is_not_there_fails_the_call_alone() -> None:
    auth = AwsSts("us-east-1", fallback=FALLBACK, sts_url="http://127.0.0.1:1/")
    async with serving(Protected(MODERN)) as web:
        spec = BackendSpec(
            "time", "g", "streamable-http", url=web.url("/mcp"), protocol=MODERN, isolation="session", auth=auth
        )
        async with kept(spec) as backend:
            await backend.up()
            with pytest.raises(McpError, match="token service of AWS gave no answer: the connection failed") as caught:
                await shown(backend, user("ann"))
            assert caught.value.vmcp_code == Code.CONNECTION_FAILED


async def test_replicas_share_the_keys_and_each_gets_signatures_of_its_own() -> None:
    server = Signed(MODERN, strict=False)
    async with serving(server.sts) as sts, serving(server) as one, serving(server) as two:
        places = tuple(EndpointSpec(web.url("/mcp")) for web in (one, two))
        spec = replace(spec_of(replace(SPEC, sts_url=sts.url())), url=None, endpoints=places, protocol=MODERN)
        async with kept(spec, make=Balanced) as backend:
            await backend.up()
            told: set[str] = set()

            def hosts() -> list[set[str]]:
                signed = ((asked for asked in web.asked if "authorization" in asked.headers) for web in (one, two))
                return [{asked.headers["host"] for asked in each} for each in signed]

            async with asyncio.timeout(10):
                while not all(hosts()):
                    told.add(await shown(backend, caller("ann")))
    assert told == {"ann#1 eu-central-1 aws-mcp"}
    assert hosts() == [{f"127.0.0.1:{one.port}"}, {f"127.0.0.1:{two.port}"}]
    assert server.others == 0


async def test_what_is_not_signed_is_as_it_was() -> None:
    plain = [(b"authorization", b"Bearer x")]
    target = endpoint("http://a.example/x")
    assert carried(plain, target, b"POST", b"{}") is plain
    made = Signing([(b"a", b"b")], lambda place, method, body: [(place.host_header, method + body)], "p")
    assert (list(made), carried(made, target, b"GET", b"x")) == ([(b"a", b"b")], [(b"a.example", b"GETx")])
