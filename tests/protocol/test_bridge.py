"""Between the revisions: every pair, what is put into words on the way down, and errors both ways.

Rule: same revision, same bytes; otherwise a result in the wanted shape or an ``McpError``, whatever a backend says.
"""

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests.protocol.documents import Document, documents, objects, reference
from vmcp.errors import Code, McpError, Unavailable
from vmcp.protocol import bridge
from vmcp.protocol.envelope import SERVER_INFO
from vmcp.protocol.jsonrpc import LARGE, failure, members
from vmcp.protocol.revisions import HANDSHAKE, MODERN, REQUESTS, Revision

V24, V25_03, V25_06, V25_11 = HANDSHAKE
PAIRS = list(product(Revision, repeat=2))
CROSSING = [(spoken, wanted) for spoken, wanted in PAIRS if spoken != wanted]
HOUSE_ONLY = {"resultType", "ttlMs", "cacheScope"}

TEXT = {"type": "text", "text": "hi", "annotations": {"priority": 1.0}}
IMAGE = {"type": "image", "data": "AA==", "mimeType": "image/png"}
AUDIO = {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}
LINK = {"type": "resource_link", "name": "readme", "uri": "file:///r"}
EMBEDDED = {"type": "resource", "resource": {"uri": "file:///r", "text": "R"}}
STRANGE = {"type": "hologram", "data": [1, 2.0]}


def plain(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def bridged(told: Any, method: str, spoken: Revision, wanted: Revision) -> Any:
    return reference(bridge.result(json.dumps(told).encode(), method, spoken, wanted))


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_a_result_arrives_in_the_shape_that_is_wanted(spoken: Revision, wanted: Revision, method: str) -> None:
    own = {"x": 1.0, "big": 2**70, "nothing": None, "_meta": {"a": ""}}
    house = {"resultType": "complete", "ttlMs": 5, "cacheScope": "public"} if spoken.modern else {}
    expected: dict[str, Any] = dict(own)
    if wanted.modern:
        expected |= house or {"resultType": "complete"}
        if method == "resources/read" and not spoken.modern:
            expected |= {"ttlMs": 0, "cacheScope": "private"}
    assert repr(sorted(bridged(own | house, method, spoken, wanted).items())) == repr(sorted(expected.items()))


@pytest.mark.parametrize("revision", Revision)
@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
@pytest.mark.parametrize(
    "text", [b' {"a" : 1.0 }\n', b'{"resultType":"input_required"}', b"[]", b"null", b'{"a":1,"a":2}']
)
def test_in_the_same_revision_not_a_byte_changes(text: bytes, method: str, revision: Revision) -> None:
    assert bridge.result(text, method, revision, revision) == text
    assert bridge.result(Raw(text), method, revision, revision) == text


@pytest.mark.parametrize(
    ("text", "method", "expected"),
    [
        (b"{}", "tools/call", b'{"resultType":"complete"}'),
        (b" { } ", "tools/call", b'{"resultType":"complete" } '),
        (b"{}", "resources/read", b'{"resultType":"complete","ttlMs":0,"cacheScope":"private"}'),
        (b'{"a": 1.0}', "tools/call", b'{"resultType":"complete","a": 1.0}'),
        (b'\n{ "a":1}', "ping", b'{"resultType":"complete", "a":1}'),
        (b'{"resultType":"odd","a": 1.0}', "tools/call", b'{"resultType":"complete","a":1.0}'),
        (b'{"resultType":"odd"}', "tools/call", b'{"resultType":"complete"}'),
        (b'{"a":{"resultType": 1}}', "tools/call", b'{"resultType":"complete","a":{"resultType": 1}}'),
        (b'{"a":"\\"resultType\\""}', "tools/call", b'{"resultType":"complete","a":"\\"resultType\\""}'),
    ],
)
def test_what_a_handshake_server_says_is_complete_and_not_to_be_kept(text: bytes, method: str, expected: bytes) -> None:
    assert bridge.to_house(text, method) == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"ttlMs":60000,"contents":[]}',
        b'{"contents":[],"cacheScope":"public"}',
        b'{"result\\u0054ype":"odd","contents":[]}',
        b'{"contents":[],"ttl\\u004ds":1}',
    ],
)
def test_a_handshake_server_cannot_smuggle_in_a_member_of_the_house(text: bytes) -> None:
    told = reference(bridge.to_house(text, "resources/read"))
    assert told == {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "contents": []}


