"""Locks between real processes: they exclude, they survive their holder, and nobody waits for a stopped one.

Rule: a process of the test ends by itself, or is killed by its own number.
"""

import mmap
import os
import signal
from collections.abc import Callable

import pytest

from vmcp.state.locks import Locks

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")


def forked(work: Callable[[], None]) -> int:
    """The number of a child that does ``work`` and ends."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_one_has_it_and_the_other_does_not_until_it_is_free() -> None:
    locks = Locks(2)

    def other() -> None:
        locks._patience = 0.01
        assert not locks.take(0)
        assert locks.take(1), "another lock"
        locks.free(1)

    assert locks.take(0)
    assert ended(forked(other)) == 0
    locks.free(0)
    assert locks.take(0)


def test_a_lock_whose_holder_died_is_there_for_the_next_again_and_again() -> None:
    locks = Locks(1)
    for _ in range(3):
        assert ended(forked(lambda: assert_taken(locks))) == 0
        assert locks.take(0)
        locks.free(0)


def assert_taken(locks: Locks) -> None:
    assert locks.take(0)


def test_who_waits_for_a_stopped_one_goes_on_without_and_asks_only_once_after_that() -> None:
    locks = Locks(1, 0.05)
    told, tells = os.pipe()

    def holder() -> None:
        locks.take(0)
        os.write(tells, b".")
        os.kill(os.getpid(), signal.SIGSTOP)
        locks.free(0)

    pid = forked(holder)
    os.read(told, 1)
    os.waitpid(pid, os.WUNTRACED)
    assert not locks.take(0)
    assert locks._stuck == {0}
    assert not locks.take(0), "and at once"
    os.kill(pid, signal.SIGCONT)
    assert ended(pid) == 0
    assert locks.take(0)
    assert not locks._stuck
    locks.free(0)
    for each in (told, tells):
        os.close(each)


def test_what_is_read_and_written_under_a_lock_by_four_processes_is_never_lost() -> None:
    locks, memory = Locks(1), memoryview(mmap.mmap(-1, 8)).cast("q")

    def adds() -> None:
        for _ in range(5_000):
            assert locks.take(0)
            memory[0] = memory[0] + 1
            locks.free(0)

    assert [ended(pid) for pid in [forked(adds) for _ in range(4)]] == [0] * 4
    assert memory[0] == 20_000
