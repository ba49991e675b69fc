"""Whom each strategy chooses, with seeded random numbers: the same every time, and counted over many calls.

The rule: shares are compared with what the weights promise, within five standard deviations.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from vmcp.config.balancing import Balancing, Strategy
from vmcp.upstream.replicas import LEAST, Chooser, Load

STRATEGIES: tuple[Strategy, ...] = (
    "roundRobin",
    "random",
    "leastConnections",
    "weightedRoundRobin",
    "weightedRandom",
    "adaptive",
    "consistentHash",
)


def loads(*weights: int) -> list[Load]:
    return [Load(number, f"http://10.0.0.{number}/mcp", weight) for number, weight in enumerate(weights)]


def shares(
    strategy: Strategy, among: Sequence[Load], calls: int = 4000, seed: int = 1, now: float = 1000.0
) -> Counter[int]:
    chooser, numbers = Chooser(Balancing(strategy)), random.Random(seed)  # noqa: S311 - to be the same each time
    return Counter(chooser.choose(among, now, numbers.random, b"%d" % call).number for call in range(calls))


def near(counted: int, calls: int, share: float) -> bool:
    return abs(counted - calls * share) <= 5 * (calls * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_that_is_alone_gets_everything(strategy: Strategy) -> None:
    assert shares(strategy, loads(3), 50) == {0: 50}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_random_numbers_make_the_same_choices(strategy: Strategy) -> None:
    assert shares(strategy, loads(1, 2, 3), 200) == shares(strategy, loads(1, 2, 3), 200)


def test_in_turn_each_gets_every_third_call() -> None:
    chooser, among = Chooser(Balancing("roundRobin")), loads(1, 1, 1)
    assert [chooser.choose(among, 0, random.random).number for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_turns_go_on_when_one_is_missing_and_when_it_is_back() -> None:
    chooser, among = Chooser(Balancing("roundRobin")), loads(1, 1, 1)
    assert [chooser.choose(part, 0, random.random).number for part in (among, among[::2], among[::2], among)] == [
        0,
        2,
        0,
        1,
    ]


def test_by_chance_all_get_as_many() -> None:
    told = shares("random", loads(1, 9, 1))
    assert all(near(told[number], 4000, 1 / 3) for number in range(3))


def test_by_weighted_chance_each_gets_its_share() -> None:
    told = shares("weightedRandom", loads(1, 2, 5))
    assert all(near(told[number], 4000, weight / 8) for number, weight in enumerate((1, 2, 5)))
    assert Chooser(Balancing("weightedRandom")).choose(loads(1, 1), 0, lambda: 1.0).number == 1


def test_in_weighted_turn_shares_are_exact_and_spread_evenly() -> None:
    chooser, among = Chooser(Balancing("weightedRoundRobin")), loads(5, 1, 1)
    turns = [chooser.choose(among, 0, random.random).number for _ in range(14)]
    assert turns[:7] == [0, 0, 1, 0, 2, 0, 0]
    assert Counter(turns) == {0: 10, 1: 2, 2: 2}


def test_the_one_with_the_fewest_calls_for_its_weight_is_next() -> None:
    among = loads(1, 1, 4)
    for each, active in zip(among, (2, 1, 3), strict=True):
        each.active = active
    assert shares("leastConnections", among, 50) == {2: 50}
    among[2].active = 5
    assert shares("leastConnections", among, 50) == {1: 50}


def test_of_those_with_as_few_any_is_next() -> None:
    told = shares("leastConnections", loads(1, 1, 1))
    assert all(near(told[number], 4000, 1 / 3) for number in range(3))


def test_adaptive_prefers_the_faster_and_still_asks_the_slower() -> None:
    among = loads(1, 1, 1)
    for each, seconds in zip(among, (0.01, 0.05, 0.2), strict=True):
        each.answered(seconds, 100)
    told = shares("adaptive", among)
    assert near(told[0], 4000, 2 / 3)
    assert near(told[1], 4000, 1 / 3)
    assert told[2] == 0, "each call draws two, and the slowest of three never wins while nothing changes"
    among[0].active = among[1].active = 30
    assert near(shares("adaptive", among)[2], 4000, 2 / 3)


def test_adaptive_tries_who_is_new_and_leaves_who_fails_fast() -> None:
    among = loads(1, 1)
    among[0].answered(0.05, 100)
    assert shares("adaptive", among, 100) == {1: 100}
    among[1].answered(0.001, 10)
    for _ in range(40):
        among[1].failed(10)
    assert shares("adaptive", among, 100) == {0: 100}


def test_adaptive_in_a_loop_sends_more_to_whom_is_faster() -> None:
    """A house of three, where calls take as long as they take: the share follows the speed."""
    among, numbers, chooser = loads(1, 1, 1), random.Random(3), Chooser(Balancing("adaptive"))  # noqa: S311 - the same
    speeds, ends, told = (0.01, 0.02, 0.04), [], Counter[int]()
    now = 0.0
    for _ in range(6000):
        now += 0.002
        for end, each in [pair for pair in ends if pair[0] <= now]:
            ends.remove((end, each))
            each.active -= 1
            each.answered(speeds[each.number], 100)
        chosen = chooser.choose(among, now, numbers.random)
        chosen.active += 1
        told[chosen.number] += 1
        ends.append((now + speeds[chosen.number] * chosen.active, chosen))
    assert told[0] > told[1] > told[2] > 100


def test_a_key_stays_where_it_is_when_others_come_and_go() -> None:
    among, chooser = loads(1, 1, 1, 1), Chooser(Balancing("consistentHash"))
    keys = [b"user-%d" % number for number in range(2000)]
    homes = {key: chooser.choose(among, 0, random.random, key).number for key in keys}
    assert all(near(count, 2000, 1 / 4) for count in Counter(homes.values()).values())
    without = {key: chooser.choose(among[:3], 0, random.random, key).number for key in keys}
    moved = [key for key in keys if without[key] != homes[key]]
    assert {homes[key] for key in moved} == {3}, "only who was at the one that is gone has moved"
    spread = Counter(without[key] for key in moved)
    assert all(near(spread[number], len(moved), 1 / 3) for number in range(3))
    assert homes == {key: chooser.choose(among, 0, random.random, key).number for key in keys}


def test_keys_are_shared_out_by_weight() -> None:
    told = shares("consistentHash", loads(1, 3))
    assert near(told[1], 4000, 3 / 4)


def test_where_a_key_lives_does_not_depend_on_the_order_of_the_file() -> None:
    one, other = loads(1, 1), list(reversed(loads(1, 1)))
    chooser = Chooser(Balancing("consistentHash"))
    for number in range(50):
        key = hashlib.sha256(b"%d" % number).digest()
        assert chooser.choose(one, 0, random.random, key).seed == chooser.choose(other, 0, random.random, key).seed


@pytest.mark.parametrize("strategy", [each for each in STRATEGIES if each != "consistentHash"])
def test_who_comes_back_starts_slowly_and_is_a_full_member_after_its_time(strategy: Strategy) -> None:
    among = loads(1, 1)
    for each in among:
        each.answered(0.01, 100)
    among[1].back = 1000.0
    at_once = shares(strategy, among, now=1000.0)[1]
    later = shares(strategy, among, now=1015.0)[1]
    assert 0 < at_once <= 4000 * LEAST * 1.5
    assert at_once < later < 4000
    assert among[1].back == 1000.0
    shares(strategy, among, 100, now=1030.0)
    assert among[1].back is None


def test_when_all_come_back_at_once_calls_go_out_all_the_same() -> None:
    among = loads(1, 1)
    among[0].back = among[1].back = 0.0
    assert sum(shares("random", among, 300, now=0.0).values()) == 300


def test_without_a_slow_start_and_for_keys_who_is_back_is_back() -> None:
    among = loads(1, 1)
    among[1].back = 0.0
    chooser = Chooser(Balancing("roundRobin", slow_start=0.0))
    assert [chooser.choose(among, 0.0, random.random).number for _ in range(4)] == [0, 1, 0, 1]
    assert near(shares("consistentHash", among, now=0.0)[1], 4000, 1 / 2)


def test_latency_follows_the_last_calls() -> None:
    load = Load(0, "http://a/")
    load.answered(1.0, 9)
    assert load.latency == 1.0
    for _ in range(50):
        load.answered(0.1, 9)
    assert load.latency == pytest.approx(0.1, abs=1e-4)
    load.failed(1)
    assert load.faults == 1.0
    load.answered(0.1, 1)
    assert load.faults == 0.0
