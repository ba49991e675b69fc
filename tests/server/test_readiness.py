"""Whom readiness waits for, in each of its three meanings."""

from dataclasses import dataclass, replace

import pytest

from tests.server.peers import config
from vmcp.config.health import Readiness
from vmcp.config.model import BackendSpec
from vmcp.server.readiness import awaited
from vmcp.upstream.owner import Status


@dataclass
class At:
    spec: BackendSpec
    status: Status


def backends(states: str) -> dict[str, At]:
    """A letter for each: u(p), d(own), s(tarting); a capital one is required."""
    kinds = {"u": "up", "d": "down", "s": "starting"}
    return {
        f"{number}{letter}": At(
            BackendSpec(f"{number}", "g", "stdio", required=letter.isupper()), Status(kinds[letter.lower()])
        )
        for number, letter in enumerate(states)
    }


@pytest.mark.parametrize(
    ("readiness", "states", "settled", "waited"),
    [
        ("required", "", False, []),
        ("required", "uU", False, []),
        ("required", "us", False, ["1s"]),
        ("required", "us", True, []),
        ("required", "ud", False, []),
        ("required", "uDS", True, ["1D", "2S"]),
        ("all", "", True, []),
        ("all", "uuU", True, []),
        ("all", "uds", True, ["1d", "2s"]),
        ("any", "", True, []),
        ("any", "ssu", False, []),
        ("any", "Dsu", True, []),
        ("any", "dS", True, ["0d", "1S"]),
    ],
)
def test_who_is_waited_for(readiness: Readiness, states: str, settled: bool, waited: list[str]) -> None:
    given = replace(config({}), readiness=readiness)
    assert awaited(given, backends(states), settled=settled) == waited


def test_where_one_missing_backend_fails_everything_all_are_required() -> None:
    given = replace(config({}), partial_failure="fail")
    assert awaited(given, backends("ud"), settled=True) == ["1d"]
    assert awaited(replace(given, readiness="any"), backends("ud"), settled=True) == []
