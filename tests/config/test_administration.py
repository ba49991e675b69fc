"""Where a running vmcp is administered. Rule: a port of the network is refused, and a key without effect too."""

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.administration import AdminSpec, address


def test_without_the_section_the_socket_is_at_its_usual_place() -> None:
    assert config(SMALL).admin == AdminSpec()
    assert config(SMALL + "admin: {}").admin == AdminSpec()


def test_paths_start_at_the_file() -> None:
    text = 'admin: {socket: a.sock, listen: "127.0.0.1:4484", tokenFile: /run/t}'
    assert config(SMALL + text).admin == AdminSpec("/etc/vmcp/a.sock", ("127.0.0.1", 4484), "/run/t")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:4484", ("127.0.0.1", 4484)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("::1:80", None),
        ("[127.0.0.1]:80", None),
        ("127.0.0.1", None),
        (":80", None),
        ("a:", None),
        ("a:65536", None),
        ("a:123456", None),
        ("a:-1", None),
        ("a:٣", None),
    ],
)
def test_an_address_is_host_and_port(text: str, found: tuple[str, int] | None) -> None:
    assert address(text) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{listen: "0.0.0.0:4484"}', ["6:17 bad-value admin.listen"]),
        ('{listen: "gw.example.com:4484"}', ["6:17 bad-value admin.listen"]),
        ("{listen: nowhere}", ["6:17 bad-value admin.listen"]),
        ('{listen: "127.0.0.1:1"}', []),
        ("{tokenFile: t}", ["6:9 misplaced-key admin.tokenFile"]),
        ("{tokenFile: t, listen: 5}", ["6:31 bad-type admin.listen"]),
        ("{ui: {enabled: true}}", ["6:9 not-built admin.ui"]),
        ("{ui: {enabled: false}}", []),
    ],
)
def test_what_is_wrong_is_told(text: str, expected: list[str]) -> None:
    assert told(problems(SMALL + f"admin: {text}")) == expected
