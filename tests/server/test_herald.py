"""What systemd is told, message by message.

Rule: a real datagram socket stands in systemd's place; the house is the few facts that a herald asks for.
"""

import asyncio
import logging
import os
import select
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.server.peers import config, until
from vmcp.config.model import Config
from vmcp.server.herald import KEPT, Herald, heralded
from vmcp.tasks import Nest

READY = {"status": "ready", "up": 1, "backends": 1, "waiting_for": []}
LATE = {"status": "not ready", "up": 0, "backends": 1, "waiting_for": ["a"]}


@dataclass
class House:
    facts: Mapping[str, object]
    config: Config = field(default_factory=lambda: replace(config({}), start_deadline=5.0))
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        return self.facts["status"] == "ready", self.facts


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.setblocking(False)
        yield made


def heard(systemd: socket.socket) -> list[str]:
    """All that has come."""
    found = []
    while select.select([systemd], [], [], 0)[0]:
        found.append(systemd.recv(4096).decode())
    return found


def asked(systemd: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": systemd.getsockname(), **more}


async def test_a_start_is_over_when_it_is_ready(systemd: socket.socket) -> None:
    house, found = House(LATE), list[str]()
    with heralded(asked(systemd)) as herald:
        assert herald is not None
        async with Nest("test") as nest:
            nest.start(herald.run(house), "herald")
            await until(lambda: found.extend(heard(systemd)) or len(found) > 1)
            assert found == ["EXTEND_TIMEOUT_USEC=15000000", "STATUS=not ready: 0 of 1 backends up, waiting for a"]
            house.facts = READY
            await until(lambda: found.extend(heard(systemd)) or len(found) > 2)
    assert found[2:] == ["READY=1\nSTATUS=ready: 1 of 1 backends up"]


async def test_or_when_everybody_has_had_his_chance(systemd: socket.socket) -> None:
    """systemd would start us again, and no backend is alive for that."""
    house, found = House(LATE), list[str]()
    house.settled.set()
    with heralded(asked(systemd)) as herald:
        assert herald is not None
        async with Nest("test") as nest:
            nest.start(herald.run(house), "herald")
            await until(lambda: found.extend(heard(systemd)) or len(found) > 1)
    assert found[1] == "READY=1\nSTATUS=not ready: 0 of 1 backends up, waiting for a"


def test_a_reload_is_told_with_its_time_and_its_end(systemd: socket.socket) -> None:
    herald = Herald(systemd.getsockname(), clock=lambda: 5_000_999)
    herald.reloading()
    herald.reloaded("rejected")
    herald.close()
    assert heard(systemd) == ["RELOADING=1\nMONOTONIC_USEC=5000\nEXTEND_TIMEOUT_USEC=10000000", "READY=1"]


async def test_how_a_reload_ended_is_seen_until_another_ends_better(systemd: socket.socket) -> None:
    house, herald = House(READY), Herald(systemd.getsockname())
    for result, more in (("rejected", "; the last reload was rejected"), ("applied", ""), ("failed", "; the last")):
        herald.reloaded(result)
        async with Nest("test") as nest:
            nest.start(herald.run(house), "herald")
            found: list[str] = []
            await until(lambda found=found: found.extend(heard(systemd)) or "STATUS" in "".join(found))
        assert f"STATUS=ready: 1 of 1 backends up{more}" in found[-1]
        assert more or found[-1].endswith("up")
    herald.close()


async def test_the_end_is_told_once_and_nothing_after_it_takes_it_back(systemd: socket.socket) -> None:
    house, herald = House(READY), Herald(systemd.getsockname(), 30.0)
    herald.stopping(3.0)
    herald.stopping(3.0)
    herald.reloading()
    herald.reloaded("applied")
    async with Nest("test") as nest:
        nest.start(herald.run(house), "herald")
        found: list[str] = []
        await until(lambda: found.extend(heard(systemd)) or "WATCHDOG=1" in found)
    herald.close()
    assert found[0] == "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=13000000"
    assert not any(word in "".join(found[1:]) for word in ("READY", "RELOADING", "STOPPING", "STATUS"))


def test_what_cannot_be_sent_now_is_sent_later_in_its_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    herald = Herald(str(tmp_path / "notify"))
    with caplog.at_level(logging.DEBUG, "vmcp.server"):
        herald.reloading()
    assert "systemd is not told" in caplog.text
    for _ in range(KEPT):
        herald.reloaded("applied")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
        late.bind(str(tmp_path / "notify"))
        herald.stopping(0.0)
        words = heard(late)
    herald.close()
    assert len(words) == KEPT, "the oldest are given up"
    assert words[-1].startswith("STOPPING=1")


async def test_a_watchdog_is_no_reason_to_forget_what_waits(tmp_path: Path) -> None:
    house, herald = House(READY), Herald(str(tmp_path / "notify"), watched=0.003)
    async with Nest("test") as nest:
        nest.start(herald.run(house), "herald")
        for _ in range(KEPT):
            await asyncio.sleep(0.003)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as late:
            late.bind(str(tmp_path / "notify"))
            found: list[str] = []
            await until(lambda: found.extend(heard(late)) or "WATCHDOG=1" in found)
    herald.close()
    assert "READY=1" in found[1]


def test_an_abstract_address_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("")
        name = made.getsockname()
        with heralded({"NOTIFY_SOCKET": "@" + name[1:].decode()}) as herald:
            assert herald is not None
            herald.reloaded("applied")
        assert heard(made) == ["READY=1"]


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "notify"])
def test_nobody_who_asks_is_no_herald(address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "PATH": "/bin"}
    with heralded(environ) as herald:
        assert herald is None
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("pid", "frozen", "watched"),
    [("", False, True), ("self", False, True), ("parent", False, False), ("parent", True, True), ("1", True, False)],
)
def test_the_watchdog_is_asked_of_one_process(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, pid: str, frozen: bool, watched: bool
) -> None:
    """A frozen file is two processes, and systemd knows the outer one."""
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(os, "getppid", lambda: 4711)
    named = {"self": str(os.getpid()), "parent": "4711"}.get(pid, pid)
    environ = asked(systemd, WATCHDOG_USEC="30000000", WATCHDOG_PID=named)
    house = House(READY)

    async def once(herald: Herald) -> None:
        async with Nest("test") as nest:
            nest.start(herald.run(house), "herald")
            await asyncio.sleep(0)

    with heralded(environ) as herald:
        assert herald is not None
        asyncio.run(once(herald))
    assert any("WATCHDOG=1" in each for each in heard(systemd)) is watched
    assert not environ
