"""``/metrics`` as text: in the format of Prometheus, or in OpenMetrics with exemplars, as the scraper asks.

The rule: what is shown are the copies that it is given; so it may take its time in a thread. Loaded by ``server/telemetry`` when
the first scrape comes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar

from vmcp.middleware.measures import BOUNDS, CLIENT, SERVER, SESSION, Labels
from vmcp.middleware.measures import Exemplar as Seen
from vmcp.server.readings import NAMES, Reading

Timed = tuple[str, Labels, list[tuple[Labels, list[int], float, dict[int, Seen]]]]
"""The name of a histogram, its labels, and what each combination of them has seen."""

HELP = {
    SERVER: "How long calls of clients took.",
    CLIENT: "How long requests to backends took.",
    SESSION: "How long sessions lasted.",
}
_ENDS = [*(repr(bound).removesuffix(".0") if bound >= 1 else repr(bound) for bound in BOUNDS), "+Inf"]


class _Given(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


_PROCESS = CollectorRegistry()
ProcessCollector(registry=_PROCESS)
GCCollector(registry=_PROCESS)


def render(readings: Sequence[Reading], timed: Sequence[Timed], accept: str) -> tuple[bytes, bytes]:
    """The content type and the text."""
    families = [*(_family(each) for each in readings if each.points), *(_histogram(each) for each in timed if each[2])]
    registry = CollectorRegistry()
    registry.register(_Given([*families, *_PROCESS.collect()]))
    encode, kind = choose_encoder(accept)
    return kind.encode("latin-1"), encode(registry)


def _family(reading: Reading) -> Metric:
    known = NAMES[reading.name]
    if known.sort == "summary":
        summary = SummaryMetricFamily(reading.name, known.help, labels=known.labels)
        for labels, (count, total) in reading.points:
            summary.add_metric(labels, count_value=count, sum_value=total)
        return summary
    kinds: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    family: Metric = kinds[known.sort](reading.name, known.help, labels=known.labels)
    for labels, value in reading.points:
        family.add_metric(labels, value)  # type: ignore[attr-defined]  # both have it
    return family


def _histogram(timed: Timed) -> Metric:
    name, names, all_of = timed
    family = HistogramMetricFamily(name, HELP[name], labels=names)
    for labels, counts, total, exemplars in all_of:
        family.add_metric([str(label) for label in labels], _buckets(counts, exemplars), total)
    return family


def _buckets(counts: list[int], exemplars: dict[int, Seen]) -> list[Any]:
    """Every bucket holds those below it too."""
    found: list[Any] = []
    so_far = 0
    for place, (end, count) in enumerate(zip(_ENDS, counts, strict=True)):
        so_far += count
        seen = exemplars.get(place)
        found.append((end, so_far) if seen is None else (end, so_far, _exemplar(seen)))
    return found


def _exemplar(seen: Seen) -> Exemplar:
    seconds, trace, span, at = seen
    return Exemplar({"trace_id": trace, "span_id": span}, seconds, at)
