"""The watch over the connections: places, addresses, readers that do not read, and a clock that stands still when it should.

Rule: where it can be told without a socket, it is: then the watch is moved by hand.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.server.peers import until
from vmcp.config.model import Limits
from vmcp.server import vigil as module
from vmcp.server.load import Load
from vmcp.server.vigil import TOO_MANY, TOO_MANY_HERE, Seat, Vigil
from vmcp.upstream.room import room


@dataclass
class Unwritten:
    """A transport with so much in its buffer."""

    size: int = 0
    aborted: bool = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


@dataclass(eq=False)
class Guest:
    """A connection from an address."""

    address: str | None = "192.0.2.1"
    transport: Any = field(default_factory=Unwritten)
    looks: list[tuple[float, bool]] = field(default_factory=list)
    begun: bool = False

    @property
    def client(self) -> tuple[str, int] | None:
        return None if self.address is None else (self.address, 1)

    def look(self, now: float, *, hurry: bool) -> bool:
        self.looks.append((now, hurry))
        return self.begun


def watch(*trusted: str, **limits: Any) -> Vigil:
    given = replace(Limits(), **limits)
    return Vigil(given, Load(given, 1 << 60), trusted)


def passes(found: Vigil, seconds: float) -> None:
    """Time passes for the watch as it does when the loop turns."""
    for _ in range(round(seconds / module.PACE)):
        if found._timer is not None:
            found._timer.cancel()
        found._last = time.monotonic() - module.PACE
        found._on_time()


async def entered(found: Vigil, *guests: Guest) -> tuple[list[bytes | None], set[Any]]:
    places: set[Any] = set()
    answers = []
    for guest in guests:
        places.add(guest)
        answers.append(found.enter(guest, places))
    return answers, places


async def test_one_address_has_so_many_places_and_gets_them_back() -> None:
    found = watch(connections_per_address=2)
    one, two, three, other = Guest(), Guest(), Guest(), Guest("192.0.2.2")
    answers, places = await entered(found, one, two, other, three)
    assert answers == [None, None, None, TOO_MANY_HERE]
    found.leave(three)
    assert found.enter(three, places) == TOO_MANY_HERE
    found.leave(three)
    found.leave(one)
    assert found.enter(three, places) is None


@pytest.mark.parametrize(
    ("addresses", "refused"),
    [
        (["2001:db8::1", "2001:db8::2"], True),
        (["2001:db8:0:1::1", "2001:db8:0:2::1"], False),
        (["192.0.2.1", "::ffff:192.0.2.1"], True),
        (["fe80::1%eth0", "fe80::2%eth1"], True),
        (["127.0.0.1", "127.0.0.1"], False),
        (["::1", "::1"], False),
        (["198.51.100.7", "198.51.100.7"], False),
        (["no address", "no address"], False),
        ([None, None], False),
    ],
)
async def test_what_counts_as_one_address(addresses: list[str | None], refused: bool) -> None:
    found = watch("198.51.100.0/24", connections_per_address=1)
    answers, _ = await entered(found, *(Guest(address) for address in addresses))
    assert answers == [None, TOO_MANY_HERE if refused else None]


async def test_all_together_have_so_many_places() -> None:
    answers, _ = await entered(watch(connections=2), *(Guest("127.0.0.1") for _ in range(3)))
    assert answers == [None, None, TOO_MANY]


async def test_who_inherits_a_connection_keeps_its_place_until_it_is_gone() -> None:
    found = watch(connections_per_address=1)
    given = Guest()
    _, places = await entered(found, given)
    seat = Seat(found, given, places)
    places.discard(given)
    heir = object()
    seat.connections.add(heir)
    assert places == {heir}
    assert len(seat) == 1
    other = Guest()
    assert found.enter(other, places) == TOO_MANY_HERE
    found.leave(other)
    for _ in range(2):
        seat.connections.discard(heir)
    assert not places
    assert found.enter(other, places) is None
    passes(found, 2.0)
    assert not given.looks, "the watch has no more to do with it"


async def test_an_heir_that_never_came_has_no_place_to_give_back() -> None:
    found = watch(connections_per_address=1)
    given = Guest()
    _, places = await entered(found, given)
    Seat(found, given, places).discard(object())
    assert found.enter(Guest(), places) == TOO_MANY_HERE


async def test_the_clock_stands_still_while_the_loop_does() -> None:
    found, guest = watch(), Guest()
    await entered(found, guest)
    found._last -= 3600.0
    assert found._timer is not None
    found._timer.cancel()
    found._on_time()
    assert found.now == 2 * module.PACE
    assert not found.load.uneasy, "nor is that taken for overload at once"
    passes(found, 2.0)
    assert [
        later - sooner >= 3 * module.PACE for (sooner, _), (later, _) in zip(guest.looks, guest.looks[1:], strict=False)
    ]
    assert len(guest.looks) >= 2


async def test_it_looks_as_long_as_somebody_is_here() -> None:
    found = watch(header_timeout=0.02)
    _, places = await entered(found, guest := Guest())
    await until(lambda: len(guest.looks) > 2)
    places.clear()
    found.leave(guest)
    await until(lambda: found._timer is None)
    found.enter(guest, places)
    assert found._timer is not None, "and again"


async def test_answers_that_stand_open_raise_the_ceiling() -> None:
    found = watch(requests=7)
    await entered(found, Guest(begun=True), Guest(begun=True), Guest())
    passes(found, 1.0)
    assert found.load.ceiling == 9


async def test_who_takes_nothing_is_let_go_and_who_reads_slowly_is_not() -> None:
    found = watch(write_stall=10.0)
    never, slow, fast = Guest(), Guest(), Guest()
    await entered(found, never, slow, fast)
    for guest in (never, slow, fast):
        guest.transport.size = 100_000
        found.stalls(guest)
    found.flows(fast)
    for _ in range(12):
        passes(found, 1.0)
        slow.transport.size -= 1
    assert [guest.transport.aborted for guest in (never, slow, fast)] == [True, False, False]
    assert found.stalled(slow)
    assert not found.stalled(fast)


async def test_when_all_together_leave_too_much_unread_who_takes_nothing_for_longest_goes_first() -> None:
    found = watch(unread_bytes=250_000, write_stall=1000.0)
    guests = [Guest() for _ in range(4)]
    await entered(found, *guests)
    for guest in guests:
        passes(found, 0.25)
        guest.transport.size = 100_000
        found.stalls(guest)
    assert not any(guest.transport.aborted for guest in guests), "all have a moment"
    passes(found, 1.0)
    assert [guest.transport.aborted for guest in guests] == [True, True, False, False], "and no more than must"


async def test_who_takes_nothing_is_let_go_sooner_where_others_wait_for_room() -> None:
    found = watch(unread_bytes=100_000, write_stall=1000.0)
    guests = [Guest(), Guest()]
    await entered(found, *guests)
    for guest in guests:
        guest.transport.size = 1_000
        found.stalls(guest, 30_000)  # the transport keeps what it has of a message until the last byte is out
    entered_later: list[bool] = []
    assert room().used == 60_000
    assert not room().ask(found, 30_000, lambda: entered_later.append(True))
    passes(found, 1.0)
    assert [guest.transport.aborted for guest in guests] == [True, False], "and no more than must"
    assert entered_later == [True]
    found.leave(guests[1])
    room().leave(found)
    assert room().used == 0


async def test_what_is_short_of_memory_gives_some_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(module.memory, "give_back", lambda: given.append(1))
    limits = Limits()
    found = Vigil(limits, Load(limits, 1))
    await entered(found, Guest())
    passes(found, 5.0)
    assert found.load.step == 3
    await until(lambda: given == [1])
    passes(found, module.TRIM)
    await until(lambda: given == [1, 1])
    await asyncio.sleep(0)
