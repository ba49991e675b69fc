"""The decoder against a slow one that is obviously right, what is said and heard, and that nothing changes on the way.

Rule: what passes through keeps its bytes; what is refused is refused the same way by both decoders.
"""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from tests.protocol.documents import KEYS, Document, Refused, documents, objects, reference
from vmcp.errors import Code, McpError, Overdue, Unavailable, WireError
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import NONE, Message, Notification, Reply, Request, parse, read, strict

PAYLOADS = objects(documents(unique=True), unique=True)


def outcome(decode: Any, body: bytes) -> str:
    """What a decoder makes of ``body``, so that 1, 1.0 and True, and the order of members, make a difference."""
    try:
        return repr(decode(body))
    except (Refused, McpError) as refused:
        return "refused" if getattr(refused, "code", Code.PARSE_ERROR) == Code.PARSE_ERROR else repr(refused)


@given(documents())
@example(Document('{"a":":","a":1}', {"a": 1}, doubled=True))
def test_a_document_is_refused_exactly_when_a_member_is_there_twice(document: Document) -> None:
    body = document.text.encode()
    expected = "refused" if document.doubled else repr(document.value)
    assert outcome(strict, body) == outcome(reference, body) == expected


@given(documents(), st.data())
def test_a_damaged_document_is_judged_as_the_slow_decoder_judges_it(document: Document, data: st.DataObject) -> None:
    body = bytearray(document.text.encode())
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 2)))
    pieces = [*b'"\\:,{}[]0-.', b"", b"e9", b"\x00", b"\x80", b"\xc3", b"NaN"]
    piece = data.draw(st.sampled_from(pieces) | st.binary(max_size=3))
    body[start:end] = bytes([piece]) if isinstance(piece, int) else piece
    assert outcome(strict, bytes(body)) == outcome(reference, bytes(body))


@given(st.binary(max_size=40))
def test_no_bytes_at_all_raise_anything_else(body: bytes) -> None:
    for text in (body, b'{"jsonrpc":"2.0","id":1,"method":"m","params":%b}' % body, b'{"jsonrpc":"2.0",%b}' % body):
        try:
            told = parse(text)
        except McpError as refused:
            told = refused
        assert not isinstance(told, McpError) or told.code in (Code.PARSE_ERROR, Code.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', Request(b"1", "ping", {}, {})),
        (b'{"id":"1","method":"ping","params":{},"jsonrpc":"2.0"}', Request(b'"1"', "ping", {}, {})),
        (b'{"jsonrpc":"2.0","method":"notifications/initialized"}', Notification("notifications/initialized", {}, {})),
        (b'{"jsonrpc":"2.0","method":"n","result":1}', Notification("n", {}, {})),
        (b'{"jsonrpc":"2.0","id":7,"result":{ "a":1.0}}', Reply(b"7", Raw(b'{ "a":1.0}'))),
        (b'{"jsonrpc":"2.0","id":7,"result":null}', Reply(b"7", Raw(b"null"))),
        (
            b'{"jsonrpc":"2.0","id":"a","error":{"code":-1,"message":""}}',
            Reply(b'"a"', error=Raw(b'{"code":-1,"message":""}')),
        ),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","result":1}', Request(b"7", "ping", {}, {})),
        (b'[{"jsonrpc":"2.0","id":7,"result":1}]', [Reply(b"7", Raw(b"1"))]),
        (
            b'[{"jsonrpc":"2.0","id":1,"method":"ping"}, {"jsonrpc":"2.0","method":"n"}]',
            [Request(b"1", "ping", {}, {}), Notification("n", {}, {})],
        ),
    ],
)
def test_a_body_is_a_request_a_notification_a_reply_or_a_batch(body: bytes, expected: object) -> None:
    assert parse(body) == expected


@given(PAYLOADS)
def test_what_a_client_says_goes_on_byte_for_byte(params: Document) -> None:
    incoming = parse(b'{"jsonrpc":"2.0","id":1,"method":"m","params":%b}' % params.text.encode())
    assert isinstance(incoming, Request)
    assert repr(incoming.tree) == repr(params.value)
    assert {key: repr(reference(bytes(raw))) for key, raw in incoming.params.items()} == {
        key: repr(value) for key, value in params.value.items()
    }
    again = parse(jsonrpc.request(2, "m", incoming.params))
    assert isinstance(again, Request)
    assert again.id == b"2"
    assert texts(again.params) == texts(incoming.params)
    assert list(again.tree) == list(params.value)
    told = parse(jsonrpc.notification("m", incoming.params))
    assert isinstance(told, Notification)
    assert texts(told.params) == texts(incoming.params)


