"""URLs that can and cannot be connected to, and the TLS contexts for them.

Rule: each refusal has a neighbour that is accepted.
"""

import ssl
from pathlib import Path

import pytest

from vmcp.config.model import TlsSpec
from vmcp.upstream.endpoint import BadEndpoint, endpoint, tls_context

GOOD = {
    "http://a": ("http", "a", 80, "/", b"a"),
    "HTTP://A.Example/mcp": ("http", "a.example", 80, "/mcp", b"a.example"),
    "http://a:80/": ("http", "a", 80, "/", b"a"),
    "http://a:/x": ("http", "a", 80, "/x", b"a"),
    "http://a:8080/mcp?x=1&y=%20#part": ("http", "a", 8080, "/mcp?x=1&y=%20", b"a:8080"),
    "http://a?x": ("http", "a", 80, "/?x", b"a"),
    "http://my_service.ns.svc:1/": ("http", "my_service.ns.svc", 1, "/", b"my_service.ns.svc:1"),
    "http://127.0.0.1:65535/": ("http", "127.0.0.1", 65535, "/", b"127.0.0.1:65535"),
    "http://[::1]:9/mcp": ("http", "::1", 9, "/mcp", b"[::1]:9"),
    "https://[2001:DB8::1]/": ("https", "2001:db8::1", 443, "/", b"[2001:db8::1]"),
    "https://a:443": ("https", "a", 443, "/", b"a"),
    "https://a:80/": ("https", "a", 80, "/", b"a:80"),
    "https://xn--bcher-kva.example/": ("https", "xn--bcher-kva.example", 443, "/", b"xn--bcher-kva.example"),
    "ws://a/ws": ("ws", "a", 80, "/ws", b"a"),
    "WSS://a:4430/ws?x": ("wss", "a", 4430, "/ws?x", b"a:4430"),
    "http://a/b@c": ("http", "a", 80, "/b@c", b"a"),
}


@pytest.mark.parametrize(("url", "parts"), GOOD.items())
def test_a_url_is_taken_apart(url: str, parts: tuple[object, ...]) -> None:
    found = endpoint(url)
    assert (found.scheme, found.host, found.port, found.path, found.host_header) == parts
    assert (found.tls is not None) == url.lower().startswith(("https", "wss"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://a/", "http://"),
        ("a.example/mcp", "http://"),
        ("wsx://a/", "wss://"),
        ("//a/", "http://"),
        ("http://user@a/", "user name"),
        ("http://user:word@a/", "user name"),
        ("http://@a/", "user name"),
        ("http://", "host"),
        ("http:///mcp", "host"),
        ("http://:80/", "host"),
        ("http://a..b/", "host"),
        ("http://a%41/", "host"),
        ("http://[::1%25lo]/", "host"),
        ("http://[::1/", "host"),
        ("http://[a]/", "host"),
        ("http://" + "a" * 64 + "/", "host"),
        ("http://a:0/", "port 0"),
        ("http://a:65536/", "port"),
        ("http://a:-1/", "port"),
        ("http://a:80:80/", "host"),
        ("http://a b/", "white space"),
        ("http://a/\r\nx: y", "white space"),
        ("http://a/\t", "white space"),
        ("http:\\\\a/", "backslash"),
        ("http://bücher.example/", "percent-encoded"),
        ("http://a/ü", "percent-encoded"),
    ],
)
def test_a_url_that_is_ambiguous_or_not_ours_is_refused(url: str, words: str) -> None:
    with pytest.raises(BadEndpoint, match=words):
        endpoint(url)


def test_a_context_given_is_used_for_https_and_never_for_http() -> None:
    mine = ssl.create_default_context()
    assert endpoint("https://a/", mine).tls is endpoint("wss://a/", mine).tls is mine
    assert endpoint("http://a/", mine).tls is None


def test_the_default_context_is_made_once_and_verifies() -> None:
    context = tls_context(TlsSpec())
    assert context is tls_context(TlsSpec())
    assert context is endpoint("https://a/").tls
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_tls_files_that_cannot_be_used_are_refused_with_a_reason(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for spec, words in [
        (TlsSpec(ca_bundle=str(tmp_path / "none.pem")), "No such file"),
        (TlsSpec(ca_bundle=str(empty)), "no valid PEM"),
        (TlsSpec(client_cert=str(empty)), "no valid PEM"),
    ]:
        with pytest.raises(BadEndpoint, match=words):
            tls_context(spec)
