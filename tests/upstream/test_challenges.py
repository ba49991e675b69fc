"""Challenges as servers write them.

The rule: what cannot be read is nothing, and never an error.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.upstream.credentials.challenges import missing_scopes, parameters, scopes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Bearer realm="x", error="invalid_token"', {"realm": "x", "error": "invalid_token"}),
        ("bearer resource_metadata=https://a.example/x", {"resource_metadata": "https://a.example/x"}),
        ('Basic realm="a", Bearer scope="a b" , x=1', {"scope": "a b", "x": "1"}),
        ('Bearer a="say \\"hi\\"", b="c"', {"a": 'say "hi"', "b": "c"}),
        ('Bearer A="1", a="2"', {"a": "1"}),
        ("Bearer", {}),
        ("", {}),
        ('Basic realm="Bearer"', {}),
        ('Bearer a="open', {}),
    ],
)
def test_the_parameters_of_a_challenge(text: str, found: dict[str, str]) -> None:
    assert parameters(text) == found


def test_scopes_are_each_told_once_and_odd_ones_left_out() -> None:
    assert scopes('a b a "x" \u00e9 c:d') == ("a", "b", "c:d")
    assert scopes(None) == scopes("") == ()


def test_only_a_want_of_scopes_is_one() -> None:
    assert missing_scopes('Bearer error="insufficient_scope", scope="a b"') == ("a", "b")
    assert missing_scopes('Bearer error="insufficient_scope"') == ()
    assert missing_scopes('Bearer error="invalid_token", scope="a"') == ()


@given(st.text(max_size=200))
def test_whatever_stands_there_is_read(text: str) -> None:
    assert all(isinstance(value, str) for value in parameters("Bearer " + text).values())
