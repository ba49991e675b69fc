"""Where a request comes from, for the record.

Rule: everything a client can put into a header is tried; it never becomes its address.
"""

import pytest

from vmcp.server.address import Addresses, address

TRUSTED = ("10.0.0.0/8", "2001:db8:1::/48")
Headers = list[tuple[bytes, bytes]]


def xff(*values: str) -> Headers:
    return [(b"x-forwarded-for", value.encode()) for value in values]


def forwarded(*values: str) -> Headers:
    return [(b"forwarded", value.encode()) for value in values]


def of(peer: str, headers: Headers) -> str:
    return Addresses(TRUSTED).of(peer, headers)


def test_without_proxies_nothing_that_is_said_counts() -> None:
    assert Addresses(()).of("10.0.0.1", xff("192.0.2.7")) == "10.0.0.1"


@pytest.mark.parametrize("headers", [xff("192.0.2.7"), forwarded("for=192.0.2.7"), []])
def test_who_is_no_proxy_is_who_it_is(headers: Headers) -> None:
    assert of("198.51.100.1", headers) == "198.51.100.1"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], "10.0.0.1"),
        (xff("192.0.2.7"), "192.0.2.7"),
        (xff("1.1.1.1, 192.0.2.7"), "192.0.2.7"),
        (xff("1.1.1.1, 192.0.2.7, 10.9.9.9"), "192.0.2.7"),
        (xff("1.1.1.1", "192.0.2.7", "10.9.9.9"), "192.0.2.7"),
        (xff("10.1.1.1, 10.2.2.2"), "10.1.1.1"),
        (xff("192.0.2.7:4711"), "192.0.2.7"),
        (xff("[2001:db8:2::7]:4711"), "2001:db8:2::7"),
        (xff("2001:db8:2::7"), "2001:db8:2::7"),
        (xff("::ffff:192.0.2.7"), "192.0.2.7"),
        (xff("1.1.1.1, unknown"), "10.0.0.1"),
        (xff("1.1.1.1, , 10.9.9.9"), "10.9.9.9"),
        (xff('1.1.1.1, x"; drop, 10.9.9.9'), "10.9.9.9"),
        (xff(""), "10.0.0.1"),
        (forwarded("for=192.0.2.7"), "192.0.2.7"),
        (forwarded("for=1.1.1.1, For=192.0.2.7;proto=https;by=10.0.0.1"), "192.0.2.7"),
        (forwarded('proto=http ; for="[2001:db8:2::7]:4711"'), "2001:db8:2::7"),
        (forwarded('for=1.1.1.1, for="_hidden"'), "10.0.0.1"),
        (forwarded("for=1.1.1.1, proto=https"), "10.0.0.1"),
        (forwarded('for=1.1.1.1;by="a,for=2.2.2.2"'), "1.1.1.1"),
        (forwarded('for="1.1.1.1'), "10.0.0.1"),
        (forwarded("xfor=1.1.1.1"), "10.0.0.1"),
    ],
)
def test_a_proxy_is_believed_as_far_as_it_wrote_it_itself(headers: Headers, found: str) -> None:
    assert of("10.0.0.1", headers) == found


def test_two_headers_that_agree_are_believed_and_two_that_do_not_are_not() -> None:
    """A proxy writes one of them, and passes on the other as the client wrote it."""
    assert of("10.0.0.1", xff("192.0.2.7") + forwarded("for=192.0.2.7")) == "192.0.2.7"
    assert of("10.0.0.1", xff("192.0.2.7") + forwarded("for=6.6.6.6")) == "10.0.0.1"


def test_of_a_header_that_is_very_long_the_right_end_counts() -> None:
    assert of("10.0.0.1", xff("6.6.6.6, " * 3000 + "192.0.2.7")) == "192.0.2.7"


@pytest.mark.parametrize(
    "text", ["", "unknown", "1.2.3", "1.2.3.4.5", "[::1", "a:b", "1.2.3.4:999999", "[]", "fe80::1%eth0 x"]
)
def test_what_is_no_address(text: str) -> None:
    assert address(text) is None
