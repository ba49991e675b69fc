"""Bodies that two parsers could read in two ways, that are no JSON at all, or that are made to cost: each is refused by its code.

Rule: a refusal is an ``McpError`` and nothing else, and beside each family stands its nearest neighbour that is let in.
"""

import pytest

from tests.protocol.documents import reference
from vmcp.errors import Code, McpError
from vmcp.protocol.jsonrpc import MAX_ID, MAX_METHOD, Request, parse, strict

PARSE, INVALID = Code.PARSE_ERROR, Code.INVALID_REQUEST


def ask(params: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + params + b"}"


def named(members: bytes) -> bytes:
    return b'{"jsonrpc":"2.0",' + members + b"}"


def code_of(body: bytes) -> int:
    with pytest.raises(McpError) as refused:
        parse(body)
    assert len(refused.value.message) < 200
    assert refused.value.vmcp_code == Code.INVALID_MESSAGE
    return refused.value.code


DOUBLED = [
    b'{"name":"safe","name":"danger"}',
    b'{"name":"safe","\\u006eame":"danger"}',
    b'{"\\u006e\\u0061me":"safe","n\\u0061me":"danger"}',
    b'{"name":"same","name":"same"}',
    b'{"a":1,"b":2,"a":3}',
    b'{"":1,"":2}',
    b'{"a":{"b":1,"b":2}}',
    b'{"a":[{"b":1},{"c":1,"c":2}]}',
    b'{"a":{"b":{"c":{"d":{"e":1,"e":2}}}}}',
    b'{"a":{"x":1},"a":{"y":2}}',
    b'{"a":{"b":{"c":1}},"a":1}',
    b'{"a":1 ,"a" :2}',
    b'{"a"\n:1,\t"a"\r:2}',
    b'{"a:a":1,"a:a":2}',
    b'{"u":"http://h:1","a":1,"a":2}',
    b'{"u":":","a":":","a":":"}',
    b'{"\\u003a":1,":":2}',
    b'{"\xc3\xa9":1,"\\u00e9":2}',
    b'{"\xf0\x9f\x98\x80":1,"\\ud83d\\ude00":2}',
    b'{"a/b":1,"a\\/b":2}',
    b'{"_meta":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2024-11-05"}}',
]  # fmt: skip

ONCE = [
    b'{"name":"safe","Name":"danger"}',
    b'{"a":1,"\\u0041":2}',
    b'{"a":{"b":1},"b":{"a":1}}',
    b'{"a":[{"b":1},{"b":2}]}',
    b'{"u":"http://h:1","v":"::::"}',
    b'{"a:b":1,"a":{"b":1}}',
    b'{"\\u003a":1,"a":2}',
    b'{"a" : 1 , "b" : 2}',
    b'{"\xc3\xa9":1,"e\xcc\x81":2}',
    b'{"k":1,"\xe2\x84\xaa":2}',
    b'{"":1," ":2}',
    b'{"__proto__":1,"__class__":2,"__entity":3,"__extn":4}',
]  # fmt: skip


@pytest.mark.parametrize("params", DOUBLED)
def test_a_member_that_is_there_twice_is_refused_at_any_depth(params: bytes) -> None:
    assert code_of(ask(params)) == PARSE
    assert code_of(b"[" + ask(params) + b"]") == PARSE


@pytest.mark.parametrize("params", ONCE)
def test_members_that_only_look_alike_are_let_in(params: bytes) -> None:
    incoming = parse(ask(params))
    assert isinstance(incoming, Request)
    assert incoming.tree == reference(params)


@pytest.mark.parametrize("key", ["jsonrpc", "id", "method", "params"])
def test_a_member_of_the_message_itself_is_there_once(key: str) -> None:
    assert code_of(ask(b"{}")[:-1] + b',"%s":"2.0"}' % key.encode()) == PARSE


@pytest.mark.parametrize(
    "member",
    [
        '"Method":"x"', '"METHOD":"x"', '"Params":{}', '"paramſ":{}', '"param\\u017f":{}', '"ID":2', '"Id":2', '"iD":2',
        '"JSONRPC":"2.0"', '"jſonrpc":"2.0"', '"Result":1', '"reſult":1', '"Error":1',
    ],
)  # fmt: skip
def test_a_member_that_a_careless_parser_takes_for_one_of_ours_is_refused(member: str) -> None:
    assert code_of(ask(b"{}")[:-1] + b"," + member.encode() + b"}") == INVALID


@pytest.mark.parametrize("member", ['"x":1', '"_method":1', '"ıd":1', '"K":1', '"trace":{"Method":"x"}', '""' + ":1"])
def test_a_member_that_nobody_takes_for_ours_is_ignored(member: str) -> None:
    incoming = parse(ask(b"{}")[:-1] + b"," + member.encode() + b"}")
    assert isinstance(incoming, Request)
    assert incoming.method == "tools/call"


WHOLE = ask(b'{"name":"caf\xc3\xa9"}')


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + WHOLE,
        *(WHOLE.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")),
        WHOLE.decode().encode("latin-1"),
        WHOLE.decode().encode("utf-7").replace(b"caf", b"\xff"),
        ask(b'"\xed\xa0\xbd\xed\xb8\x80"'),
        ask(b'"\xed\xa0\x80"'),
        ask(b'"\xc0\xaf"'),
        ask(b'"\xe0\x80\xaf"'),
        ask(b'"\xf4\x90\x80\x80"'),
        ask(b'"\xe2\x82"'),
        ask(b'"\x80"'),
        ask(b'{"\xff":1}'),
        named(b'"id":"\xff","method":"m"'),
        WHOLE[:-4],
    ],
)  # fmt: skip
def test_what_is_not_plain_utf_8_is_refused(body: bytes) -> None:
    assert code_of(body) == PARSE


