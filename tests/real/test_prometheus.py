"""A real Prometheus scrapes a real vmcp: every query of the dashboard and of the alerts is put to it.

The rule: the instance has seen a bit of everything that can be shown, so a query that finds nothing is a wrong one.
"""

import contextlib
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from tests.cli.instances import TOOLBOX
from tests.cli.processes import Process, serving
from tests.deploy.test_grafana import DEPLOY, dashboard, rules
from tests.real.processes import free_port, running, wait_for
from tests.server.collector import Collected, collecting

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

KEY, OTHER = "sesame-sesame-sesame-sesame", "somebody-elses-sesame-sesame"
HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
CHOICES = re.compile(r"\$(?:job|instance|group|backend|tool)\b")


def key(subject: str, text: str) -> dict[str, str]:
    return {"subject": subject, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def config(folder: Path, collector: str) -> dict[str, Any]:
    box = [sys.executable, "-S", str(TOOLBOX)]
    gone = {"url": f"http://127.0.0.1:{free_port()}/mcp"}
    return {
        "name": "watched",
        "server": {"workers": 2},
        "groups": {"g": {"backends": {"box": {"command": box}, "frail": {"command": box}, "gone": gone}}},
        "incomingAuth": {
            "type": "local",
            "local": {"keys": [key("me", KEY), key("other", OTHER)]},
            "authz": {
                "type": "cedar",
                "policies": [
                    '@id("mine") permit(principal, action, resource);',
                    '@id("never") forbid(principal, action, resource == Tool::"box_picture");',
                ],
            },
        },
        "cache": {"enabled": True, "tools": {"box_add": "60s"}, "disk": {"path": str(folder / "cache")}},
        "rateLimiting": {"tools": [{"name": "box_count", "shared": {"maxTokens": 1, "refillPeriod": "1h"}}]},
        "operational": {"failureHandling": {"circuitBreaker": {"enabled": True, "failureThreshold": 1}}},
        "telemetry": {
            "enablePrometheusMetricsPath": True,
            "tracingEnabled": True,
            "samplingRate": 1,
            "endpoint": collector,
            "insecure": True,
        },
    }


class Site:
    """The two processes, and what has been sent to the collector."""

    def __init__(self, gateway: Process, client: httpx.Client, collected: Collected) -> None:
        self.gateway = gateway
        self.collected = collected
        self._prometheus = client

    def ask(self, path: str, **params: str) -> Any:
        answer = self._prometheus.get(path, params=params)
        assert answer.status_code == 200, (params, answer.text)
        return answer.json()["data"]

    def found(self, query: str) -> list[Any]:
        """The series that a query finds, without what is no number."""
        result: list[Any] = self.ask("/query", query=query)["result"]
        return [each for each in result if each["value"][1] != "NaN"]


def traffic(url: str) -> None:
    """A bit of everything."""
    accept = {"accept": "application/json, text/event-stream"}
    with httpx.Client(base_url=url, trust_env=False, headers=accept, timeout=20) as client:

        def ask(method: str, params: dict[str, Any]) -> httpx.Response:
            return client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

        assert ask("initialize", HANDSHAKE).status_code == 401
        client.headers["authorization"] = f"Bearer {KEY}"
        client.headers["mcp-session-id"] = ask("initialize", HANDSHAKE).headers["mcp-session-id"]
        client.headers["mcp-protocol-version"] = "2025-11-25"
        calls = ("box_add", {"a": 1, "b": 2}), ("box_add", {"a": 1, "b": 2}), ("box_fail", {}), ("box_picture", {})
        for name, arguments in (*calls, ("box_count", {}), ("box_count", {})):
            ask("tools/call", {"name": name, "arguments": arguments})
        ask("tools/list", {})
        ask("resources/read", {"uri": "file:///page"})
        ask("prompts/get", {"name": "box_greet", "arguments": {"who": "me"}})
        assert "error" in ask("prompts/get", {"name": "frail_greet", "arguments": {}}).text, "it dies of that"
        assert client.delete("/mcp").status_code < 300


def told(folder: Path, target: str) -> Path:
    """The configuration that is shipped, for this instance and in a hurry."""
    yaml = YAML(typ="safe", pure=True)
    shipped = yaml.load(DEPLOY / "prometheus" / "prometheus.yaml")
    shipped["global"] = {"scrape_interval": "1100ms", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    shipped["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yaml")]
    (scrape,) = shipped["scrape_configs"]
    scrape["static_configs"] = [{"targets": [target]}]
    scrape["authorization"] = {"type": "Bearer", "credentials": OTHER}
    file = folder / "prometheus.yaml"
    file.write_text(json.dumps(shipped), "utf-8")
    return file


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    port, log = free_port(), folder / "prometheus.log"
    command = [
        "prometheus",
        f"--config.file={told(folder, target)}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with running(command, log):
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: ready(url), 30, lambda: log.read_text(errors="replace"))
        with httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=10) as client:
            yield client


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("watched")
    file = folder / "vmcp.yaml"
    with collecting() as collected:
        file.write_text(json.dumps(config(folder, collected.endpoint)), "utf-8")
        with serving("--config", str(file), "--log-format", "json") as gateway:
            gateway.until('"msg":"ready"')
            address = f"127.0.0.1:{gateway.port()}"
            traffic(f"http://{address}")
            gateway.signal(signal.SIGHUP)
            gateway.until('"msg":"listening"')
            with prometheus(folder, address) as client:
                found = Site(gateway, client, collected)
                scrapes = 'count_over_time(up{job="vmcp"}[1m])'
                wait_for(
                    lambda: [e for e in found.found(scrapes) if float(e["value"][1]) >= 3], 30, lambda: gateway.text
                )
                traffic(f"http://{address}")
                seen = 'mcp_server_operation_duration_seconds_count{gen_ai_tool_name="box_add"} > 2'
                wait_for(lambda: bool(found.found(seen)), 20, lambda: gateway.text)
                yield found


