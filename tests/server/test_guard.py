"""Who may speak to us by ``Host`` and ``Origin``: one table per header, every row under several configurations.

Rule: beside each thing that is allowed stands what only looks like it.
"""

import pytest

from vmcp.config.model import ServerSpec
from vmcp.server.guard import Guard, host_name, is_loopback, origin

LOOPBACK = ServerSpec()
IPV6 = ServerSpec(host="::1")
NETWORK = ServerSpec(host="0.0.0.0", allow_anonymous_network=True)
NAMED = ServerSpec(host="0.0.0.0", allow_anonymous_network=True, allowed_hosts=("mcp.example", "[2001:db8::7]:8443"))
PUBLIC = ServerSpec(public_url="https://gate.example/mcp")
PAGES = ServerSpec(allowed_origins=("https://app.example", "http://localhost:6274", "nonsense"))
BOUND = ServerSpec(host="Box.Example", allow_anonymous_network=True)

HOSTS = [
    # header, allowed on: loopback, network, named, public
    ("localhost", True, True, False, True),
    ("LOCALHOST", True, True, False, True),
    ("localhost:4483", True, True, False, True),
    ("localhost:1", True, True, False, True),
    ("localhost.", True, True, False, True),
    ("localhost.:4483", True, True, False, True),
    ("127.0.0.1", True, True, False, True),
    ("127.0.0.1:4483", True, True, False, True),
    ("[::1]", True, True, False, True),
    ("[::1]:4483", True, True, False, True),
    ("", False, False, False, False),
    (" ", False, False, False, False),
    ("localhost.evil.example", False, False, False, False),
    ("localhostevil", False, False, False, False),
    ("evil.localhost", False, False, False, False),
    ("127.0.0.1.nip.io", False, False, False, False),
    ("127.0.0.1.evil", False, False, False, False),
    ("localhost@evil.example", False, False, False, False),
    ("evil.example@localhost", False, False, False, False),
    ("evil.example#localhost", False, False, False, False),
    ("evil.example/localhost", False, False, False, False),
    ("evil.example?localhost", False, False, False, False),
    ("evil.example\\localhost", False, False, False, False),
    ("localhost evil.example", False, False, False, False),
    ("localhost,evil.example", False, False, False, False),
    ("localhost\tevil", False, False, False, False),
    ("localhost:80:80", False, False, False, False),
    ("localhost:http", False, False, False, False),
    ("localhost:99999", False, False, False, False),
    ("http://localhost", False, False, False, False),
    ("[::1", False, False, False, False),
    ("::1", False, False, False, False),
    ("[evil]", False, False, False, False),
    ("[::1]evil", False, False, False, False),
    ("evil[::1]", False, False, False, False),
    (".", False, False, False, False),
    (":4483", False, False, False, False),
    ("mcp.example", False, False, True, False),
    ("MCP.example:443", False, False, True, False),
    ("mcp.example.", False, False, True, False),
    ("mcp.example.evil", False, False, False, False),
    ("xmcp.example", False, False, False, False),
    ("sub.mcp.example", False, False, False, False),
    ("[2001:db8::7]", False, True, True, False),
    ("[2001:db8::8]", False, True, False, False),
    ("192.168.1.7", False, True, False, False),
    ("192.168.1.7:4483", False, True, False, False),
    ("0.0.0.0", False, True, False, False),
    ("0x7f.1", False, False, False, False),
    ("2130706433", False, False, False, False),
    ("gate.example", False, False, False, True),
    ("GATE.example:443", False, False, False, True),
    ("gate.example.evil", False, False, False, False),
]