@pytest.mark.parametrize(
    "text",
    [
        b'"\\ud800"', b'"\\ud800 and on"', b'"\\udc00"', b'"\\udfffx"', b'"\\ude00\\ud83d"', b'"\\ud83d\\ud83d"',
        b'"\\ud83d\\u0041"', b'"\\ud83d\xf0\x9f\x98\x80"', b'"\\ud83d\\ude0"', b'"\\u12"', b'"\\U0041"', b'"\\x41"', b'"\\\'"',
        b'"a\x00"', b'"a\x01"', b'"a\x1f"', b'"a\tb"', b'"a\nb"', b'"a', b'a"',
    ],
)  # fmt: skip
def test_a_string_that_is_no_text_is_refused_as_value_and_as_key(text: bytes) -> None:
    assert code_of(ask(b'{"a":%b}' % text)) == PARSE
    assert code_of(ask(b'{"u":":","a":[%b]}' % text)) == PARSE
    assert code_of(ask(b"{%b:1}" % text)) == PARSE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\xf0\x9f\x98\x80"', "😀"),
        (b'"\\u0000"', "\0"),
        (b'"\\t\\n\\/"', "\t\n/"),
        (b'"\x7f\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbf"', "\x7f\x85\u2028\ufeff\uffff"),
    ],
)
def test_a_string_that_is_unusual_text_is_let_in(text: bytes, value: str) -> None:
    incoming = parse(ask(b'{"a":%b,%b:1}' % (text, text)))
    assert isinstance(incoming, Request)
    assert incoming.tree == {"a": value, value: 1}


