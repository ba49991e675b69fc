"""What a worker and its supervisor say to each other, message by message.

Rule: real sockets; each side is driven with the messages of the other.
"""

import asyncio
import functools
import logging
import os
import signal
import socket
from collections.abc import Iterator

import msgspec
import pytest

from tests.server.peers import until
from tests.server.test_herald import LATE, READY, House
from vmcp.server import seats
from vmcp.server.orders import Acts
from vmcp.server.seats import Seat
from vmcp.server.tether import NAMED, Order, Tether, Told
from vmcp.tasks import Nest


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def seat(ends: tuple[socket.socket, socket.socket]) -> Seat:
    made = Seat(0)
    made.take(1, ends[0], 0.0)
    return made


class Doing:
    """What was done, word by word."""

    def __init__(self, tether: Tether) -> None:
        self.done: list[str] = []
        stop, louder, quieter = (functools.partial(self.done.append, word) for word in ("stop", "louder", "quieter"))
        tether.obey(Acts(stop, louder, quieter, self.done.append))


def last(seat: Seat) -> Told:
    """What was told last; the one before, if nothing is new."""
    for told in seat.hear():
        seat.told = told
    return seat.told


async def test_each_message_has_the_whole_state(ends: tuple[socket.socket, socket.socket], seat: Seat) -> None:
    tether, house = Tether(ends[1], 0.01), House(LATE)
    async with Nest("test") as nest:
        nest.start(tether.run(house), "tether")
        await until(lambda: last(seat).digest == house.config.digest)
        assert (seat.told.up, seat.told.listening, seat.told.facts) == (False, False, LATE)
        tether.listening()
        house.settled.set()
        await until(lambda: last(seat).up)
        house.settled.clear()
        house.facts = READY
        await until(lambda: last(seat).facts == READY)
        tether.reloading()
        assert last(seat).reloading
        tether.reloaded("applied")
        tether.stopping(1.0)
        told = last(seat)
        assert (told.reloading, told.reloads, told.result) == (False, 1, "applied")
        assert told.listening
        assert told.up, "that a backend is lost later is no other start"
        tether.wish("file")
        assert last(seat).wish == "file"
        tether.reloading()
        assert last(seat).wish == "", "it is wished once"


async def test_a_message_has_an_end_however_many_backends_are_waited_for(
    ends: tuple[socket.socket, socket.socket], seat: Seat
) -> None:
    tether, names = Tether(ends[1], 60.0), [f"{number:063}" for number in range(500)]
    async with Nest("test") as nest:
        nest.start(tether.run(House({**LATE, "waiting_for": names})), "tether")
        await until(lambda: last(seat).facts)
    assert seat.told.facts["waiting_for"] == [*names[:NAMED], "…"]


async def test_it_does_what_it_is_told(ends: tuple[socket.socket, socket.socket], seat: Seat) -> None:
    tether = Tether(ends[1])
    doing = Doing(tether)
    for order in (Order("louder"), Order("quieter"), Order("reload", 7, "signal"), Order("stop"), Order("stop")):
        seat.tell(order)
    assert seat.busy, "since it was told"
    await until(lambda: len(doing.done) == 5)
    assert doing.done == ["louder", "quieter", "signal", "stop", "stop"]
    tether.reloading()
    seat.told = last(seat)
    assert seat.busy
    tether.reloaded("unchanged")
    seat.told = last(seat)
    assert not seat.busy
    tether.release()


async def test_what_cannot_be_read_anew_is_not(ends: tuple[socket.socket, socket.socket], seat: Seat) -> None:
    tether, done = Tether(ends[1]), list[str]()
    tether.obey(Acts(lambda: done.append("stop"), lambda: None, lambda: None))
    seat.tell(Order("reload", 1, "signal"))
    seat.tell(Order("stop"))
    await until(lambda: done)
    tether.release()


async def test_an_end_that_the_system_and_the_supervisor_ask_for_is_one(
    ends: tuple[socket.socket, socket.socket], seat: Seat
) -> None:
    tether = Tether(ends[1])
    doing = Doing(tether)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: doing.done)
    seat.tell(Order("stop"))
    seat.tell(Order("louder"))
    await until(lambda: "louder" in doing.done)
    assert doing.done == ["stop", "louder"]
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: doing.done[2:] == ["stop"])
    tether.release()


async def test_a_dead_supervisor_means_the_end(
    ends: tuple[socket.socket, socket.socket], seat: Seat, caplog: pytest.LogCaptureFixture
) -> None:
    tether = Tether(ends[1])
    doing = Doing(tether)
    with caplog.at_level(logging.ERROR, "vmcp.server"):
        seat.leave()
        await until(lambda: doing.done)
        await asyncio.sleep(0)
    assert doing.done == ["stop"]
    assert caplog.messages == ["the supervisor is dead; this worker ends"]
    tether.listening()  # nobody hears it
    tether.release()


def test_a_seat_hears_no_more_of_who_is_gone(ends: tuple[socket.socket, socket.socket], seat: Seat) -> None:
    ends[1].send(msgspec.json.encode(Told(listening=True)))
    ends[1].close()
    assert seats.descriptors([seat, Seat(1)]) == [ends[0].fileno()]
    assert [told.listening for told in seat.hear()] == [True]
    assert seats.descriptors([seat]) == []
    seat.tell(Order("stop"))


def seated(index: int, **told: object) -> Seat:
    return Seat(index, pid=1, heard=10.0, told=Told(**{"listening": True, "facts": READY, **told}))  # type: ignore[arg-type]


def test_the_whole_is_as_the_worst_of_them() -> None:
    nobody, one, two = Seat(0), seated(1, up=True, digest="a", result="applied"), seated(2, facts=LATE, digest="b")
    assert not seats.is_up([one, two])
    assert seats.is_up([one])
    assert seats.facts([one, two, nobody]) == {**LATE, "workers": "2 of 3 workers"}
    assert seats.facts([nobody])["status"] == "not ready"
    assert seats.result([one, seated(2, result="rejected"), nobody]) == "rejected"
    assert seats.result([nobody]) == ""
    assert seats.different([one, two, nobody, seated(3)], "a") == [two]


def test_a_sign_of_life_may_be_missed_and_who_starts_has_time() -> None:
    serving, starting = seated(0), seated(1, listening=False)
    assert seats.is_alive([serving, starting, Seat(2)], 11.9, 1.0)
    assert not seats.is_alive([serving], 12.1, 1.0)
    assert seats.is_alive([starting], 12.1, 1.0)
    assert not seats.is_alive([starting], 10.1 + seats.START, 1.0)
