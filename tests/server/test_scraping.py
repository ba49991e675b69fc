"""``/metrics`` over a socket, read with the parsers of prometheus-client.

Rule: who may call may read; and there are only so many series, whatever clients send.
"""

import asyncio
import hashlib
import random
import string
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.server.clients import Answer, Door, listening
from tests.server.peers import Server, echo, house, tool
from vmcp.call import Identity
from vmcp.config.cache import CacheSpec
from vmcp.config.health import BreakerSpec
from vmcp.config.incoming import Incoming, LocalKey
from vmcp.config.limits import Bucket, RateLimits
from vmcp.config.model import SecretRef
from vmcp.config.telemetry import TelemetrySpec
from vmcp.middleware.measures import Measures
from vmcp.protocol.revisions import LATEST_HANDSHAKE
from vmcp.server import telemetry
from vmcp.server.readings import NAMES
from vmcp.server.runtime import Runtime
from vmcp.server.telemetry import NoTelemetry, Page, Telemetry
from vmcp.upstream.breaker import Breaker

SCRAPED = TelemetrySpec(scrape=True)
OPEN = "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(running: Runtime, accept: str = "text/plain", **headers: str) -> Answer:
    """One scrape over a socket."""
    told = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    async with listening(running.app, running.config) as server:
        request = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n{told}\r\n"
        return await (await server.say(request.encode())).response()


