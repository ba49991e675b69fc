"""Roles of AWS: whose they are, and what is refused before anybody asks for one."""

from typing import Any

import pytest

from tests.config.test_outgoing import OIDC, auth, backend, wrong
from vmcp.config.aws import AwsSts, RoleMapping, sts_url
from vmcp.config.conditions import compiled
from vmcp.config.outgoing import Client, OnBehalf, entra_scopes
from vmcp.config.values import SecretRef


def arn(name: str) -> str:
    return f"arn:aws:iam::123456789012:role/{name}"


MAPPED = (
    f"region: eu-central-1, fallbackRoleArn: '{arn('fallback')}', roleMappings: ["
    f"{{claim: readers, roleArn: '{arn('reader')}', priority: 20}}, "
    f"{{claim: admins, roleArn: '{arn('admin')}', priority: 10}}, "
    f"{{claim: staff, roleArn: '{arn('staff')}', priority: 10}}, "
    f"{{matcher: '\"guest\" in claims.groups && claims.sub == \"x\"', roleArn: '{arn('guest')}', priority: 5}}]"
)


def strategy(block: str, more: str = "") -> str:
    return auth(f"type: aws_sts{more}, awsSts: {{{block}}}")


def spec(block: str, more: str = "") -> AwsSts:
    found = backend(strategy(block, more)).auth
    assert isinstance(found, AwsSts)
    return found


def test_a_strategy_becomes_what_it_says() -> None:
    assert spec(f"region: us-east-1, fallbackRoleArn: '{arn('a')}'") == AwsSts(
        "us-east-1", "aws-mcp", arn("a"), sts_url="https://sts.us-east-1.amazonaws.com/"
    )
    full = (
        f"region: cn-north-1, service: execute-api, fallbackRoleArn: '{arn('a')}', roleClaim: roles, sessionDuration: 1h30m, "
        f"sessionNameClaim: email, stsUrl: 'https://sts.example.com/', roleMappings: [{{claim: c, roleArn: '{arn('b')}'}}]"
    )
    assert spec(full, ", listingToken: {env: L}") == AwsSts(
        "cn-north-1",
        "execute-api",
        arn("a"),
        (RoleMapping(arn("b"), "c"),),
        "roles",
        5400,
        "email",
        "https://sts.example.com/",
        SecretRef(env="L"),
    )
    assert sts_url("cn-north-1") == "https://sts.cn-north-1.amazonaws.com.cn/"
    assert spec(f"region: eu-west-1, sessionDuration: 900, fallbackRoleArn: '{arn('a')}'").duration == 900


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({}, "fallback"),
        ({"groups": "admins"}, "admin"),
        ({"groups": ["readers"]}, "reader"),
        ({"groups": ["readers", "staff"]}, "staff"),
        ({"groups": ("staff", "admins")}, "admin"),
        ({"groups": {"readers": True}}, "reader"),
        ({"groups": ["guest", "admins"], "sub": "x"}, "guest"),
        ({"groups": ["guest", "admins"], "sub": "y"}, "admin"),
        ({"groups": "administrators of readers"}, "fallback"),
        ({"groups": 5, "readers": "readers"}, "fallback"),
        ({"groups": [["admins"], None]}, "fallback"),
        ({"groups": {"x": "admins"}, "sub": "x"}, "fallback"),
    ],
)
def test_the_first_role_that_fits_by_priority_and_then_by_the_file_is_the_callers(
    claims: dict[str, Any], role: str
) -> None:
    assert spec(MAPPED).role(claims) == arn(role)


def test_without_a_fallback_a_caller_whom_nothing_fits_has_no_role() -> None:
    mapped = spec(f"region: us-east-1, roleMappings: [{{claim: a, roleArn: '{arn('a')}'}}]")
    assert mapped.role({"groups": ["a"]}) == arn("a")
    assert mapped.role({"groups": ["b"]}) is None
    matched = AwsSts("r-1", mappings=(RoleMapping(arn("x"), matcher=compiled("claims.a.b > 1", ("claims",))),))
    assert matched.role({"a": {"b": 2}}) == arn("x")
    assert matched.role({"a": 2}) is None
    theirs = compiled('"admins" in claims["groups"] && claims["sub"] == "user123" && !("act" in claims)', ("claims",))
    matched = AwsSts("r-1", mappings=(RoleMapping(arn("x"), matcher=theirs),))
    assert matched.role({"groups": ["admins"], "sub": "user123"}) == arn("x")
    assert matched.role({"groups": ["admins"], "sub": "user123", "act": {"sub": "x"}}) is None


