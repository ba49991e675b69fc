"""Matching of URIs against templates, and that nobody can make it slow."""

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.routing.templates import LONGEST, Expression, _Automaton, _parts, compiled, match


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("a://b", "a://b"),
        ("a://{x}", "a://"),
        ("a://{x}", "a://b c.d?e"),
        ("a://{x}/{y}", "a://1/2"),
        ("a://{x,y}", "a://1,2"),
        ("a://{x}.json", "a://1.2.json"),
        ("a://{x}{y}z", "a://1zz"),
        ("a://{x}-{y}", "a://1-2-3"),
        ("a://{+x}", "a://1/2/3"),
        ("a://{+x}/end", "a://1/2/end"),
        ("a://{+x}/m/{+y}", "a://1/m/2/m/3"),
        ("a://{x*}", "a://1/2"),
        ("a://{x:3}/b", "a://123/b"),
        ("a://b{#x}", "a://b"),
        ("a://b{#x}", "a://b#1/2"),
        ("a://b{/x}", "a://b"),
        ("a://b{/x}", "a://b/1"),
        ("a://b{/x,y}", "a://b/1/2"),
        ("a://b{/x*}", "a://b/1/2/3"),
        ("a://b{.x}", "a://b.tar.gz"),
        ("a://b{;x}", "a://b;x=1"),
        ("a://b{?x,y}", "a://b?x=1&y=2/3"),
        ("a://b{?x}", "a://b"),
        ("a://b?z=1{&x}", "a://b?z=1&x=2"),
        ("a://{x}{?q}", "a://1?q=2"),
        ("a://{x}{/y}{?q}{#f}", "a://1#f"),
        ("{scheme}://{host}", "http://h"),
        ("{+all}", "x:y"),
        ("a://{v.w_1}/%20", "a://1/%20"),
        ("a://{ä}", "a://ö"),
    ],
)
def test_an_expansion_matches(template: str, uri: str) -> None:
    assert match(template, uri)


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("a://b", "a://bc"),
        ("a://b", "A://b"),
        ("a://b{x}b", "a://b"),
        ("a://{x}", "a://1/2"),
        ("a://{x}", "b://1"),
        ("a://{x}/{y}", "a://1"),
        ("a://{x}/{y}", "a://1/2/3"),
        ("a://{x}/m/{y}", "a://1/n/2"),
        ("a://{x}.json", "a://1.xml"),
        ("a://{x}-{y}", "a://1/2"),
        ("a://{+x}/m/{y}", "a://1/m/2/3"),
        ("a://b{#x}", "a://b1"),
        ("a://b{/x}", "a://b/1/2"),
        ("a://b{/x,y}", "a://b/1/2/3"),
        ("a://b{/x*}", "a://b1"),
        ("a://b{?x}", "a://bx=1"),
        ("a://b{;x}", "a://b;x=1/2"),
        ("a://b{/x}", "a://b/" + "y" * LONGEST),
        ("a://{x", "a://{x"),
    ],
)
def test_another_uri_does_not_match(template: str, uri: str) -> None:
    assert not match(template, uri)


def test_uris_are_never_normalised() -> None:
    assert match("file:///{+path}", "file:///a/../b")
    assert not match("file:///a/{name}", "file:///x/../a/b")
    assert not match("a://%41/{x}", "a://A/1")


@pytest.mark.parametrize(
    "template", ["{x", "x}", "{}", "{+}", "{=x}", "{x y}", "{x,}", "{{x}}", "{x*y}", "x" * (LONGEST + 1)]
)
def test_what_is_no_template_is_not_compiled(template: str) -> None:
    assert compiled(template) is None


def test_the_literal_ends_are_known() -> None:
    found = compiled("a://b/{x}/c{y}d")
    assert found is not None
    assert (found.prefix, found.suffix) == ("a://b/", "d")


_PIECES = st.sampled_from(
    ["{a}", "{+a}", "{a*}", "{/a}", "{/a,b}", "{/a*}", "{?a}", "{#a}", "{.a}", "a", "b", "/", "/a/", "?", "."]
)
_REGEX = {"": "", "+": "", "#": "#", "?": r"\?", ".": r"\.", "/": "/"}


def _as_regex(template: str) -> str:
    """The same as a backtracking expression: slow, but plain to see."""

    def one(part: str | Expression) -> str:
        if isinstance(part, str):
            return re.escape(part)
        body = ".*" if part.slashes else "[^/]*"
        return f"(?:{_REGEX[part.opener]}{body})?" * part.times if part.opener else body

    return "".join(one(part) for part in _parts(template) or [])


@given(st.lists(_PIECES, max_size=6).map("".join), st.text("ab/?#.", max_size=10))
def test_the_matcher_agrees_with_a_plain_regular_expression(template: str, uri: str) -> None:
    expected = re.fullmatch(_as_regex(template), uri, re.DOTALL) is not None
    assert match(template, uri) is expected
    assert _Automaton(_parts(template) or []).accepts(uri) is expected


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("{a}x" * 2000 + "y{b}", "x" * (LONGEST - 1) + "z"),
        ("{a}{b}" * 1300 + "!{c}", "x" * LONGEST),
        ("{+a}x" * 1600 + "{b}", "x" * LONGEST),
        ("{/a}" * 2000 + "!{x}", "/" * LONGEST),
        ("{?a}" * 2000 + "!{x}", "?" * LONGEST),
        ("{a}/" * 2000 + "{b}", "x/" * 4000),
        ("".join(map(chr, range(0x4000, 0x5F00))) + "{x}{y}-{z}", "".join(map(chr, range(0x4000, 0x5F00))) + "a" * 200),
    ],
)
def test_a_hostile_template_and_uri_stay_fast(template: str, uri: str) -> None:
    start = process_time()
    assert match(template, uri) in (True, False)
    assert process_time() - start < 1.0
