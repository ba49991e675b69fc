"""Who may come in: ``incomingAuth`` as values.

The rule: an API key is here as its hash alone, and the secret of a client only as a reference; ``checks_incoming`` has what is
right and wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from vmcp.config.quantities import seconds
from vmcp.config.values import SecretRef, Text

Data = Mapping[str, Any]
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer of tokens, and which of them are accepted. Times in seconds."""

    issuer: str
    audience: str
    resource: str | None = None
    jwks_url: str | None = None
    introspection_url: str | None = None
    client_id: str | None = None
    client_secret: Text | None = None
    scopes: tuple[str, ...] = ("openid",)
    required_scopes: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway: float = 30.0
    max_lifetime: float = 86_400.0
    require_typ: bool = False
    private_addresses: bool = False
    plain_http: bool = False
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True)
class LocalKey:
    """An API key by its SHA-256 (hexadecimal), and who shows it."""

    subject: str
    sha256: Text
    claims: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """``os_user``: whoever comes over loopback without a key is who runs vmcp."""

    type: Literal["anonymous", "local", "oidc"] = "anonymous"
    issuers: tuple[Issuer, ...] = ()
    keys: tuple[LocalKey, ...] = ()
    os_user: bool = False


def from_data(data: Data, file: Callable[[Place, str], str], text: Callable[[Place, Any], Text]) -> Incoming:
    """``incomingAuth`` as values; ``file`` makes a path absolute, ``text`` a secret of what stands at a place."""
    kind = data.get("type", "anonymous")
    if kind == "oidc":
        given: list[tuple[Place, Data]] = [(("oidc",), data["oidc"])]
        given += [(("issuers", number), each) for number, each in enumerate(data.get("issuers", ()))]
        return Incoming("oidc", issuers=tuple(_issuer(place, each, file, text) for place, each in given))
    if kind == "local":
        local: Data = data.get("local", {"osUser": True})
        keys = [_key(number, each, text) for number, each in enumerate(local.get("keys", ()))]
        return Incoming("local", keys=tuple(keys), os_user=local.get("osUser", False))
    return Incoming()


_SAME = {
    "resource": "resource",
    "jwksUrl": "jwks_url",
    "introspectionUrl": "introspection_url",
    "clientId": "client_id",
    "requireTyp": "require_typ",
    "insecureAllowHttp": "plain_http",
}
_LISTS = {"scopes": "scopes", "requiredScopes": "required_scopes", "algorithms": "algorithms"}
_TIMES = {"leeway": "leeway", "maxLifetime": "max_lifetime"}


def _issuer(place: Place, data: Data, file: Callable[[Place, str], str], text: Callable[[Place, Any], Text]) -> Issuer:
    given: dict[str, Any] = {name: data[key] for key, name in _SAME.items() if key in data}
    given |= {name: tuple(data[key]) for key, name in _LISTS.items() if key in data}
    given |= {name: seconds(data[key]) for key, name in _TIMES.items() if key in data}
    given["private_addresses"] = data.get("jwksAllowPrivateIp", False) or data.get(
        "protectedResourceAllowPrivateIp", False
    )
    if "clientSecretEnv" in data:
        given["client_secret"] = SecretRef(env=data["clientSecretEnv"])
    elif "clientSecret" in data:
        given["client_secret"] = text((*place, "clientSecret"), data["clientSecret"])
    if "caBundlePath" in data:
        given["ca_bundle"] = file((*place, "caBundlePath"), data["caBundlePath"])
    return Issuer(data["issuer"], data["audience"], **given)


def _key(number: int, data: Data, text: Callable[[Place, Any], Text]) -> LocalKey:
    claims = MappingProxyType(dict(data.get("claims", {})))
    return LocalKey(
        data["subject"],
        text(("local", "keys", number, "sha256"), data["sha256"]),
        claims,
        tuple(data.get("scopes", ())),
    )
