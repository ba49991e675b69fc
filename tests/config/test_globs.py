"""What a pattern matches, and that no pattern takes long."""

import pytest

from vmcp.config.globs import globs


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*", ""),
        ("get_*", "get_"),
        ("g?t", "get"),
        ("a[b]*", "a[b]c"),
        ("a.b?", "a.bc"),
        ("x", "x"),
        ("*", "two\nlines"),
    ],
)
def test_a_glob_matches(pattern: str, text: str) -> None:
    assert globs([pattern]).match(text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("get_*", "Get_x"), ("g?t", "gt"), ("a[b]*", "abc"), ("a.b?", "axbc"), ("x", "x\n"), ("x*", "yx")],
)
def test_a_glob_does_not_match(pattern: str, text: str) -> None:
    assert not globs([pattern]).match(text)


def test_a_hostile_glob_and_text_stay_fast() -> None:
    assert not globs(["*a" * 200 + "b"]).match("a" * 8192)
