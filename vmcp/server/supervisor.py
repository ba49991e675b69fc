"""One vmcp of several processes: the one that everybody knows forks the workers, which serve, and keeps them.

The rule: it has neither an event loop nor a thread, so that it can fork at any time, and it serves nobody, so that nothing which
a client sends can end it. A worker that dies is replaced; what cannot be started ends the whole, with the code of one process.
"""

import contextlib
import gc
import importlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from vmcp.config.model import Config
from vmcp.config.restart import kept
from vmcp.errors import VmcpError
from vmcp.server import levels, memory, seats
from vmcp.server.herald import EACH, SOON, Herald
from vmcp.server.reloading import Source
from vmcp.server.seats import Seat
from vmcp.server.tether import Order, Tether, Told
from vmcp.state.crew import AWAY, Common, Crew

log = logging.getLogger("vmcp.supervisor")

STEADY: Final = 60.0
"""Seconds after which a worker is not one that keeps dying."""
DELAYS: Final = (0.1, 30.0)
"""Seconds until a worker is forked again: the first time, and at most."""
TRIES: Final = 5
"""All is given up when each of the workers has ended so often in a row before clients could come to it."""
MARGIN: Final = 10.0
"""Seconds for the end beyond those that requests have; who is there after that hangs."""
HANGS: Final = 60.0
"""Seconds without a sign of life from a worker that serves, after which it will give none."""
LOOK, PAUSE = 5.0, 15.0
"""Seconds between two looks at all, at most; and that it takes to be sure that this process stood still."""
DIFFER: Final = (1.0, 60.0)
"""Seconds until workers that differ are told to read the configuration anew: the first time, and at most."""
_ENDED: Final = 128 + signal.SIGTERM
"""Who ends all processes meets some before they can end in order."""
_HEARD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


class Worker(NamedTuple):
    """What a process is that was forked to serve, and with which configuration."""

    crew: Crew
    tether: Tether
    config: Config