META = b'{"progressToken":1.0, "a" : "\\u0041"}'


@pytest.mark.parametrize(
    ("params", "meta"),
    [
        (b'{"_meta": %b ,"x":1}' % META, {"progressToken": b"1.0", "a": b'"\\u0041"'}),
        (b'{"_meta":{}}', {}),
        (b"{}", {}),
        *((b'{"_meta":%b}' % wrong, {}) for wrong in (b"null", b"[]", b'"{}"', b"1")),
    ],
)
def test_the_members_of_meta_are_at_hand_and_their_senders_own_bytes(params: bytes, meta: dict[str, bytes]) -> None:
    incoming = parse(b'{"jsonrpc":"2.0","id":1,"method":"m","params":%b}' % params)
    assert isinstance(incoming, Request)
    assert texts(incoming.meta) == meta
    assert ("_meta" in incoming.params) is (b"_meta" in params), "it is still where it was"


def texts(params: Any) -> dict[str, bytes]:
    return {key: bytes(raw) for key, raw in params.items()}


@given(st.dictionaries(st.sampled_from(KEYS), documents(unique=True), max_size=4))
def test_every_member_of_params_is_the_senders_own_text(members: dict[str, Document]) -> None:
    text = ", ".join(f"{json.dumps(key)} : {value.text}\n" for key, value in members.items())
    incoming = parse(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{%b}}' % text.encode())
    assert isinstance(incoming, Request)
    assert texts(incoming.params) == {key: value.text.strip().encode() for key, value in members.items()}


