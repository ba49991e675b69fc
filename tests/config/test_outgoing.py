"""Outgoing strategies: what they become, what is refused, and that no secret is told."""

from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.config.samples import config, problems
from vmcp.config.model import BackendSpec
from vmcp.config.outgoing import (
    Basic,
    Bearer,
    Client,
    CrossApp,
    PassThrough,
    ServiceAccount,
    TokenExchange,
    from_data,
    header,
)
from vmcp.config.values import SecretRef, Text

URL = "url: https://a.example.com/mcp"
IDP = "https://idp.example/t"
OIDC = "incomingAuth: {type: oidc, oidc: {issuer: https://idp.example.com, audience: vmcp}}\n"

LOCAL = f"incomingAuth: {{type: local, local: {{keys: [{{subject: a, sha256: {'0123456789abcdef' * 4}}}]}}}}\n"


def file(settings: str, more: str = "") -> str:
    return f"name: x\ngroups: {{code: {{backends: {{a: {{{settings}}}}}}}}}\n{more}"


def backend(settings: str, more: str = OIDC) -> BackendSpec:
    return config(file(settings, more)).backends[0]


def wrong(settings: str, more: str = OIDC) -> list[str]:
    found = problems(file(settings, more))
    return [f"{each.rule} {each.path.removeprefix('groups.code.backends.')}" for each in found]


def auth(strategy: str) -> str:
    return f"{URL}, auth: {{{strategy}}}"


ENV = SecretRef(env="S")
XAA = (
    f"type: xaa, xaa: {{idpTokenUrl: {IDP}, targetTokenUrl: https://as.example/t, targetAudience: https://as.example,"
    " targetClientId: t, targetClientSecretEnv: S, idpClientId: i, scopes: [r], targetResource: https://r.example,"
    " subjectTokenType: 'urn:ietf:params:oauth:token-type:id_token'}"
)
EXCHANGED = (
    "type: token_exchange, listingToken: {env: L}, tokenExchange: "
    f"{{tokenUrl: {IDP}, clientId: c, clientSecret: {{env: S}}, subjectTokenType: jwt}}"
)
STRATEGIES: list[tuple[str, Any]] = [
    ("type: unauthenticated", None),
    ("type: bearer, bearer: {token: {env: S}}", Bearer(ENV)),
    ("type: bearer, bearer: {token: {file: s}}", Bearer(SecretRef(file="/etc/vmcp/s"))),
    ("type: basic, basic: {username: u, password: {env: S}}", Basic("u", ENV)),
    ("type: pass_through", PassThrough()),
    ("type: pass_through, listingToken: {env: S}", PassThrough(ENV)),
    (
        f"type: service_account, serviceAccount: {{tokenUrl: {IDP}, clientId: c, clientSecretEnv: S,audience: x, scopes: [r,w]}}",
        ServiceAccount(IDP, Client("c", ENV), "x", ("r", "w")),
    ),
    (f"type: token_exchange, tokenExchange: {{tokenUrl: {IDP}}}", TokenExchange(IDP, Client())),
    (
        EXCHANGED,
        TokenExchange(
            IDP, Client("c", ENV), subject_type="urn:ietf:params:oauth:token-type:jwt", listing=SecretRef(env="L")
        ),
    ),
    (
        XAA,
        CrossApp(
            IDP,
            Client("i"),
            "https://as.example/t",
            Client("t", ENV),
            "https://as.example",
            "https://r.example",
            ("r",),
        ),
    ),
]


@pytest.mark.parametrize(("strategy", "expected"), STRATEGIES)
def test_a_strategy_becomes_what_it_says(strategy: str, expected: Any) -> None:
    assert wrong(auth(strategy)) == []
    assert from_data(YAML(typ="safe").load(f"{{{strategy}}}"), _secret) == expected


def _secret(path: tuple[str, ...], value: Any) -> Text:
    return SecretRef(env=value["env"]) if "env" in value else SecretRef(file=f"/etc/vmcp/{value['file']}")


