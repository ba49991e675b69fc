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

from vmcp.middleware.measures import BOUNDS, CLIENT, SERVER, SESSION
from vmcp.middleware.measures import Exemplar as Seen
from vmcp.server.readings import NAMES, Reading
from vmcp.server.sums import Family, Numbers, Timed

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


def process() -> list[Family]:
    """What is known of this process."""
    return [
        Family(each.name, each.documentation, each.type, [(one.name, one.labels, one.value) for one in each.samples])
        for each in _PROCESS.collect()
    ]


def render(numbers: Numbers, accept: str) -> tuple[bytes, bytes]:
    """The content type and the text."""
    families = [*(_family(each) for each in numbers.readings if each.points)]
    families += [*(_histogram(each) for each in numbers.timed if each[2])]
    registry = CollectorRegistry()
    registry.register(_Given([*families, *map(_plain, numbers.process)]))
    encode, kind = choose_encoder(accept)
    return kind.encode("latin-1"), encode(registry)


def _plain(family: Family) -> Metric:
    made = Metric(family.name, family.help, family.sort)
    for name, labels, value in family.samples:
        made.add_sample(name, labels, value)
    return made


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
