"""What the house would answer now if it were asked how it is: gauges and counters by their names in Prometheus.

The rule: every name stands in ``NAMES``, with what it means; nothing is said twice. Labels are groups and backends of the
configuration, and words of ours.
"""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from vmcp import __version__, about
from vmcp.middleware.measures import Labels, Measures, refusals
from vmcp.routing.catalog import Kind
from vmcp.server.children import taken
from vmcp.server.generation import Generation
from vmcp.server.sessions import Sessions

Sort = Literal["counter", "gauge", "summary"]
How = Literal["sum", "max", "min", "mean", "worst"]
STATES: Final = ("closed", "half-open", "open")
MOST: Final = 16
"""Limits and policies that are told by name."""


class Name(msgspec.Struct, frozen=True):
    """What a metric is. ``several``: how those of several workers are told as one."""

    sort: Sort
    labels: Labels
    help: str
    several: How = "sum"


class Reading(msgspec.Struct, frozen=True):
    """A metric as it is now; a summary has pairs of count and sum for numbers."""

    name: str
    points: list[tuple[Labels, Any]]


_BACKEND: Final = ("vmcp_backend",)
NAMES: Final[Mapping[str, Name]] = {
    "vmcp_requests_total": Name("counter", (), "Calls that have ended."),
    "vmcp_requests_success_total": Name("counter", (), "Calls that were served."),
    "vmcp_requests_failed_total": Name("counter", (), "Calls that ended with an error."),
    "vmcp_requests_cached_total": Name("counter", (), "Results that were given from the cache."),
    "vmcp_request_duration_seconds": Name("summary", ("method",), "How long calls took, by method."),
    "vmcp_requests_in_flight": Name("gauge", ("vmcp_group",), "Calls that are being served."),
    "vmcp_connections_total": Name("counter", (), "Sessions that were opened."),
    "vmcp_connections_active": Name("gauge", (), "Sessions that are open."),
    "vmcp_sessions_active": Name("gauge", ("vmcp_group",), "Sessions that are open, by group."),
    "vmcp_streams_open": Name("gauge", (), "Event streams that are open."),
    "vmcp_servers_total": Name("gauge", (), "Backends of the configuration.", "max"),
    "vmcp_servers_healthy": Name("gauge", (), "Backends that are up.", "min"),
    "vmcp_cache_size": Name("gauge", (), "Results in the cache."),
    "vmcp_cache_bytes": Name("gauge", (), "Bytes that the cache takes."),
    "vmcp_cache_hit_rate": Name("gauge", (), "Hits of all look-ups in the cache, 0 to 1.", "mean"),
    "vmcp_cache_evicted_total": Name("counter", (), "Results that had to leave the cache."),
    "vmcp_cache_disk_size": Name("gauge", (), "Results on disk.", "max"),
    "vmcp_cache_disk_bytes": Name("gauge", (), "Bytes on disk.", "max"),
    "vmcp_cache_requests_total": Name("counter", ("result",), "Look-ups in the cache."),
    "vmcp_memory_used": Name("gauge", (), "Bytes of memory that the process has."),
    "vmcp_load_step": Name("gauge", (), "How much is refused for want of memory: 0 nothing to 3 everything.", "max"),
    "vmcp_load_shed_ratio": Name("gauge", (), "Share of requests that is turned away for a late event loop.", "max"),
    "vmcp_event_loop_lag_seconds": Name("gauge", (), "How late the event loop was.", "max"),
    "vmcp_load_refused_total": Name("counter", (), "Requests that were turned away for overload."),
    "vmcp_config_reloads_total": Name("counter", ("result",), "Reloads of the configuration.", "max"),
    "vmcp_config_last_reload_successful": Name(
        "gauge", (), "Whether the last reload took effect, or had nothing to do.", "min"
    ),
    "vmcp_config_last_reload_success_timestamp_seconds": Name(
        "gauge", (), "When the configuration took effect.", "min"
    ),
    "vmcp_config_info": Name("gauge", ("hash",), "The configuration that counts.", "max"),
    "vmcp_build_info": Name(
        "gauge", ("version", "revision", "python"), "The release, and the commit of its build.", "max"
    ),
    "vmcp_backend_up": Name("gauge", _BACKEND, "Whether there is a connection to it.", "min"),
    "vmcp_backend_circuit_state": Name(
        "gauge", (*_BACKEND, "state"), "Its breaker: 1 for the state it is in.", "worst"
    ),
    "vmcp_backend_tools": Name("gauge", _BACKEND, "Tools that it offers.", "max"),
    "vmcp_backend_restarts_total": Name("counter", _BACKEND, "How often it has come back after it was gone."),
    "vmcp_backend_retries_total": Name("counter", _BACKEND, "Requests that were sent to it again."),
    "vmcp_backend_last_success_timestamp_seconds": Name("gauge", _BACKEND, "When it last answered a call.", "max"),
    "vmcp_stdio_process_resident_memory_bytes": Name("gauge", _BACKEND, "Memory of its child processes and theirs."),
    "vmcp_stdio_process_cpu_seconds_total": Name("counter", _BACKEND, "Processor time of the same."),
    "vmcp_auth_failures_total": Name("counter", ("reason",), "Requests that could not prove who they are."),
    "vmcp_ratelimited_total": Name("counter", ("limit",), "Calls that a rate limit refused."),
    "vmcp_policy_denied_total": Name("counter", ("policy",), "Calls that a policy refused."),
    "vmcp_workers": Name("gauge", (), "Processes that vmcp consists of, where there are several.", "max"),
    "vmcp_workers_answering": Name("gauge", (), "Those of them whose state is in these numbers.", "max"),
    "vmcp_worker_restarts_total": Name("counter", (), "How often one has ended unasked and was started again.", "max"),
}


