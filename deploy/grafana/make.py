"""Makes ``vmcp.json``, the Grafana dashboard: ``python deploy/grafana/make.py``.

The rule: the file is made and never edited; a test compares the two, and runs every query against a real Prometheus.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
FILE = Path(__file__).with_name("vmcp.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

AT = 'job=~"$job",instance=~"$instance"'
ASKED = f'{AT},vmcp_group=~"$group",gen_ai_tool_name=~"$tool"'
SENT = f'{AT},vmcp_backend=~"$backend"'
CALLS = 'mcp_method_name=~"tools/call|prompts/get|resources/read"'
SERVER, CLIENT = "mcp_server_operation_duration_seconds", "mcp_client_operation_duration_seconds"
STATES = {"0": ("down", "red"), "1": ("up", "green")}
CIRCUIT = {"0": ("closed", "green"), "1": ("half-open", "yellow"), "2": ("open", "red")}


def rate(name: str, labels: str, by: str = "", over: str = "$__rate_interval") -> str:
    """Per second, summed."""
    return f"sum{_by(by)} (rate({name}{{{labels}}}[{over}]))"


def growth(name: str, labels: str, by: str = "", over: str = "$__rate_interval") -> str:
    """How much it has grown, summed."""
    return f"sum{_by(by)} (increase({name}{{{labels}}}[{over}]))"


def quantile(share: float, name: str, labels: str, by: str = "") -> str:
    """Below which such a share is."""
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', labels, ', '.join(filter(None, ('le', by))))})"


def mean(name: str, labels: str, by: str = "") -> str:
    """The mean of what a histogram or a summary has seen."""
    return f"{rate(f'{name}_sum', labels, by)} / {rate(f'{name}_count', labels, by)}"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def query(text: str, legend: str = "", **more: Any) -> Json:
    """One target of a panel; its letter is given by the panel."""
    return {"datasource": SOURCE, "expr": text, "legendFormat": legend or "__auto", "range": True, **more}


def panel(kind: str, title: str, about: str, queries: Sequence[Json], unit: str = "short", **more: Any) -> Json:
    """A panel. ``width`` and ``height`` are of the grid; ``custom`` and ``options`` as Grafana has them."""
    width, height = more.pop("width", 8), more.pop("height", 7)
    defaults: Json = {"unit": unit, "custom": more.pop("custom", {}), **more.pop("defaults", {})}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": [{**each, "refId": chr(ord("A") + place)} for place, each in enumerate(queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": more.pop("options", {}),
        **more,
    }


def number(title: str, about: str, queries: Sequence[Json], unit: str = "short", **more: Any) -> Json:
    """One large number."""
    options = {
        "graphMode": "area",
        "colorMode": "value",
        "reduceOptions": {"calcs": ["lastNotNull"]},
        "textMode": "auto",
    }
    options |= more.pop("options", {})
    return panel("stat", title, about, queries, unit, width=3, height=4, options=options, **more)


def lines(title: str, about: str, queries: Sequence[Json], unit: str = "short", **more: Any) -> Json:
    """Lines over time."""
    custom = {"lineWidth": 1, "fillOpacity": more.pop("fill", 10), "showPoints": "never", "spanNulls": False}
    if more.pop("stacked", False):
        custom |= {"stacking": {"mode": "normal"}, "fillOpacity": 40}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, about, queries, unit, custom=custom, options=options, **more)


def timeline(title: str, about: str, queries: Sequence[Json], words: dict[str, tuple[str, str]]) -> Json:
    """States over time, by their words."""
    options = {value: {"text": text, "color": colour} for value, (text, colour) in words.items()}
    return panel(
        "state-timeline",
        title,
        about,
        queries,
        width=12,
        custom={"fillOpacity": 80, "lineWidth": 0},
        defaults={"mappings": [{"type": "value", "options": options}]},
        options={"showValue": "never", "mergeValues": True, "legend": {"displayMode": "list", "placement": "bottom"}},
    )


def ranking(title: str, about: str, text: str, unit: str) -> Json:
    """The first fifteen, as a table."""
    target = query(text, "{{gen_ai_tool_name}}", instant=True, range=False, format="table")
    names = {"gen_ai_tool_name": "tool", "Value": "sum"}
    return panel(
        "table",
        title,
        about,
        [target],
        unit,
        height=9,
        custom={"cellOptions": {"type": "gauge", "mode": "gradient"}},
        options={"sortBy": [{"displayName": "sum", "desc": True}]},
        transformations=[
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
            {"id": "sortBy", "options": {"sort": [{"field": "sum", "desc": True}]}},
        ],
    )


def levels(*steps: tuple[float | None, str]) -> Json:
    """Colours from which value on."""
    return {"thresholds": {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}}


# --- the rows


def overview() -> Iterator[Json]:
    """Is it well, at a glance."""
    asked, failed = rate(f"{SERVER}_count", ASKED), rate(f"{SERVER}_count", f'{ASKED},error_type!=""')
    yield number("Requests", "Calls of clients per second.", [query(asked)], "reqps")
    shares = levels((None, "green"), (0.01, "yellow"), (0.05, "red"))
    text = f"({failed} or vector(0)) / {asked}"
    yield number(
        "Errors",
        "Share that ended with an error that is not the caller's.",
        [query(text)],
        "percentunit",
        defaults=shares,
    )
    slow = levels((None, "green"), (1.0, "yellow"), (10.0, "red"))
    yield number("p95", "Nineteen of twenty are faster.", [query(quantile(0.95, SERVER, ASKED))], "s", defaults=slow)
    yield number(
        "In flight",
        "Calls that are being served.",
        [query(f'sum (vmcp_requests_in_flight{{{AT},vmcp_group=~"$group"}})')],
    )
    up = [query(f"sum (vmcp_backend_up{{{SENT}}})", "up"), query(f"count (vmcp_backend_up{{{SENT}}})", "of")]
    yield number("Backends up", "Those with a connection, of all.", up, options={"graphMode": "none"})
    words = {"0": {"text": "rejected", "color": "red"}, "1": {"text": "ok", "color": "green"}}
    reload = {"mappings": [{"type": "value", "options": words}]}
    text = f"min (vmcp_config_last_reload_successful{{{AT}}})"
    yield number(
        "Last reload", "Whether the file that is there is the one that counts.", [query(text)], defaults=reload
    )
    yield number(
        "Sessions", "Of clients up to 2025-11-25.", [query(f'sum (vmcp_sessions_active{{{AT},vmcp_group=~"$group"}})')]
    )
    text = f"count by (version) (vmcp_build_info{{{AT}}})"
    yield number(
        "Release",
        "Instances by release.",
        [query(text, "{{version}}")],
        options={"textMode": "value_and_name", "graphMode": "none"},
    )


def signals() -> Iterator[Json]:
    """Traffic, latency, errors, saturation."""
    yield lines(
        "Requests by method",
        "",
        [query(rate(f"{SERVER}_count", ASKED, "mcp_method_name"), "{{mcp_method_name}}")],
        "reqps",
        stacked=True,
    )
    marks = [query(quantile(share, SERVER, ASKED), f"p{share * 100:g}", exemplar=True) for share in (0.5, 0.95, 0.99)]
    yield lines("Duration", "A diamond is one call: its trace id is in it.", marks, "s")
    failed = rate(f"{SERVER}_count", f'{ASKED},error_type!=""', "error_type")
    yield lines(
        "Errors by type",
        "tool_error is what a tool itself called an error.",
        [query(failed, "{{error_type}}")],
        "reqps",
        stacked=True,
    )
    text = growth(f"{SERVER}_bucket", ASKED, "le")
    yield panel(
        "heatmap",
        "Durations",
        "How many took how long.",
        [query(text, "{{le}}", format="heatmap", exemplar=True)],
        "s",
        options={
            "calculate": False,
            "yAxis": {"unit": "s"},
            "color": {"mode": "scheme", "scheme": "Turbo"},
            "exemplars": {"color": "white"},
        },
    )
    words = ("success", "failed", "cached")
    yield lines("Outcomes", "", [query(rate(f"vmcp_requests_{word}_total", AT), word) for word in words], "reqps")
    yield lines(
        "Mean duration by method", "", [query(mean("vmcp_request_duration_seconds", AT, "method"), "{{method}}")], "s"
    )


def backends() -> Iterator[Json]:
    """How each backend does, and what the gateway adds."""
    yield timeline(
        "Backends",
        "Whether there is a connection.",
        [query(f"min by (vmcp_backend) (vmcp_backend_up{{{SENT}}})", "{{vmcp_backend}}")],
        STATES,
    )
    text = (
        f'max by (vmcp_backend) (2 * vmcp_backend_circuit_state{{{SENT},state="open"}} '
        f'+ ignoring (state) vmcp_backend_circuit_state{{{SENT},state="half-open"}})'
    )
    yield timeline(
        "Circuit breakers", "Open: it is left alone for a while.", [query(text, "{{vmcp_backend}}")], CIRCUIT
    )
    yield lines(
        "Requests by backend", "", [query(rate(f"{CLIENT}_count", SENT, "vmcp_backend"), "{{vmcp_backend}}")], "reqps"
    )
    yield lines(
        "p95 by backend",
        "As vmcp waited for it.",
        [query(quantile(0.95, CLIENT, SENT, "vmcp_backend"), "{{vmcp_backend}}", exemplar=True)],
        "s",
    )
    failed = rate(f"{CLIENT}_count", f'{SENT},error_type!=""', "vmcp_backend, error_type")
    yield lines("Errors by backend", "", [query(failed, "{{vmcp_backend}}: {{error_type}}")], "reqps", stacked=True)
    both = f"{AT},{CALLS}"
    added = [
        query(f"{quantile(0.95, SERVER, both)} - {quantile(0.95, CLIENT, both)}", "p95"),
        query(f"{mean(SERVER, both)} - {mean(CLIENT, both)}", "mean"),
    ]
    yield lines(
        "What the gateway adds",
        "Time of calls at vmcp, less that at backends; of all groups and tools.",
        added,
        "s",
    )
    again = [
        query(growth("vmcp_backend_retries_total", SENT, "vmcp_backend"), "{{vmcp_backend}} sent again"),
        query(growth("vmcp_backend_restarts_total", SENT, "vmcp_backend"), "{{vmcp_backend}} came back"),
    ]
    yield lines("Retries and restarts", "", again)
    text = f"time() - max by (vmcp_backend) (vmcp_backend_last_success_timestamp_seconds{{{SENT}}})"
    yield lines("Since the last answer", "", [query(text, "{{vmcp_backend}}")], "s")
    yield lines(
        "Tools",
        "That each backend offers.",
        [query(f"max by (vmcp_backend) (vmcp_backend_tools{{{SENT}}})", "{{vmcp_backend}}")],
        width=12,
    )
    healthy = [query(f"sum (vmcp_servers_{word}{{{AT}}})", word) for word in ("total", "healthy")]
    yield lines("Backends of the configuration", "", healthy, width=12)


def tools() -> Iterator[Json]:
    """Which tools are used, and how they do."""
    called = f'{ASKED},mcp_method_name="tools/call"'
    for title, name, labels, unit in (
        ("Most called", f"{SERVER}_count", called, "short"),
        ("Most time", f"{SERVER}_sum", called, "s"),
        ("Most errors", f"{SERVER}_count", f'{called},error_type!=""', "short"),
    ):
        yield ranking(
            title,
            "In the range that is shown.",
            f"topk(15, {growth(name, labels, 'gen_ai_tool_name', '$__range')})",
            unit,
        )
    text = quantile(0.95, SERVER, called, "gen_ai_tool_name")
    yield lines("p95 by tool", "", [query(text, "{{gen_ai_tool_name}}")], "s", width=24)


def clients() -> Iterator[Json]:
    """Who calls, by what they speak."""
    text = rate(f"{SERVER}_count", ASKED, "mcp_protocol_version, network_transport")
    yield lines(
        "Requests by revision",
        "pipe is stdio.",
        [query(text, "{{mcp_protocol_version}} {{network_transport}}")],
        "reqps",
        stacked=True,
    )
    kept = [
        query(f'sum by (vmcp_group) (vmcp_sessions_active{{{AT},vmcp_group=~"$group"}})', "{{vmcp_group}}"),
        query(f"sum (vmcp_connections_active{{{AT}}})", "all sessions"),
        query(f"sum (vmcp_streams_open{{{AT}}})", "open streams"),
    ]
    yield lines("Sessions and streams", "", kept)
    lasting = [
        query(quantile(share, "mcp_server_session_duration_seconds", AT), f"p{share * 100:g}") for share in (0.5, 0.95)
    ]
    opened = query(growth("vmcp_connections_total", AT), "opened")
    yield lines("Sessions that ended", "How long they lasted, and how many began.", [*lasting, opened], "s")


def protection() -> Iterator[Json]:
    """What was refused, and what was spared."""
    for title, name, label in (
        ("Not let in", "vmcp_auth_failures_total", "reason"),
        ("Denied by policy", "vmcp_policy_denied_total", "policy"),
        ("Beyond a limit", "vmcp_ratelimited_total", "limit"),
    ):
        yield lines(title, "", [query(growth(name, AT, label), "{{" + label + "}}")], stacked=True, width=6)
    shed = [
        query(growth("vmcp_load_refused_total", AT), "refused"),
        query(f"max (vmcp_load_step{{{AT}}})", "memory step"),
        query(f"max (vmcp_load_shed_ratio{{{AT}}})", "share turned away"),
    ]
    yield lines("Overload", "", shed, width=6)
    hits = rate("vmcp_cache_requests_total", f'{AT},result="hit"')
    yield lines(
        "Cache hits",
        "",
        [
            query(f"{hits} / {rate('vmcp_cache_requests_total', AT)}", "now"),
            query(f"avg (vmcp_cache_hit_rate{{{AT}}})", "since the start"),
        ],
        "percentunit",
    )
    sizes = [("vmcp_cache_size", "in memory"), ("vmcp_cache_disk_size", "on disk")]
    found = [query(f"sum ({name}{{{AT}}})", word) for name, word in sizes]
    yield lines("Results in the cache", "", [*found, query(growth("vmcp_cache_evicted_total", AT), "had to leave")])
    sizes = [("vmcp_cache_bytes", "in memory"), ("vmcp_cache_disk_bytes", "on disk")]
    yield lines("Bytes of the cache", "", [query(f"sum ({name}{{{AT}}})", word) for name, word in sizes], "bytes")


def process() -> Iterator[Json]:
    """What it takes of the machine."""
    each = "{{instance}}"
    cpu = [query(f"rate(process_cpu_seconds_total{{{AT}}}[$__rate_interval])", each)]
    theirs = rate("vmcp_stdio_process_cpu_seconds_total", SENT, "vmcp_backend")
    yield lines("CPU", "Seconds per second; child processes by backend.", [*cpu, query(theirs, "{{vmcp_backend}}")])
    memory = [
        query(f"process_resident_memory_bytes{{{AT}}}", each),
        query(f"vmcp_memory_used{{{AT}}}", f"{each} as it judges itself"),
        query(f"sum by (vmcp_backend) (vmcp_stdio_process_resident_memory_bytes{{{SENT}}})", "{{vmcp_backend}}"),
    ]
    yield lines("Memory", "Child processes by backend.", memory, "bytes")
    lag = levels((None, "green"), (0.1, "yellow"), (1.0, "red"))
    yield lines("Lag of the event loop", "", [query(f"vmcp_event_loop_lag_seconds{{{AT}}}", each)], "s", defaults=lag)
    files = f"process_open_fds{{{AT}}} / process_max_fds{{{AT}}}"
    yield lines("Open files", "Of those that it may have.", [query(files, each)], "percentunit")
    text = f"sum by (instance) (rate(python_gc_collections_total{{{AT}}}[$__rate_interval]))"
    yield lines("Garbage collections", "", [query(text, each)], "ops")
    workers = [
        query(f"vmcp_workers{{{AT}}}", f"{each} has"),
        query(f"vmcp_workers_answering{{{AT}}}", f"{each} answering"),
        query(growth("vmcp_worker_restarts_total", AT), "started again"),
    ]
    yield lines("Workers", "Where there are several.", workers)
    yield lines("Up since", "", [query(f"time() - process_start_time_seconds{{{AT}}}", each)], "s")


ROWS = {
    "Overview": overview,
    "Golden signals": signals,
    "Backends": backends,
    "Tools": tools,
    "Clients": clients,
    "Protection": protection,
    "Process": process,
}


def placed() -> list[Json]:
    """All panels, row by row, from left to right."""
    found: list[Json] = []
    top = 0
    for title, row in ROWS.items():
        found.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            }
        )
        top, left, lowest = top + 1, 0, 0
        for made in row():
            size = made["gridPos"]
            if left + size["w"] > WIDTH:
                top, left, lowest = top + lowest, 0, 0
            made["gridPos"] = {"x": left, "y": top, **size}
            left, lowest = left + size["w"], max(lowest, size["h"])
            found.append(made)
        top += lowest
    return [{"id": number, **each} for number, each in enumerate(found, 1)]


def variable(name: str, text: str, label: str) -> Json:
    """One of the choices above the panels."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": text, "refId": name},
        "definition": text,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> Json:
    """All of it."""
    chosen = f'{SERVER}_count{{job=~"$job",mcp_method_name="tools/call"}}'
    return {
        "uid": "vmcp",
        "title": "vmcp",
        "description": "An MCP gateway: its traffic, its backends, and what it keeps away from them.",
        "tags": ["mcp", "vmcp"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                    "refresh": 1,
                },
                variable("job", "label_values(vmcp_build_info, job)", "job"),
                variable("instance", 'label_values(vmcp_build_info{job=~"$job"}, instance)', "instance"),
                variable("group", 'label_values(vmcp_requests_in_flight{job=~"$job"}, vmcp_group)', "group"),
                variable("backend", 'label_values(vmcp_backend_up{job=~"$job"}, vmcp_backend)', "backend"),
                variable("tool", f"label_values({chosen}, gen_ai_tool_name)", "tool"),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "New configuration",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "blue",
                    "expr": f"changes(vmcp_config_last_reload_success_timestamp_seconds{{{AT}}}[1m]) > 0",
                    "titleFormat": "{{instance}} has a new configuration",
                }
            ]
        },
        "panels": placed(),
    }


def text() -> str:
    """What stands in the file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
    sys.stdout.write(f"{FILE}\n")
