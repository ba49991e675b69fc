"""The beginning of a connection with every kind of server there is: who is asked what, and what is concluded.

Rule: each conversation is complete: what was sent, in order, and the facts or the error at its end.
"""

import itertools
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.upstream.child import CAPABILITIES, INSTRUCTIONS, answers, failure, result
from tests.upstream.fakes import (
    FAST,
    Answer,
    Json,
    WebServer,
    drop,
    journal_of,
    linked,
    scripted,
    silence,
    single,
    soon,
    spawned,
    stream,
    text,
    web,
    wired,
)
from vmcp import __version__
from vmcp.config.model import PoolSpec
from vmcp.errors import Code, McpError, Overdue, Unavailable, WireError
from vmcp.protocol.revisions import HANDSHAKE, MODERN, Revision
from vmcp.upstream import handshake
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.handshake import Greeter
from vmcp.upstream.http import HttpWire
from vmcp.upstream.link import Facts
from vmcp.upstream.pool import Pool
from vmcp.upstream.wire import Wire

META = "io.modelcontextprotocol/"
PROBED = ["server/discover", "initialize", "notifications/initialized"]
LATEST = "2025-11-25"
MISSING = failure(-32601, "Method not found")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


async def greet(wire: Wire, protocol: str = "auto", seconds: float = 5.0) -> Facts:
    return await Greeter("time", wire, protocol, itertools.count(1)).greet(soon(seconds))


async def greeted(server: WebServer, protocol: str = "auto") -> Facts:
    async with wired(server) as (wire, _):
        return await greet(wire, protocol)


# --- every revision, either transport


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("revision", Revision)
async def test_a_revision_is_negotiated(revision: Revision, transport: str, journal: Path) -> None:
    async with linked(transport, revision, journal) as rig:
        facts = rig.link.facts
        await rig.link.end()
        told = rig.told()
    assert (facts.revision, facts.capabilities, facts.instructions) == (revision, CAPABILITIES, INSTRUCTIONS)
    info = {"name": "vmcp", "title": "vmcp", "version": __version__}
    meta = {f"{META}protocolVersion": "2026-07-28", f"{META}clientInfo": info, f"{META}clientCapabilities": {}}
    assert told[0] == {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}
    if revision.modern:
        assert (len(told), facts.session) == (1, None)
        return
    params = {"protocolVersion": LATEST, "capabilities": {}, "clientInfo": info}
    assert told[1] == {"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": params}
    assert facts.session == (b"s1" if transport == "http" else None)


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_the_headers_of_a_greeting_over_http(revision: Revision) -> None:
    await greeted(server := web(revision))
    assert server.methods == PROBED
    names = ("mcp-protocol-version", "mcp-method", "mcp-session-id")
    said = str(revision) if revision >= Revision.V2025_06_18 else None
    assert [tuple(told.headers.get(name) for name in names) for told in server.heard] == [
        ("2026-07-28", "server/discover", None),
        (None, None, None),
        (said, None, "s1"),
    ]


async def test_a_server_without_sessions_gets_none() -> None:
    server = web(LATEST)
    server.sessions = None
    assert (await greeted(server)).session is None
    assert "mcp-session-id" not in server.heard[-1].headers


# --- answers to the probe (HTTP)

OLD: Mapping[str, Answer] = {
    "Python SDK 1.x": single(failure(-32600, "Bad Request: Missing session ID") | {"id": "server-error"}, 400),
    "TypeScript SDK": single(failure(-32000, "Bad Request: Server not initialized") | {"id": None}, 400),
    "200 and -32601": single(MISSING),
    "404 and -32601": single(MISSING, 404),
    "400 in plain text": text(400),
    "404 in plain text": text(404),
    "405 in plain text": text(405),
    "202 and nothing": single(b"", 202),
    "-32602": single(failure(-32602, "Invalid request parameters")),
    "-32022 without 2026": single(failure(-32022, "Unsupported", {"supported": [LATEST], "requested": "x"}), 400),
    "discover without 2026": single(result({"supportedVersions": [LATEST], "capabilities": {}})),
    "a result of something else": single(result({})),
    "a result that is no object": single(result({}) | {"result": [1]}),
    "an error that is none": single(MISSING | {"error": "no"}),
}
NEW: Mapping[str, Answer] = {
    "discover": single(answers(MODERN)["server/discover"][0]),
    "discover in a stream": stream(answers(MODERN)["server/discover"][0]),
    "no resultType": single(result({"supportedVersions": ["2027-01-01", MODERN], "capabilities": CAPABILITIES})),
    "no supportedVersions": single(result({"resultType": "complete", "capabilities": CAPABILITIES})),
}
UNCLEAR: Mapping[str, Answer] = {
    "401": text(401),
    "403": text(403),
    "408": text(408),
    "429": text(429),
    "503": text(503),
    "401 and an error": single(failure(-32001, "Unauthorized"), 401),
    "500 and an error": single(failure(-32603, "Internal error"), 500),
    "the connection drops": drop,
    "silence": silence,
}