class Supervisor:
    """Mutable. ``config`` is what counts at the start; ``source`` reads it anew; ``herald`` tells systemd of the whole.

    ``listening`` is where all workers accept; until the end it is open here as well, for those that will be forked.
    """

    def __init__(
        self,
        config: Config,
        listening: socket.socket,
        source: Source,
        herald: Herald | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        watch: bool = True,
    ) -> None:
        self._config = config
        self._read: Config | None = config
        self._digest = config.digest
        self._listening = listening
        self._source = source
        self._herald = herald
        self._clock = clock
        self._watch = watch
        self._common = Common.of(config.server.workers)
        self._seats = tuple(Seat(index) for index in range(config.server.workers))
        self._begun = self._reloading = False
        self._stops = self._code = self._number = self._differed = 0
        self._deadline: float | None = None
        self._align: float | None = None
        self._ends = socket.socketpair()
        self._looked = clock()

    @property
    def common(self) -> Common:
        """What all workers have."""
        return self._common

    # --- its life

    def run(self) -> Worker | int:
        """Until all have ended: the exit code. It returns in each worker as well: what that is."""
        self._listen()
        for module in _needed(self._config):
            importlib.import_module(module)
        gc.collect()
        memory.give_back()
        gc.freeze()  # what is there now is shared by all, as long as nobody writes into it
        if self._herald is not None:
            self._herald.begin(self._config.start_deadline)
        self._seats[0].due = self._clock()
        while any(seat.pid or seat.due is not None for seat in self._seats):
            made = self._fork_due()
            if made is not None:
                return made
            self._wait()
            self._look()
        return self._code

    def _listen(self) -> None:
        for each in self._ends:
            each.setblocking(False)
        signal.set_wakeup_fd(self._ends[1].fileno(), warn_on_full_buffer=False)
        for number in _HEARD:
            signal.signal(number, lambda *_: None)

    def _wait(self) -> None:
        """Until something has happened, or is to be done."""
        poll = select.poll()
        for descriptor in (self._ends[0].fileno(), *seats.descriptors(self._seats)):
            poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, self._until() - self._clock()) * 1000)
        for seat in self._seats:
            self._hear(seat)
        for number in _drained(self._ends[0]):
            self._on_signal(number)
        for seat in self._seats:
            self._bury(seat)

    def _until(self) -> float:
        times = [self._deadline, self._align, *(seat.due for seat in self._seats)]
        if self._herald is not None:
            each = self._herald.each if seats.is_up(self._seats) else min(SOON, self._herald.each)
            times.append(self._clock() + each)
        return min((each for each in times if each is not None), default=self._clock() + LOOK)

    def _look(self) -> None:
        now = self._clock()
        if self._deadline is not None and now >= self._deadline:
            self._cut(now)
        if self._align is not None and now >= self._align:
            self._bring_together()
        self._kill_hanging(now)
        if self._herald is not None:
            up, alive = seats.is_up(self._seats), seats.is_alive(self._seats, now, self._herald.each)
            self._herald.look(seats.facts(self._seats), up=up, alive=alive)

    # --- workers

    def _fork_due(self) -> Worker | None:
        """What it is, in a worker; None here."""
        for seat in self._seats:
            if seat.due is not None and seat.due <= self._clock():
                self._remember()
                with _deaf():
                    line = self._forked(seat)
                    if line is not None:
                        self._leave()
                        each = self._herald.each if self._herald is not None else EACH
                        return Worker(Crew(self._common, seat.index), Tether(line, each), self._config)
        return None

    def _forked(self, seat: Seat) -> socket.socket | None:
        """The end of the line to here, in the worker; None here."""
        seat.born = self._clock()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            seat.take(0, ours, seat.born)
            with contextlib.ExitStack() as here:
                here.enter_context(theirs)
                seat.pid = os.fork()
                if seat.pid == 0:
                    here.pop_all()
                    return theirs
        except OSError as error:  # there are no more processes or descriptors
            log.error("no process can be had", extra={"why": error.strerror})
            self._died(seat, os.EX_OSERR)
        return None

    def _leave(self) -> None:
        """Keep nothing that is the supervisor's: were a worker to hold the lines, nobody could see that it is dead."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):  # the others are for the supervisor, and mean nothing here
            signal.signal(number, signal.SIG_DFL)
        for each in self._ends:
            each.close()
        for seat in self._seats:
            seat.close()

    def _bury(self, seat: Seat) -> None:
        """If it is dead. Nobody else is waited for, whoever else may be a child of this process."""
        if not seat.pid:
            return
        pid, status = os.waitpid(seat.pid, os.WNOHANG)
        if pid:
            self._hear(seat)
            code = os.waitstatus_to_exitcode(status)
            self._died(seat, code if code >= 0 else 128 - code)

    def _died(self, seat: Seat, code: int) -> None:
        now = self._clock()
        seat.deaths = 1 if now - seat.born > STEADY else seat.deaths + 1
        seat.failures = 0 if seat.told.listening else seat.failures + 1
        seat.leave()
        self._common.counts[seat.index] = AWAY
        if self._stops:
            self._code = self._code or (code if code != _ENDED else 0)
        elif not seat.ever:
            self._code = code  # it has said why
            self._stop()
        elif all(each.failures >= TRIES for each in self._seats):
            log.error("no worker can be started: all is given up", extra={"code": code})
            self._code = code
            self._stop()
        else:
            self._common.deaths[seat.index] += 1
            first, most = DELAYS
            delay = min(most, first * 2 ** (seat.deaths - 1))
            seat.due = now + delay
            log.error("a worker has died", extra={"worker": seat.index, "code": code, "again_in": round(delay, 2)})
        self._gather()

    # --- what workers tell

    def _hear(self, seat: Seat) -> None:
        for told in seat.hear():
            before, seat.told, seat.heard = seat.told, told, self._clock()
            self._on_told(seat, before, told)

    def _on_told(self, seat: Seat, before: Told, told: Told) -> None:
        if told.listening and not before.listening:
            self._on_listening(seat)
        if told.reloads != before.reloads and told.result == "applied":
            self._digest = told.digest
        if told.wish:
            self._reload(told.wish, self._seats)
        self._gather()
        if told.digest != before.digest and not self._reloading:
            self._compare()

    def _on_listening(self, seat: Seat) -> None:
        again, seat.ever = seat.ever, True
        if not self._begun and not self._stops:
            self._begun = True
            for each in self._seats[1:]:
                each.due = self._clock()
        if again and seat.index == 0 and self._watch:
            self._reload("file", self._seats)  # nobody has looked at the files meanwhile

    # --- what workers are to do

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._reload("signal", self._seats)
        elif number == signal.SIGUSR1:
            levels.louder()  # here, for those that will be forked
            self._order(Order("louder"))
        elif number == signal.SIGUSR2:
            levels.quieter()
            self._order(Order("quieter"))

    def _order(self, order: Order) -> None:
        for seat in self._seats:
            seat.tell(order)

    def _stop(self) -> None:
        self._stops += 1
        self._align = None
        grace = self._config.server.limits.shutdown_grace
        if self._deadline is None:
            self._deadline = self._clock() + grace + MARGIN
            if self._herald is not None:
                self._herald.stopping(grace + MARGIN)
        for seat in self._seats:
            seat.due = None
        self._order(Order("stop"))
        self._listening.close()  # as the workers do: who comes now is not left waiting

    def _kill_hanging(self, now: float) -> None:
        """Its calls are lost already; whoever takes its place can serve. If we were stopped ourselves, so were all."""
        paused, self._looked = now - self._looked > PAUSE, now
        for seat in self._seats:
            seat.heard = now if paused else seat.heard
            if seat.told.listening and now - seat.heard > HANGS and not self._stops:
                log.error("a worker hangs and is killed", extra={"worker": seat.index})
                os.kill(seat.pid, signal.SIGKILL)
                seat.heard = now

    def _cut(self, now: float) -> None:
        """They had their time."""
        self._deadline = now + MARGIN
        for seat in self._seats:
            if seat.pid:
                log.error("a worker does not end and is killed", extra={"worker": seat.index})
                os.kill(seat.pid, signal.SIGKILL)

    # --- one configuration for all

    def _reload(self, cause: str, whose: Sequence[Seat]) -> None:
        if self._stops:
            return
        self._number += 1
        for seat in whose:
            seat.tell(Order("reload", self._number, cause))
        self._gather()

    def _gather(self) -> None:
        """A reload of the whole begins with the first of them and ends with the last."""
        busy = any(seat.busy for seat in self._seats)
        if busy and not self._reloading:
            self._reloading = True
            self._read = self._loaded()  # what is there as it begins, should it be another when it has ended
            if self._herald is not None:
                self._herald.reloading()
        elif self._reloading and not busy:
            self._reloading = False
            if self._herald is not None:
                self._herald.reloaded(seats.result(self._seats))
            self._remember()
            self._compare()

    def _remember(self) -> None:
        """Keep the configuration that counts, for those that will be forked; unless the files are others again by now."""
        if self._config.digest == self._digest:
            return
        if self._read is None or self._read.digest != self._digest:
            self._read = self._loaded()
        if self._read is not None and self._read.digest == self._digest:
            self._config = kept(self._config, self._read)[0]
            self._source.on_adopted(self._config)

    def _loaded(self) -> Config | None:
        try:
            return self._source.load().config
        except VmcpError:  # which the workers tell of
            return None

    def _compare(self) -> None:
        if self._stops or not seats.different(self._seats, self._digest):
            self._align, self._differed = None, 0
        elif self._align is None:
            first, most = DIFFER
            self._align = self._clock() + min(most, first * 2**self._differed)
            self._differed += 1

    def _bring_together(self) -> None:
        """Have those reload that run another configuration: one could not start with it, or was told too late."""
        self._align = None
        late = seats.different(self._seats, self._digest)
        if late:
            told = [seat.index for seat in late]
            log.warning("workers have different configurations", extra={"workers": told, "counts": self._digest[:12]})
            self._reload("others", late)


def _needed(config: Config) -> list[str]:
    """What each worker would load for itself otherwise: tens of megabytes that are the same in all of them."""
    found = {
        "vmcp.middleware.oidc": config.incoming.type == "oidc",
        "vmcp.server.otel": config.telemetry is not None and config.telemetry.exports,
        "vmcp.server.exposition": config.telemetry is not None and config.telemetry.scrape,
        "vmcp.state.disk": config.cache is not None and config.cache.disk is not None,
    }
    return [module for module, wanted in found.items() if wanted]


def _drained(awake: socket.socket) -> bytes:
    """The numbers of the signals that came."""
    try:
        return awake.recv(4096)
    except BlockingIOError:
        return b""


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Signals wait: one that a new process got would be told here as well, as if it had come twice."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
