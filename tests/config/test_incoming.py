"""``incomingAuth`` as values. Rule: what the file says arrives, and a secret arrives as a reference or veiled."""

import json
from typing import Any

import pytest

from tests.config.samples import SMALL, problems, told
from vmcp.config.incoming import Incoming, Issuer, LocalKey
from vmcp.config.load import load
from vmcp.config.values import Concealed, SecretRef

GROUPS = {"g": {"backends": {"b": {"url": "https://b.example.com/mcp"}}}}
HASH = "ab" * 32


def incoming(**said: Any) -> Incoming:
    config, _ = load([("/etc/vmcp/vmcp.yaml", json.dumps({"name": "x", "groups": GROUPS, **said}))], {})
    return config.incoming


def test_nobody_is_asked_unless_the_file_says_so() -> None:
    assert incoming() == incoming(incomingAuth={"type": "anonymous"}) == Incoming()


@pytest.mark.parametrize("said", [{"type": "local"}, {"type": "local", "local": {"osUser": True}}])
def test_local_alone_is_the_user_of_the_system_as_in_toolhive(said: Any) -> None:
    assert incoming(incomingAuth=said) == Incoming("local", os_user=True)


def test_keys_arrive_as_hashes_and_with_keys_nobody_else_comes_in() -> None:
    keys = [
        {"subject": "ci", "sha256": HASH, "claims": {"groups": ["a"]}, "scopes": ["tools"]},
        {"subject": "bob", "sha256": {"env": "BOB"}},
    ]
    found = incoming(incomingAuth={"type": "local", "local": {"keys": keys}})
    assert found.keys == (
        LocalKey("ci", Concealed(HASH), {"groups": ["a"]}, ("tools",)),
        LocalKey("bob", SecretRef(env="BOB")),
    )
    assert not found.os_user
    assert HASH not in repr(found)


def test_issuers_arrive_in_order_with_what_is_theirs() -> None:
    first = {
        "issuer": "https://idp.example.com",
        "audience": "vmcp",
        "clientId": "gw",
        "clientSecretEnv": "S",
        "caBundlePath": "ca.pem",
        "requiredScopes": ["tools"],
        "leeway": "10s",
        "maxLifetime": "2h",
        "algorithms": ["ES256"],
        "requireTyp": True,
    }
    second = {"issuer": "https://other.example.com", "audience": "vmcp", "clientId": "gw", "clientSecret": "literal"}
    found = incoming(incomingAuth={"type": "oidc", "oidc": first, "issuers": [second]})
    assert found.issuers == (
        Issuer(
            "https://idp.example.com",
            "vmcp",
            client_id="gw",
            client_secret=SecretRef(env="S"),
            ca_bundle="/etc/vmcp/ca.pem",
            required_scopes=("tools",),
            leeway=10.0,
            max_lifetime=7200.0,
            algorithms=("ES256",),
            require_typ=True,
        ),
        Issuer("https://other.example.com", "vmcp", client_id="gw", client_secret="literal"),
    )
    assert "literal" not in repr(found)


@pytest.mark.parametrize(("key", "allowed"), [("jwksAllowPrivateIp", True), ("protectedResourceAllowPrivateIp", True)])
def test_private_addresses_are_allowed_by_either_key(key: str, allowed: bool) -> None:
    one = {"issuer": "http://idp.local", "audience": "a", "insecureAllowHttp": True, key: allowed}
    (found,) = incoming(incomingAuth={"type": "oidc", "oidc": one}).issuers
    assert (found.private_addresses, found.plain_http) == (allowed, True)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("incomingAuth: {type: local, local: {}}", ["6:29 missing-key incomingAuth.local"]),
        ("incomingAuth: {type: local, local: {keys: [~]}}", ["6:44 bad-type incomingAuth.local.keys[0]"]),
        ("incomingAuth: {type: local, local: {keys: 5}}", ["6:43 bad-type incomingAuth.local.keys"]),
        ("incomingAuth: {type: local, local: 5}", ["6:36 bad-type incomingAuth.local"]),
        ("incomingAuth: {type: local}\nserver: {host: 0.0.0.0}", ["6:16 contradiction incomingAuth.type"]),
        ("incomingAuth: {type: local}\nserver: {trustedProxies: [10.0.0.1]}", ["6:16 contradiction incomingAuth.type"]),
        (
            f"incomingAuth: {{type: local, local: {{keys: [{{subject: a, sha256: '{HASH}'}}]}}}}\nserver: {{host: 0.0.0.0}}",
            [],
        ),
        (
            "incomingAuth: {type: oidc, oidc: {issuer: 'https://i.example', audience: a}, issuers: [~]}",
            ["6:88 bad-type incomingAuth.issuers[0]"],
        ),
        ("incomingAuth: {type: oidc, oidc: {issuer: 5, audience: a}}", ["6:43 bad-type incomingAuth.oidc.issuer"]),
    ],
)
def test_what_would_let_in_everybody_or_nobody_is_told(more: str, found: list[str]) -> None:
    assert told(problems(f"{SMALL}{more}\n")) == found