@pytest.mark.parametrize("answer", OLD.values(), ids=OLD)
async def test_an_answer_of_an_older_server_leads_to_initialize(answer: Answer) -> None:
    facts = await greeted(server := web("2025-06-18", **{"server/discover": answer}))
    assert (facts.revision, server.methods) == (Revision.V2025_06_18, PROBED)


@pytest.mark.parametrize("answer", NEW.values(), ids=NEW)
async def test_an_answer_of_a_modern_server_settles_it(answer: Answer) -> None:
    facts = await greeted(server := web(MODERN, **{"server/discover": answer}))
    assert (facts.revision, facts.capabilities, server.methods) == (MODERN, CAPABILITIES, ["server/discover"])


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
async def test_an_answer_that_means_nothing_is_followed_by_initialize_once(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "PROBE_WAIT", 0.1)
    facts = await greeted(server := web(LATEST, **{"server/discover": answer}))
    assert (facts.revision, server.methods) == (LATEST, PROBED)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (text(401), "it wants credentials"),
        (text(403), "it refused our credentials"),
        (text(503), "it answered with HTTP 503"),
        (single(failure(-32603, "Internal error"), 500), "Internal error"),
        (drop, "the connection closed before an answer"),
    ],
)
async def test_when_initialize_fails_too_the_first_failure_is_told(answer: Answer, why: str) -> None:
    server = web(LATEST, **{"server/discover": answer, "initialize": text(404)})
    with pytest.raises(McpError, match=why) as failed:
        await greeted(server)
    assert isinstance(failed.value.__cause__, McpError)
    assert server.methods == PROBED[:2]


async def test_a_clear_answer_followed_by_a_refusal_tells_the_refusal() -> None:
    server = web(LATEST, **{"server/discover": single(MISSING), "initialize": single(failure(-32000, "Go away"))})
    with pytest.raises(McpError, match="Go away"):
        await greeted(server)


@pytest.mark.parametrize("code", [-32020, -32021, -32022])
async def test_a_modern_server_that_refuses_the_probe_is_not_asked_to_initialize(code: int) -> None:
    server = web(MODERN, **{"server/discover": single(failure(code, "No", {"supported": [str(MODERN)]}), 400)})
    with pytest.raises(McpError, match="No") as failed:
        await greeted(server)
    assert (failed.value.code, server.methods) == (code, ["server/discover"])


async def test_a_connection_that_cannot_be_made_is_not_tried_twice() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        pool = Pool(
            endpoint(f"http://127.0.0.1:{deaf.getsockname()[1]}/"), PoolSpec(), FAST, max_response=1, name="time"
        )
        ids = itertools.count(1)
        with pytest.raises(Unavailable, match="connection refused") as failed:
            await Greeter("time", HttpWire("time", pool, ()), "auto", ids).greet(soon())
        await pool.close()
    assert (failed.value.vmcp_code, next(ids)) == (Code.CONNECTION_FAILED, 2)


# --- stdio


def old(more: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, Sequence[Sequence[Any]]]:
    return {**scripted(answers(LATEST)), **more}


@pytest.mark.parametrize("code", [-32601, -32602])
async def test_a_stdio_server_that_does_not_know_the_probe_is_greeted_the_old_way(code: int, journal: Path) -> None:
    async with spawned(journal, old({"server/discover": [["say", failure(code, "no")]]})) as wire:
        assert (await greet(wire)).revision == LATEST


async def test_a_stdio_server_that_is_silent_about_the_probe_is_greeted_the_old_way(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "PROBE_WAIT", 0.1)
    async with spawned(journal, old({"server/discover": []})) as wire:
        assert (await greet(wire)).revision == LATEST
    assert [told["method"] for told in journal_of(journal, "told")] == PROBED


async def test_a_modern_server_that_was_only_slow_is_found_out(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "PROBE_WAIT", 0.1)
    discovered = ["say", answers(MODERN)["server/discover"][0]]
    unheard = {"jsonrpc": "2.0", "id": 99, "result": {}}
    script = {"server/discover": [["say", unheard]], "initialize": [["say", MISSING]]}
    async with spawned(journal, script) as wire:
        with pytest.raises(Overdue):  # it is asked again, and stays silent
            await greet(wire, seconds=0.4)
    assert [told["method"] for told in journal_of(journal, "told")] == [PROBED[0], PROBED[1], PROBED[0]]
    late = {"start": [["stall", 0.3]], "server/discover": [discovered], "initialize": [["say", MISSING]]}
    async with spawned(journal, late) as wire:
        assert (await greet(wire)).revision == MODERN