@pytest.mark.parametrize(
    ("strategy", "name", "value"),
    [
        ("type: api_key, apiKey: {key: {env: S}}", "X-Api-Key", ENV),
        ("type: api_key, apiKey: {headerName: X-K, key: {file: k}}", "X-K", SecretRef(file="/etc/vmcp/k")),
        ("type: header_injection, headerInjection: {headerName: X-H, headerValueEnv: S}", "X-H", ENV),
        ("type: header_injection, headerInjection: {headerName: X-H, headerValue: v}", "X-H", "v"),
    ],
)
def test_a_strategy_that_is_a_header_becomes_one(strategy: str, name: str, value: object) -> None:
    spec = backend(auth(strategy), "")
    assert (dict(spec.headers), spec.auth) == ({name: value}, None)


def test_own_counts_before_named_before_default_and_a_child_gets_nothing() -> None:
    more = (
        "outgoingAuth: {default: {type: bearer, bearer: {token: {env: D}}},"
        " backends: {a: {type: bearer, bearer: {token: {env: N}}}}}\n"
    )
    assert backend(auth("type: bearer, bearer: {token: {env: O}}"), more).auth == Bearer(SecretRef(env="O"))
    assert backend(URL, more).auth == Bearer(SecretRef(env="N"))
    default = "outgoingAuth: {default: {type: bearer, bearer: {token: {env: D}}}}\n"
    assert backend(URL, default).auth == Bearer(SecretRef(env="D"))
    assert backend(f"{URL}, headers: {{authorization: {{env: H}}}}", default).auth is None
    assert backend(auth("type: unauthenticated"), default).auth is None
    assert backend("command: [x]", default).auth is None
    assert header({"type": "bearer"}, lambda *_: "") is None


def test_a_secret_in_the_file_is_warned_of_and_never_told() -> None:
    literal = [
        ("type: bearer, bearer: {token: canary}", "auth.bearer.token"),
        ("type: basic, basic: {username: u, password: canary}", "auth.basic.password"),
        ("type: api_key, apiKey: {key: canary}", "auth.apiKey.key"),
        ("type: pass_through, listingToken: canary", "auth.listingToken"),
        (
            f"type: service_account, serviceAccount: {{tokenUrl: {IDP}, clientId: c, clientSecret: canary}}",
            "auth.serviceAccount.clientSecret",
        ),
    ]
    for strategy, path in literal:
        assert wrong(auth(strategy)) == [f"literal-secret a.{path}"]
        assert "canary" not in str(problems(file(auth(strategy))))
    assert "canary" not in repr(backend(auth("type: bearer, bearer: {token: canary}"), ""))


