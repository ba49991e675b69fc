"""Numbers about calls. Rule: whatever clients and backends send, there are only so many combinations of labels."""

import random
import string
import threading

from tests.middleware.calls import call
from tests.routing.catalogs import config
from vmcp.call import Origin, Peer, Trail, refine
from vmcp.middleware.measures import AT_ONCE, BOUNDS, Measures, Timing, Timings, refusals
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.routing.build import build


class Kept:
    """A call of which there is a trace; ``None``: it is not kept."""

    def __init__(self, ids: tuple[str, str] | None) -> None:
        self.carrier: dict[str, str] = {}
        self._ids = ids

    def ids(self) -> tuple[str, str] | None:
        return self._ids


def test_a_time_is_in_the_first_bucket_that_holds_it() -> None:
    timing = Timing()
    for seconds in (301.0, 0.01, 300.0, 0.0, 0.011):
        timing.add(seconds)
    counts, total = timing.count()
    assert ([place for place, count in enumerate(counts) for _ in range(count)], total) == ([0, 0, 1, 13, 14], 601.021)
    assert len(counts) == len(BOUNDS) + 1


def test_when_there_is_no_room_names_become_vague_and_then_everything() -> None:
    vague = frozenset({"name"})
    timings = Timings("t", ("name", "kind"), ((frozenset(), 2), (vague, 3)))
    assert timings.of(("a", "x")) is timings.of(("a", "x"))
    assert timings.of(("b", "x")) is not timings.of(("a", "x"))
    assert timings.of(("c", "x")) is timings.of(("d", "x"))
    assert timings.of(("c", "y")) is timings.of(("d", "z"))
    assert timings.of(("a", "x")) is not timings.of(("d", "x")), "who had a place keeps it"
    assert [labels for labels, *_ in timings.snapshot()] == [
        ("a", "x"),
        ("b", "x"),
        ("other", "x"),
        ("other", "other"),
    ]


def test_what_is_empty_stays_empty() -> None:
    timings = Timings("t", ("name", "kind"), ((frozenset(), 0), (frozenset({"name"}), 1)))
    timings.of(("", "x"))
    assert timings.snapshot()[0][0] == ("", "x")


def test_a_hundred_thousand_names_leave_as_many_series_as_two() -> None:
    measures, luck, plain = Measures(), random.Random(7), call()  # noqa: S311
    sizes = set()
    for number in range(100_000):
        word = "".join(luck.choices(string.printable, k=8))
        given = refine(plain, name=word, method=word if number % 2 else "tools/call")
        measures.in_flight["g"] += 1
        measures.leave(given, "", 0.1)
        measures.asked(None, given, "a", "stdio", "", 0.1)
        if number:
            sizes.add(len(measures.server) + len(measures.client))
    assert sizes == {4}


def test_all_that_may_be_combined_is_not_more_than_there_is_room_for() -> None:
    measures = Measures()
    groups, errors = ("g", "h", "i"), ("", "timeout", "internal", "cancelled")
    for number in range(500):
        for revision in Revision:
            labels = ("tools/call", f"t{number}", errors[number % 4], "tcp", revision, groups[number % 3])
            measures.server.of(labels).add(0.1)
            measures.client.of(("tools/call", f"b{number}", "", "tcp")).add(0.1)
            measures.session_over(revision, 1.0)
    sets = len(measures.server) + len(measures.client) + len(measures.sessions)
    assert sets * (len(BOUNDS) + 3) <= 1_800


def test_a_tool_is_named_if_it_is_there() -> None:
    table = build(1, config(["a"]), {})
    known = call(face=table.faces["/mcp"], table=table, name="nobody", peer=Peer(MODERN, origin=Origin("stdio")))
    measures = Measures()
    measures.in_flight["g"] += 1
    measures.leave(known, "timeout", 0.2, Kept(("t", "s")))
    ((labels, counts, total, exemplars),) = measures.server.snapshot()
    assert labels == ("tools/call", "other", "timeout", "pipe", MODERN, "g")
    assert (sum(counts), total) == (1, 0.2)
    assert exemplars[4][:3] == (0.2, "t", "s")
    assert measures.in_flight == {"g": 0}


def test_an_exemplar_is_of_a_trace_that_is_kept() -> None:
    measures = Measures()
    measures.asked(Kept(None), call(), "a", "sse", "timeout", 0.1)
    measures.asked(Kept(("t", "s")), call(), "a", "sse", "", 0.1)
    told = {labels: exemplars for labels, _, _, exemplars in measures.client.snapshot()}
    assert not told[("tools/call", "a", "timeout", "tcp")]
    assert told[("tools/call", "a", "", "tcp")]
    assert list(measures.answered) == ["a"]


def test_refusals_are_counted_by_the_rule_that_refused() -> None:
    measures = Measures()
    for trail in (
        Trail(limited="rateLimiting.shared"),
        Trail(decision="deny", policies=("p", "q")),
        Trail(decision="deny"),
        Trail(decision="allow", policies=("p",)),
    ):
        measures.in_flight["g"] += 1
        measures.leave(call(trail=trail), "", 0.1)
    assert measures.limited == {"rateLimiting.shared": 1}
    assert measures.denied == {"p": 1, "q": 1, "": 1}


def test_of_many_rules_the_most_used_are_named() -> None:
    assert refusals({"a": 1, "b": 3, "c": 2}, 2) == [("b", 3), ("c", 2), ("other", 1)]
    assert refusals({"a": 1}, 2) == [("a", 1)]


def test_none_is_lost_or_counted_twice_while_others_look() -> None:
    timing, over = Timing(), threading.Event()
    seen: list[int] = []

    def look() -> None:
        while not over.is_set():
            seen.append(sum(timing.count()[0]))

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(50_000):
        timing.add(0.5)
    over.set()
    thread.join(5)
    counts, total = timing.count()
    assert (sum(counts), total) == (50_000, 25_000.0)
    assert seen == sorted(seen)
    assert len(timing.waiting) < AT_ONCE