ORIGINS = [
    # header, allowed on: loopback, network, named, public, pages
    ("http://localhost", True, False, False, True, True),
    ("http://localhost:5173", True, False, False, True, True),
    ("HTTP://LOCALHOST:5173", True, False, False, True, True),
    ("https://localhost", True, False, False, True, True),
    ("http://127.0.0.1:80", True, False, False, True, True),
    ("http://[::1]:9000", True, False, False, True, True),
    ("http://localhost/", True, False, False, True, True),
    ("null", False, False, False, False, False),
    ("", False, False, False, False, False),
    ("localhost", False, False, False, False, False),
    ("//localhost", False, False, False, False, False),
    ("file://", False, False, False, False, False),
    ("file://localhost", False, False, False, False, False),
    ("ftp://localhost", False, False, False, False, False),
    ("vscode-webview://localhost", False, False, False, False, False),
    ("http://", False, False, False, False, False),
    ("http://localhost.evil.example", False, False, False, False, False),
    ("http://localhost:80@evil.example", False, False, False, False, False),
    ("http://evil.example@localhost", False, False, False, False, False),
    ("http://evil.example#localhost", False, False, False, False, False),
    ("http://evil.example?localhost", False, False, False, False, False),
    ("http://localhost/path", False, False, False, False, False),
    ("http://localhost?x", False, False, False, False, False),
    ("http://localhost#x", False, False, False, False, False),
    ("http://127.0.0.1.evil", False, False, False, False, False),
    ("http://localhost:99999", False, False, False, False, False),
    ("http://localhost:port", False, False, False, False, False),
    ("http://[::1", False, False, False, False, False),
    ("http://[::1]evil", False, False, False, False, False),
    ("http://evil[::1]", False, False, False, False, False),
    ("http://:80", False, False, False, False, False),
    ("http://localhost, http://evil.example", False, False, False, False, False),
    ("https://app.example", False, False, False, False, True),
    ("https://app.example:443", False, False, False, False, True),
    ("https://APP.example", False, False, False, False, True),
    ("https://app.example:8443", False, False, False, False, False),
    ("http://app.example", False, False, False, False, False),
    ("https://app.example.evil", False, False, False, False, False),
    ("https://evil-app.example", False, False, False, False, False),
    ("https://gate.example", False, False, False, True, False),
    ("https://gate.example:443", False, False, False, True, False),
    ("http://gate.example", False, False, False, False, False),
    ("https://gate.example/mcp", False, False, False, False, False),
    ("nonsense", False, False, False, False, False),
]


@pytest.mark.parametrize(("header", "loopback", "network", "named", "public"), HOSTS, ids=[repr(h[0]) for h in HOSTS])
def test_a_host_is_compared_whole(header: str, loopback: bool, network: bool, named: bool, public: bool) -> None:
    decided = [Guard(spec).allows_host(header) for spec in (LOOPBACK, NETWORK, NAMED, PUBLIC)]
    assert decided == [loopback, network, named, public]


@pytest.mark.parametrize(("row"), ORIGINS, ids=[repr(o[0]) for o in ORIGINS])
def test_an_origin_is_compared_whole(row: tuple[str, bool, bool, bool, bool, bool]) -> None:
    header, *expected = row
    specs = (LOOPBACK, NETWORK, NAMED, _with_public(), PAGES)
    assert [Guard(spec).allows_origin(header) for spec in specs] == expected


def _with_public() -> ServerSpec:
    return ServerSpec(public_url="https://gate.example")


def test_a_name_that_is_bound_to_is_served_and_its_pages_are_not() -> None:
    guard = Guard(BOUND)
    assert guard.allows_host("box.example:4483")
    assert not guard.allows_host("other.example")
    assert not guard.allows_origin("http://box.example")


def test_the_loopback_of_version_6_is_loopback() -> None:
    assert Guard(IPV6).allows_host("[::1]:4483")
    assert Guard(IPV6).allows_origin("http://[::1]:3000")
    assert not Guard(IPV6).allows_host("[::2]:4483")


def test_a_public_url_with_a_path_admits_its_pages() -> None:
    # A page never has a path in its origin, the URL of the gateway always has one.
    assert Guard(PUBLIC).allows_origin("https://gate.example")
    assert not Guard(PUBLIC).allows_origin("https://gate.example.evil")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *[("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)],
        *[("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.evil", False), ("", False)],
    ],
)
def test_a_bind_address_is_of_this_machine_or_not(host: str, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("header", "name"),
    [("Example.ORG:1", "example.org"), ("[FE80::1]:2", "fe80::1"), ("a..", "a"), (".", None), (":80", None)],
)
def test_a_host_has_one_name(header: str, name: str | None) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("header", "canonical"),
    [
        ("http://h:80", "http://h"),
        ("https://h:443", "https://h"),
        ("https://h:80", "https://h:80"),
        ("http://h:443", "http://h:443"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://h:0", "http://h:0"),
        ("null", None),
    ],
)
def test_an_origin_has_one_form(header: str, canonical: str | None) -> None:
    assert origin(header) == canonical