def samples(answer: Answer) -> Samples:
    assert answer.status == 200, answer.body
    parse: Any = openmetrics if "openmetrics" in answer.headers["content-type"] else plain
    found: Samples = {}
    for family in parse(answer.body.decode()):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "told twice"
            found[key] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of what has these labels among others."""
    fits = [v for (n, has), v in found.items() if n == name and labels.items() <= dict(has).items()]
    assert fits, f"{name} {labels} is not there"
    return sum(fits)


async def test_what_has_happened_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    more: Mapping[str, Any] = {"cache": CacheSpec(), "telemetry": SCRAPED}
    async with house(monkeypatch, {"b": Server(tools=[tool("t")], script=echo)}, **more) as running:
        door = Door(running.app, LATEST_HANDSHAKE)
        await door.initialize()
        await door.call("t")
        await door.call("t")
        await door.call("no such thing")
        for accept in ("text/plain", OPEN):
            found = samples(await scraped(running, accept))
            known = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "t", "error_type": ""}
            assert value(found, "mcp_server_operation_duration_seconds_count", **known) == 2
            assert value(found, "mcp_server_operation_duration_seconds_bucket", **known, le="+Inf") == 2
            known = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "other"}
            assert value(found, "mcp_server_operation_duration_seconds_count", **known) == 1
            assert value(found, "mcp_client_operation_duration_seconds_count", vmcp_backend="b") == 2
            assert value(found, "vmcp_request_duration_seconds_count", method="tools/call") == 3
            assert value(found, "vmcp_requests_total") == 4
            assert value(found, "vmcp_requests_failed_total") == 1
            assert value(found, "vmcp_sessions_active", vmcp_group="g") == 1
            assert value(found, "vmcp_requests_in_flight", vmcp_group="g") == 0
            assert value(found, "vmcp_backend_up", vmcp_backend="b") == 1
            assert value(found, "vmcp_backend_tools", vmcp_backend="b") == 1
            assert value(found, "vmcp_backend_last_success_timestamp_seconds", vmcp_backend="b") > 1e9
            assert value(found, "vmcp_servers_healthy") == value(found, "vmcp_servers_total") == 1
            assert value(found, "vmcp_build_info") == value(found, "vmcp_config_info") == 1
            assert value(found, "vmcp_config_last_reload_successful") == 1
            assert value(found, "vmcp_cache_requests_total", result="hit") == 0
            assert value(found, "vmcp_event_loop_lag_seconds") >= 0
            assert value(found, "process_resident_memory_bytes") > 1e6
            assert value(found, "python_gc_collections_total", generation="0") >= 0
        await door.http("DELETE")
        running.page._shown.clear()
        ended = samples(await scraped(running))
        assert value(ended, "mcp_server_session_duration_seconds_count", mcp_protocol_version="2025-11-25") == 1


async def test_every_name_is_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = {"b": Server(tools=[tool("t")], script=echo)}
    async with house(monkeypatch, backends, telemetry=SCRAPED) as running:
        running.reloads["applied"] = 1
        told = {family.name for family in plain((await scraped(running)).body.decode())}
    ours = {name for name in told if name.startswith("vmcp_")}
    assert {name.removesuffix("_total") for name in ours} <= {name.removesuffix("_total") for name in NAMES}
    assert {"vmcp_config_reloads", "vmcp_memory_used", "vmcp_load_step"} <= ours


async def test_without_the_key_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {}) as running:
        assert (await scraped(running)).status == 404
        assert running.current.config.telemetry is None
    async with house(monkeypatch, {}, telemetry=SCRAPED) as running:
        answer = await Door(running.app).http("POST", "/metrics")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert (await Door(running.app).http("GET", "/metrics", host="evil.example")).status == 421
        assert (await Door(running.app).http("GET", "/metrics", origin="https://evil.example")).status == 403
        assert (await Door(running.app).http("GET", "/metrics")).status == 200


async def test_who_may_call_may_read_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sesame-sesame-sesame-sesame"
    hashed = hashlib.sha256(secret.encode()).hexdigest()
    incoming = Incoming("local", keys=(LocalKey("a", hashed),), os_user=False)
    async with house(monkeypatch, {}, telemetry=SCRAPED, incoming=incoming) as running:
        refused = await scraped(running)
        assert refused.status == 401
        assert b"vmcp_" not in refused.body
        assert (await scraped(running, authorization="Bearer nobody-knows-this-key")).status == 401
        found = samples(await scraped(running, authorization=f"Bearer {secret}"))
        assert value(found, "vmcp_auth_failures_total", reason="no_credential") == 1
        assert value(found, "vmcp_auth_failures_total", reason="invalid_token") == 1


async def test_refusals_breakers_and_limits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RateLimits(shared=Bucket(1, 3600.0))
    backends = {"b": Server(tools=[tool("t")], script=echo)}
    async with house(monkeypatch, backends, telemetry=SCRAPED, rate_limits=limits) as running:
        door = Door(running.app)
        await door.call("t")
        assert (await door.call("t")).error["code"] == -32603
        backend: Any = running.backends["b"]
        breaker = backend.vitals.breaker = opened()
        assert breaker.state == "open"
        found = samples(await scraped(running))
    assert value(found, "vmcp_ratelimited_total", limit="rateLimiting.shared") == 1
    assert value(found, "mcp_server_operation_duration_seconds_count", error_type="rate_limited") == 1
    assert value(found, "vmcp_backend_circuit_state", vmcp_backend="b", state="open") == 1
    assert value(found, "vmcp_backend_circuit_state", vmcp_backend="b", state="closed") == 0
    assert value(found, "vmcp_backend_retries_total", vmcp_backend="b") == 0


def opened() -> Breaker:
    breaker = Breaker(BreakerSpec(failures=1))
    breaker.failed(breaker.admit(0.0), 0.0)
    return breaker


async def test_names_that_clients_make_up_make_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"b": Server(tools=[tool("t")], script=echo)}, telemetry=SCRAPED) as running:
        door, luck = Door(running.app), random.Random(5)  # noqa: S311
        sizes = []
        for _ in range(3):
            await door.call("t")
            for _ in range(150):
                word = "".join(luck.choices(string.ascii_letters + 'é"\\\n{}', k=9))
                await door.call(word)
                await door.ask(word.strip() or "x", user_agent=word[:3].encode("ascii", "ignore").decode().strip())
            running.page._shown.clear()
            answer = await scraped(running, OPEN)
            sizes.append(len(samples(answer)))
            assert len(answer.body) < 1 << 20
        assert len(set(sizes)) == 1
        assert sizes[0] < 200


async def test_the_page_is_small_when_everything_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"b": Server(tools=[tool("t")])}, telemetry=SCRAPED) as running:
        measures = running._fixtures.telemetry.measures
        for number in range(5000):
            labels = ("tools/call", f"t{number}", str(number % 7), "tcp", f"r{number % 5}", f"g{number % 11}")
            measures.server.of(labels).add(number / 10)
            measures.client.of(("tools/call", f"b{number}", "", "tcp")).add(1.0)
            measures.limited[f"rule {number}"] = measures.denied[f"policy {number}"] = 1
            measures.session_over(f"r{number}", 1.0)
        answer = await scraped(running, OPEN)
        assert len(samples(answer)) <= 2000
        assert len(answer.body) < 1 << 20


async def test_exemplars_are_told_to_who_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {}, telemetry=SCRAPED) as running:
        timing = running._fixtures.telemetry.measures.server.of(("tools/call", "t", "", "tcp", "r", "g"))
        timing.add(0.3)
        timing.show(0.3, ("a" * 32, "b" * 16))
        answer = await scraped(running, OPEN)
        assert b"aaaa" not in (await scraped(running)).body
    (seen,) = [
        sample.exemplar
        for family in openmetrics(answer.body.decode())
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert (seen.labels, seen.value) == ({"trace_id": "a" * 32, "span_id": "b" * 16}, 0.3)


async def test_who_asks_all_the_time_is_shown_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {}, telemetry=SCRAPED) as running:
        made: list[str] = []
        page = Page(running, Measures())
        make = page._made

        async def counted(accept: str) -> tuple[bytes, bytes]:
            made.append(accept)
            return await make(accept)

        monkeypatch.setattr(page, "_made", counted)
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(page.show("text/plain"))
        assert len(made) == 1
        monkeypatch.setattr(telemetry, "FRESH", -1.0)
        await page.show("text/plain")
        assert len(made) == 2


def test_a_secret_that_is_not_there_keeps_the_process_from_starting() -> None:
    with pytest.raises(NoTelemetry, match="TOKEN is not set"):
        Telemetry(TelemetrySpec(tracing=True, headers={"Authorization": SecretRef(env="TOKEN")}), {})
    with pytest.raises(NoTelemetry, match=r"telemetry\.caCertPath"):
        Telemetry(TelemetrySpec(tracing=True, ca_cert="/no/such/file"), {})


def test_nobody_is_known_by_a_label() -> None:
    labels = {label for name in NAMES.values() for label in name.labels}
    assert labels == {
        *("vmcp_group", "vmcp_backend", "method", "state", "result", "hash", "version", "revision", "python"),
        *("reason", "limit", "policy"),
    }
    assert Identity("i", "s").subject not in labels
