"""``/metrics`` of several workers: what each has counted, and those before it that bore its number.

The rule: a sum of what was counted never goes down. So nobody is told anything that is not kept first where the next worker of
that number finds it; and of a worker that does not answer what it left there is told.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from vmcp.server import readings, sums
from vmcp.server.mates import Mates
from vmcp.server.readings import Reading
from vmcp.server.sums import Numbers
from vmcp.state.crew import Crew

QUESTION: Final = "numbers"
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Numbers).decode


class Scraped(readings.House, Protocol):
    """A house that may be that of one worker of several."""

    mates: Mates | None


class Ledger:
    """What this worker has told. Mutable; one for each process."""

    def __init__(self) -> None:
        self._before: Numbers | None = None
        self._looked = False

    def entered(self, crew: Crew, own: Numbers) -> Numbers:
        """What is told of this worker, which is kept first: ``own``, and what was counted under its number before it began."""
        estate = crew.common.estates[crew.index]
        if not self._looked:
            kept = estate.get()
            self._before = sums.left(_decode(kept)) if kept is not None else None
            self._looked = True
        told = own if self._before is None else sums.added([own, self._before])
        estate.put(_encode(told))
        return told


async def whole(mates: Mates, here: Numbers) -> Numbers:
    """What all workers have counted, of whom this one says ``here``; what is the case now is that of those which answer."""
    crew = mates.crew
    answers = await mates.all(QUESTION)
    others = [_decode(each.body) for each in answers.values()]
    gone = (crew.common.estates[index].get() for index in crew.others if index not in answers)
    told = sums.added([here, *others, *(sums.left(_decode(kept)) for kept in gone if kept is not None)])
    about: Mapping[str, int] = {
        "vmcp_workers": len(crew.common),
        "vmcp_workers_answering": 1 + len(answers),
        "vmcp_worker_restarts_total": sum(crew.common.deaths),
    }
    readings = [*told.readings, *(Reading(name, [((), value)]) for name, value in about.items())]
    return Numbers(readings, told.timed, told.process)


def encoded(here: Numbers) -> bytes:
    """For another worker."""
    return _encode(here)
