"""Which URLs and addresses are allowed, every refusal beside its permission."""

import ipaddress

import pytest

from vmcp.egress.guard import Blocked, checked, is_public, literal, target


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "shown"),
    [
        ("https://idp.example.com/a?b=c", "idp.example.com", 443, "/a?b=c", "idp.example.com"),
        ("https://IDP.example.com:8443", "idp.example.com", 8443, "/", "idp.example.com:8443"),
        ("https://[2001:4860::1]:444/x", "2001:4860::1", 444, "/x", "[2001:4860::1]:444"),
        ("https://8.8.8.8/", "8.8.8.8", 443, "/", "8.8.8.8"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
        ("https://idp.example.com./", "idp.example.com.", 443, "/", "idp.example.com."),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, path: str, shown: str) -> None:
    found = target(url)
    assert (found.host, found.port, found.path, found.host_header) == (host, port, path, shown)
    assert found.origin == ("https", host, port)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "file:///etc/passwd",
        "unix:///run/x.sock",
        "//a.example/",
        "https:///x",
        "https://user@a.example/",
        "https://good.example@bad.example/",
        "https:\\\\bad.example/",
        "https://a.example\\@b.example/",
        "https://a.example/\n",
        "https://a.exa\tmple/",
        "https://ａ.example/",
        "https://a。example/",
        "https://a.example:0/",
        "https://a.example:/",
        "https://a.example:65536/",
        "https://a.example:80:80/",
        "https://a..example/",
        f"https://{'a' * 64}.example/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://127.0.0.1./",
        "https://[::1%25lo]/",
        "https://[::1]x:80/",
        "https://[::1/",
        "https://[127.0.0.1]/",
        "https://[:::]/",
        "https://a.example/" + "x" * 9000,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_even_where_anything_is_allowed(url: str) -> None:
    with pytest.raises(Blocked):
        target(url, allow_private=True)


def test_plain_http_is_for_urls_of_the_config_only() -> None:
    assert target("http://127.0.0.1:81/", allow_private=True).origin == ("http", "127.0.0.1", 81)
    with pytest.raises(Blocked, match="no TLS"):
        target("http://idp.example.com/")


PUBLIC = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.15.0.1", "172.32.0.1", "223.255.255.255", "2606:4700::1111"]
PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::7f00:1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    assert checked([address]) == [address]


@pytest.mark.parametrize("address", PRIVATE)
def test_every_other_address_is_refused_unless_the_config_names_it(address: str) -> None:
    with pytest.raises(Blocked, match="not public"):
        checked([address])
    assert checked([address], allow_private=True) == [address]


def test_nothing_public_for_us_is_private_for_the_library() -> None:
    for text in PUBLIC:
        assert ipaddress.ip_address(text).is_global


def test_one_bad_address_refuses_the_name() -> None:
    with pytest.raises(Blocked):
        checked(["8.8.8.8", "127.0.0.1"])
    assert checked(["8.8.8.8", "1.1.1.1", "8.8.8.8"]) == ["8.8.8.8", "1.1.1.1"]


def test_what_is_no_address_and_no_address_at_all_are_refused() -> None:
    assert literal("localhost") is None
    with pytest.raises(Blocked, match="not public"):
        checked(["localhost"])
    with pytest.raises(Blocked, match="no address"):
        checked([], allow_private=True)
