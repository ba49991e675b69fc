"""URLs and hosts that a configuration may name, beside the ones that it may not."""

import pytest

from vmcp.config.urls import is_loopback, origin_wrong, scheme, split, url_wrong


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "::1", "[::1]"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.com", "127.1", "127.0.0.999", "128.0.0.1", ""]
)
def test_hosts_that_others_can_reach(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "url", ["https://a.example.com/mcp", "http://[::1]:8080/mcp", "HTTPS://a/mcp?x=1", "http://10.0.0.1:65535/"]
)
def test_good_urls(url: str) -> None:
    assert url_wrong(url) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://a/", "must begin with http:// or https://"),
        ("https://", "has no host"),
        ("https:///mcp", "has no host"),
        ("https://a:0/", "has port 0"),
        ("https://a:99999/", "is not a URL: its host or port is malformed"),
        ("https://[::1/", "is not a URL: its host or port is malformed"),
        ("https://me:pw@a/", "has a user name in it; credentials belong in headers or auth"),
        ("https://a/#x", "has a fragment (#…), which is never sent"),
        ("https://a/#", "has a fragment (#…), which is never sent"),
        ("https://bücher.example/", "has a host that is not ASCII; write it in its xn-- form"),
    ],
)
def test_bad_urls(url: str, why: str) -> None:
    assert url_wrong(url) == why


def test_schemes_are_told_as_they_are_allowed() -> None:
    assert url_wrong("WS://a/", schemes=("http", "ws")) is None
    assert url_wrong("ftp://a/", schemes=("http", "https", "ws")) == "must begin with http://, https:// or ws://"
    assert (scheme("WS://a"), scheme("a"), scheme("http://[")) == ("ws", "", "")


def test_a_public_url_has_no_query() -> None:
    assert url_wrong("https://a/?x", query=False) == "has a query (?…)"
    assert split("https://[::1/") is None


@pytest.mark.parametrize("origin", ["https://a.example.com", "http://localhost:8080", "https://[::1]:1"])
def test_good_origins(origin: str) -> None:
    assert origin_wrong(origin) is None


@pytest.mark.parametrize(
    "origin", ["null", "a.example.com", "https://a/", "https://a?x", "https://me@a", "https://[", "*"]
)
def test_bad_origins(origin: str) -> None:
    assert origin_wrong(origin) is not None
