"""Those who watch the house: what they need is loaded when the configuration asks for it, and not before.

The rule: connected once, when the process starts, for what is sent (OTLP); what is served (``/metrics``) may come and go with
configurations. What was counted stays, whatever the configuration.
"""

import asyncio
import importlib
import os
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from vmcp.call import Middleware
from vmcp.config.telemetry import TelemetrySpec
from vmcp.errors import CannotStart, Unavailable
from vmcp.middleware.measures import Measures
from vmcp.middleware.telemetry import Tally, telemetry
from vmcp.middleware.watching import Tracer, watching
from vmcp.server.crewed import Ledger, Scraped, encoded, whole
from vmcp.server.readings import children, processes, read
from vmcp.server.sums import Numbers
from vmcp.state.crew import Crew
from vmcp.upstream.secrets import resolve

FRESH: Final = 1.0
"""Seconds for which everybody who asks for the numbers is shown the same."""


class NoTelemetry(CannotStart):
    """What the configuration asks to be sent cannot be."""


class Telemetry:
    """Of one process, which may be a worker of several. Raises ``NoTelemetry``."""

    def __init__(
        self, spec: TelemetrySpec | None, environ: Mapping[str, str] = os.environ, crew: Crew | None = None
    ) -> None:
        self.measures = Measures()
        self._exporting: Any = None
        if spec is not None and spec.exports:
            self._exporting = _exporting(spec, self.measures, environ, crew)

    def layer(self, spec: TelemetrySpec | None, tally: Tally) -> Middleware:
        """What watches the calls of a configuration, as closely as somebody wants to know."""
        if spec is None:
            return telemetry(tally)
        tracer: Tracer | None = self._exporting.tracer if self._exporting is not None else None
        return watching(self.measures, tracer, tally)

    async def close(self) -> None:
        """Send what is left, in the time there is for that."""
        if self._exporting is not None:
            await asyncio.to_thread(self._exporting.close)


def _exporting(spec: TelemetrySpec, measures: Measures, environ: Mapping[str, str], crew: Crew | None) -> Any:
    try:
        headers = resolve("telemetry", spec.headers, environ)
    except Unavailable as missing:
        raise NoTelemetry(f"telemetry.headers: {missing.why}") from None
    if spec.ca_cert is not None and not os.access(spec.ca_cert, os.R_OK):
        raise NoTelemetry(f"telemetry.caCertPath: file {spec.ca_cert} cannot be read")
    return importlib.import_module("vmcp.server.otel").exporting(spec, headers, measures, environ, crew)


class Page:
    """``/metrics``. Mutable: it remembers for a moment what it showed, so that to ask often costs nobody anything."""

    def __init__(self, house: Scraped, measures: Measures) -> None:
        self._house = house
        self._measures = measures
        self._turn = asyncio.Lock()
        self._shown: dict[bool, tuple[float, tuple[bytes, bytes]]] = {}
        self._reading = asyncio.Lock()
        self._ledger = Ledger()

    async def show(self, accept: str) -> tuple[bytes, bytes]:
        """The content type and the text."""
        exemplars = "application/openmetrics-text" in accept
        async with self._turn:
            before = self._shown.get(exemplars)
            if before is not None and monotonic() - before[0] < FRESH:
                return before[1]
            made = await self._made("application/openmetrics-text; version=1.0.0" if exemplars else "text/plain")
            self._shown[exemplars] = monotonic(), made
            return made

    async def _made(self, accept: str) -> tuple[bytes, bytes]:
        exposition = await asyncio.to_thread(importlib.import_module, "vmcp.server.exposition")
        numbers, mates = await self._numbers(exposition), self._house.mates
        if mates is not None:
            numbers = await whole(mates, numbers)
        made: tuple[bytes, bytes] = await asyncio.to_thread(exposition.render, numbers, accept)
        return made

    async def _numbers(self, exposition: Any) -> Numbers:
        """What is known here. One at a time, so that what is told later is never less."""
        async with self._reading:
            own = await asyncio.to_thread(processes, children(self._house.current))
            process = await asyncio.to_thread(exposition.process)
            kinds = (self._measures.server, self._measures.client, self._measures.sessions)
            timed = [(each.name, each.labels, each.snapshot()) for each in kinds]
            numbers, mates = Numbers([*read(self._house, self._measures), *own], timed, process), self._house.mates
            return numbers if mates is None else self._ledger.entered(mates.crew, numbers)

    async def answer(self, _: bytes) -> bytes:
        """What another worker shows of this one."""
        exposition = await asyncio.to_thread(importlib.import_module, "vmcp.server.exposition")
        return encoded(await self._numbers(exposition))
