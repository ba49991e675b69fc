"""What several have counted as one. Rule: plain numbers in, plain numbers out."""

import pytest

from vmcp.server import sums
from vmcp.server.readings import NAMES, Reading
from vmcp.server.sums import Family, Numbers, Timed


def numbers(*readings: Reading, timed: list[Timed] | None = None, process: list[Family] | None = None) -> Numbers:
    return Numbers(list(readings), timed or [], process or [])


@pytest.mark.parametrize(
    ("name", "values", "whole"),
    [
        ("vmcp_requests_total", (3, 4), 7),
        ("vmcp_connections_active", (1, 2), 3),
        ("vmcp_memory_used", (100, 50), 150),
        ("vmcp_servers_total", (5, 5), 5),
        ("vmcp_servers_healthy", (5, 3), 3),
        ("vmcp_cache_hit_rate", (0.5, 1.0), 0.75),
        ("vmcp_event_loop_lag_seconds", (0.1, 0.7), 0.7),
        ("vmcp_config_last_reload_successful", (1, 0), 0),
    ],
)
def test_a_number_of_several_is_told_by_its_rule(name: str, values: tuple[float, float], whole: float) -> None:
    told = sums.added([numbers(Reading(name, [((), value)])) for value in values])
    assert told.readings == [Reading(name, [((), whole)])]
    said = {"vmcp_event_loop_lag_seconds": "vmcp_load_loop_lag_seconds"}.get(name, name)
    assert sums.numbers([{said: value} for value in values]) == {said: whole}


def test_points_are_told_by_their_labels_and_none_is_lost() -> None:
    one = Reading("vmcp_backend_up", [(("a",), 1), (("b",), 1)])
    other = Reading("vmcp_backend_up", [(("b",), 0), (("c",), 1)])
    told = sums.added([numbers(one), numbers(other), numbers()])
    assert told.readings == [Reading("vmcp_backend_up", [(("a",), 1), (("b",), 0), (("c",), 1)])]


def test_a_summary_adds_its_counts_and_its_sums() -> None:
    name = "vmcp_request_duration_seconds"
    told = sums.added(
        [numbers(Reading(name, [(("ping",), (2, 0.5))])), numbers(Reading(name, [(("ping",), (1, 0.25))]))]
    )
    assert told.readings == [Reading(name, [(("ping",), (3, 0.75))])]


def test_a_breaker_is_in_the_worst_state_that_it_has_anywhere() -> None:
    def state(now: str) -> Numbers:
        points = [(("b", each), int(each == now)) for each in ("closed", "half-open", "open")]
        return numbers(Reading("vmcp_backend_circuit_state", points))

    (told,) = sums.added([state("closed"), state("open"), state("half-open")]).readings
    assert dict(told.points) == {("b", "closed"): 0, ("b", "half-open"): 0, ("b", "open"): 1}


def test_histograms_are_added_bucket_by_bucket_with_the_latest_examples() -> None:
    first: Timed = ("h", ("l",), [(("x",), [1, 2], 0.5, {0: (0.1, "t1", "s", 5.0), 1: (0.1, "t2", "s", 9.0)})])
    second: Timed = ("h", ("l",), [(("x",), [10, 0], 1.0, {0: (0.1, "t3", "s", 7.0)}), (("y",), [1, 0], 0.1, {})])
    (told,) = sums.added([numbers(timed=[first]), numbers(timed=[second])]).timed
    examples = {0: (0.1, "t3", "s", 7.0), 1: (0.1, "t2", "s", 9.0)}
    assert told == ("h", ("l",), [(("x",), [11, 2], 1.5, examples), (("y",), [1, 0], 0.1, {})])


def test_processes_add_up_and_are_as_old_as_the_oldest() -> None:
    def process(cpu: float, born: float) -> Numbers:
        seconds = Family("process_cpu_seconds", "h", "counter", [("process_cpu_seconds_total", {}, cpu)])
        start = Family("process_start_time_seconds", "h", "gauge", [("process_start_time_seconds", {}, born)])
        return numbers(process=[seconds, start])

    told = sums.added([process(1.0, 50.0), process(2.5, 40.0)]).process
    assert [each.samples[0][2] for each in told] == [3.5, 40.0]


def test_of_who_is_gone_only_what_was_counted_is_left() -> None:
    counter, gauge = Reading("vmcp_requests_total", [((), 3)]), Reading("vmcp_memory_used", [((), 100)])
    family, moment = Family("p", "h", "counter", []), Family("q", "h", "gauge", [])
    told = sums.left(numbers(counter, gauge, timed=[("h", (), [])], process=[family, moment]))
    assert told == numbers(counter, timed=[("h", (), [])], process=[family])


def test_numbers_in_maps_are_added_and_reloads_are_those_of_one() -> None:
    one = {"vmcp_request_duration_seconds": {"ping": {"count": 1, "sum": 0.5}}, "vmcp_config_reloads_applied_total": 2}
    other = {
        "vmcp_request_duration_seconds": {"ping": {"count": 2, "sum": 0.5}, "initialize": {"count": 1, "sum": 0.1}},
        "vmcp_config_reloads_applied_total": 1,
        "vmcp_new": 4,
    }
    assert sums.numbers([one, other]) == {
        "vmcp_request_duration_seconds": {"ping": {"count": 3, "sum": 1.0}, "initialize": {"count": 1, "sum": 0.1}},
        "vmcp_config_reloads_applied_total": 2,
        "vmcp_new": 4,
    }


def test_whatever_is_counted_is_added_or_the_same_for_all() -> None:
    for name, known in NAMES.items():
        assert known.sort == "gauge" or known.several == (
            "max" if "reloads" in name or "restarts" in name.partition("worker")[2] else "sum"
        ), name
