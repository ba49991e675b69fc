"""With which credential vmcp acts at a backend: the strategies as values, and how the file's become them.

The rule: a secret stays a reference until it is sent; a strategy that acts for each user is a type of its own (``PER_USER``), so
that nobody can take one for the other. What is right and wrong is in ``checks_outgoing``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmcp.config import aws, oauth
from vmcp.config.aws import AwsSts
from vmcp.config.oauth import OAuth, UserOAuth
from vmcp.config.values import SecretRef, Text

Data = Mapping[str, Any]
Secret = Callable[[tuple[str, ...], Any], Text]
"""Makes the value at a place below the strategy a text or a reference."""

TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:"
BLOCKS: Final[Mapping[str, str]] = {
    "header_injection": "headerInjection",
    "token_exchange": "tokenExchange",
    "service_account": "serviceAccount",
    "basic": "basic",
    "bearer": "bearer",
    "api_key": "apiKey",
    "aws_sts": "awsSts",
    "obo": "obo",
    "oauth": "oauth",
    "xaa": "xaa",
}
"""The block of each type that has one."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who vmcp is at a token endpoint; without a secret it is a public client."""

    id: str | None = None
    secret: Text | None = None


@dataclass(frozen=True, slots=True)
class Basic:
    """HTTP Basic authentication."""

    username: str
    password: Text


@dataclass(frozen=True, slots=True)
class Bearer:
    """A fixed bearer token."""

    token: Text


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A token of vmcp's own, by client credentials."""

    token_url: str
    client: Client
    audience: str | None = None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PassThrough:
    """The caller's own token as it is. ``listing`` is what vmcp lists the backend with."""

    listing: Text | None = None


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """A token for the backend in exchange for the caller's (RFC 8693)."""

    token_url: str
    client: Client
    audience: str | None = None
    scopes: tuple[str, ...] = ()
    subject_type: str = TOKEN_TYPE + "access_token"
    listing: Text | None = None


@dataclass(frozen=True, slots=True)
class CrossApp:
    """An assertion of the caller's identity provider, then a token of the target for it (ID-JAG)."""

    idp_url: str
    idp: Client
    target_url: str
    target: Client
    audience: str
    resource: str | None = None
    scopes: tuple[str, ...] = ()
    subject_type: str = TOKEN_TYPE + "id_token"
    listing: Text | None = None


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """A token of Microsoft Entra for the caller's (on-behalf-of). ``skew``: seconds before its end it is had anew."""

    token_url: str
    client: Client
    scopes: tuple[str, ...]
    skew: float = 60.0
    listing: Text | None = None


Auth = Basic | Bearer | ServiceAccount | PassThrough | TokenExchange | CrossApp | OnBehalf | AwsSts | OAuth
PER_USER: Final = (PassThrough, TokenExchange, CrossApp, OnBehalf, AwsSts, UserOAuth)
PER_USER_TYPES: Final = frozenset({"pass_through", "token_exchange", "xaa", "obo", "aws_sts"})


def header(strategy: Data, secret: Secret) -> tuple[str, Text] | None:
    """The plain header that a strategy stands for (``header_injection``, ``api_key``); None for the others."""
    kind = strategy.get("type")
    block: Data = strategy.get(BLOCKS.get(kind or "", ""), {})
    if kind == "header_injection":
        if "headerValueEnv" in block:
            return block["headerName"], SecretRef(env=block["headerValueEnv"])
        return block["headerName"], secret(("headerInjection", "headerValue"), block["headerValue"])
    if kind == "api_key":
        return block.get("headerName", "X-Api-Key"), secret(("apiKey", "key"), block["key"])
    return None


def from_data(strategy: Data, secret: Secret) -> Auth | None:
    """The strategy of a block that passed the checks; None for one that is a plain header, or nothing."""
    make = _MAKERS.get(strategy.get("type", ""))
    return make(strategy, secret) if make is not None else None


