"""How calls end, in words that can be counted by. Rule: whatever anybody sends, the words are a closed set."""

import pytest

from vmcp.errors import (
    Code,
    ConfigError,
    ConsentRequired,
    McpError,
    Overdue,
    SessionLost,
    Throttled,
    Unavailable,
    VmcpError,
    WireError,
)
from vmcp.protocol.jsonrpc import LARGE
from vmcp.protocol.outcomes import error_type, fault, tool_failed


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (Overdue("b", "timeouts.total", 1.0), "timeout"),
        (Throttled("rateLimiting.shared", "why", 1.0), "rate_limited"),
        (ConsentRequired("b", "https://secret"), "consent_required"),
        (WireError("x"), "protocol_error"),
        (SessionLost("x"), "session_lost"),
        (ConfigError([]), "other"),
        (Unavailable("b", "gone"), "server_unavailable"),
        (Unavailable("b", "gone", Code.CONNECTION_FAILED), "connection_failed"),
        (McpError(-32602, "a backend's own"), "invalid_params"),
        (McpError(31337, "whatever a backend likes"), "other"),
    ],
)
def test_an_error_is_a_word(error: VmcpError, word: str) -> None:
    assert error_type(error) == word


@pytest.mark.parametrize("code", [-32700, -32600, -32601, -32602, -32002])
def test_the_mistake_of_a_caller_is_no_fault_of_ours(code: int) -> None:
    assert fault(McpError(code, "no", vmcp_code=Code.ROUTING_FAILED)) == ""


def test_everything_else_is() -> None:
    assert fault(McpError(-32603, "no")) == "internal_error"
    assert fault(McpError(-32022, "no")) == "unsupported_version"


RESULTS = pytest.mark.parametrize(
    ("result", "failed"),
    [
        (b'{"isError":true}', True),
        (b'{"content":[{"text":"no"}],"isError" : true}', True),
        (b'{"isError":false}', False),
        (b'{"content":[]}', False),
        (rb'{"content":[{"text":"\"isError\":true"}]}', False),
        (b'{"structuredContent":{"isError":true},"isError":false}', False),
        (b'{"structuredContent":{"isError":false},"isError":true}', True),
        (b'{"isError":true,"structuredContent":{"isError":false}}', True),
        (b'{"isError":false,"resultType":"complete"}', False),
        (b'{"structuredContent":{"isError":true}}', False),
        (b'{"isError":true', False),
        (rb'{"foo\"isError":true}', False),
        (b'{"of":"isError"}', False),
        (b'{"isError":true,"isError":false,"resultType":"complete"}', False),
    ],
)


@RESULTS
def test_a_result_that_says_of_itself_that_it_is_an_error(result: bytes, failed: bool) -> None:
    assert tool_failed(result) is failed


@RESULTS
@pytest.mark.parametrize("size", [LARGE, 1 << 20])
@pytest.mark.parametrize("behind", [False, True])
def test_a_large_one_says_so_just_as_well(result: bytes, failed: bool, size: int, behind: bool) -> None:
    long = b'"long":"%b"' % (b"x" * size)
    large = b"%b,%b}" % (result[:-1], long) if behind else b"{%b,%b" % (long, result[1:])
    if result.endswith(b"}"):
        assert tool_failed(large) is failed
    else:
        assert not tool_failed(large)
