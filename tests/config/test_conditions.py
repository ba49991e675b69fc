"""The condition language: what is true, what is refused and where, and that nothing a client sends makes it fail."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.config.conditions import DEEPEST, LONGEST, BadCondition, compiled, same

ROOTS = ("method", "params", "principal")
VALUES: dict[str, Any] = {
    "method": "tools/call",
    "params": {
        "name": "search",
        "region": "eu",
        "n": 3,
        "big": 2**70,
        "half": 0.5,
        "on": True,
        "none": None,
        "tags": ["a", "b", 1],
        "deep": {"list": [{"x": 1}], "odd key": "k", "in": "word", "x-y": 2, "true": 1},
        "text": 'it\'s "so"\n',
    },
    "principal": {"scopes": frozenset({"read"}), "pair": ("a", "b")},
}


def holds(text: str) -> bool:
    return compiled(text, ROOTS).holds(VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "params.region == 'eu'",
        'params["region"] == "eu"',
        "params.region != 'us'",
        "params.n == 3 && params.n == 3.0 && params.n != true",
        "params.n >= 3 and params.n <= 3 and params.n > -1 and params.n < 3.5e0",
        "params.big == 1180591620717411303424 && params.big > params.n",
        "params.half == 0.5",
        "params.region < 'ev'",
        "params.on",
        "not params.none",
        "!!params.on",
        "params.none == null && params.absent == null && params.absent.deeper[3] == null",
        "params.region in ['us', 'eu']",
        "params.region not in []",
        "'a' in params.tags && 1 in params.tags && true not in params.tags",
        "'region' in params && 'ea' in 'beach'",
        "'read' in principal.scopes && principal.pair == ['a', 'b']",
        "params.deep.list[0].x == 1 && params.deep.list[1] == null && params.name[0] == null",
        "params.deep['odd key'] == 'k' && params.deep.in == 'word' && params.deep.x-y == 2 && params.deep.true == 1",
        "method like 'tools/*' && params.region like 'e?'",
        r"params.text == 'it\'s \"so\"\n'",
        "params.tags == ['a', 'b', 1.0] && params.deep.list == params.deep.list",
        "params.region == 'us' || (params.n == 3 && (method == 'x' or params.on))",
        "not params.n in [4] and not (params.n == 4)",
    ],
)
def test_this_is_true(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "params.region",
        "params.n",
        "'true'",
        "null",
        "params.on == 1",
        "params.n == '3'",
        "params.n < '4'",
        "params.none < 1",
        "params.on < 2",
        "params.tags < params.tags",
        "1 in 'a1'",
        "1 in params",
        "'a' in 5",
        "params.n like '3'",
        "params.tags == ['a', 'b']",
        "params.deep == params",
        "!params.on",
        "params.region == 'us' && params.n == 3",
        "params.region && params.n",
    ],
)
def test_this_is_not_true(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "at", "why"),
    [
        ("", 0, "a value is expected, not 'the end'"),
        ("params.n ==", 11, "a value is expected"),
        ("params.n = 3", 9, "'=' means nothing here"),
        ("params.n == 'x", 12, "means nothing here"),
        ("param.n == 3", 0, "'param' is nothing that can be asked about; there are method, params, principal"),
        ("params.", 7, "a name is expected after '.'"),
        ("params.3", 7, "a name is expected"),
        ("params[-1]", 7, "a number or a name in quotes"),
        ("params[n]", 7, "a number or a name in quotes"),
        ("params['n'", 10, "']' is expected"),
        ("(params.n == 3", 14, "')' is expected"),
        ("params.n == 3)", 13, "')' is not expected here"),
        ("['a' 'b']", 5, "',' is expected"),
        ("params.n ! 3", 11, "'in' is expected"),
        ("method like params.n", 12, "a pattern in quotes is expected"),
        ("method.upper()", 12, "'(' is not expected here"),
        ("params.n == 3 params.n", 14, "'params' is not expected here"),
        (r"method == 'a\q'", 12, "means nothing in a string"),
        ("(" * 40 + "1" + ")" * 40, DEEPEST + 1, "nested deeper"),
        ("[" * 2000 + "]" * 2000, DEEPEST + 1, "nested deeper"),
        ("1" * (LONGEST + 1), LONGEST, "longer than"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, at: int, why: str) -> None:
    with pytest.raises(BadCondition, match=r"at character \d+") as caught:
        compiled(text, ROOTS)
    assert why in str(caught.value)
    assert caught.value.at == at


def test_a_condition_is_equal_by_its_text_and_shows_it() -> None:
    one, other = compiled("method == 'a'", ROOTS), compiled("method == 'a'", ROOTS)
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == "Condition(\"method == 'a'\")"
    assert one != compiled("method == 'b'", ROOTS)
    assert one != "method == 'a'"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_whatever_is_compared_the_answer_is_a_boolean(one: Any, other: Any) -> None:
    values = {"params": one, "principal": other}
    for sign in ("==", "!=", "<", "<=", ">", ">=", "in", "not in"):
        assert compiled(f"params {sign} principal", ROOTS).holds(values) in (True, False)
    assert compiled("params[0].a.b['c'] == principal.a[1]", ROOTS).holds(values) in (True, False)


@given(JSON, JSON)
def test_equality_is_symmetric_and_everything_equals_itself(one: Any, other: Any) -> None:
    assert same(one, other) == same(other, one)
    assert same(one, one)


@given(st.text(alphabet="paramsethod.[]()!&|=<>'\"0123 ,inlike", max_size=40))
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    try:
        answer = holds(text)
    except BadCondition as refused:
        answer = refused.at <= len(text)
    assert answer in (True, False)
