"""What workers know of each other."""

import os
import resource
from collections.abc import Callable, Iterator

import pytest

from vmcp.errors import CannotStart
from vmcp.state.crew import AWAY, Common, Crew, unmarked


@pytest.fixture
def of() -> Iterator[Callable[[int], Common]]:
    made: list[Common] = []

    def make(count: int) -> Common:
        made.append(Common.of(count))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_mark_says_whose_a_thing_is_and_nothing_else(of: Callable[[int], Common]) -> None:
    common = of(12)
    mine, other = Crew(common, 11), Crew(common, 2)
    marked = mine.mark("a.b")
    assert (mine.elsewhere(marked), other.elsewhere(marked), unmarked(marked)) == (None, 11, "a.b")
    assert mine.others == tuple(range(11))


@pytest.mark.parametrize(
    "forged", ["", ".", "a", "7", "-1.a", "3.a", "0003.a", "٢.a", "1e0.a", " 1.a", "999999999999.a"]
)
def test_a_forged_mark_leads_nowhere(forged: str, of: Callable[[int], Common]) -> None:
    assert Crew(of(3), 0).elsewhere(forged) is None


@pytest.mark.parametrize("plain", ["abc", "a.b", ".b", "-1.b", "٢.b"])
def test_what_bears_no_mark_is_left_as_it_is(plain: str) -> None:
    assert unmarked(plain) == plain


@pytest.mark.parametrize("count", [2, 99])
def test_more_workers_than_there_are_descriptors_for_are_refused(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [4 * count + 63, 1 << 20]
    monkeypatch.setattr(resource, "getrlimit", lambda which: {resource.RLIMIT_NOFILE: tuple(limits)}[which])
    with pytest.raises(
        CannotStart, match=rf"{count} of them need {4 * count + 64} descriptors each, and a process may"
    ):
        Common.of(count)
    for enough in (4 * count + 64, resource.RLIM_INFINITY):
        limits[0] = enough
        Common.of(count).close()


def test_connections_go_to_who_has_fewer_and_is_there(of: Callable[[int], Common]) -> None:
    common = of(3)
    one, two = Crew(common, 0), Crew(common, 1)
    assert one.emptiest() == 0, "nobody is there"
    two.seated(4)
    one.seated(4)
    assert (one.emptiest(), two.emptiest()) == (0, 1)
    one.seated(5)
    assert (one.emptiest(), two.emptiest()) == (1, 1)
    assert one.emptiest({1: 1}) == 0, "one is on its way there"
    two.seated(88)
    one.seated(100)
    assert one.emptiest() == 0, "of so many an eighth does not matter"
    one.seated(101)
    assert one.emptiest() == 1
    common.counts[1] = AWAY
    assert one.emptiest() == 0


def test_who_gave_no_sign_of_being_well_lately_is_given_no_connections(of: Callable[[int], Common]) -> None:
    common = of(2)
    one, two = Crew(common, 0), Crew(common, 1)
    one.seated(9)
    two.seated(1)
    two.beat(100.0)
    assert one.emptiest(since=100.0) == 1
    assert one.emptiest(since=100.1) == 0
    assert two.emptiest(since=100.1) == 1, "we serve whoever is here, if there is nobody better"


def test_all_processes_see_the_same_counts(of: Callable[[int], Common]) -> None:
    here = Crew(of(2), 0)
    here.seated(0)
    child = os.fork()
    if not child:
        Crew(here.common, 1).seated(7)
        os._exit(0)
    os.waitpid(child, 0)
    assert here.common.counts[1] == 7


def test_families_differ_and_show_no_key(of: Callable[[int], Common]) -> None:
    one, other = of(1), of(1)
    assert one.family != other.family
    assert one.key != other.key
    assert str(one.key) not in repr(one)