@pytest.mark.parametrize(
    "text",
    [
        b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"nan", b"1e400", b"-1e400", b"1.7976931348623159e308", b"9" * 400 + b".0",
        b"9" * 4301, b"01", b"-01", b"+1", b"1.", b".5", b"-", b"- 1", b"0x10", b"1_0", b"1e", b"1e+", b"None", b"True", b"tru",
        b"undefined", b"\xd9\xa1",
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused(text: bytes) -> None:
    assert code_of(ask(b'{"a":%b}' % text)) == PARSE
    assert code_of(ask(b'{"u":":","a":[%b]}' % text)) == PARSE


@pytest.mark.parametrize(
    "text",
    [
        b"-0", b"-0.0", b"0e999999", b"1e-999999", b"1E5", b"1.7976931348623157e308", b"9007199254740991", b"9007199254740993",
        b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"9" * 308, b"9" * 4300,
    ],
)  # fmt: skip
def test_a_number_goes_through_however_big_or_small(text: bytes) -> None:
    incoming = parse(ask(b'{"a":%b,"u":":"}' % text))
    assert isinstance(incoming, Request)
    assert bytes(incoming.params["a"]) == text
    assert repr(incoming.tree["a"]) == repr(reference(text))


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"\x00", b"{", b"}", b"{}{}", b'{"a":1}{"b":2}', b"{}\x00", b"{} x", b"{},", b"\x0b{}", b"\xc2\xa0{}",
        ask(b"{}") + b"\x00", ask(b"{}") + ask(b"{}"), ask(b"{}") + b"\n" + ask(b"{}"), b"/**/" + ask(b"{}"), ask(b"{}") + b"//",
        b"--b\r\n" + ask(b"{}"), b"data: " + ask(b"{}"), b"%5B%5D", ask(b"{'a':1}"), ask(b'{"a":1,}'), ask(b'{"a":[1,]}'),
        ask(b'{"a":[,1]}'), ask(b'{"a":[1 2]}'), ask(b'{"a" 1}'), ask(b"{a:1}"), ask(b"{1:2}"), ask(b'{"a":}'), ask(b'{"a"}'),
    ],
)  # fmt: skip
def test_what_is_no_json_text_is_refused(body: bytes) -> None:
    assert code_of(body) == PARSE


@pytest.mark.parametrize("body", [b" \r\n\t" + ask(b"{ }") + b"\n", ask(b'{"a":"//","b":"/**/"}'), ask(b'{"a":[ ]}')])
def test_space_around_a_message_is_let_in(body: bytes) -> None:
    assert isinstance(parse(body), Request)