async def test_a_server_that_stays_silent_is_overdue(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "PROBE_WAIT", 0.05)
    async with spawned(journal, {}) as wire:
        with pytest.raises(Overdue):
            await greet(wire, seconds=0.2)
    assert [told["method"] for told in journal_of(journal, "told")] == PROBED[:2]


async def test_a_server_that_dies_of_the_probe_says_so(journal: Path) -> None:
    died = [["write", 2, "expected initialize\n"], ["leave", 1]]
    async with spawned(journal, old({"server/discover": died})) as wire:
        with pytest.raises(Unavailable, match='exited with status 1: "expected initialize"') as failed:
            await greet(wire)
    assert failed.value.vmcp_code == Code.TRANSPORT_CLOSED


# --- a revision that the config pins


@pytest.mark.parametrize("revision", HANDSHAKE)
async def test_a_pinned_revision_is_asked_for_without_a_probe(revision: Revision) -> None:
    assert (await greeted(server := web(revision), revision)).revision == revision
    assert server.methods == PROBED[1:]
    assert server.heard[0].message["params"]["protocolVersion"] == revision


async def test_a_pinned_modern_revision_is_never_followed_by_initialize() -> None:
    assert (await greeted(server := web(MODERN), MODERN)).revision == MODERN
    assert server.methods == ["server/discover"]
    with pytest.raises(McpError, match="Method not found"):
        await greeted(server := web(LATEST), MODERN)
    assert server.methods == ["server/discover"]


@pytest.mark.parametrize(
    ("pinned", "answered"),
    [("2025-06-18", "2025-11-25"), ("2025-11-25", "2024-11-05"), ("2025-11-25", "1999-01-01")],
)
async def test_a_server_that_answers_another_revision_than_the_pinned_one_is_refused(
    pinned: str, answered: str
) -> None:
    with pytest.raises(Unavailable, match=f'speaks revision "{answered}" only') as failed:
        await greeted(web(answered), pinned)
    assert failed.value.vmcp_code == Code.VERSION_NOT_SUPPORTED


async def test_a_pinned_modern_revision_that_the_server_does_not_have_is_refused() -> None:
    with pytest.raises(Unavailable, match=r'speaks revision \["2025-11-25"\] only'):
        await greeted(web(LATEST, **{"server/discover": single(result({"supportedVersions": [LATEST]}))}), MODERN)


# --- strange greetings


def initialized(version: object, **more: Any) -> WebServer:
    return web(LATEST, initialize=single(result({"protocolVersion": version, "capabilities": CAPABILITIES, **more})))


@pytest.mark.parametrize("version", ["2099-01-01", "", None, 20251125, ["2025-11-25"]])
async def test_a_revision_that_nobody_knows_is_refused(version: object) -> None:
    with pytest.raises(Unavailable, match="which the config or vmcp does not") as failed:
        await greeted(server := initialized(version))
    assert failed.value.vmcp_code == Code.VERSION_NOT_SUPPORTED
    assert server.methods == PROBED[:2]


@pytest.mark.parametrize("pinned", ["auto", "2025-11-25"])
async def test_a_handshake_that_agrees_to_2026_means_what_was_asked_for(pinned: str) -> None:
    assert (await greeted(server := initialized(MODERN), pinned)).revision == LATEST
    assert server.heard[-1].headers["mcp-protocol-version"] == LATEST


@pytest.mark.parametrize(
    "told", [{"capabilities": [], "instructions": 5}, {"capabilities": None, "instructions": None}]
)
async def test_what_is_of_the_wrong_type_in_a_greeting_counts_as_absent(told: Json) -> None:
    facts = await greeted(initialized(LATEST, **told))
    assert (facts.capabilities, facts.instructions) == ({}, "")


@pytest.mark.parametrize("greeting", [[], "2025-11-25", None])
async def test_a_greeting_that_is_no_object_is_refused(greeting: object) -> None:
    with pytest.raises(WireError):
        await greeted(web(LATEST, initialize=single(result({}) | {"result": greeting})))


def test_a_greeting_nested_beyond_reason_is_refused() -> None:
    deep: Callable[[Any], Any] = handshake._object
    with pytest.raises(WireError, match="no object"):
        deep(b"[" * 100_000)