EXCHANGE = f"type: token_exchange, tokenExchange: {{tokenUrl: {IDP}}}"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (auth("type: bearer, bearer: {token: {env: S}}, basic: {username: u, password: ''}"), ["misplaced-key a.auth.basic"]),
        (auth("type: bearer, bearer: {token: {env: S}}, listingToken: {env: S}"), ["misplaced-key a.auth.listingToken"]),
        (auth("type: basic, basic: {username: 'u:v', password: {env: S}}"), ["bad-value a.auth.basic.username"]),
        (auth("type: api_key, apiKey: {headerName: Host, key: {env: S}}"), ["bad-header a.auth.apiKey.headerName"]),
        (auth("type: token_exchange, tokenExchange: {tokenUrl: 'https://u@idp/'}"), ["bad-url a.auth.tokenExchange.tokenUrl"]),
        (auth("type: token_exchange, tokenExchange: {tokenUrl: 'http://idp/'}"), ["plain-http a.auth.tokenExchange.tokenUrl"]),
        (auth("type: token_exchange, tokenExchange: {tokenUrl: 'http://127.0.0.1/'}"), []),
        (
            auth(f"type: token_exchange, tokenExchange: {{tokenUrl: {IDP}, clientSecretEnv: S}}"),
            ["missing-key a.auth.tokenExchange.clientSecretEnv"],
        ),
        (
            auth(f"type: token_exchange, tokenExchange: {{tokenUrl: {IDP}, clientId: c, clientSecret: {{env: S}}, "
                 "clientSecretEnv: S}"),
            ["contradiction a.auth.tokenExchange.clientSecretEnv"],
        ),
        (
            auth(f"type: service_account, serviceAccount: {{tokenUrl: {IDP}, clientId: c}}"),
            ["missing-key a.auth.serviceAccount"],
        ),
        (auth(f"type: token_exchange, tokenExchange: {{tokenUrl: {IDP}, subjectProviderName: x}}"),
         ["not-ours a.auth.tokenExchange.subjectProviderName"]),
        (f"{auth(EXCHANGE)}, isolation: shared", ["contradiction a.isolation"]),
        (f"{auth(EXCHANGE)}, isolation: identity", []),
        (f"{auth(EXCHANGE)}, transport: sse", ["contradiction a.transport"]),
        (f"url: wss://a.example.com/, auth: {{{EXCHANGE}}}", ["contradiction a.url"]),
        ("url: wss://a.example.com/, auth: {type: bearer, bearer: {token: {env: S}}}", []),
        (f"{auth(EXCHANGE)}, headers: {{Authorization: {{env: S}}}}", ["contradiction a.auth.type"]),
        (f"{auth('type: bearer, bearer: {token: {env: S}}')}, headers: {{X-A: b}}", []),
        (
            f"{auth('type: api_key, apiKey: {headerName: X-K, key: {env: S}}')}, headers: {{x-k: b}}",
            ["contradiction a.auth.type"],
        ),
        ("command: [x], auth: {type: pass_through}", ["misplaced-key a.auth.type"]),
        ("command: [x], auth: {type: unauthenticated}", []),
    ],
)  # fmt: skip
def test_what_could_have_no_effect_or_a_wrong_one_is_refused(settings: str, expected: list[str]) -> None:
    assert wrong(settings) == expected


def test_a_target_without_tls_has_to_be_allowed() -> None:
    block = f"idpTokenUrl: {IDP}, targetTokenUrl: 'http://as/', targetAudience: x"
    assert wrong(auth(f"type: xaa, xaa: {{{block}}}")) == ["plain-http a.auth.xaa.targetTokenUrl"]
    assert wrong(auth(f"type: xaa, xaa: {{{block}, insecureTargetTokenUrl: true}}")) == []


@pytest.mark.parametrize(
    ("strategy", "incoming", "expected"),
    [
        ("type: pass_through", "", ["contradiction a.auth.type"]),
        ("type: pass_through", "incomingAuth: {type: anonymous}", ["contradiction a.auth.type"]),
        (EXCHANGE, "", ["contradiction a.auth.type"]),
        ("type: pass_through", LOCAL, ["contradiction a.auth.type"]),
        (EXCHANGE, LOCAL, ["contradiction a.auth.type"]),
        ("type: bearer, bearer: {token: {env: S}}", "", []),
        ("type: bearer, bearer: {token: {env: S}}", LOCAL, []),
        (EXCHANGE, OIDC, []),
        (EXCHANGE, "incomingAuth: {type: 5}", ["bad-type incomingAuth.type"]),
    ],
)
def test_what_acts_for_each_user_needs_to_know_who_calls(strategy: str, incoming: str, expected: list[str]) -> None:
    assert wrong(auth(strategy), incoming) == expected


def test_a_default_that_acts_for_each_user_is_checked_at_every_backend() -> None:
    exchange = OIDC + f"outgoingAuth: {{default: {{{EXCHANGE}}}}}\n"
    assert wrong(URL, exchange) == []
    assert wrong(f"{URL}, isolation: shared", exchange) == ["contradiction a.isolation"]
    assert wrong(f"{URL}, headers: {{Authorization: {{env: S}}}}", exchange) == ["contradiction a.headers"]
    assert wrong("command: [x]", exchange) == []
    passed = OIDC + "outgoingAuth: {default: {type: pass_through}}\n"
    assert wrong(URL, passed) == ["contradiction outgoingAuth.default.type"]
