"""Where a running vmcp is administered. Rule: a port of the network is refused, and a key without effect too."""

import pytest

from tests.config.samples import SMALL, config, problems, told
from vmcp.config.administration import AdminSpec, Ui, address


def test_without_the_section_the_socket_is_at_its_usual_place() -> None:
    assert config(SMALL).admin == AdminSpec()
    assert config(SMALL + "admin: {}").admin == AdminSpec()


def test_paths_start_at_the_file() -> None:
    text = 'admin: {socket: a.sock, listen: "127.0.0.1:4484", tokenFile: /run/t}'
    assert config(SMALL + text).admin == AdminSpec("/etc/vmcp/a.sock", ("127.0.0.1", 4484), "/run/t")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:4484/mcp", ["6:14 bad-url groups.g.backends.a.url"]),
        ("ws://localhost:4484/", ["6:14 bad-url groups.g.backends.a.url"]),
        ("https://localhost.:4484/", ["6:14 bad-url groups.g.backends.a.url"]),
        ("https://0.0.0.0:4484/", ["6:14 bad-url groups.g.backends.a.url"]),
        ("http://127.0.0.1:4485/mcp", []),
        ("http://127.0.0.1/mcp", []),
        ("https://mcp.example.com:4484/mcp", []),
    ],
)
def test_nobody_is_led_to_the_port_through_vmcp(url: str, expected: list[str]) -> None:
    text = f"name: n\ngroups:\n  g:\n    backends:\n      a:\n        url: {url}\n"
    assert told(problems(text + 'admin: {listen: "127.0.0.1:4484"}')) == expected
    assert told(problems(text + 'admin: {listen: "127.0.0.1:0"}')) == []


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("ws", 80), ("https", 443), ("wss", 443)])
def test_the_usual_port_need_not_be_said(scheme: str, port: int) -> None:
    text = f"name: n\ngroups: {{g: {{backends: {{a: {{url: '{scheme}://127.0.0.1/'}}}}}}}}\n"
    assert told(problems(text + f'admin: {{listen: "127.0.0.1:{port}"}}')) == ["2:34 bad-url groups.g.backends.a.url"]
    assert told(problems(text + 'admin: {listen: "127.0.0.1:81"}')) == []


def test_pages_are_off_and_only_show_until_more_is_said() -> None:
    assert config(SMALL + 'admin: {listen: "127.0.0.1:4484"}').admin.ui == Ui() == Ui(False, False, False)
    text = 'admin: {listen: "127.0.0.1:4484", ui: {enabled: true, operate: true}}'
    assert config(SMALL + text).admin.ui == Ui(enabled=True, operate=True)


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
        ("{ui: {enabled: true}}", ["6:14 misplaced-key admin.ui.enabled"]),
        ("{ui: {enabled: false}}", []),
        ('{listen: "127.0.0.1:1", ui: {enabled: true, tryIt: true, operate: true}}', []),
        ('{listen: "127.0.0.1:1", ui: {tryIt: true}}', ["6:37 misplaced-key admin.ui.tryIt"]),
        ("{ui: {enabled: false, operate: true}}", ["6:30 misplaced-key admin.ui.operate"]),
        ("{ui: {tryIt: false}}", []),
        ("{ui: 5}", ["6:13 bad-type admin.ui"]),
        ('{listen: "0.0.0.0:1", ui: {enabled: true}}', ["6:17 bad-value admin.listen"]),
    ],
)
def test_what_is_wrong_is_told(text: str, expected: list[str]) -> None:
    assert told(problems(SMALL + f"admin: {text}")) == expected
