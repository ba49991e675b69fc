"""Who may read how much of large answers, and what clients leave unread of them.

Rule: who waits is told by being let in, in the order of asking; and somebody can always end.
"""

from typing import Any

import pytest

from vmcp.upstream.room import Room, room


class Guests:
    """Names that ask, and those of them that were let in later."""

    def __init__(self, limit: int) -> None:
        self.room = Room(limit)
        self.entered: list[Any] = []

    def ask(self, who: str, size: int) -> bool:
        return self.room.ask(who, size, lambda: self.entered.append(who))


def test_there_is_room_for_so_much_and_the_others_come_in_turn_when_somebody_leaves() -> None:
    guests = Guests(100)
    assert guests.ask("a", 50)
    assert guests.ask("b", 50)
    assert not guests.ask("c", 50)
    assert not guests.ask("d", 1), "who would fit stands behind him who came first"
    assert guests.room.wanted
    guests.room.leave("c")
    assert guests.entered == []
    guests.room.leave("a")
    assert guests.entered == ["d"]
    assert (guests.room.used, guests.room.wanted) == (51, False)
    guests.room.leave("nobody")


def test_what_clients_leave_unread_takes_room_until_they_read() -> None:
    guests = Guests(100)
    guests.room.leaves_unread(80)
    assert not guests.ask("a", 50)
    guests.room.leaves_unread(10)
    guests.room.leaves_unread(-39)
    assert guests.entered == []
    guests.room.leaves_unread(-1)
    assert guests.entered == ["a"]


def test_one_that_is_larger_than_all_there_is_comes_when_half_of_it_is_free() -> None:
    guests = Guests(100)
    guests.room.leaves_unread(51)
    assert not guests.ask("a", 1000)
    guests.room.leaves_unread(-1)
    assert guests.entered == ["a"]
    assert not guests.ask("b", 1)


def test_who_grows_waits_for_more_unless_he_was_the_first_to_come() -> None:
    guests = Guests(100)
    for who in ("first", "second", "third"):
        assert guests.ask(who, 30)
    assert guests.ask("second", 10), "he has more"
    assert guests.ask("second", 40)
    assert not guests.ask("second", 41)
    assert guests.ask("first", 500), "so that somebody ends"
    assert not guests.ask("fourth", 1)
    guests.room.leave("first")
    assert guests.entered == ["second", "fourth"]
    assert (guests.room.used, guests.room.wanted) == (72, False)


def test_who_has_begun_goes_before_who_has_not() -> None:
    guests = Guests(100)
    assert guests.ask("first", 60)
    assert guests.ask("second", 40)
    assert not guests.ask("third", 10)
    assert not guests.ask("second", 45)
    guests.room.leaves_unread(30)
    guests.room.leaves_unread(-30)
    assert guests.entered == []
    guests.room.leave("first")
    assert guests.entered == ["second", "third"]


def test_who_leaves_while_he_waits_for_more_is_not_told() -> None:
    guests = Guests(100)
    assert guests.ask("first", 60)
    assert guests.ask("second", 40)
    assert not guests.ask("second", 45)
    guests.room.leave("second")
    guests.room.leave("first")
    assert guests.entered == []
    assert guests.room.used == 0


@pytest.mark.anyio
async def test_a_loop_has_one() -> None:
    assert room() is room()
