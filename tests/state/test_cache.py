"""What is kept in memory, for how long, and what goes first."""

import pytest

from vmcp.state.cache import OVERHEAD, Kept, Memory


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def kept(backend: str = "b", name: str = "n", size: int = 10, expires: float = 10.0) -> Kept:
    return Kept(backend, name, b"x" * size, "2026-07-28", 0.0, expires)


def test_it_is_there_until_it_expires() -> None:
    clock = Clock()
    memory = Memory(10, 1 << 20, clock)
    memory.put(b"k", kept())
    clock.time = 9.9
    assert memory.get(b"k") == kept()
    clock.time = 10.0
    assert memory.get(b"k") is None
    assert (len(memory), memory.size) == (0, 0)


def test_the_least_recently_used_goes_first() -> None:
    memory = Memory(2, 1 << 20, Clock())
    memory.put(b"1", kept())
    memory.put(b"2", kept())
    assert memory.get(b"1") is not None
    memory.put(b"3", kept())
    assert memory.get(b"2") is None
    assert memory.get(b"1") is not None
    assert memory.counts.evicted == 1


def test_bytes_are_bounded_and_counted() -> None:
    memory = Memory(100, 3 * (100 + OVERHEAD), Clock())
    for number in range(10):
        memory.put(b"%d" % number, kept(size=100))
        assert memory.size <= 3 * (100 + OVERHEAD)
    assert [number for number in range(10) if memory.get(b"%d" % number)] == [7, 8, 9]
    memory.put(b"9", kept(size=5))
    assert memory.size == 2 * (100 + OVERHEAD) + 5 + OVERHEAD


@pytest.mark.parametrize("memory", [Memory(0, 1 << 20, Clock()), Memory(10, OVERHEAD, Clock())])
def test_where_there_is_no_room_nothing_is_kept(memory: Memory) -> None:
    memory.put(b"k", kept())
    assert memory.get(b"k") is None
    assert memory.size == 0


def test_a_backend_is_forgotten_with_what_is_still_on_its_way() -> None:
    memory = Memory(10, 1 << 20, Clock())
    memory.put(b"1", kept("one"))
    memory.put(b"2", kept("two"))
    before = memory.epoch("one"), memory.epoch("two")
    assert memory.forget_backend("one") == 1
    assert memory.get(b"1") is None
    assert memory.get(b"2") is not None
    assert memory.epoch("one") != before[0]
    assert memory.epoch("two") == before[1]


def test_the_rate_is_that_of_hits() -> None:
    counts = Memory(1, 1, Clock()).counts
    assert counts.rate == 0.0
    counts.hits, counts.misses = 3, 1
    assert counts.rate == 0.75