def _basic(strategy: Data, secret: Secret) -> Auth:
    block = strategy["basic"]
    return Basic(block["username"], secret(("basic", "password"), block["password"]))


def _bearer(strategy: Data, secret: Secret) -> Auth:
    return Bearer(secret(("bearer", "token"), strategy["bearer"]["token"]))


def _pass_through(strategy: Data, secret: Secret) -> Auth:
    return PassThrough(_listing(strategy, secret))


def _service_account(strategy: Data, secret: Secret) -> Auth:
    block = strategy["serviceAccount"]
    return ServiceAccount(block["tokenUrl"], _client(strategy, "serviceAccount", "client", secret), **_asked(block))


def _token_exchange(strategy: Data, secret: Secret) -> Auth:
    block = strategy["tokenExchange"]
    return TokenExchange(
        block["tokenUrl"],
        _client(strategy, "tokenExchange", "client", secret),
        subject_type=_urn(block.get("subjectTokenType", "access_token")),
        listing=_listing(strategy, secret),
        **_asked(block),
    )


def _xaa(strategy: Data, secret: Secret) -> Auth:
    block = strategy["xaa"]
    return CrossApp(
        block["idpTokenUrl"],
        _client(strategy, "xaa", "idpClient", secret),
        block["targetTokenUrl"],
        _client(strategy, "xaa", "targetClient", secret),
        block["targetAudience"],
        block.get("targetResource"),
        tuple(block.get("scopes", ())),
        _urn(block.get("subjectTokenType", "id_token")),
        _listing(strategy, secret),
    )


def _obo(strategy: Data, secret: Secret) -> Auth:
    block = strategy["obo"]
    return OnBehalf(
        block["tokenUrl"],
        _client(strategy, "obo", "client", secret),
        entra_scopes(block.get("audience"), tuple(block.get("scopes", ()))),
        float(block.get("cacheSkewSeconds", 60)),
        _listing(strategy, secret),
    )


def entra_scopes(audience: str | None, scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Entra has no audience but in its scopes: a bare one is the audience's, and without any it is all that was consented to."""
    if audience is None:
        return scopes
    bare = (each not in _OIDC and "/" not in each and ":" not in each for each in scopes)
    found = (f"{audience}/{each}" if is_bare else each for each, is_bare in zip(scopes, bare, strict=True))
    return tuple(found) or (f"{audience}/.default",)


_OIDC: Final = frozenset({"openid", "profile", "email", "offline_access"})


def _aws_sts(strategy: Data, secret: Secret) -> Auth:
    return aws.from_data(strategy["awsSts"], _listing(strategy, secret))


_MAKERS: Final[Mapping[str, Callable[[Data, Secret], Auth]]] = {
    "aws_sts": _aws_sts,
    "basic": _basic,
    "bearer": _bearer,
    "obo": _obo,
    "oauth": oauth.from_data,
    "pass_through": _pass_through,
    "service_account": _service_account,
    "token_exchange": _token_exchange,
    "xaa": _xaa,
}


def _asked(block: Data) -> dict[str, Any]:
    return {"audience": block.get("audience"), "scopes": tuple(block.get("scopes", ()))}


def _client(strategy: Data, block: str, prefix: str, secret: Secret) -> Client:
    """The client whose keys begin with ``prefix``."""
    data, key = strategy[block], f"{prefix}Secret"
    found: Text | None = None
    if f"{key}Env" in data:
        found = SecretRef(env=data[f"{key}Env"])
    elif key in data:
        found = secret((block, key), data[key])
    return Client(data.get(f"{prefix}Id"), found)


def _listing(strategy: Data, secret: Secret) -> Text | None:
    return secret(("listingToken",), strategy["listingToken"]) if "listingToken" in strategy else None


def _urn(kind: str) -> str:
    return kind if kind.startswith("urn:") else TOKEN_TYPE + kind