@pytest.mark.parametrize("said", [b"resultType", rb"result\u0054ype", b"ttlMs"])
def test_a_large_one_keeps_its_bytes_and_cannot_smuggle_either(said: bytes) -> None:
    long = b'"text":"%b"' % (rb"\u0078 \"resultType\" " * (LARGE // 16))
    head = b'{"resultType":"complete","ttlMs":0,"cacheScope":"private"'
    assert bridge.to_house(Raw(b"{ %b}" % long), "resources/read") == head + b", " + long + b"}"
    smuggled = b'{%b, "%b": 1}' % (long, said)
    assert bridge.to_house(smuggled, "resources/read") == head + b"," + long + b"}"
    assert bridge.to_house(b" " + smuggled, "resources/read") == head + b"," + long + b"}"
    assert bridge.to_house(b"{%b}" % (b" " * LARGE), "resources/read") == head + b"}"
    with pytest.raises(McpError):
        bridge.result(b"[%b]" % (b" " * LARGE), "resources/read", Revision.V2025_11_25, MODERN)


CONTENTS: list[tuple[Any, dict[Revision, Any]]] = [
    (TEXT, {}),
    (IMAGE, {}),
    (EMBEDDED, {}),
    (STRANGE, {}),
    (AUDIO, {V24: plain("[audio of type audio/wav, which revision 2024-11-05 cannot carry]")}),
    ({"type": "audio"}, {V24: plain("[audio of type unknown, which revision 2024-11-05 cannot carry]")}),
    (LINK, dict.fromkeys((V24, V25_03), plain("readme: file:///r"))),
    ({**LINK, "title": "Read me"}, dict.fromkeys((V24, V25_03), plain("Read me: file:///r"))),
    ({"type": "resource_link", "uri": "a:b"}, dict.fromkeys((V24, V25_03), plain("resource: a:b"))),
    ({"type": "resource_link", "name": "é"}, dict.fromkeys((V24, V25_03), plain("é: "))),
    ({"type": "text"}, {}),
    ({"kind": "audio"}, {}),
    ({"type": ["audio"]}, {}),
]


@pytest.mark.parametrize("wanted", HANDSHAKE)
@pytest.mark.parametrize(("block", "down"), CONTENTS)
def test_content_that_a_revision_cannot_carry_is_put_into_words(block: Any, down: Any, wanted: Revision) -> None:
    said = down.get(wanted, block)
    tool = {"content": [TEXT, block], "isError": True}
    prompt = {"messages": [{"role": "user", "content": block, "x": 1}, {"role": "assistant"}], "description": "d"}
    for spoken in (MODERN, V25_11 if wanted != V25_11 else V25_06):
        assert bridged(tool, "tools/call", spoken, wanted) == {"content": [TEXT, said], "isError": True}
        assert bridged(prompt, "prompts/get", spoken, wanted) == {
            "messages": [{"role": "user", "content": said, "x": 1}, {"role": "assistant"}],
            "description": "d",
        }
        assert bridged(tool, "resources/read", spoken, wanted) == tool


OBJECT, ARRAY = '{"a": 1.0}', "[1, 2.0]"


@pytest.mark.parametrize(
    ("value", "content", "wanted", "kept", "texts"),
    [
        (OBJECT, [], V25_11, True, []),
        (OBJECT, [], V25_06, True, []),
        (OBJECT, [], V25_03, False, [OBJECT]),
        (OBJECT, None, V25_03, False, [OBJECT]),
        (OBJECT, [IMAGE], V24, False, [OBJECT]),
        (OBJECT, [TEXT], V24, False, ["hi"]),
        (OBJECT, [LINK], V24, False, ["readme: file:///r", OBJECT]),
        *((text, [], wanted, False, [text]) for text in (ARRAY, '"s"', "1.0", "true", "[]") for wanted in HANDSHAKE),
        (ARRAY, [TEXT], V25_11, False, ["hi"]),
        (ARRAY, None, V25_11, False, [ARRAY]),
    ],
)
def test_structured_content_that_cannot_be_said_becomes_text(
    value: str, content: Any, wanted: Revision, kept: bool, texts: list[str]
) -> None:
    told = '{"resultType":"complete","structuredContent": %s%s}'
    text = told % (value, "" if content is None else f',"content":{json.dumps(content)}')
    down = members(bridge.result(text.encode(), "tools/call", MODERN, wanted))
    assert down.get("structuredContent") == (Raw(value.encode()) if kept else None)
    said = json.loads(bytes(down.get("content", Raw(b"[]"))))
    assert sorted(block["text"] for block in said if block["type"] == "text") == sorted(texts)
    assert [block for block in said if block["type"] == "image"] == [block for block in content or [] if block == IMAGE]


def test_structured_content_of_another_method_is_nobodys_business() -> None:
    told = {"structuredContent": [1], "content": 7, "messages": 8}
    assert bridged(told, "completion/complete", MODERN, V24) == told


@pytest.mark.parametrize(
    ("meta", "left"),
    [
        ({SERVER_INFO: {"name": "s"}}, None),
        ({SERVER_INFO: {"name": "s"}, "a": 1.0}, {"a": 1.0}),
        ({"a": SERVER_INFO}, {"a": SERVER_INFO}),
        ({"a": 1}, {"a": 1}),
        ({}, {}),
    ],
)
def test_the_name_of_a_backend_does_not_reach_a_handshake_client(meta: Any, left: Any) -> None:
    down = bridged({"_meta": meta, "content": []}, "tools/call", MODERN, V25_11)
    assert down == ({"content": []} if left is None else {"_meta": left, "content": []})


@pytest.mark.parametrize("wanted", HANDSHAKE)
@pytest.mark.parametrize(
    "kind", ['"input_required"', '"task"', "1", "null", '"' + "é" * 80 + '"', '"x' + "é" * 80 + '"']
)
def test_a_result_that_a_handshake_revision_cannot_express_is_an_error(kind: str, wanted: Revision) -> None:
    with pytest.raises(McpError) as raised:
        bridge.result(f'{{"resultType":{kind},"requestState":"s"}}'.encode(), "tools/call", MODERN, wanted)
    assert (raised.value.code, raised.value.vmcp_code) == (Code.INTERNAL_ERROR, Code.PROTOCOL_ERROR)
    assert len(raised.value.message) < 200
    assert failure(b"1", raised.value)


@pytest.mark.parametrize("told", [{}, {"resultType": "complete"}])
def test_a_result_without_a_type_is_complete(told: dict[str, str]) -> None:
    assert bridged({**told, "content": []}, "tools/call", MODERN, V25_11) == {"content": []}


def lawful(text: bytes, method: str, spoken: Revision, wanted: Revision) -> None:
    """A result is in the wanted shape, without a member said twice, or it is an error that can be sent."""
    try:
        told = reference(bridge.result(text, method, spoken, wanted))
    except McpError as refused:
        told = reference(failure(b"1", refused))
    assert isinstance(told, dict)
    assert wanted.modern or "error" in told or not told.keys() & HOUSE_ONLY


MALFORMED = [
    "[]", "[1]", "null", "1", '"x"', "true",
    '{"content":null}', '{"content":{}}', '{"content":1}', '{"content":[1,null,"x",[]]}', '{"content":[{"type":1}]}',
    '{"content":[{"type":"resource_link","name":1,"uri":[]}]}', '{"content":[{"type":"audio","mimeType":{}}]}',
    '{"structuredContent":[1],"content":null}', '{"structuredContent":[1],"content":{}}', '{"structuredContent":null}',
    '{"messages":null}', '{"messages":{}}', '{"messages":[1]}', '{"messages":[null]}', '{"messages":[{"content":1}]}',
    '{"messages":[{"content":[]}]}', '{"_meta":null}', json.dumps({"_meta": [SERVER_INFO]}), json.dumps({"_meta": SERVER_INFO}),
    '{"resultType":null}', '{"resultType":{}}', '{"ttlMs":"x","cacheScope":1}',
]  # fmt: skip


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_result_raises_nothing_unexpected(text: str, method: str) -> None:
    for spoken, wanted in CROSSING:
        lawful(text.encode(), method, spoken, wanted)


@pytest.mark.parametrize(
    "block",
    [
        '{"type":"resource_link","name":"\\ud800","uri":"a:b"}',
        '{"type":"resource_link","name":"n","size":1e400}',
        '{"type":"audio","data":"\\ud800"}',
        '{"type":"audio","x":' + "[" * 5_000 + "]" * 5_000 + "}",
    ],
)
def test_content_that_only_a_raw_reader_takes_raises_nothing_unexpected(block: str) -> None:
    """What a backend says is looked through, not decoded: a lone surrogate or 1e400 comes this far."""
    for method, text in (
        ("tools/call", f'{{"content":[{block}]}}'),
        ("prompts/get", f'{{"messages":[{{"content":{block}}}]}}'),
    ):
        for wanted in HANDSHAKE:
            try:
                bridge.result(text.encode(), method, MODERN, wanted)
            except McpError as refused:
                assert failure(b"1", refused)  # noqa: PT017 - either outcome will do, a third will not


def test_a_key_that_is_no_text_raises_nothing_unexpected() -> None:
    with pytest.raises(McpError):
        bridge.result(b'{"\\ud800":1}', "tools/call", MODERN, V25_11)


BLOCKS = st.sampled_from([TEXT, IMAGE, AUDIO, LINK, EMBEDDED, STRANGE]).map(
    lambda block: Document(json.dumps(block), block)
)


@st.composite
def results(draw: st.DrawFn) -> bytes:
    """Results of handshake servers: the members that the bridge looks into, and any others."""
    told = {f"x{index}": value.text for index, value in enumerate(draw(st.lists(documents(unique=True), max_size=2)))}
    blocks = draw(st.lists(BLOCKS, max_size=2))
    told["content"] = "[" + " , ".join(block.text for block in blocks) + "]"
    told["messages"] = "[" + ",".join(f'{{"role":"user","content":{block.text}}}' for block in blocks) + "]"
    for key in ("structuredContent", "_meta"):
        told[key] = draw(objects(documents(unique=True), unique=True)).text
    kept = draw(st.lists(st.sampled_from(sorted(told)), unique=True))
    return ("{" + ", ".join(f'"{key}": {told[key]}' for key in kept) + "}").encode()


@given(results(), st.sampled_from(["tools/call", "prompts/get", "resources/read", "completion/complete"]))
def test_up_and_down_again_is_the_identity(text: bytes, method: str) -> None:
    for spoken in HANDSHAKE:
        up = bridge.result(text, method, spoken, MODERN)
        for wanted in (V25_06, V25_11):
            assert repr(reference(bridge.from_house(up, method, wanted))) == repr(reference(text))
    before = {key: bytes(raw) for key, raw in members(text).items()}
    after = {key: bytes(raw) for key, raw in members(bridge.from_house(up, method, V25_11)).items()}
    assert before == after or method == "prompts/get"


@given(
    documents(unique=True) | results().map(lambda text: Document(text.decode(), None)), st.sampled_from(list(REQUESTS))
)
def test_results_of_any_shape_are_lawful(told: Document, method: str) -> None:
    for spoken, wanted in CROSSING:
        lawful(told.text.strip().encode(), method, spoken, wanted)


MISSING = McpError(Code.RESOURCE_NOT_FOUND, "gone")
REFUSED = McpError(Code.INVALID_PARAMS, "gone", {"uri": "a:b"})


@pytest.mark.parametrize(("spoken", "wanted"), [(s, w) for s, w in PAIRS if s.modern == w.modern])
@pytest.mark.parametrize("code", [-32002, -32602, -32020, -32021, -32022, -32601, -32000, 42])
def test_within_an_era_an_error_passes_as_it_is(spoken: Revision, wanted: Revision, code: int) -> None:
    failed = McpError(code, "m", {"uri": "a:b"})
    assert bridge.error(failed, "resources/read", "a:b", spoken, wanted) is failed


@pytest.mark.parametrize(
    ("failed", "code", "data"),
    [
        (MISSING, -32602, {"uri": "a:b"}),
        (McpError(-32002, "gone", {"uri": "c:d"}), -32602, {"uri": "c:d"}),
        (McpError(-32002, "gone", Raw(b'{"uri":"c:d","x":1.0}')), -32602, Raw(b'{"uri":"c:d","x":1.0}')),
        (McpError(-32002, "gone", Raw(b'{"uri":1}')), -32602, {"uri": "a:b"}),
        (McpError(-32002, "gone", Raw(b'"a:b"')), -32602, {"uri": "a:b"}),
        (McpError(-32002, "gone", Raw(b'{"uri":"\\ud800"}')), -32602, {"uri": "a:b"}),
        (McpError(-32002, "gone", Raw(b'{"n":1e400}')), -32602, {"uri": "a:b"}),
        (McpError(-32002, "gone", Raw(b"[" * 5_000 + b"]" * 5_000)), -32602, {"uri": "a:b"}),
        (McpError(-32000, "gone", Raw(b'"x"')), -32000, Raw(b'"x"')),
        (McpError(-32601, "gone"), -32601, None),
    ],
)
@pytest.mark.parametrize("spoken", HANDSHAKE)
def test_an_error_of_a_handshake_server_goes_up(failed: McpError, code: int, data: object, spoken: Revision) -> None:
    told = bridge.error(failed, "resources/read", "a:b", spoken, MODERN)
    assert (told.code, told.message, told.data) == (code, "gone", data)


@pytest.mark.parametrize(
    ("failed", "method", "name", "code"),
    [
        (REFUSED, "resources/read", "a:b", -32002),
        (McpError(-32602, "gone", Raw(b'{"uri":"a:b"}')), "resources/read", "a:b", -32002),
        (REFUSED, "resources/read", "c:d", -32602),
        (REFUSED, "resources/read", None, -32602),
        (REFUSED, "tools/call", "a:b", -32602),
        (McpError(-32602, "gone"), "resources/read", "a:b", -32602),
        (McpError(-32602, "gone"), "resources/read", None, -32602),
        (McpError(-32602, "gone", Raw(b'{"uri":2}')), "resources/read", "a:b", -32602),
        (McpError(-32602, "gone", Raw(b'{"uri":"\\ud800"}')), "resources/read", "a:b", -32602),
        (McpError(-32601, "gone", {"uri": "a:b"}), "resources/read", "a:b", -32601),
        (McpError(-32000, "gone", Raw(b"1")), "tools/call", "x", -32000),
    ],
)
@pytest.mark.parametrize("wanted", HANDSHAKE)
def test_an_error_of_a_modern_server_goes_down(
    failed: McpError, method: str, name: str | None, code: int, wanted: Revision
) -> None:
    told = bridge.error(failed, method, name, MODERN, wanted)
    assert (told.code, told.message, told.data) == (code, "gone", failed.data)


@pytest.mark.parametrize("wanted", HANDSHAKE)
@pytest.mark.parametrize("code", [-32020, -32021, -32022])
def test_a_code_that_only_2026_07_28_has_does_not_reach_a_handshake_client(code: int, wanted: Revision) -> None:
    told = bridge.error(McpError(code, "no roots", {"requiredCapabilities": {}}), "tools/call", "x", MODERN, wanted)
    assert (told.code, told.data, told.vmcp_code) == (Code.INTERNAL_ERROR, None, Code.PROTOCOL_ERROR)
    assert told.message == "the backend refused: no roots"


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_an_error_of_our_own_about_a_backend_passes_as_it_is(spoken: Revision, wanted: Revision) -> None:
    failed = Unavailable("git", "it has stopped")
    assert bridge.error(failed, "tools/call", "x", spoken, wanted) is failed
