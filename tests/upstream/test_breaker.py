"""When a breaker lets calls through; a clock that is only a number, and outcomes in every order that hypothesis finds.

The rule: what is asserted of every state is what somebody relies on: no more tries than allowed, none while it is open.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vmcp.config.health import BreakerSpec
from vmcp.upstream.breaker import REFUSED, Breaker

SPEC = BreakerSpec(failures=3, timeout=10.0, half_open=2)


def failing(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit(now), now)


def opened(spec: BreakerSpec = SPEC) -> Breaker:
    breaker = Breaker(spec)
    failing(breaker, spec.failures)
    assert breaker.state == "open"
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(SPEC)
    failing(breaker, 2)
    assert (breaker.state, breaker.admits(0.0)) == ("closed", True)
    failing(breaker, 1)
    assert (breaker.state, breaker.admits(0.0), breaker.admit(0.0)) == ("open", False, REFUSED)


def test_an_answer_in_between_begins_the_count_anew() -> None:
    breaker = Breaker(SPEC)
    for _ in range(5):
        failing(breaker, 2)
        breaker.succeeded(breaker.admit(0.0), 0.0)
    assert breaker.state == "closed"


def test_what_says_nothing_counts_for_nothing() -> None:
    breaker = Breaker(SPEC)
    failing(breaker, 2)
    for _ in range(10):
        breaker.abandoned(breaker.admit(0.0))
    assert breaker.state == "closed"
    failing(breaker, 1)
    assert breaker.state == "open"


def test_it_stays_open_for_its_time_and_says_how_long_that_is() -> None:
    breaker = opened()
    assert (breaker.wait(4.0), breaker.wait(11.0)) == (6.0, 0.0)
    assert breaker.admit(9.99) == REFUSED
    assert (breaker.admits(9.99), breaker.admits(10.0), breaker.state) == (False, True, "open")
    assert breaker.admit(10.0) != REFUSED
    assert (breaker.state, breaker.wait(10.0)) == ("half-open", 0.0)


def test_half_open_the_first_try_is_alone_and_each_success_lets_one_more_in() -> None:
    breaker = opened(BreakerSpec(failures=1, timeout=10.0, half_open=4))
    first = breaker.admit(10.0)
    assert [breaker.admits(10.0), breaker.admit(10.0)] == [False, REFUSED]
    breaker.succeeded(first, 10.5)
    second, third = breaker.admit(11.0), breaker.admit(11.0)
    assert (REFUSED in (second, third), breaker.admit(11.0)) == (False, REFUSED)
    breaker.succeeded(second, 11.5)
    breaker.succeeded(third, 11.5)
    last = breaker.admit(11.5)
    assert breaker.admit(11.5) == REFUSED, "four have been let in, which is all that were asked for"
    breaker.succeeded(last, 12.0)
    assert breaker.state == "closed"


def test_the_first_failure_opens_it_again_for_as_long() -> None:
    breaker = opened()
    breaker.succeeded(breaker.admit(10.0), 10.0)
    breaker.failed(breaker.admit(11.0), 12.0)
    assert (breaker.state, breaker.wait(12.0)) == ("open", 10.0)


def test_a_try_whose_caller_left_makes_room_for_another() -> None:
    breaker = opened()
    breaker.abandoned(breaker.admit(10.0))
    assert (breaker.state, breaker.admits(10.0)) == ("half-open", True)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "abandoned"])
def test_what_began_before_the_state_changed_decides_nothing(outcome: str) -> None:
    breaker = Breaker(SPEC)
    late = breaker.admit(0.0)
    failing(breaker, 3)
    attempt = breaker.admit(10.0)
    for _ in range(5):
        breaker.abandoned(late) if outcome == "abandoned" else getattr(breaker, outcome)(late, 10.0)
    assert (breaker.state, breaker.admits(10.0)) == ("half-open", False)
    breaker.succeeded(attempt, 10.0)
    assert breaker.state == "half-open"


def test_it_is_not_opened_as_long_as_it_may_not() -> None:
    breaker, allowed = Breaker(SPEC), [False]
    breaker.may_open = lambda: allowed[0]
    failing(breaker, 10)
    assert breaker.state == "closed"
    allowed[0] = True
    failing(breaker, 1)
    assert breaker.state == "open"


def test_resetting_closes_it_at_once_and_forgets_what_was_counted_in_a_row() -> None:
    breaker = opened()
    breaker.reset(1.0)
    failing(breaker, 2, 1.0)
    assert breaker.state == "closed"
    breaker.succeeded(breaker.admit(1.0), 1.0)
    told = breaker.statistics
    assert (told.succeeded, told.failed, told.refused, told.opened) == (1, 5, 0, 1)


def test_every_change_is_told_once() -> None:
    changes: list[str] = []
    breaker = Breaker(SPEC)
    breaker.on_change = changes.append
    failing(breaker, 3)
    for _ in range(2):
        breaker.succeeded(breaker.admit(10.0), 10.0)
    assert changes == ["open", "half-open", "closed"]


class Machine(RuleBasedStateMachine):
    """Calls begin and end in any order while time passes; a model that is slow and plain says what may be."""

    @initialize(failures=st.integers(1, 4), half_open=st.integers(1, 4))
    def begin(self, failures: int, half_open: int) -> None:
        self.spec = BreakerSpec(failures, 10.0, half_open)
        self.breaker = Breaker(self.spec)
        self.now = 0.0
        self.opened_at = 0.0
        self.admitted: list[tuple[int, int]] = []
        self.period = 0
        self.states: list[str] = []
        self.breaker.on_change = self.changed

    def changed(self, state: str) -> None:
        self.period += 1
        self.states.append(state)
        if state == "open":
            self.opened_at = self.now

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        could = self.breaker.admits(self.now)
        open_before = self.breaker.state == "open"
        epoch = self.breaker.admit(self.now)
        assert could == (epoch != REFUSED)
        if epoch != REFUSED:
            assert not open_before or self.now >= self.opened_at + self.spec.timeout
            self.admitted.append((epoch, self.period))
        elif open_before:
            assert self.breaker.wait(self.now) > 0

    @precondition(lambda self: self.admitted)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        at = data.draw(st.integers(0, len(self.admitted) - 1))
        epoch, period = self.admitted.pop(at)
        before, current = self.breaker.state, period == self.period
        if outcome == "abandoned":
            self.breaker.abandoned(epoch)
        else:
            getattr(self.breaker, outcome)(epoch, self.now)
        if not current or outcome == "abandoned":
            assert self.breaker.state == before
        elif before == "half-open" and outcome == "failed":
            assert self.breaker.state == "open"

    @rule()
    def reset(self) -> None:
        self.breaker.reset(self.now)
        assert self.breaker.admits(self.now)

    @invariant()
    def tries_are_few(self) -> None:
        if self.breaker.state == "half-open":
            assert sum(period == self.period for _, period in self.admitted) <= self.spec.half_open

    @invariant()
    def it_is_never_shut_for_ever(self) -> None:
        trying = any(period == self.period for _, period in self.admitted)
        assert trying or self.breaker.admits(self.now + self.spec.timeout)

    @invariant()
    def states_follow_each_other(self) -> None:
        for before, after in zip(["closed", *self.states], self.states, strict=False):
            assert (before, after) in {
                ("closed", "open"),
                ("open", "half-open"),
                ("half-open", "closed"),
                ("half-open", "open"),
                ("open", "closed"),
                ("closed", "closed"),
            }


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