AT = "a.auth.awsSts"
ONE = f"roleArn: '{arn('a')}'"


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (MAPPED, []),
        ("region: us-east-1", [f"missing-key {AT}"]),
        ("region: us-east-1, roleMappings: []", [f"missing-key {AT}"]),
        ("region: us-east-1, roleMappings: 5", [f"bad-type {AT}.roleMappings"]),
        ("region: us-east-1, fallbackRoleArn: 5", [f"bad-type {AT}.fallbackRoleArn"]),
        ("region: us-east-1, fallbackRoleArn: 'arn:aws:iam::1:role/a'", [f"bad-value {AT}.fallbackRoleArn"]),
        ("region: us-east-1, fallbackRoleArn: 'arn:aws:iam::123456789012:user/a'", [f"bad-value {AT}.fallbackRoleArn"]),
        ("region: us-east-1, fallbackRoleArn: 'arn:aws-us-gov:iam::123456789012:role/path/a'", []),
        (f"region: us-east-1, roleMappings: [{{{ONE}}}]", [f"missing-key {AT}.roleMappings[0]"]),
        ("region: us-east-1, roleMappings: [{claim: a}]", [f"missing-key {AT}.roleMappings[0]"]),
        (f"region: us-east-1, roleMappings: [{{claim: 5, {ONE}}}]", [f"bad-type {AT}.roleMappings[0].claim"]),
        ("region: us-east-1, roleMappings: [{claim: a, roleArn: x}]", [f"bad-value {AT}.roleMappings[0].roleArn"]),
        (
            f"region: us-east-1, roleMappings: [{{claim: a, matcher: 'true', {ONE}}}]",
            [f"contradiction {AT}.roleMappings[0].matcher"],
        ),
        (
            f"region: us-east-1, roleMappings: [5, {{matcher: 'claims.groups.exists(g, g == \"a\")', {ONE}}}]",
            [f"bad-type {AT}.roleMappings[0]", f"bad-condition {AT}.roleMappings[1].matcher"],
        ),
        (
            f"region: us-east-1, roleMappings: [{{matcher: 'token.sub == \"a\"', {ONE}}}]",
            [f"bad-condition {AT}.roleMappings[0].matcher"],
        ),
        (
            f"region: us-east-1, roleClaim: r, roleMappings: [{{matcher: 'true', {ONE}}}]",
            [f"misplaced-key {AT}.roleClaim"],
        ),
        (f"region: us-east-1, sessionDuration: 14m, fallbackRoleArn: '{arn('a')}'", [f"bad-value {AT}.sessionDuration"]),
        (f"region: us-east-1, sessionDuration: 13h, fallbackRoleArn: '{arn('a')}'", [f"bad-value {AT}.sessionDuration"]),
        (f"region: us-east-1, sessionDuration: 60, fallbackRoleArn: '{arn('a')}'", [f"bad-value {AT}.sessionDuration"]),
        (f"region: evil.example/x, fallbackRoleArn: '{arn('a')}'", [f"bad-value {AT}.region"]),
        (f"region: us-east-1, service: 'a/b', fallbackRoleArn: '{arn('a')}'", [f"bad-value {AT}.service"]),
        (f"region: us-east-1, stsUrl: 'http://sts.example.com/', fallbackRoleArn: '{arn('a')}'", [f"plain-http {AT}.stsUrl"]),
    ],
)  # fmt: skip
def test_a_role_that_could_not_be_taken_is_refused(block: str, expected: list[str]) -> None:
    assert wrong(strategy(block)) == expected


