"""What is told of drifts. Rule: each once, and not more lines than anybody reads."""

import logging
from types import MappingProxyType

import pytest

from vmcp.routing.lock import Drift
from vmcp.routing.table import RoutingTable
from vmcp.server.drifting import SHOWN, tell


def table(*drifts: Drift) -> RoutingTable:
    return RoutingTable(1, "digest", MappingProxyType({}), drifts)


def test_each_drift_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    one, two = Drift("b", "tools", "t", "x", "y", ("title",)), Drift("b", "tools", "u", None, "z")
    with caplog.at_level(logging.WARNING, "vmcp.lock"):
        tell("warn", table(), table(one))
        tell("warn", table(one), table(one, two))
        tell("warn", table(one, two), table(two))
        tell("off", table(), table())
    said = [(each.__dict__["target"], each.__dict__["change"], each.__dict__["done"]) for each in caplog.records]
    assert said == [("t", "changed", "served"), ("u", "added", "served")]


def test_of_very_many_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    many = [Drift("b", "tools", str(number), None, "x") for number in range(SHOWN + 5)]
    with caplog.at_level(logging.WARNING, "vmcp.lock"):
        tell("block", table(), table(*many))
    assert len(caplog.records) == SHOWN + 1
    assert caplog.records[-1].__dict__["more"] == 5
