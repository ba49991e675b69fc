"""Which era a backend is of: the answers to ``server/discover`` that were seen in the wild, and what ``initialize`` agreed on.

Rule: what only says that nobody could look (no permission, no time, no service) decides nothing.
"""

import pytest
from msgspec import Raw

from vmcp.protocol.era import Era, agreed, judge, open_status
from vmcp.protocol.jsonrpc import Message
from vmcp.protocol.revisions import Revision

MODERN, HANDSHAKE, UNCLEAR = Era.MODERN, Era.HANDSHAKE, Era.UNCLEAR


def refused(code: int, data: bytes | None = None) -> Message:
    tail = b"" if data is None else b',"data":' + data
    return Message(error=Raw(b'{"code":%d,"message":"m"%b}' % (code, tail)))


@pytest.mark.parametrize(
    ("result", "era"),
    [
        (b'{"resultType":"complete","supportedVersions":["2026-07-28"]}', MODERN),
        (b'{"supportedVersions":["2025-11-25","2026-07-28"]}', MODERN),
        (b'{"supportedVersions":["2026-07-28"],"capabilities":{}}', MODERN),
        (b'{"resultType":"complete"}', MODERN),
        (b'{"resultType":"complete","supportedVersions":"2026-07-28"}', MODERN),
        # It speaks of versions, and ours is not among them.
        (b'{"resultType":"complete","supportedVersions":["2027-01-01"]}', HANDSHAKE),
        (b'{"supportedVersions":[]}', HANDSHAKE),
        (b'{"supportedVersions":[1,null]}', HANDSHAKE),
        # A server that answers anything to everything.
        (b"{}", HANDSHAKE),
        (b"null", HANDSHAKE),
        (b"[]", HANDSHAKE),
        (b'"supportedVersions"', HANDSHAKE),
        (b'{"resultType":"\\ud800"}', HANDSHAKE),
        (b"[" * 5_000 + b"]" * 5_000, HANDSHAKE),
        (b"", HANDSHAKE),
        (b'{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{}}', HANDSHAKE),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_a_result_is_modern_when_it_says_so(result: bytes, era: Era, status: int) -> None:
    assert judge(status, Message(result=Raw(result))) is era


@pytest.mark.parametrize(
    ("status", "message", "era"),
    [
        (400, refused(-32022, b'{"supported":["2026-07-28"],"requested":"2027-01-01"}'), MODERN),
        (400, refused(-32022, b'{"supported":["2025-11-25"]}'), HANDSHAKE),
        (400, refused(-32022, b'{"supported":[]}'), HANDSHAKE),
        (400, refused(-32022, b'{"supported":"2025-11-25"}'), MODERN),
        (400, refused(-32022, b"null"), MODERN),
        (400, refused(-32022), MODERN),
        (400, refused(-32020), MODERN),
        (400, refused(-32021, b'{"requiredCapabilities":{"roots":{}}}'), MODERN),
        (200, refused(-32021), MODERN),
        (401, refused(-32020), MODERN),
        (503, refused(-32022), MODERN),
        # Python SDK 1.x over HTTP, TypeScript SDK 1.x over HTTP, both over stdio, and those that answer 200.
        (
            400,
            Message(id=Raw(b'"server-error"'), error=Raw(b'{"code":-32600,"message":"Missing session ID"}')),
            HANDSHAKE,
        ),
        (400, Message(id=Raw(b"null"), error=Raw(b'{"code":-32000,"message":"Server not initialized"}')), HANDSHAKE),
        (200, refused(-32601), HANDSHAKE),
        (200, refused(-32602), HANDSHAKE),
        (404, refused(-32601), HANDSHAKE),
        (405, refused(-32000), HANDSHAKE),
        (400, Message(error=Raw(b'"no"')), HANDSHAKE),
        (400, Message(error=Raw(b"null")), HANDSHAKE),
        *((status, refused(-32601), UNCLEAR) for status in (401, 403, 407, 408, 429, 500, 502, 503, 504)),
        (503, Message(error=Raw(b'"no"')), UNCLEAR),
    ],
)
def test_an_error_is_judged_by_its_code_then_by_its_status(status: int, message: Message, era: Era) -> None:
    assert judge(status, message) is era


def test_a_status_leaves_the_era_open_when_nobody_could_look() -> None:
    assert [status for status in range(100, 500) if open_status(status)] == [401, 403, 407, 408, 429]
    assert all(open_status(status) for status in range(500, 600))


@pytest.mark.parametrize("asked", Revision)
@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ("2024-11-05", Revision.V2024_11_05),
        ("2025-03-26", Revision.V2025_03_26),
        ("2025-06-18", Revision.V2025_06_18),
        ("2025-11-25", Revision.V2025_11_25),
        *(
            (unknown, None)
            for unknown in ("2024-10-07", "2027-01-01", "", "latest", "2025-11-25 ", None, 1, [], {}, True)
        ),
    ],
)
def test_the_revision_is_what_the_server_answered(answered: object, expected: Revision | None, asked: Revision) -> None:
    assert agreed(answered, asked) is expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Revision.V2024_11_05, Revision.V2024_11_05),
        (Revision.V2025_11_25, Revision.V2025_11_25),
        (Revision.V2026_07_28, Revision.V2025_11_25),
    ],
)
def test_nobody_agrees_to_the_stateless_revision_in_a_handshake(asked: Revision, expected: Revision) -> None:
    assert agreed("2026-07-28", asked) is expected