def asked(text: str) -> str:
    """A query with its variables filled in."""
    return CHOICES.sub(".*", text.replace("$__rate_interval", "30s").replace("$__range", "1m"))


PANELS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in dashboard()["panels"]
    for target in panel.get("targets", ())
}


def test_every_panel_finds_something(site: Site) -> None:
    assert len(PANELS) > 50
    assert {name: asked(text) for name, text in PANELS.items() if not site.found(asked(text))} == {}


def test_every_alert_and_annotation_can_be_asked(site: Site) -> None:
    assert {rule["alert"] for rule in rules()} == {
        rule["name"] for group in site.ask("/rules")["groups"] for rule in group["rules"] if rule["health"] != "err"
    }
    for rule in rules():
        site.ask("/query", query=rule["expr"])
    for each in dashboard()["annotations"]["list"]:
        site.ask("/query", query=asked(each["expr"]))
    assert "gone" in {each["metric"]["vmcp_backend"] for each in site.found("vmcp_backend_up == 0")}
    assert site.found('vmcp_backend_restarts_total{vmcp_backend="frail"} > 0')
    pending = {alert["labels"]["alertname"] for alert in site.ask("/alerts")["alerts"]}
    assert "VmcpBackendDown" in pending
    assert "VmcpDown" not in pending


def test_every_choice_has_something_to_choose(site: Site) -> None:
    for each in dashboard()["templating"]["list"]:
        if each["type"] == "query":
            inside = re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"]["query"])
            assert inside is not None
            values = site.ask(f"/label/{inside[2]}/values", **{"match[]": asked(inside[1])})
            assert values, each["name"]


def test_an_exemplar_leads_to_the_trace_that_the_collector_has(site: Site) -> None:
    now = time.time()
    name = 'mcp_server_operation_duration_seconds_bucket{gen_ai_tool_name="box_fail"}'
    found = site.ask("/query_exemplars", query=name, start=str(now - 300), end=str(now + 60))
    traces = {each["labels"]["trace_id"] for series in found for each in series["exemplars"]}
    assert traces
    wait_for(lambda: traces <= {span.trace_id.hex() for span in site.collected.spans}, 20, lambda: str(traces))


def test_promtool_accepts_what_is_shipped() -> None:
    folder = DEPLOY / "prometheus"
    for words in (
        ["check", "config", "prometheus.yaml"],
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts.test.yaml"],
    ):
        done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_has_nothing_against_our_metrics(site: Site) -> None:
    url = f"http://127.0.0.1:{site.gateway.port()}/metrics"
    page = httpx.get(url, trust_env=False, headers={"authorization": f"Bearer {KEY}"}).text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=60, check=False
    )
    found = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("process_")]
    assert [line.split()[0] for line in found] == ["vmcp_servers_total"], "a name of the contract, and no counter"
