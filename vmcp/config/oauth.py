"""``outgoingAuth … type: oauth`` as values: how vmcp becomes a client of a backend's authorization server, and for whom.

The rule: a token is each user's (``UserOAuth``) or the gateway's (``GatewayOAuth``), and the types say which; where vmcp's own
pages are follows from the listener, unless the file says it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from vmcp.config.urls import is_loopback
from vmcp.config.values import SecretRef, Text

Data = Mapping[str, Any]
Secret = Callable[[tuple[str, ...], Any], Text]
Registration = Literal["auto", "metadataDocument", "dynamic", "fixed"]

CALLBACK: Final = "/oauth/callback"
"""The path that authorization servers send browsers back to."""
PORT: Final = 4483


@dataclass(frozen=True, slots=True)
class StateSpec:
    """``state``: the folder of what outlives the process (None: nothing does), and the file of the keys that seal it."""

    directory: str | None = None
    keys: str | None = None


@dataclass(frozen=True, slots=True)
class OAuth:
    """A client of the backend's authorization server. ``issuer`` None: it is found by the backend's metadata.

    ``base`` is where vmcp's own pages are, without a slash at the end; empty: there is no such place.
    """

    issuer: str | None = None
    registration: Registration = "auto"
    client_id: str | None = None
    client_secret: Text | None = None
    scopes: tuple[str, ...] = ()
    listing: Text | None = None
    base: str = ""
    redirect: str = ""
    state: StateSpec = StateSpec()


@dataclass(frozen=True, slots=True)
class UserOAuth(OAuth):
    """A token for each user, who consents himself."""


@dataclass(frozen=True, slots=True)
class GatewayOAuth(OAuth):
    """One token, for which the operator consents with ``vmcp auth login``."""


def is_per_user(strategy: Data) -> bool:
    """Whether a strategy of this type has a token for each user."""
    return strategy.get("type") == "oauth" and strategy.get("oauth", {}).get("mode", "user") == "user"


def from_data(strategy: Data, secret: Secret) -> OAuth:
    """The strategy of a block that passed the checks, not yet knowing its place (``placed``)."""
    data: Data = strategy.get("oauth", {})
    found: Text | None = None
    if "clientSecretEnv" in data:
        found = SecretRef(env=data["clientSecretEnv"])
    elif "clientSecret" in data:
        found = secret(("oauth", "clientSecret"), data["clientSecret"])
    listing = secret(("listingToken",), strategy["listingToken"]) if "listingToken" in strategy else None
    kind = UserOAuth if is_per_user(strategy) else GatewayOAuth
    return kind(
        issuer=data.get("issuer"),
        registration=data.get("registration", "auto"),
        client_id=data.get("clientId"),
        client_secret=found,
        scopes=tuple(data.get("scopes", ())),
        listing=listing,
        redirect=data.get("redirectUrl", ""),
    )


def placed(spec: OAuth, server: Data, state: StateSpec) -> OAuth:
    """``spec``, which knows now where its pages are and where its tokens are kept."""
    base = base_of(server)
    return replace(spec, base=base, redirect=spec.redirect or base + CALLBACK, state=state)


def base_of(server: Data) -> str:
    """Where browsers find vmcp: at ``server.publicUrl``, else on this machine; empty when neither is known."""
    public: str | None = server.get("publicUrl")
    if public is not None:
        return public.rstrip("/")
    host, port = server.get("host", "127.0.0.1"), server.get("port", PORT)
    if not is_loopback(host):
        return ""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def state(data: Data, file: Callable[[str], str]) -> StateSpec:
    """``state`` as values; ``file`` makes the path at one of its places absolute."""
    directory, keys = data.get("directory"), data.get("keys", {}).get("file")
    return StateSpec(file("directory") if directory else None, file("keys") if keys else None)
