"""When requests are turned away, and which: decided on numbers, so told here in numbers.

Rule: each refusal stands beside what is let in at the same moment.
"""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.config.model import Limits
from vmcp.errors import Throttled
from vmcp.server.load import CALMER, LATE, MOST, PATIENCE, STEPS, Load

GIB = 1 << 30
LIST, CALL, LISTEN = "tools/list", "tools/call", "subscriptions/listen"


def load(requests: int = 100) -> Load:
    return Load(Limits(requests=requests), GIB)


def turned(found: Load, *, lag: float = 0.0, share: float = 0.1, begun: int = 0, seconds: float = 0.25) -> Load:
    """``found`` after ``seconds`` in quarters of a second."""
    for _ in range(round(seconds / 0.25)):
        found.turn(0.25, lag, int(GIB * share) + 1, begun)
    return found


def shed(found: Load, method: str | None = CALL, *, standing: bool = False, in_flight: int = 0, of: int = 100) -> int:
    """How many of a hundred such requests are turned away."""
    return sum(found.refuses(in_flight, method, standing=standing) is not None for _ in range(of))


@pytest.mark.parametrize(
    ("share", "step", "refused"),
    [
        (0.5, 0, set()),
        (0.84, 0, set()),
        (0.85, 1, {"stream", LISTEN}),
        (0.90, 2, {"stream", LISTEN, LIST}),
        (0.95, 3, {"stream", LISTEN, LIST, CALL}),
        (2.0, 3, {"stream", LISTEN, LIST, CALL}),
    ],
)
def test_memory_acts_in_steps(share: float, step: int, refused: set[str]) -> None:
    found = turned(load(), share=share)
    assert found.step == step
    assert found.uneasy == (step > 0)
    asked = {method for method in (LISTEN, LIST, CALL) if shed(found, method, of=1)}
    asked |= {"stream"} if shed(found, None, standing=True, of=1) else set()
    assert asked == refused
    assert (found.ceiling == 0) == (step > 0), "somebody has to ask"


@pytest.mark.parametrize(("share", "method"), [(0.85, LISTEN), (0.9, LIST), (0.95, CALL)])
def test_a_message_that_comes_some_other_way_is_refused_at_the_same_step(share: float, method: str) -> None:
    turned(load(), share=share - 0.01).admit(method)
    with pytest.raises(Throttled, match="memoryBytes") as refused:
        turned(load(), share=share).admit(method)
    assert refused.value.data == {"retryAfter": 5}


def test_a_step_ends_only_well_below_where_it_began() -> None:
    found = turned(load(), share=STEPS[1])
    assert turned(found, share=STEPS[1] - CALMER + 0.001).step == 2
    assert turned(found, share=STEPS[1] - CALMER - 0.001).step == 1
    assert turned(found, share=0.5).step == 0
    assert found.ceiling == 100


def test_requests_in_flight_are_bounded_and_streams_are_none() -> None:
    found = turned(load(requests=100), begun=5000)
    assert found.ceiling == 5100
    assert not shed(found, in_flight=5099)
    assert shed(found, in_flight=5100) == 100
    refusal = turned(load(requests=1)).refuses(1, CALL, standing=False)
    assert refusal is not None
    assert (refusal.status, dict(refusal.headers)[b"retry-after"]) == (503, b"1")
    told = json.loads(refusal.body)
    assert told["id"] is None
    assert "server.limits.requests" in told["error"]["message"]


def test_a_loop_that_is_late_for_a_moment_turns_nobody_away() -> None:
    found = turned(load(), lag=2.0, seconds=PATIENCE - 0.25)
    assert not found.uneasy
    assert not turned(turned(found), lag=2.0, seconds=PATIENCE - 0.25).uneasy, "and what was is forgotten"


def test_the_longer_the_loop_is_late_the_more_are_turned_away_but_never_all() -> None:
    found = load()
    shares = []
    for _ in range(12):
        turned(found, lag=LATE + 0.01, seconds=PATIENCE)
        shares.append(shed(found))
    assert all(after >= before - 1 for before, after in itertools.pairwise(shares))
    assert shares[0] <= 10
    assert shares[-1] >= MOST * 100 - 1
    assert found.numbers()["vmcp_load_shed_ratio"] == MOST
    assert found.numbers()["vmcp_load_refused_total"] == sum(shares)


def test_between_late_and_on_time_it_stays_as_it_is_and_then_it_ends() -> None:
    found = turned(load(), lag=1.0, seconds=4.0)
    before = shed(found)
    late_for = turned(found, lag=LATE * 0.75, seconds=1.0)
    assert shed(late_for) >= before > 0
    assert not turned(found, lag=0.0, seconds=5.0).uneasy
    assert not shed(found)
    assert found.ceiling == 100


def test_it_says_when_its_state_changes_and_only_then() -> None:
    found = load()
    seen = [
        found.turn(0.25, lag, int(GIB * share), 0) for lag, share in [(0, 0), (0, 0.86), (0, 0.86), (0, 0.91), (0, 0)]
    ]
    assert seen == [False, True, False, True, True]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 2)), max_size=60))
def test_whatever_happened_it_comes_back(weather: list[tuple[float, float]]) -> None:
    found = load()
    for lag, share in weather:
        turned(found, lag=lag, share=share)
        assert 0 <= found.numbers()["vmcp_load_shed_ratio"] <= MOST
    turned(found, seconds=10.0)
    assert (found.uneasy, found.step, found.ceiling, shed(found)) == (False, 0, 100, 0)
