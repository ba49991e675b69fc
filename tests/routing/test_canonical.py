"""One form for texts that say the same. Rule: what says something else never has the same digest, whatever its size."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.routing.canonical import digest, joined, members

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1,"b":2}', b'{ "b" : 2, "a" : 1 }'),
        (b'{"a":{"c":[1],"b":2}}', b'{"a":{"b":2,\n"c":[ 1 ]}}'),
        (b'{"a":1}', b'{"a":1.0}'),
        (b'{"a":100}', b'{"a":1e2}'),
        (b'{"a":0.10}', b'{"a":1E-1}'),
        (b'{"a":0}', b'{"a":0.0e5}'),
        (b'{"a":"\\u00e9\\/"}', '{"a":"é/"}'.encode()),
        (b'{"a":[true,false,null]}', b'{"a": [true, false, null]}'),
    ],
)
def test_what_says_the_same_is_the_same(one: bytes, other: bytes) -> None:
    assert digest(one) == digest(other)
    assert members(one) == members(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":9007199254740993}', b'{"a":9007199254740992}'),
        (b'{"a":123456789012345678901234567890}', b'{"a":123456789012345678901234567891}'),
        (b'{"a":0.1}', b'{"a":0.10000000000000000001}'),
        (b'{"a":0}', b'{"a":-0}'),
        (b'{"a":1}', b'{"a":-1}'),
        (b'{"a":1e9999999999}', b'{"a":1e9999999998}'),
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":1}', b'{"a":true}'),
        (b'{"a":null}', b'{"b":null}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":[1,2]}', b'{"a":[2,1]}'),
        (b'{"a":"x"}', '{"a":"x\u200b"}'.encode()),
        (b'{"a":"x"}', b'{"a":"X"}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (b'{"a":1,"a":2}', b'{"a":2,"a":1}'),
        (b'{"a":{"b":1,"b":2}}', b'{"a":{"b":2}}'),
        (b'{"a":"\xff"}', b'{"a":"\xfe"}'),
        (b"nonsense", b"nonsensf"),
        (b"[1]", b"[2]"),
        (b'{"a":NaN}', b'{"a":Infinity}'),
        (b'{"a":' + b"[" * 100_000, b'{"a":' + b"[" * 100_001),
    ],
)
def test_what_says_something_else_is_not(one: bytes, other: bytes) -> None:
    assert digest(one) != digest(other)


def test_a_member_that_stands_twice_stays_twice() -> None:
    assert members(b'{"a":1,"b":0,"a":2}') == {"a": "1,2", "b": "0"}


def test_what_cannot_be_read_has_no_members() -> None:
    assert [members(text) for text in (b"[1]", b'{"a"', b"\xff", b'{"a":NaN}')] == [{}, {}, {}, {}]
    assert joined({}) == ""


@given(JSON, JSON)
def test_the_digest_tells_values_apart_and_forgets_how_they_were_written(one: object, other: object) -> None:
    plain = json.dumps({"v": one}).encode()
    spread = json.dumps({"v": one}, indent=3, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert digest(plain) == digest(spread) or b"\xed" in spread  # a lone surrogate is no UTF-8
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    if same:
        assert digest(plain) == digest(json.dumps({"v": other}).encode())
