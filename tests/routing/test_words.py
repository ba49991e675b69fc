"""Texts of strangers, fit to be shown. Rule: nothing of them is markup or moves a terminal, and nothing in them stays unseen."""

import pytest

from vmcp.routing.words import code, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("two\nlines\t and  blanks", "two lines and blanks"),
        ("a\u200bb\u202ec", "a\\u200bb\\u202ec"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("red \x1b[31m", "red \\u001b[31m"),
        ("grün 漢字", "grün 漢字"),
        ("x" * 21, "x" * 20 + "…"),
        ("x" * 20, "x" * 20),
        (" " * 100 + "x", "…"),
        ("\x00" * 4, "\\u0000\\u0000\\u0000\\u…"),
    ],
)
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    assert visible(text, 20) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("a ``` b", "````a ``` b````"),
        ("`a", "`` `a ``"),
        ("a`", "`` a` ``"),
        ("", "`  `"),
        ("</details> @all [x](http://y)", "`</details> @all [x](http://y)`"),
    ],
)
def test_code_has_a_fence_that_nothing_in_it_ends(text: str, shown: str) -> None:
    assert code(text) == shown
