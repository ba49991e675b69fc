"""Hostile tokens (reference/security.md B.1): each differs from a good one in one thing, and is refused.

The rule: the good one beside them is accepted, by the same verifier with the same keys.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.middleware.jwts import AUDIENCE, EC, NOW, OTHER_RSA, RSA, SHA384, WEAK_RSA, b64, claims, header, jwk, raw
from vmcp.call import Identity
from vmcp.config.incoming import Issuer
from vmcp.middleware import keyset, tokens
from vmcp.middleware.auth import Unproven
from vmcp.middleware.signature import signed

ISSUER = "https://idp.example.com"
RULES = Issuer(ISSUER, AUDIENCE)
KEYS = keyset.read(
    json.dumps(
        {
            "keys": [
                jwk(RSA, "one"),
                jwk(EC, "ec"),
                jwk(WEAK_RSA, "weak"),
                jwk(RSA, "enc", use="enc"),
                jwk(RSA, "wrap", key_ops=["wrapKey"]),
                jwk(RSA, "only384", alg="RS384"),
                jwk(RSA, "twice"),
                jwk(OTHER_RSA, "twice"),
                {"kty": "oct", "kid": "oct", "k": b64(b"secret")},
                "nonsense",
            ]
        }
    ).encode()
)


def accept(token: str, rules: Issuer = RULES) -> Identity:
    """What ``oidc`` does with a signed token, without asking anybody."""
    assert KEYS is not None
    parts = tokens.take_apart(token)
    tokens.judge(parts, rules, NOW)
    if not keyset.signature_fits(parts.alg, len(parts.signature)):
        raise Unproven("size")
    key = KEYS.get((parts.kid, keyset.kind_of(parts.alg)))
    if (
        key is None
        or key.alg not in (None, parts.alg)
        or not signed(key.jwk, parts.alg, parts.message, parts.signature)
    ):
        raise Unproven("key")
    return tokens.identity(parts.claims, rules, token)


def good(**more: Any) -> str:
    return raw(header(), claims(ISSUER, **more))


def headed(**more: Any) -> str:
    return raw(header(**more), claims(ISSUER))


def resigned(token: str, change: Callable[[str], str]) -> str:
    first, second, third = token.split(".")
    return f"{first}.{second}.{change(third)}"


def hs256(secret: bytes, **more: Any) -> str:
    message = f"{b64(json.dumps(header('HS256', **more)).encode())}.{b64(json.dumps(claims(ISSUER)).encode())}"
    return f"{message}.{b64(hmac.digest(secret, message.encode(), hashlib.sha256))}"


def none(alg: str) -> str:
    return f"{b64(json.dumps(header(alg)).encode())}.{b64(json.dumps(claims(ISSUER)).encode())}."


PAYLOAD = json.dumps(claims(ISSUER)).encode()
HEAD = json.dumps(header()).encode()
PEM = json.dumps(jwk(RSA, "one")).encode()

HOSTILE: dict[str, Callable[[], str]] = {
    "alg none": lambda: none("none"),
    "alg nOnE": lambda: none("nOnE"),
    "alg none with a signature": lambda: headed(alg="none"),
    "alg absent": lambda: headed(alg=None),
    "alg int": lambda: headed(alg=256),
    "alg not on the list": lambda: headed(alg="RS384"),
    "alg with a space": lambda: headed(alg="RS256 "),
    "HS256 with the public key": lambda: hs256(PEM),
    "HS256 with an empty secret": lambda: hs256(b""),
    "HS256 with an oct key of the set": lambda: hs256(b"secret", kid="oct"),
    "ES256 by an RSA key": lambda: headed(alg="ES256"),
    "RS256 by an EC key": lambda: raw(header(kid="ec"), claims(ISSUER), EC),
    "ES256 with zeros": lambda: resigned(raw(header("ES256", kid="ec"), claims(ISSUER), EC), lambda _: b64(bytes(64))),
    "ES256 too long": lambda: resigned(raw(header("ES256", kid="ec"), claims(ISSUER), EC), lambda _: b64(bytes(65))),
    "jwk": lambda: raw(header(jwk=jwk(OTHER_RSA, "one")), claims(ISSUER), OTHER_RSA),
    "jku": lambda: headed(jku="https://evil.example/jwks"),
    "x5u": lambda: headed(x5u="https://evil.example/cert"),
    "x5c": lambda: headed(x5c=["MIIB"]),
    "kid traversal": lambda: headed(kid="../../dev/null"),
    "kid SQL": lambda: headed(kid="' UNION SELECT 'x"),
    "kid int": lambda: headed(kid=1),
    "kid absent": lambda: headed(kid=None),
    "kid empty": lambda: headed(kid=""),
    "kid in other case": lambda: headed(kid="ONE"),
    "kid of 200 KB": lambda: headed(kid="x" * 200_000),
    "kid of a weak key": lambda: raw(header(kid="weak"), claims(ISSUER), WEAK_RSA),
    "kid of a key for encryption": lambda: headed(kid="enc"),
    "kid of a key that wraps": lambda: headed(kid="wrap"),
    "kid of a key for another algorithm": lambda: headed(kid="only384"),
    "kid that two keys have": lambda: headed(kid="twice"),
    "crit unknown": lambda: headed(crit=["x"], x=1),
    "crit empty": lambda: headed(crit=[]),
    "b64 false": lambda: headed(b64=False, crit=["b64"]),
    "zip": lambda: headed(zip="DEF"),
    "cty": lambda: headed(cty="JWT"),
    "aud wrong": lambda: good(aud="https://elsewhere.example"),
    "aud longer": lambda: good(aud=AUDIENCE + "/x"),
    "aud shorter": lambda: good(aud=AUDIENCE[:-1]),
    "aud of others": lambda: good(aud=["a", "b"]),
    "aud absent": lambda: good(aud=None),
    "aud null": lambda: raw(header(), claims(ISSUER) | {"aud": None}),
    "aud empty": lambda: good(aud=[]),
    "aud nested": lambda: good(aud=[[AUDIENCE]]),
    "aud dict": lambda: good(aud={AUDIENCE: 1}),
    "aud mixed": lambda: good(aud=[AUDIENCE, 1]),
    "iss wrong": lambda: good(iss="https://evil.example"),
    "iss with a slash": lambda: good(iss=ISSUER + "/"),
    "iss in other case": lambda: good(iss=ISSUER.upper()),
    "iss list": lambda: good(iss=[ISSUER]),
    "iss absent": lambda: good(iss=None),
    "exp absent": lambda: good(exp=None),
    "exp past": lambda: good(exp=NOW - 31),
    "exp string": lambda: good(exp=str(NOW + 60)),
    "exp NaN": lambda: raw(header(), PAYLOAD.replace(str(NOW + 600).encode(), b"NaN")),
    "exp Infinity": lambda: raw(header(), PAYLOAD.replace(str(NOW + 600).encode(), b"Infinity")),
    "exp 1e400": lambda: raw(header(), PAYLOAD.replace(str(NOW + 600).encode(), b"1e400")),
    "exp 1e30": lambda: good(exp=1e30),
    "exp 10^30": lambda: good(exp=10**30),
    "exp in ten years": lambda: good(exp=NOW + 315_360_000),
    "exp bool": lambda: good(exp=True),
    "exp float": lambda: good(exp=NOW + 60.5),
    "exp negative": lambda: good(exp=-1),
    "nbf future": lambda: good(nbf=NOW + 120),
    "nbf string": lambda: good(nbf="0"),
    "iat future": lambda: good(iat=NOW + 120),
    "iat null": lambda: raw(header(), claims(ISSUER) | {"iat": None}),
    "sub absent": lambda: good(sub=None),
    "sub int": lambda: good(sub=1),
    "sub empty": lambda: good(sub=""),
    "sub with NUL": lambda: good(sub="ada\0"),
    "sub of 4 KB": lambda: good(sub="a" * 4096),
    "sub bidi": lambda: good(sub="ada\u202e"),
    "sub list": lambda: good(sub=["ada"]),
    "sub lone surrogate": lambda: raw(header(), PAYLOAD.replace(b'"ada"', b'"\\ud800"')),
    "sub twice": lambda: raw(header(), PAYLOAD.replace(b'"sub"', b'"sub": "root", "sub"')),
    "sub twice by an escape": lambda: raw(header(), PAYLOAD.replace(b'"sub"', b'"s\\u0075b": "root", "sub"')),
    "alg twice": lambda: raw(HEAD.replace(b'"alg"', b'"alg": "none", "alg"'), claims(ISSUER)),
    "scope list of int": lambda: good(scope=[1]),
    "scope dict": lambda: good(scp={}),
    "typ ID token": lambda: headed(typ="id_token"),
    "typ of a logout token": lambda: headed(typ="logout+jwt"),
    "typ list": lambda: headed(typ=["JWT"]),
    "nonce of an ID token": lambda: good(nonce="x"),
    "at_hash of an ID token": lambda: good(at_hash="x"),
    "token_use of an ID token": lambda: good(token_use="id"),
    "payload array": lambda: raw(header(), [claims(ISSUER)]),
    "payload string": lambda: raw(header(), "x"),
    "payload not JSON": lambda: raw(header(), b"{"),
    "payload not UTF-8": lambda: raw(header(), b'{"sub":"\xff"}'),
    "payload with a BOM": lambda: raw(header(), b"\xef\xbb\xbf" + PAYLOAD),
    "payload twice": lambda: raw(header(), PAYLOAD + PAYLOAD),
    "payload of 1 MB": lambda: good(x="x" * 1_000_000),
    "payload deep": lambda: raw(header(), b'{"x":' + b"[" * 500 + b"]" * 500 + b"}"),
    "header array": lambda: raw([], claims(ISSUER)),
    "header deep": lambda: raw(b'{"x":' + b"[" * 100 + b"]" * 100 + b"}", claims(ISSUER)),
    "header large": lambda: headed(x="x" * 5000),
    "signature by another key": lambda: raw(header(), claims(ISSUER), OTHER_RSA),
    "signature empty": lambda: resigned(good(), lambda _: ""),
    "signature garbage": lambda: resigned(good(), lambda _: b64(b"x" * 256)),
    "signature short": lambda: resigned(good(), lambda given: given[:-4]),
    "signature padded": lambda: resigned(good(), lambda given: given + "=="),
    "signature in the standard alphabet": lambda: resigned(good(), lambda g: g[:-1] + "+"),
    "signature with a space": lambda: resigned(good(), lambda given: given[:9] + " " + given[9:]),
    "signature with a line end": lambda: good() + "\n",
    "signature not canonical": lambda: resigned(good(), _other_tail),
    "4 parts": lambda: good() + ".x",
    "5 parts": lambda: "a.b.c.d.e",
    "2 parts": lambda: good().rpartition(".")[0],
    "1 part": lambda: "abc",
    "nothing": lambda: "",
    "dots": lambda: "..",
    "not ASCII": lambda: good() + "é",
    "payload of another token": lambda: _mixed(good(sub="eve"), good()),
}


def _other_tail(part: str) -> str:
    """Another text for the same bytes."""
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        changed = part[:-1] + last
        if changed != part and base64.urlsafe_b64decode(changed + "==") == base64.urlsafe_b64decode(part + "=="):
            return changed
    raise AssertionError("there is none")


def _mixed(payload: str, rest: str) -> str:
    first, _, third = rest.split(".")
    return f"{first}.{payload.split('.')[1]}.{third}"


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_token_is_refused(what: str) -> None:
    with pytest.raises(Unproven) as refused:
        accept(HOSTILE[what]())
    assert refused.value.status == 401
    assert refused.value.error == "invalid_token"
    assert '"' not in refused.value.why, "it goes into a quoted string of a header"


@pytest.mark.parametrize(
    "token",
    [
        good(),
        good(aud=["x", AUDIENCE]),
        good(nbf=NOW, sub="a b é"),
        good(exp=NOW - 29),
        good(scope=None, scp=["tools"]),
        headed(typ="JWT"),
        headed(typ=None),
        headed(typ="application/AT+jwt"),
        headed(x5t="abc"),
        raw(header("ES256", kid="ec"), claims(ISSUER), EC),
    ],
)
def test_a_good_token_is_accepted(token: str) -> None:
    found = accept(token)
    assert (found.issuer, found.token) == (ISSUER, token)
    assert found.scopes == {"tools"}
    assert token not in repr(found)
    assert token not in repr(tokens.take_apart(token))


def test_an_algorithm_counts_where_the_issuer_may_use_it() -> None:
    token = raw(header("RS384", kid="only384"), claims(ISSUER), RSA, SHA384)
    assert accept(token, Issuer(ISSUER, AUDIENCE, algorithms=("RS384",))).subject == "ada"
    with pytest.raises(Unproven, match="algorithm"):
        accept(token)


def test_only_access_tokens_where_that_is_asked_for() -> None:
    strict = Issuer(ISSUER, AUDIENCE, require_typ=True)
    assert accept(good(), strict).subject == "ada"
    for typ in ("JWT", None):
        with pytest.raises(Unproven, match="no access token"):
            accept(headed(typ=typ), strict)


def test_a_scope_that_is_missing_is_another_refusal() -> None:
    needs = Issuer(ISSUER, AUDIENCE, required_scopes=("tools", "admin"))
    assert accept(good(scope="admin tools"), needs).expires == NOW + 600 + 30
    for scope in ("tools", "administrator tools", ""):
        with pytest.raises(Unproven) as refused:
            accept(good(scope=scope), needs)
        assert (refused.value.status, refused.value.error) == (403, "insufficient_scope")


GOOD = good()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_token_is_accepted(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(st.text("ABCDwxyz019-_.=+/ \x00é{", min_size=0, max_size=3))
    changed = GOOD[:at] + other + GOOD[at + 1 :]
    if changed == GOOD:
        return
    with pytest.raises(Unproven):
        accept(changed)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=20))
def test_what_is_no_token_is_refused_and_nothing_else_happens(first: bytes, second: bytes, third: bytes) -> None:
    with pytest.raises(Unproven):
        tokens.judge(tokens.take_apart(".".join(b64(part) for part in (first, second, third))), RULES, NOW)


class TestKeySets:
    """What of a key set is used."""

    def test_a_bad_key_does_not_harm_the_others(self) -> None:
        assert KEYS is not None
        assert set(KEYS) == {("one", "RSA"), ("ec", "P-256"), ("only384", "RSA")}

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [], "keys": []}', b"\xff"])
    def test_what_is_no_key_set_is_none(self, body: bytes) -> None:
        assert keyset.read(body) is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"d": "x"},
            {"kid": 1},
            {"kid": None},
            {"n": "AQAB"},
            {"n": "!"},
            {"n": 5},
            {"e": "Ag"},
            {"e": "AQ"},
            {"key_ops": "verify"},
            {"alg": 1},
            {"kty": "EC"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        ],
    )
    def test_a_key_that_is_not_right_is_left_out(self, wrong: dict[str, Any]) -> None:
        assert keyset.read(json.dumps({"keys": [jwk(RSA, "one") | wrong]}).encode()) == {}

    def test_there_are_only_so_many(self) -> None:
        keys = [jwk(RSA, str(each)) for each in range(100)]
        assert len(keyset.read(json.dumps({"keys": keys}).encode()) or {}) == keyset.MOST

    def test_a_signature_has_the_size_of_its_algorithm(self) -> None:
        assert keyset.signature_fits("ES512", 132)
        assert not keyset.signature_fits("ES512", 64)
        assert not keyset.signature_fits("RS256", 128)
        assert keyset.kind_of("ES384") == "P-384"
