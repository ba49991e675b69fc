"""What ties a worker to its supervisor: it says how it is, and is told what to do.

The rule: each message has the whole state, so one that is lost is made good by the next. When the other end is closed the
supervisor is dead: then the worker ends in order, as nobody would ever tell it to.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from vmcp.server.herald import EACH, SOON, House
from vmcp.server.orders import Acts

log = logging.getLogger("vmcp.server")

LONGEST: Final = 1 << 14
"""Bytes of a message."""
NAMED: Final = 20
"""So many backends are told of by name, as the message must not be longer than that."""


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a worker is. ``up``: every backend has answered or failed once. ``obeyed`` is the last order to reload that it took.

    ``facts`` see ``House.readiness``; ``result`` is how the last of its ``reloads`` ended; ``wish``: all shall reload, and why.
    """

    listening: bool = False
    up: bool = False
    facts: Mapping[str, Any] = {}
    digest: str = ""
    reloading: bool = False
    reloads: int = 0
    result: str = ""
    obeyed: int = 0
    wish: str = ""


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker is to do: stop, reload, louder or quieter. ``number`` and ``cause`` are those of a reload."""

    act: str
    number: int = 0
    cause: str = ""


_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder(Order).decode


class Tether:
    """The worker's end; see ``Herald`` and ``Orders``. Mutable. ``each``: seconds between two signs of life."""

    def __init__(self, line: socket.socket, each: float = EACH) -> None:
        self._line = line
        self._line.setblocking(False)
        self._each = each
        self._told = Told()
        self._house: House | None = None
        self._acts: Acts | None = None
        self._stops = {"supervisor": 0, "signal": 0}
        self._stopped = 0

    # --- how it is

    async def run(self, house: House) -> None:
        """Say how the house is, and that the loop turns, until cancelled."""
        self._house = house
        while True:
            self._say()
            await asyncio.sleep(self._each if self._told.up else min(SOON, self._each))

    def listening(self) -> None:
        """Clients can come."""
        self._say(listening=True)

    def reloading(self) -> None:
        """The configuration is read anew."""
        self._say(reloading=True)

    def reloaded(self, result: str) -> None:
        """That has ended, in whichever way."""
        self._say(reloading=False, reloads=self._told.reloads + 1, result=result)

    def stopping(self, grace: float) -> None:
        """The supervisor sees it; and it has told us itself, or is dead."""

    def wish(self, cause: str) -> None:
        """All workers shall read the configuration anew."""
        self._send(msgspec.structs.replace(self._told, wish=cause))

    def _say(self, **changed: Any) -> None:
        if self._house is not None:
            ready, facts = self._house.readiness()
            up = self._told.up or ready or self._house.settled.is_set()
            changed |= {"up": up, "facts": _few(facts), "digest": self._house.config.digest}
        self._told = msgspec.structs.replace(self._told, **changed)
        self._send(self._told)

    def _send(self, told: Told) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._line.send(_encode(told))

    # --- what it is to do

    def obey(self, acts: Acts) -> None:
        """See ``Orders``. What a terminal sends to all processes is the supervisor's affair."""
        self._acts = acts
        loop = asyncio.get_running_loop()
        loop.add_reader(self._line, self._on_order)
        loop.add_signal_handler(signal.SIGTERM, self._stop, "signal")

    def release(self) -> None:
        """See ``Orders``."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._line)
        loop.remove_signal_handler(signal.SIGTERM)

    def _on_order(self) -> None:
        try:
            said = self._line.recv(LONGEST)
        except BlockingIOError:
            return
        except ConnectionError:
            said = b""
        if said:
            self._obey(_decode(said))
            return
        log.error("the supervisor is dead; this worker ends")
        asyncio.get_running_loop().remove_reader(self._line)
        self._stop("supervisor")

    def _obey(self, order: Order) -> None:
        acts = self._acts
        assert acts is not None
        if order.act == "stop":
            self._stop("supervisor")
        elif order.act == "reload" and acts.reload is not None:
            self._told = msgspec.structs.replace(self._told, reloading=True, obeyed=order.number)
            acts.reload(order.cause)
        elif order.act in ("louder", "quieter"):
            getattr(acts, order.act)()

    def _stop(self, who: str) -> None:
        """Somebody who ends all processes of a group tells the supervisor too, and means one end and not two."""
        assert self._acts is not None
        self._stops[who] += 1
        if max(self._stops.values()) > self._stopped:
            self._stopped += 1
            self._acts.stop()


def _few(facts: Mapping[str, object]) -> Mapping[str, object]:
    """The same with fewer names."""
    waiting = facts["waiting_for"]
    assert isinstance(waiting, list)
    return facts if len(waiting) <= NAMED else {**facts, "waiting_for": [*waiting[:NAMED], "…"]}
