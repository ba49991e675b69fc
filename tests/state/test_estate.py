"""What a worker leaves. Rule: whatever is read was written whole."""

import os
from collections.abc import Iterator

import pytest

from vmcp.state.estate import _HEAD, LARGEST, Estate


@pytest.fixture
def estate() -> Iterator[Estate]:
    made = Estate()
    yield made
    made.close()


def test_the_last_that_was_kept_is_found_again(estate: Estate) -> None:
    assert estate.get() is None
    for said in (b"one", b"two, which is longer", b"", b"four"):
        assert estate.put(said)
        assert estate.get() == said


def test_what_is_too_much_changes_nothing(estate: Estate) -> None:
    estate.put(b"before")
    assert not estate.put(bytes(LARGEST + 1))
    assert estate.get() == b"before"
    assert estate.put(bytes(LARGEST))
    assert estate.get() == bytes(LARGEST)
    estate.put(b"after")
    assert estate.get() == b"after", "the long one did not reach into it"


@pytest.mark.parametrize("at", [0, 8, 16, _HEAD.size, _HEAD.size + 2])
def test_who_was_killed_while_it_wrote_leaves_what_was_there_before(estate: Estate, at: int) -> None:
    estate.put(b"first")
    estate.put(b"second")
    place = estate._place(2)
    was = os.pread(estate._held, 1, place + at)
    os.pwrite(estate._held, bytes([was[0] ^ 1]), place + at)
    assert estate.get() == b"first"
    estate.put(b"third")
    assert estate.get() == b"third"


def test_another_process_finds_it(estate: Estate) -> None:
    child = os.fork()
    if not child:
        estate.put(b"from the child")
        os._exit(0)
    os.waitpid(child, 0)
    assert estate.get() == b"from the child"