ALIASES: Final = {"vmcp_load_loop_lag_seconds": "vmcp_event_loop_lag_seconds"}
"""Names of ``vmcp/metrics`` that are others here."""


class House(Protocol):
    """What is asked."""

    current: Generation
    reloads: dict[str, int]
    reloaded: tuple[str, float]
    failures: dict[str, int]

    @property
    def sessions(self) -> Sessions:
        """All sessions."""

    @property
    def streams(self) -> int:
        """Streams that are open."""

    def numbers(self) -> Mapping[str, Any]:
        """What was counted, by the names of ``vmcp/metrics``."""


def read(house: House, measures: Measures) -> list[Reading]:
    """All of it. Takes a look at everything once; nothing here waits."""
    return [
        *_counted(house.numbers()),
        *_grouped(house, measures),
        *_backends(house.current, measures),
        *_configured(house),
        *_refused(house, measures),
        *_cached(house.current),
    ]


def _counted(numbers: Mapping[str, Any]) -> Iterator[Reading]:
    for told, value in numbers.items():
        name = ALIASES.get(told, told)
        known = NAMES.get(name)
        if known is None:
            continue  # it is told below, or by another name
        if known.sort == "summary":
            yield Reading(name, [((key,), (each["count"], each["sum"])) for key, each in value.items()])
        else:
            yield Reading(name, [((), value)])


def _grouped(house: House, measures: Measures) -> Iterator[Reading]:
    faces = house.current.table.faces
    groups = {face.group for face in faces.values()}
    at = Counter(faces[session.path].group for session in house.sessions if session.path in faces)
    yield Reading("vmcp_requests_in_flight", [((each,), measures.in_flight.get(each, 0)) for each in sorted(groups)])
    yield Reading("vmcp_sessions_active", [((each,), at[each]) for each in sorted(groups)])
    yield Reading("vmcp_streams_open", [((), house.streams)])


def _backends(current: Generation, measures: Measures) -> Iterator[Reading]:
    up: dict[Labels, int] = {}
    tools: dict[Labels, int] = {}
    retries: dict[Labels, int] = {}
    restarts: dict[Labels, int] = {}
    circuits: dict[Labels, int] = {}
    for name, held in current.held.items():
        up[(name,)] = int(held.backend.status.state == "up")
        if held.catalog is not None:
            tools[(name,)] = len(held.catalog.entries[Kind.TOOL])
        restarts[(name,)] = held.backend.restarts
        facts = held.backend.facts()
        places = facts.get("replicas", [facts])
        retries[(name,)] = sum(each.get("pool", {}).get("retries", 0) for each in places)
        states = [each["breaker"]["state"] for each in places if "breaker" in each]
        if states:
            worst = max(states, key=STATES.index)
            circuits |= {(name, state): int(state == worst) for state in STATES}
    answered = {(name,): at for name, at in measures.answered.items() if name in current.held}
    yield Reading("vmcp_servers_total", [((), len(up))])
    yield Reading("vmcp_servers_healthy", [((), sum(up.values()))])
    told = {"up": up, "tools": tools, "retries_total": retries, "restarts_total": restarts, "circuit_state": circuits}
    for key, points in (told | {"last_success_timestamp_seconds": answered}).items():
        yield Reading(f"vmcp_backend_{key}", list(points.items()))


def children(current: Generation) -> dict[str, list[int]]:
    """The child processes of each backend that has some."""
    found = {name: held.backend.pids for name, held in current.held.items()}
    return {name: pids for name, pids in found.items() if pids}


def processes(pids: Mapping[str, list[int]]) -> list[Reading]:
    """What they take of the machine. Blocks."""
    known = taken(each for those in pids.values() for each in those)
    memory: list[tuple[Labels, Any]] = []
    seconds: list[tuple[Labels, Any]] = []
    for name, those in pids.items():
        found = [known[each] for each in those if each in known]
        if found:
            memory.append(((name,), sum(each.memory for each in found)))
            seconds.append(((name,), sum(each.seconds for each in found)))
    before = "vmcp_stdio_process_"
    return [Reading(f"{before}resident_memory_bytes", memory), Reading(f"{before}cpu_seconds_total", seconds)]


def _configured(house: House) -> Iterator[Reading]:
    result, at = house.reloaded
    well = result in ("applied", "unchanged")
    commit = str(about.build().get("commit") or "")[:12]
    yield Reading("vmcp_config_reloads_total", [((each,), count) for each, count in sorted(house.reloads.items())])
    yield Reading("vmcp_config_last_reload_successful", [((), int(well))])
    yield Reading("vmcp_config_last_reload_success_timestamp_seconds", [((), at)])
    yield Reading("vmcp_config_info", [((house.current.config.digest[:12],), 1)])
    yield Reading("vmcp_build_info", [((__version__, commit, platform.python_version()), 1)])


def _refused(house: House, measures: Measures) -> Iterator[Reading]:
    for name, counts in {
        "vmcp_auth_failures_total": house.failures,
        "vmcp_ratelimited_total": measures.limited,
        "vmcp_policy_denied_total": measures.denied,
    }.items():
        yield Reading(name, [((key,), count) for key, count in refusals(counts, MOST)])


def _cached(current: Generation) -> Iterator[Reading]:
    if current.shelf is not None:
        counts = current.shelf.memory.counts
        yield Reading("vmcp_cache_requests_total", [(("hit",), counts.hits), (("miss",), counts.misses)])
