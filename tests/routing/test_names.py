"""Names of tools and prompts: prefixes, and what clients can take."""

import re
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.config.model import Aggregation
from vmcp.routing.names import fit, prefix, ranks, reserved


@pytest.mark.parametrize(
    ("aggregation", "backend", "expected"),
    [
        (Aggregation(), "git", "git_"),
        (Aggregation(prefix_format="{workload}-x-"), "git", "git-x-"),
        (Aggregation(prefix_format="all_"), "git", "all_"),
        (Aggregation("priority", priority_order=("git",)), "git", ""),
        (Aggregation("priority", priority_order=("git",)), "jira", "jira_"),
        (Aggregation("prefix", priority_order=("git",)), "git", "git_"),
        (Aggregation("manual"), "git", ""),
    ],
)
def test_the_strategy_says_what_stands_before_a_name(aggregation: Aggregation, backend: str, expected: str) -> None:
    assert prefix(aggregation, backend) == expected


@pytest.mark.parametrize("name", ["a", "Read_file-2", "x" * 64])
def test_a_name_that_fits_stays_as_it_is(name: str) -> None:
    assert fit(name, 64) == name


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        ("a.b", 64, "a_b_2e7336dc"),
        ("a/b", 64, "a_b_c14cddc0"),
        ("a\n", 64, "a__"),
        ("ä", 64, "__"),
        ("\ud800", 64, "__"),
        ("y" * 40 + "tail", 20, "yyyyyyytail_"),
        ("abcdef", 5, ""),
        ("a.b", 1, ""),
    ],
)
def test_any_other_name_gets_a_hash_and_keeps_its_tail(name: str, limit: int, expected: str) -> None:
    fitted = fit(name, limit)
    assert fitted.startswith(expected)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", fitted)
    assert len(fitted) <= limit
    assert re.fullmatch(r"[0-9a-f]+", fitted[-8:])


def test_names_that_differ_in_replaced_or_cut_characters_stay_apart() -> None:
    names = ["a.b", "a/b", "a b", "a_b", "x" * 65, "y" + "x" * 64, "x" * 66]
    assert len({fit(name, 64) for name in names}) == len(names)


@given(st.text(min_size=1), st.integers(1, 80))
def test_every_name_fits(name: str, limit: int) -> None:
    fitted = fit(name, limit)
    assert 1 <= len(fitted) <= limit
    assert set(fitted) <= set(ascii_letters + digits + "_-")
    assert fit(fitted, limit) == fitted


@pytest.mark.parametrize("name", ["vmcp_", "vmcp_status", "VMCP_status"])
def test_the_prefix_of_vmcp_is_reserved(name: str) -> None:
    assert reserved(name)


@pytest.mark.parametrize("name", ["vmcp", "my_vmcp_tool", "v"])
def test_other_names_are_not_reserved(name: str) -> None:
    assert not reserved(name)


def test_the_priority_order_ranks_before_the_order_of_the_file() -> None:
    rank = ranks(Aggregation("priority", priority_order=("c", "gone", "c")), ["a", "b", "c"])
    assert sorted(["a", "b", "c"], key=lambda backend: rank[backend]) == ["c", "a", "b"]