@given(documents(unique=True))
def test_what_a_backend_answers_goes_on_byte_for_byte(result: Document) -> None:
    text = result.text.strip().encode()
    heard = read(jsonrpc.reply(b'"a"', text))
    assert jsonrpc.result_of(heard) == Raw(text)
    assert heard.id == Raw(b'"a"')
    assert read(b'{"result": %b ,"id":1}' % result.text.encode()).result == Raw(text)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", Message()),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', Message("2.0", Raw(b"1"), result=Raw(b"{}"))),
        (b'{"id":null,"error":null}', Message(id=Raw(b"null"))),
        ('\ufeff{"method":"né"}'.encode(), Message(method="né")),
        (b'{"id":1,"result":{},"error":null}', Message(id=Raw(b"1"), result=Raw(b"{}"))),
        (b'{"method":"n","params":[1]}', Message(method="n", params=Raw(b"[1]"))),
        ('{"method":"né","x":1}'.encode(), Message(method="né")),
    ],
)
def test_a_message_of_a_backend_is_read(body: bytes, expected: Message) -> None:
    assert read(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"[{}]", b"1", b'"x"', b"{", b"{}x", b'{"method":1}', b'{"jsonrpc":2}', b'{"result":NaN}',
        b"\xef\xbb\xbf\xef\xbb\xbf{}", b'{"result":"\xff"}', b'{"result":"\xed\xa0\x80"}', b'{"result":"\x01"}',
        b'{"result":"\\q"}',
        b'{"result":%b}' % (b"[" * 5_000 + b"]" * 5_000), b"Hello, I am a log line\n", "{}".encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_no_message_of_a_backend_is_a_broken_wire(body: bytes) -> None:
    with pytest.raises(WireError):
        read(body)


@pytest.mark.parametrize(
    ("body", "methods"),
    [(b'{"method":"a"}', ["a"]), (b' [{"method":"a"},{"method":"b"}]\n', ["a", "b"]), (b'[{"method":"a"}]', ["a"])],
)
def test_a_batch_of_a_backend_is_so_many_messages(body: bytes, methods: list[str]) -> None:
    assert [message.method for message in jsonrpc.read_all(body)] == methods


@pytest.mark.parametrize("body", [b"", b"[]", b"[1]", b'[{"method":"a"},null]', b"[", b"{", b"[[{}]]", b"[{}]]"])
def test_what_is_neither_message_nor_batch_is_a_broken_wire(body: bytes) -> None:
    with pytest.raises(WireError):
        jsonrpc.read_all(body)


def test_a_reply_with_neither_result_nor_error_is_a_broken_wire() -> None:
    with pytest.raises(WireError, match="neither"):
        jsonrpc.result_of(read(b'{"jsonrpc":"2.0","id":1}'))


def test_the_error_of_a_reply_is_raised_with_its_code_and_data() -> None:
    with pytest.raises(McpError) as raised:
        jsonrpc.result_of(read(b'{"id":1,"error":{"code":-32001,"message":"no","data":{"n":1.0, "big":1e2}}}'))
    assert (raised.value.code, raised.value.message) == (-32001, "no")
    assert raised.value.data == Raw(b'{"n":1.0, "big":1e2}')
    assert jsonrpc.failure(b"4", raised.value) == (
        b'{"jsonrpc":"2.0","id":4,"error":{"code":-32001,"message":"no","data":{"n":1.0, "big":1e2}}}'
    )


@pytest.mark.parametrize(
    ("raw", "code", "message", "data"),
    [
        (b'{"code":1,"message":"m"}', 1, "m", None),
        (b'{"code":1,"message":"m","data":null}', 1, "m", Raw(b"null")),
        (b'{"code":1,"message":"m","data":0}', 1, "m", Raw(b"0")),
        (b'{"message":"m"}', -32603, "m", None),
        (b"{}", -32603, "", None),
        (b'{"code":99999999999999999999,"message":"m"}', 99999999999999999999, "m", None),
        *(
            (raw, -32603, "the backend sent a malformed error", None)
            for raw in (b"null", b'"no"', b"[]", b'{"code":"1"}')
        ),
        (b'{"code":1,"message":"\\ud800"}', -32603, "the backend sent a malformed error", None),
        (b'{"data":%b}' % (b"[" * 5_000 + b"]" * 5_000), -32603, "the backend sent a malformed error", None),
    ],
)
def test_an_error_of_a_backend_is_understood_or_said_to_be_malformed(
    raw: bytes, code: int, message: str, data: object
) -> None:
    told = jsonrpc.fault(raw)
    assert (told.code, told.message, told.data) == (code, message, data)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (McpError(-32601, "Method not found"), {"code": -32601, "message": "Method not found"}),
        (McpError(-1, "m", {}), {"code": -1, "message": "m", "data": {}}),
        (McpError(-1, "m", [1]), {"code": -1, "message": "m", "data": [1]}),
        (
            McpError(-1, "m", {"uri": "u"}, vmcp_code=2002),
            {"code": -1, "message": "m", "data": {"uri": "u", "vmcpCode": 2002}},
        ),
        (McpError(-1, "m", [1], vmcp_code=2002), {"code": -1, "message": "m", "data": [1]}),
        (McpError(-1, "m", Raw(b"false"), vmcp_code=2002), {"code": -1, "message": "m", "data": False}),
        (
            Unavailable("git", "it has stopped"),
            {"code": -32603, "message": "backend 'git' is unavailable: it has stopped", "data": {"vmcpCode": 2001}},
        ),
        (
            Overdue("git", "timeouts.call", 1.5),
            {
                "code": -32603,
                "message": "backend 'git' did not answer in time: timeouts.call is 1.5 s",
                "data": {"vmcpCode": 1002},
            },
        ),
    ],
)
def test_an_error_is_said_with_our_own_code_where_there_is_room(error: McpError, expected: dict[str, Any]) -> None:
    told = json.loads(jsonrpc.failure(b'"x"', error))
    assert told == {"jsonrpc": "2.0", "id": "x", "error": expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (jsonrpc.request(3, "ping", {}), b'{"jsonrpc":"2.0","id":3,"method":"ping","params":{}}'),
        (jsonrpc.notification("n"), b'{"jsonrpc":"2.0","method":"n"}'),
        (jsonrpc.notification("n", {}), b'{"jsonrpc":"2.0","method":"n","params":{}}'),
        (jsonrpc.notification("n", {"a": Raw(b" 1")}), b'{"jsonrpc":"2.0","method":"n","params":{"a": 1}}'),
        (jsonrpc.reply(b"3", Raw(b"1.0")), b'{"jsonrpc":"2.0","id":3,"result":1.0}'),
    ],
)
def test_what_vmcp_says_is_one_line(text: bytes, expected: bytes) -> None:
    assert text == expected


def test_white_space_between_lines_is_no_end_of_a_message() -> None:
    assert jsonrpc.one_line(b'{"a":1}') == b'{"a":1}'
    assert json.loads(jsonrpc.one_line(b'{\r\n "a": "x\\n"\n}')) == {"a": "x\n"}
    assert jsonrpc.one_line(b"[\n{}\r]") == b"[ {} ]"


def test_nothing_is_not_null() -> None:
    assert not NONE
    assert Raw(jsonrpc.NULL)
