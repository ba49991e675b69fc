"""The dashboard and the alerts beside the registry of metrics. Rule: what is asked for is there, and what is there is shown."""

import importlib.util
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from vmcp.middleware.measures import CLIENT, SERVER, SESSION, Measures
from vmcp.server.readings import NAMES

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = re.compile(r"\b(?:vmcp|mcp|process|python)_[a-z0-9_]+\b")
LABELS = re.compile(r"(\w+)(?:=~|!~|!=|=)\"|(?:by|ignoring) \(([\w, ]+)\)|, (\w+)\)$")
OF_PROMETHEUS = {"job", "instance", "le"}
OF_THE_CLIENT = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"),
    *("process_start_time_seconds", "python_gc_collections_total"),
}
ELSEWHERE = {"vmcp_requests_total", "vmcp_config_info", "vmcp_config_reloads_total"}
"""Sums of what is shown; what an annotation shows."""


def make() -> Any:
    spec = importlib.util.spec_from_file_location("grafana_make", DEPLOY / "grafana" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "vmcp.json").read_text("utf-8"))
    return found


def queries() -> list[str]:
    """Of every panel and choice, and of every alert."""
    whole = dashboard()
    panels = [target["expr"] for panel in whole["panels"] for target in panel.get("targets", ())]
    choices = [each["query"]["query"] for each in whole["templating"]["list"] if each["type"] == "query"]
    notes = [each["expr"] for each in whole["annotations"]["list"]]
    return [*panels, *choices, *notes, *(rule["expr"] for rule in rules())]


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    groups = YAML(typ="safe", pure=True).load(DEPLOY / "prometheus" / "alerts.yaml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def known() -> dict[str, set[str]]:
    """Every name under which something can be asked for, and its labels."""
    found = {name: set(told.labels) for name, told in NAMES.items()}
    for name, told in NAMES.items():
        if told.sort == "summary":
            found |= {f"{name}_{end}": set(told.labels) for end in ("sum", "count")}
    measures = Measures()
    for timings in (measures.server, measures.client, measures.sessions):
        found |= {f"{timings.name}_{end}": set(timings.labels) for end in ("sum", "count", "bucket")}
    return found | {name: {"generation"} for name in OF_THE_CLIENT}


def test_the_file_is_what_the_maker_makes() -> None:
    assert (DEPLOY / "grafana" / "vmcp.json").read_text("utf-8") == make().text(), "run deploy/grafana/make.py"


def test_every_metric_that_is_asked_for_exists_with_its_labels() -> None:
    names = known()
    all_labels = OF_PROMETHEUS.union(*names.values())
    for text in queries():
        labels = {each for groups in LABELS.findall(text) for part in groups if part for each in part.split(", ")}
        asked = set(NAME.findall(text)) - all_labels
        assert asked or text.startswith("up{"), text
        assert asked <= names.keys(), text
        assert labels <= OF_PROMETHEUS.union(*(names[each] for each in asked)), text


def test_every_metric_is_shown() -> None:
    text = "\n".join(queries())
    hidden = {
        name for name in {*NAMES, SERVER, CLIENT, SESSION} if not re.search(rf"\b{name}(_sum|_count|_bucket)?\b", text)
    }
    assert hidden == ELSEWHERE


def test_all_names_that_were_promised_are_there() -> None:
    """Those of the contract: the plain ones, and those beside the semantic conventions."""
    promised = """
        vmcp_requests_total vmcp_requests_success_total vmcp_requests_failed_total vmcp_requests_cached_total
        vmcp_connections_active vmcp_connections_total vmcp_servers_healthy vmcp_servers_total vmcp_cache_size
        vmcp_memory_used vmcp_request_duration_seconds
        vmcp_requests_in_flight vmcp_sessions_active vmcp_streams_open
        vmcp_backend_up vmcp_backend_circuit_state vmcp_backend_tools vmcp_backend_restarts_total vmcp_backend_retries_total
        vmcp_backend_last_success_timestamp_seconds
        vmcp_auth_failures_total vmcp_ratelimited_total vmcp_cache_requests_total vmcp_policy_denied_total
        vmcp_config_last_reload_successful vmcp_config_last_reload_success_timestamp_seconds vmcp_config_info vmcp_build_info
        vmcp_stdio_process_resident_memory_bytes vmcp_stdio_process_cpu_seconds_total vmcp_event_loop_lag_seconds
    """
    assert set(promised.split()) <= NAMES.keys()


def test_panels_have_numbers_of_their_own_and_do_not_cover_each_other() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_every_alert_says_what_to_do_and_is_tested() -> None:
    tested = (DEPLOY / "prometheus" / "alerts.test.yaml").read_text("utf-8")
    assert {rule["alert"] for rule in rules()} == {
        *("VmcpDown", "VmcpBackendDown", "VmcpCircuitOpen", "VmcpHighErrorRate"),
        *("VmcpHighLatency", "VmcpConfigReloadFailed", "VmcpNoTools", "VmcpLoopLag"),
        "VmcpWorkersMissing",
    }
    for rule in rules():
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert re.search(rf"alertname: {rule['alert']}\n\s+exp_alerts:\n\s+- exp_labels", tested), rule["alert"]