def test_the_roles_are_the_callers_so_there_have_to_be_callers() -> None:
    block = f"region: us-east-1, fallbackRoleArn: '{arn('a')}'"
    assert wrong(strategy(block), "") == ["contradiction a.auth.type"]
    assert wrong(f"{strategy(block)}, isolation: shared") == ["contradiction a.isolation"]
    assert wrong(f"{strategy(block)}, transport: sse") == ["contradiction a.transport"]
    mapped = f"region: us-east-1, roleMappings: [{{claim: a, {ONE}}}]"
    assert wrong(strategy(mapped, ", listingToken: {env: L}")) == ["misplaced-key a.auth.listingToken"]
    assert wrong(auth("type: aws_sts")) == ["missing-key a.auth"]


# --- Entra's on-behalf-of, the other strategy of a cloud

URL = "tokenUrl: 'https://login.example.com/t'"
ENTRA = f"{URL}, clientId: c, clientSecretEnv: S"


def test_on_behalf_of_becomes_what_it_says() -> None:
    client = Client("c", SecretRef(env="S"))
    made = backend(auth(f"type: obo, obo: {{{ENTRA}, audience: 'api://b'}}")).auth
    assert made == OnBehalf("https://login.example.com/t", client, ("api://b/.default",))
    more = "scopes: [read], cacheSkewSeconds: 5"
    made = backend(auth(f"type: obo, listingToken: {{env: L}}, obo: {{{ENTRA}, {more}}}")).auth
    assert made == OnBehalf("https://login.example.com/t", client, ("read",), 5.0, SecretRef(env="L"))


@pytest.mark.parametrize(
    ("audience", "scopes", "expected"),
    [
        (None, ("read", "a/b"), ("read", "a/b")),
        ("api://b", (), ("api://b/.default",)),
        ("api://b", ("read", "openid", "api://c/x", "urn:x"), ("api://b/read", "openid", "api://c/x", "urn:x")),
    ],
)
def test_entra_has_its_audience_in_the_scopes(
    audience: str | None, scopes: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert entra_scopes(audience, scopes) == expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (f"{ENTRA}, audience: x", []),
        (ENTRA, ["missing-key a.auth.obo"]),
        (f"{URL}, audience: x", ["missing-key a.auth.obo"]),
        (f"{URL}, audience: x, clientSecretEnv: S", ["missing-key a.auth.obo.clientSecretEnv"]),
        (f"{ENTRA}, clientSecret: {{env: T}}, audience: x", ["contradiction a.auth.obo.clientSecretEnv"]),
        (f"{URL}, audience: x, clientId: c, clientSecret: 5", ["bad-type a.auth.obo.clientSecret"]),
        (f"{ENTRA}, audience: x".replace("https", "http"), ["plain-http a.auth.obo.tokenUrl"]),
        (f"{ENTRA}, scopes: []", ["bad-value a.auth.obo.scopes"]),
        (f"{ENTRA}, audience: x, subjectTokenProviderName: p", ["not-ours a.auth.obo.subjectTokenProviderName"]),
    ],
)  # fmt: skip
def test_an_exchange_that_entra_would_refuse_is_refused(block: str, expected: list[str]) -> None:
    assert wrong(auth(f"type: obo, obo: {{{block}}}")) == expected


def test_what_needs_an_authorization_server_of_our_own_is_told_what_takes_its_place() -> None:
    more = f"{OIDC}".replace("oidc: {issuer", "authz: {type: cedar, policies: ['permit(principal, action, resource);'], "
                             "primaryUpstreamProvider: p}, oidc: {issuer")  # fmt: skip
    assert wrong(auth("type: unauthenticated"), more) == ["not-ours incomingAuth.authz.primaryUpstreamProvider"]
    assert wrong(auth("type: upstream_inject, upstreamInject: {providerName: p}")) == [
        "not-ours a.auth.type",
        "not-ours a.auth.upstreamInject",
    ]
    block = f"region: us-east-1, fallbackRoleArn: '{arn('a')}', subjectProviderName: p"
    assert wrong(strategy(block)) == [f"not-ours {AT}.subjectProviderName"]
