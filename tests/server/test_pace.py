"""What passes, of several as of one. Rule: plain values; percentiles are right, not averaged."""

from vmcp.server.pace import Account, Pace, accounts, paces
from vmcp.server.rings import Slot
from vmcp.state.histogram import Calls, bucket, middle

EDGE = ("/mcp", "files")


def slot(number: int, requests: int, seconds: float, busy: int = 0, errors: int = 0) -> Slot:
    return Slot(number, busy, {bucket(seconds): requests}, {EDGE: [requests, errors]})


def pace(began: float, requests: int, seconds: float, **more: int) -> Pace:
    past = [slot(number, requests, seconds, **more) for number in range(3)]
    callers = [(f"who{began:g}", "/mcp", "2026-07-28"), ("both", "/mcp", "2026-07-28")]
    return Pace(began, more.get("busy", 0), past, past[:1], slot(0, 3 * requests, seconds, errors=1), 3, callers)


def test_rates_add_and_a_percentile_is_that_of_all_calls() -> None:
    whole = paces([pace(100.0, 99, 0.001, busy=2), pace(200.0, 1, 5.0, busy=3)])
    now = whole.now()
    assert (now.requests, round(now.errors, 3), now.in_flight) == (100.0, round(2 / 3, 3), 5)
    assert now.p95 == middle(bucket(0.001)), "and not the mean of 1 ms and 5 s"
    assert (
        whole.backends()["files"].requests
        == whole.endpoints()["/mcp"].requests
        == whole.edges()[EDGE].requests
        == 100.0
    )


def test_seconds_and_minutes_are_told_by_the_clock_of_the_first() -> None:
    whole = paces([pace(100.0, 2, 0.1, busy=1), pace(200.0, 1, 0.1, busy=4)])
    assert [(each.at, each.requests, each.in_flight) for each in whole.seconds()] == [
        (100.0, 3, 5),
        (101.0, 3, 5),
        (102.0, 3, 5),
    ]
    assert [each.requests for each in whole.minutes()] == [3]
    assert whole.callers == [
        ("both", "/mcp", "2026-07-28"),
        ("who100", "/mcp", "2026-07-28"),
        ("who200", "/mcp", "2026-07-28"),
    ]


def test_one_alone_is_told_as_it_is() -> None:
    alone, book = pace(1.0, 1, 0.1), Account(5.0, {})
    assert paces([alone]) is alone
    assert accounts([book]) is book


def test_what_was_counted_is_added_by_what_it_was_and_nobodys_own_is_changed() -> None:
    key, other = ("tools/call", "t", "files", "g"), ("ping", "", "", "g")
    one, two = Account(7.0, {key: Calls(2, 1, 0.2, 10, {5: 2})}), Account(5.0, {key: Calls(1), other: Calls(4)})
    whole = accounts([one, two])
    assert whole.since == 5.0
    assert {by: each.count for by, each in whole.statistics("method").items()} == {("tools/call",): 3, ("ping",): 4}
    assert whole.statistics("tool") == {("t",): whole.statistics("tool")[("t",)]}
    assert whole.statistics()[()].errors == 1
    assert one.lines[key].count == 2