def nested(depth: int, kind: str) -> bytes:
    """Params that are ``depth`` levels deep."""
    inner = depth - 1
    if kind == "objects":
        return b'{"a":' * inner + b"{}" + b"}" * inner
    if kind == "arrays":
        return b'{"a":' + b"[" * inner + b"]" * inner + b"}"
    return b'{"a":[' * (depth // 2) + b"{}" * (depth % 2) + b"]}" * (depth // 2)


@pytest.mark.parametrize("kind", ["objects", "arrays", "mixed"])
@pytest.mark.parametrize("depth", [64, 65, 500, 995, 1_024, 60_000])
def test_what_is_nested_too_deeply_is_refused(depth: int, kind: str) -> None:
    assert code_of(ask(nested(depth, kind))) == PARSE


@pytest.mark.parametrize("kind", ["objects", "arrays", "mixed"])
def test_the_message_is_the_first_of_sixty_four_levels(kind: str) -> None:
    assert isinstance(parse(ask(nested(63, kind))), Request)


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_depth_that_a_duplicate_hides_is_refused_too(opening: bytes, closing: bytes) -> None:
    """Of two members with one name the first is dropped; how deep it was is seen by the second decoder alone.

    Where the two decoders reach the end of the stack depends on who called, so all depths around there are tried.
    """
    for depth in range(600, 1_001):
        hidden = opening * depth + b"0" + closing * depth
        assert code_of(ask(b'{"a":%b,"a":1}' % hidden)) == PARSE


@pytest.mark.parametrize(
    "value", [b"[%b]" % b",".join([b"0"] * 200_000), b"[%b]" % b",".join([b"[]"] * 100_001), b"[" * 200_001]
)
def test_more_values_than_the_bound_are_refused(value: bytes) -> None:
    assert code_of(ask(b'{"a":%b}' % value)) == PARSE


def test_the_bound_on_values_is_exact() -> None:
    values = b'{"a":[%b]}' % b",".join([b"0"] * 10)
    assert strict(values, nodes=11) == {"a": [0] * 10}
    with pytest.raises(McpError, match="more than 10 values"):
        strict(values, nodes=10)


@pytest.mark.parametrize("key", [b"k" * 1_000_000, b"\\u006b" * 100_000])
def test_a_long_key_is_only_long(key: bytes) -> None:
    assert isinstance(parse(ask(b'{"%b":1}' % key)), Request)


@pytest.mark.parametrize(
    "id_",
    [
        b"null",
        b"true",
        b"false",
        b"1.0",
        b"1e2",
        b"-0.0",
        b"{}",
        b"[]",
        b"[1]",
        b'{"a":1}',
        b'"%b"' % (b"x" * (MAX_ID + 1)),
    ],
)
def test_an_id_that_is_neither_string_nor_integer_is_refused(id_: bytes) -> None:
    assert code_of(named(b'"id":%b,"method":"ping"' % id_)) == INVALID
    assert code_of(named(b'"id":%b,"result":{}' % id_)) == INVALID


@pytest.mark.parametrize(
    "id_",
    [
        b"0",
        b"-1",
        b"9223372036854775808",
        b'""',
        b'"1"',
        b'"\\u0041"',
        b'"\\u0000"',
        b'"\xc3\xa9"',
        b'"%b"' % (b"x" * MAX_ID),
    ],
)
def test_an_id_keeps_its_type_and_its_spelling(id_: bytes) -> None:
    incoming = parse(named(b'"id": %b ,"method":"ping"' % id_))
    assert isinstance(incoming, Request)
    assert incoming.id == id_


@pytest.mark.parametrize("params", [b"null", b"[]", b'["a"]', b'"a"', b"1", b"true", b"{}" + b"x"])
def test_params_that_are_no_object_are_refused(params: bytes) -> None:
    assert code_of(ask(params)) == (PARSE if params.endswith(b"x") else INVALID)


@pytest.mark.parametrize("method", [b"null", b"1", b"{}", b"[]", b"true", b'""', b'"%b"' % (b"m" * (MAX_METHOD + 1))])
def test_a_method_that_is_no_name_is_refused(method: bytes) -> None:
    assert code_of(named(b'"id":1,"method":' + method)) == INVALID
    assert code_of(named(b'"method":' + method)) == INVALID


def test_a_method_of_the_longest_length_is_let_in() -> None:
    incoming = parse(named(b'"id":1,"method":"%b"' % (b"m" * MAX_METHOD)))
    assert isinstance(incoming, Request)
    assert incoming.method == "m" * MAX_METHOD


@pytest.mark.parametrize(
    "version", [b"", b'"jsonrpc":"1.0",', b'"jsonrpc":2.0,', b'"jsonrpc":2,', b'"jsonrpc":null,', b'"jsonrpc":"2.0 ",']
)
def test_another_version_of_json_rpc_is_refused(version: bytes) -> None:
    assert code_of(b"{" + version + b'"id":1,"method":"ping"}') == INVALID


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"1", b'"x"', b"null", b"true", b"[]", b"[ ]", b"[[]]", b"[1]", b"[null]",
        b"[%b,1]" % ask(b"{}"), b"[[%b]]" % ask(b"{}"), b"[%b,[%b]]" % (ask(b"{}"), ask(b"{}")), b"[%b,{}]" % ask(b"{}"),
        named(b'"id":1'), named(b'"result":1'), named(b'"id":1,"result":1,"error":{}'), named(b'"params":{}'),
    ],
)  # fmt: skip
def test_json_that_is_no_message_is_refused(body: bytes) -> None:
    assert code_of(body) == INVALID


def test_commas_and_brackets_in_strings_are_no_values() -> None:
    assert strict(b'{"csv":"%b"}' % (b"1,[2],{3}," * 5), nodes=3) == {"csv": "1,[2],{3}," * 5}
    with pytest.raises(McpError, match="more than 3 values"):
        strict(b'{"csv":"\\",[",  "b":[1,2,3]}', nodes=3)
