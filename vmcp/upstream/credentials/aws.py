"""Credentials of an AWS role for a token, and requests signed with them.

The rule: the token is shown to the token service and to nobody else; of what comes back only signatures leave this process, and
the session token, which is worth nothing without them. Keys are kept no longer than the token that they were had for.
Source: AWS Security Token Service API, AssumeRoleWithWebIdentity.
"""

import datetime
import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import msgspec

from vmcp.call import Identity
from vmcp.config.aws import AwsSts
from vmcp.egress.fetch import Fetched, Fetcher
from vmcp.errors import Code, Unavailable, VmcpError
from vmcp.upstream.credentials.aws_signature import Keys, Scope, place, signature
from vmcp.upstream.credentials.grants import BYTES, SECONDS, remaining
from vmcp.upstream.credentials.tokens import Grant, Token, Tokens
from vmcp.upstream.endpoint import Endpoint
from vmcp.upstream.wire import Headers, Signing

OWN: Final = "vmcp"
"""The name of vmcp's own session."""
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_ERROR = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_FIELDS: Final = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
_VALUE: Final = r"<{0}>\s*([A-Za-z0-9+/=_.:-]{{1,8192}})\s*</{0}>"
_PLAIN: Final = {name: re.compile(_VALUE.format(name)) for name in _FIELDS}
_CONTENT: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A role for somebody: the proof of who he is, and the name under which AWS writes down what he does."""

    role: str
    session: str
    token: str = field(repr=False)
    expires: float | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """What tells it from another one for the same token."""
        return self.role, self.session


@dataclass(frozen=True, slots=True)
class Roles:
    """A way to the token service of ``spec`` for the backend ``name``."""

    name: str
    spec: AwsSts
    fetcher: Fetcher

    def of(self, caller: Identity) -> Wanted:
        """The role of a caller. Raises ``Unavailable`` where there is none for him."""
        role = self.spec.role(caller.claims)
        if role is None:
            raise self._no("no role of its awsSts is for this caller")
        session = caller.claims.get(
            self.spec.session_claim, caller.subject if self.spec.session_claim == "sub" else None
        )
        if not isinstance(session, str) or not _NAME.fullmatch(session):
            why = f"the caller's claim '{self.spec.session_claim}' cannot name a session of AWS; see awsSts.sessionNameClaim"
            raise self._no(why)
        return Wanted(role, session, caller.token, caller.expires)

    async def keys(self, wanted: Wanted) -> Token:
        """Temporary keys, as the text of a token."""
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": wanted.role,
            "RoleSessionName": wanted.session,
            "WebIdentityToken": wanted.token,
            "DurationSeconds": str(self.spec.duration),
        }
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "text/xml"}
        body, url = urlencode(form).encode(), self.spec.sts_url
        try:
            answer = await self.fetcher.post(
                url, body=body, headers=headers, allow_private=True, max_bytes=BYTES, seconds=SECONDS
            )
        except VmcpError as error:
            why = f"the token service of AWS gave no answer: {error}"
            raise Unavailable(self.name, why, Code.CONNECTION_FAILED) from None
        return self._read(answer, remaining(wanted.expires))

    def _read(self, answer: Fetched, most: float) -> Token:
        said = answer.body.decode("utf-8", "replace")
        if answer.status != 200:
            error = _ERROR.search(said)
            raise self._no(f"AWS gave no credentials ({error[1] if error else f'HTTP {answer.status}'})")
        found = {name: pattern.findall(said) for name, pattern in _PLAIN.items()}
        if any(len(values) != 1 for values in found.values()):
            raise self._no("what AWS answered holds no credentials")
        access, secret, session, ends = (found[name][0] for name in _FIELDS)
        try:
            left = datetime.datetime.fromisoformat(ends.replace("Z", "+00:00")).timestamp() - time.time()
        except (ValueError, OverflowError):
            raise self._no("the credentials of AWS end at no time that can be read") from None
        if left <= 0:
            raise self._no("the credentials of AWS have expired")
        return Token(msgspec.json.encode((access, secret, session)).decode(), min(left, most))

    def _no(self, why: str) -> Unavailable:
        return Unavailable(self.name, why, Code.UNAUTHORIZED)


def sign(spec: AwsSts, keys: Keys, target: Endpoint, method: bytes, body: bytes) -> Headers:
    """The headers that prove a request to ``target``."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    host = target.host_header.decode()
    signed = {"host": host, "x-amz-date": moment, "x-amz-security-token": keys.session}
    if method == b"POST":
        signed["content-type"] = _CONTENT
    scope = Scope(spec.region, spec.service)
    proof = signature(keys, scope, moment, method.decode(), _place(target.path), signed, body)
    return [
        (b"x-amz-security-token", keys.session.encode()),
        (b"x-amz-date", moment.encode()),
        (b"authorization", proof.encode()),
    ]


_place = functools.lru_cache(256)(place)


class Assumed:
    """A role that was taken for somebody; it is taken anew when the backend does not know its keys any more."""

    __slots__ = ("_grant", "_key", "_spec", "_tokens", "owner")

    def __init__(self, tokens: Tokens, key: str, grant: Grant, spec: AwsSts, owner: str | None = None) -> None:
        self._tokens = tokens
        self._key = key
        self._grant = grant
        self._spec = spec
        self.owner = owner

    async def headers(self, deadline: float) -> Headers:
        """See ``Credential``."""
        text = await self._tokens.get(self._key, self._grant, deadline)
        keys = Keys(*msgspec.json.decode(text, type=tuple[str, str, str]))
        same = [(b"x-amz-security-token", keys.session.encode())]
        return Signing(same, functools.partial(sign, self._spec, keys), text)

    def refused(self, headers: Headers) -> bool:
        """See ``Credential``."""
        if isinstance(headers, Signing):
            self._tokens.drop(self._key, headers.proof)
        return isinstance(headers, Signing)


class Aws:
    """What signs for callers, and for vmcp itself. ``key`` is what is the caller's alone: his token and who he is."""

    def __init__(self, name: str, auth: AwsSts, fetcher: Fetcher, tokens: Tokens) -> None:
        self._auth = auth
        self._roles = Roles(name, auth, fetcher)
        self._tokens = tokens

    def of(self, caller: Identity, key: Callable[[tuple[str, ...]], str]) -> Assumed:
        """The credential of a caller. Raises ``Unavailable`` where there is no role for him."""
        wanted = self._roles.of(caller)
        grant = functools.partial(self._roles.keys, wanted)
        return Assumed(self._tokens, key(wanted.asked), grant, self._auth, caller.principal)

    def own(self, token: Callable[[], str]) -> Assumed | None:
        """vmcp's own, with the fallback's role and a ``token`` that is read anew each time; None where it has no role."""
        role = self._auth.fallback
        if role is None:
            return None

        async def grant() -> Token:
            return await self._roles.keys(Wanted(role, OWN, token()))

        return Assumed(self._tokens, "", grant, self._auth)
