"""``type: oauth`` as values, and what cannot be meant."""

import pytest

from tests.config.samples import config, problems
from vmcp.config.oauth import GatewayOAuth, OAuth, StateSpec, UserOAuth
from vmcp.config.outgoing import PER_USER
from vmcp.config.values import SecretRef

URL = "url: https://a.example.com/mcp"
LOCAL = "incomingAuth: {type: local}\n"
OIDC = "incomingAuth: {type: oidc, oidc: {issuer: https://idp.example.com, audience: vmcp}}\n"
KEPT = "state: {directory: st}\n"


def file(oauth: str, more: str = LOCAL, strategy: str = "", settings: str = "") -> str:
    block = f", oauth: {{{oauth}}}" if oauth else ""
    auth = f"auth: {{type: oauth{block}{strategy}}}"
    return f"name: x\ngroups: {{g: {{backends: {{a: {{{URL}, {auth}{settings}}}}}}}}}\n{more}"


def made(oauth: str, more: str = LOCAL, strategy: str = "") -> OAuth:
    auth = config(file(oauth, more, strategy)).backends[0].auth
    assert isinstance(auth, OAuth)
    return auth


def wrong(oauth: str, more: str = LOCAL, strategy: str = "", settings: str = "") -> list[str]:
    found = problems(file(oauth, more, strategy, settings))
    return [f"{each.rule} {each.path.removeprefix('groups.g.backends.a.')}" for each in found]


def test_without_settings_it_is_each_users_own() -> None:
    auth = made("")
    assert auth == UserOAuth(base="http://127.0.0.1:4483", redirect="http://127.0.0.1:4483/oauth/callback")
    assert isinstance(auth, PER_USER)


def test_everything_that_can_be_said() -> None:
    said = "issuer: https://idp.example.com, registration: fixed, clientId: c, clientSecret: {env: S}, scopes: [r, w]"
    auth = made(said, OIDC + "server: {publicUrl: 'https://gw.example.com/'}\n", ", listingToken: {env: L}")
    assert auth == UserOAuth(
        "https://idp.example.com",
        "fixed",
        "c",
        SecretRef(env="S"),
        ("r", "w"),
        SecretRef(env="L"),
        "https://gw.example.com",
        "https://gw.example.com/oauth/callback",
    )


def test_the_gateways_is_a_type_of_its_own() -> None:
    auth = made("mode: gateway, clientId: c, clientSecretEnv: S", KEPT + "incomingAuth: {type: anonymous}\n")
    assert isinstance(auth, GatewayOAuth)
    assert not isinstance(auth, PER_USER)
    assert auth.client_secret == SecretRef(env="S")
    assert auth.state == StateSpec("/etc/vmcp/st")


def test_where_the_pages_are_follows_from_the_listener() -> None:
    assert made("", LOCAL + "server: {host: '::1', port: 9}\n").base == "http://[::1]:9"
    auth = made("redirectUrl: 'https://gw.example.com/x/oauth/callback'", LOCAL + "server: {host: localhost}\n")
    assert (auth.base, auth.redirect) == ("http://localhost:4483", "https://gw.example.com/x/oauth/callback")


def test_the_state_is_of_the_whole_file() -> None:
    found = config(f"name: x\nbackends: [{{name: b, {URL}}}]\nstate: {{keys: {{file: k}}, directory: /var/lib/vmcp}}\n")
    assert found.state == StateSpec("/var/lib/vmcp", "/etc/vmcp/k")
    assert config(f"name: x\nbackends: [{{name: b, {URL}}}]\n").state == StateSpec()


@pytest.mark.parametrize(
    ("oauth", "told"),
    [
        ("registration: fixed", ["missing-key auth.oauth.registration"]),
        ("registration: dynamic, clientId: c", ["misplaced-key auth.oauth.clientId"]),
        ("registration: metadataDocument", ["contradiction auth.oauth.registration"]),
        ("clientSecretEnv: S", ["missing-key auth.oauth.clientSecretEnv"]),
        ("clientId: c, clientSecret: {env: S}, clientSecretEnv: S", ["contradiction auth.oauth.clientSecretEnv"]),
        ("issuer: http://idp.example.com", ["bad-url auth.oauth.issuer"]),
        ("issuer: 'https://idp.example.com?x=1'", ["bad-url auth.oauth.issuer"]),
        ("issuer: http://localhost:4000", []),
        ("redirectUrl: https://gw.example.com/back", ["bad-url auth.oauth.redirectUrl"]),
        ("redirectUrl: http://gw.example.com/oauth/callback", ["bad-url auth.oauth.redirectUrl"]),
        ("registration: fixed, clientId: 5", ["bad-type auth.oauth.clientId"]),
        ("mode: gateway", ["missing-key auth.oauth.mode"]),
        ("mode: everybody", ["bad-value auth.oauth.mode"]),
    ],
)
def test_what_cannot_be_meant_is_told(oauth: str, told: list[str]) -> None:
    assert wrong(oauth) == told


@pytest.mark.parametrize(
    ("oauth", "more", "told"),
    [
        ("", "", ["contradiction auth.type"]),
        ("", "incomingAuth: {type: anonymous}\n", ["contradiction auth.type"]),
        ("", "incomingAuth: {type: nobody}\n", ["bad-value incomingAuth.type"]),
        ("", OIDC + "server: {host: 0.0.0.0}\n", ["missing-key auth.type"]),
        ("", OIDC + "server: {publicUrl: 'http://gw.example.com'}\n", ["plain-http auth.type"]),
        (
            "redirectUrl: https://gw.example.com/oauth/callback",
            OIDC + "server: {publicUrl: 'http://gw.example.com'}\n",
            [],
        ),
        ("", LOCAL + "server: {host: 5}\n", ["bad-type server.host"]),
        ("mode: gateway", "state: {directory: 5}\n", ["bad-type state.directory"]),
        ("mode: gateway", KEPT, []),
        ("", LOCAL + "server: {workers: 2}\n", ["missing-key auth.type"]),
        ("", LOCAL + "server: {workers: 2}\n" + KEPT, []),
    ],
)
def test_what_does_not_go_with_the_rest_is_told(oauth: str, more: str, told: list[str]) -> None:
    assert wrong(oauth, more) == told


def test_what_acts_for_each_user_has_a_way_of_each_user() -> None:
    assert wrong("", settings=", isolation: shared") == ["contradiction isolation"]
    assert wrong("", settings=", transport: sse") == ["contradiction transport"]
    assert wrong("mode: gateway", KEPT, settings=", isolation: shared, transport: sse") == []
    assert wrong("mode: gateway", KEPT, strategy=", listingToken: {env: L}") == ["misplaced-key auth.listingToken"]


def test_the_default_may_be_it() -> None:
    text = f"name: x\nbackends: [{{name: b, {URL}}}]\noutgoingAuth: {{default: {{type: oauth}}}}\n{LOCAL}"
    assert isinstance(config(text).backends[0].auth, UserOAuth)
    assert not problems(text)


def test_a_block_of_another_type_is_told() -> None:
    text = f"name: x\nbackends: [{{name: b, {URL}, auth: {{type: unauthenticated, oauth: {{mode: user}}}}}}]\n"
    assert [each.rule for each in problems(text)] == ["misplaced-key"]
