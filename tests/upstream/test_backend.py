"""A backend's life: it comes up, goes down, comes back, is asked, and is gone when its task ends.

Rule: servers really run; of the clock only the pauses are shortened, and every wait is for a condition.
"""

import asyncio
import contextlib
import json
import logging
import socket
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec import Raw

from tests.upstream.badserver import Peer, until
from tests.upstream.child import ECHO, answers, failure, notice, result
from tests.upstream.fakes import (
    FAST,
    WebServer,
    alive,
    drop,
    journal_of,
    scripted,
    served,
    silence,
    single,
    soon,
    stream,
    text,
    web,
)
from tests.upstream.fakes_backend import LATEST, Kept, kept, local, online, remote
from vmcp.call import Trail
from vmcp.config.model import BackendSpec, Limits, SecretRef
from vmcp.errors import Code, McpError, Overdue, Unavailable
from vmcp.protocol.jsonrpc import encode
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Kind
from vmcp.upstream import connector, handshake
from vmcp.upstream import control as module
from vmcp.upstream.backend import Status

CHANGED = notice("notifications/tools/list_changed")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The attempts for which there was a pause; pauses themselves are short."""
    attempts: list[int] = []

    def short(attempt: int, jitter: float) -> float:
        assert 0 <= jitter <= 1
        attempts.append(attempt)
        return 0.01

    monkeypatch.setattr(module, "backoff", short)
    monkeypatch.setattr(module, "CALM", 0.01)
    return attempts


# --- coming up


@pytest.mark.parametrize("revision", Revision)
async def test_a_backend_comes_up_is_listed_and_answers(
    revision: Revision, journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vmcp.upstream"):
        async with online(web(revision)) as http, kept(local(journal, scripted(answers(revision)))) as stdio:
            await stdio.up()
            for backend, transport in ((http, "streamable-http"), (stdio, "stdio")):
                [catalog] = backend.catalogs
                assert (catalog.revision, [entry.name for entry in catalog.entries[Kind.TOOL]]) == (revision, ["echo"])
                assert (backend.backend.revision, backend.states) == (revision, ["up"])
                assert backend.backend.declares("logging")
                assert not backend.backend.declares("completions")
                trail = Trail()
                complete = await backend.ask(trail=trail)
                assert (bytes(complete.result), complete.revision) == (b'{"content": []}', revision)
                assert 0 <= trail.upstream_seconds < 5
                [told] = [
                    r.__dict__
                    for r in caplog.records
                    if r.message == "backend up" and r.__dict__["transport"] == transport
                ]
                assert (told["backend"], told["revision"], told["tools"]) == ("time", revision, 1)
                assert "prompts" not in told


async def test_before_it_has_answered_it_says_so() -> None:
    async with served(server := web(LATEST, initialize=silence)), kept(remote(server)) as backend:
        await until(lambda: "initialize" in server.methods)
        assert backend.status == Status("starting")
        assert (backend.backend.revision, backend.backend.declares("tools")) == (None, False)
        with pytest.raises(Unavailable, match="it has not answered yet"):
            await backend.ask()


async def test_secrets_go_where_the_config_says(journal: Path) -> None:
    environ = {"TOKEN": "t", "OTHER": "o", "PATH": "/bin"}
    ref = SecretRef(env="TOKEN")
    async with served(server := web(LATEST)), kept(remote(server, headers={"X-Key": ref}), environ=environ) as http:
        await http.up()
        assert {told.headers["x-key"] for told in server.heard} == {"t"}
    async with kept(local(journal, env={"KEY": ref}), environ=environ) as stdio:
        await stdio.up()
    got = journal_of(journal, "environ")[0]
    assert (got["KEY"], got["PATH"], "OTHER" in got, "TOKEN" in got) == ("t", "/bin", False, False)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (BackendSpec("time", "g", "stdio", command=("no-such-program",)), "'no-such-program' was not found"),
        (BackendSpec("time", "g", "streamable-http", url="http://a b/"), "the URL holds white space"),
        (BackendSpec("time", "g", "streamable-http"), "the URL must begin with http"),
        (
            BackendSpec("time", "g", "streamable-http", url="http://a/", headers={"x": SecretRef(env="NO")}),
            "missing secret: environment variable NO is not set",
        ),
        (BackendSpec("time", "g", "streamable-http", url="https://127.0.0.1:1/"), "connection refused"),
    ],
)
async def test_what_cannot_come_up_is_down_with_the_reason(
    spec: BackendSpec, why: str, pauses: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "vmcp.upstream"):
        async with kept(spec) as backend:
            assert why in await backend.down()
            await until(lambda: len(pauses) > 3)
            with pytest.raises(Unavailable) as refused:
                await backend.ask()
            assert why in refused.value.why
    assert pauses[:4] == [0, 1, 2, 3]
    levels = [record.levelname for record in caplog.records if record.message == "backend down"]
    assert (levels[0], set(levels[1:])) == ("WARNING", {"DEBUG"})


async def test_a_backend_that_refuses_connections_is_used_as_soon_as_it_takes_them(pauses: list[int]) -> None:
    server = web(LATEST)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        server.port = reserved.getsockname()[1]
        async with kept(remote(server)) as backend:
            assert await backend.down() == "connection refused"
            listener = await asyncio.start_server(_peers(server), sock=reserved)
            await backend.up()
            assert bytes((await backend.ask()).result) == b'{"content": []}'
            assert set(backend.states[:-1]) == {"down"}
        listener.close()


def _peers(server: WebServer) -> Any:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await server(Peer(reader, writer, 1))
        writer.close()

    return handle


async def test_a_failure_after_a_long_calm_starts_with_a_short_pause(
    pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEADY", -1.0)
    async with kept(BackendSpec("time", "g", "stdio", command=("no-such-program",))):
        await until(lambda: len(pauses) > 3)
    assert set(pauses) == {0}


async def test_an_error_of_the_greeting_is_the_reason(pauses: list[int]) -> None:
    async with served(server := web(LATEST, initialize=single(failure(-32000, "Go away")))), kept(remote(server)) as b:
        assert await b.down() == "Go away"
        server.on["initialize"] = single(answers(LATEST)["initialize"][0])
        await b.up()
    async with served(server := web(LATEST, **{"tools/list": single(result({"tools": 5}))})), kept(remote(server)) as b:
        assert await b.down() == "the backend's tools/list is no list"


# --- a child that ends


async def test_a_child_that_ends_is_started_again(journal: Path, pauses: list[int]) -> None:
    script = {"tools/call": [["write", 2, "out of memory\n"], ["leave", 7]]}
    async with kept(local(journal, script)) as backend:
        await backend.up()
        with pytest.raises(Unavailable, match='exited with status 7: "out of memory"') as failed:
            await backend.ask()
        assert failed.value.vmcp_code == Code.TRANSPORT_CLOSED
        await until(lambda: backend.states == ["up", "down", "up"])
        assert len(backend.catalogs) == 1
    assert pauses == [0]
    first, second = journal_of(journal, "pid")
    assert not alive(first)
    assert not alive(second)


async def test_a_child_that_ends_between_calls_says_why(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff", lambda attempt, jitter: 60.0)
    script = {"tools/call": [["say", result({})], ["write", 2, "killed by a bug\n"], ["leave", 7]]}
    async with kept(local(journal, script)) as backend:
        await backend.up()
        with contextlib.suppress(Unavailable):
            await backend.ask()
        assert await backend.down() == 'the process exited with status 7: "killed by a bug"'
        with pytest.raises(Unavailable, match="killed by a bug"):
            await backend.ask()


async def test_a_child_that_ends_while_changes_are_gathered_is_noticed(
    journal: Path, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CALM", 0.6)
    script = {"tools/call": [["say", CHANGED], ["stall", 0.1], ["leave", 7]]}
    async with kept(local(journal, script)) as backend:
        await backend.up()
        with pytest.raises(Unavailable):
            await backend.ask()
        await until(lambda: backend.states == ["up", "down", "up"])


@pytest.mark.parametrize("protocol", ["auto", "2025-11-25", "2026-07-28"])
async def test_a_child_that_dies_of_the_probe_gets_a_successor_that_is_not_probed(
    protocol: str, journal: Path, pauses: list[int]
) -> None:
    script = {"server/discover": [["write", 2, "expected initialize\n"], ["leave", 1]]}
    async with kept(local(journal, script, protocol=protocol)) as backend:
        if protocol == "2026-07-28":
            assert "expected initialize" in await backend.down()
            return
        await backend.up()
        assert (backend.backend.revision, pauses) == (LATEST, [])
        pids = journal_of(journal, "pid")
        assert [alive(pid) for pid in pids] == ([False, True] if protocol == "auto" else [True])
        await backend.ask()


async def test_a_child_that_dies_in_any_case_is_down_with_its_last_words(journal: Path, pauses: list[int]) -> None:
    async with kept(local(journal, {"start": [["write", 2, "no API key\n"], ["leave", 2]]})) as backend:
        assert await backend.down() == 'the process exited with status 2: "no API key"'
        await until(lambda: len(pauses) > 1)
    await until(lambda: not any(map(alive, journal_of(journal, "pid"))))


# --- lists that change


async def test_a_list_is_published_again_only_when_it_is_another(pauses: list[int]) -> None:
    server = web(LATEST, **{"tools/call": stream(CHANGED, CHANGED, CHANGED, result({}))})
    async with online(server) as backend:
        await backend.ask()
        await until(lambda: server.methods.count("tools/list") == 2)
        await until(lambda: server.methods.count("prompts/list") == 2)
        server.on["tools/list"] = single(result({"tools": [ECHO, {"name": "new"}]}))
        await backend.ask()
        await until(lambda: len(backend.catalogs) == 2)
        assert server.methods.count("tools/list") == 3
    assert [entry.name for entry in backend.catalogs[1].entries[Kind.TOOL]] == ["echo", "new"]
    assert (backend.states, pauses) == (["up"], [])


async def test_a_child_says_that_its_list_changed_outside_of_any_call(journal: Path, pauses: list[int]) -> None:
    script = {"notifications/initialized": [["say", notice("notifications/other")], ["say", CHANGED]]}
    async with kept(local(journal, script)) as backend:
        await backend.up()
        await until(lambda: sum(told.get("method") == "tools/list" for told in journal_of(journal, "told")) >= 2)
        assert len(backend.catalogs) == 1


async def test_entries_that_are_refused_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = web(LATEST, **{"tools/list": single(result({"tools": [ECHO, {"title": "x"}]}))})
    async with online(server) as backend:
        assert len(backend.catalogs[0].entries[Kind.TOOL]) == 1
    [told] = [record.__dict__ for record in caplog.records if record.message == "list entry refused"]
    assert (told["backend"], told["entry"]) == ("time", "tools[1] has no name")


async def test_listing_again_renews_a_lost_session_once(pauses: list[int]) -> None:
    server = web(LATEST, **{"tools/call": stream(CHANGED, result({}))})
    async with online(server) as backend:
        await backend.ask()
        assert server.sessions is not None
        server.sessions.clear()
        await until(lambda: server.methods.count("prompts/list") == 2)
        assert (backend.status.state, server.methods.count("initialize")) == ("up", 2)


async def test_listing_again_in_vain_takes_it_down_and_up_again(pauses: list[int]) -> None:
    server = web(LATEST, **{"tools/call": stream(CHANGED, result({}))})
    async with online(server) as backend:
        server.on["tools/list"] = single(failure(-32603, "The disk is full"))
        await backend.ask()
        assert await backend.down() == "The disk is full"
        server.on["tools/list"] = single(answers(LATEST)["tools/list"][0])
        await backend.up()
        assert bytes((await backend.ask()).result) == b"{}"


# --- sessions that are forgotten


@pytest.mark.parametrize(
    "how",
    [
        single(failure(-32600, "Session not found") | {"id": "server-error"}, 404),
        text(404),
        single(failure(-32000, "Bad Request: No valid session ID provided") | {"id": None}, 400),
    ],
    ids=["404", "404 in text", "400"],
)
async def test_20_calls_that_find_the_session_forgotten_make_one_new(how: Any) -> None:
    server = web(LATEST)
    server.forgotten = how
    async with online(server) as backend:
        assert server.sessions is not None
        server.sessions.clear()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(backend.ask()) for _ in range(20)]
        assert {bytes(task.result().result) for task in tasks} == {b'{"content": []}'}
        calls = [told.headers["mcp-session-id"] for told in server.heard if told.method == "tools/call"]
        assert sorted(calls) == ["s1"] * 20 + ["s2"] * 20
        assert server.methods.count("initialize") == 2
        await backend.ask()
        assert server.methods.count("initialize") == 2


async def test_a_backend_that_forgets_at_once_is_told_so_and_not_asked_for_ever() -> None:
    async with online(server := web(LATEST)) as backend:
        server.on["tools/call"] = text(404)
        with pytest.raises(Unavailable, match="it forgets every session at once") as failed:
            await backend.ask()
        assert failed.value.vmcp_code == Code.PROTOCOL_ERROR
        assert (server.methods.count("tools/call"), server.methods.count("initialize")) == (2, 2)


async def test_a_session_that_cannot_be_renewed_fails_the_call_and_the_next_one_tries_again() -> None:
    async with online(server := web(LATEST)) as backend:
        assert server.sessions is not None
        server.sessions.clear()
        greeting, server.on["initialize"] = server.on["initialize"], single(failure(-32000, "Too many sessions"))
        with pytest.raises(McpError, match="Too many sessions"):
            await backend.ask()
        server.on["initialize"] = greeting
        await backend.ask()


# --- being asked


@pytest.mark.parametrize("when", ["on a new connection", "on a kept one", "in its stream"])
async def test_a_call_whose_connection_drops_is_never_sent_twice(when: str) -> None:
    async with online(server := web(LATEST)) as backend:
        if when == "on a new connection":
            server.on["prompts/get"] = drop
            with pytest.raises(Unavailable):
                await backend.ask("prompts/get")
        server.on["tools/call"] = drop if when != "in its stream" else stream(notice("notifications/x"))
        with pytest.raises(Unavailable) as failed:
            await backend.ask()
        assert failed.value.vmcp_code == Code.TRANSPORT_CLOSED
        assert server.methods.count("tools/call") == 1
        assert backend.status.state == "up"


@pytest.mark.parametrize("size", [2000, 100_000])
@pytest.mark.parametrize("form", [single, stream], ids=["json", "stream"])
async def test_a_result_larger_than_the_limit_is_refused(form: Any, size: int) -> None:
    limits = replace(Limits(), response_bytes=1000, list_bytes=50_000)
    async with online(server := web(LATEST), limits=limits) as backend:
        server.on["tools/call"] = form(result({"x": "x" * size}))
        with pytest.raises(Unavailable, match=r"larger than|more than"):
            await backend.ask()
        server.on["tools/call"] = form(result({"x": "x" * 900}))
        assert len(bytes((await backend.ask()).result)) == 909


@pytest.mark.parametrize(
    ("spoken", "client", "error", "code", "data"),
    [
        (LATEST, Revision.V2026_07_28, failure(-32002, "Gone"), -32602, {"uri": "urn:a"}),
        (LATEST, Revision.V2025_06_18, failure(-32002, "Gone"), -32002, None),
        ("2026-07-28", Revision.V2025_11_25, failure(-32602, "Gone", {"uri": "urn:a"}), -32002, {"uri": "urn:a"}),
        ("2026-07-28", Revision.V2025_11_25, failure(-32021, "No"), -32603, None),
        (LATEST, Revision.V2026_07_28, failure(4711, "Mine", {"x": 1}), 4711, {"x": 1}),
    ],
)
async def test_an_error_is_told_in_the_words_of_the_clients_revision(
    spoken: str, client: Revision, error: dict[str, Any], code: int, data: object
) -> None:
    async with online(web(spoken, **{"resources/read": single(error)})) as backend:
        with pytest.raises(McpError) as failed:
            await backend.ask("resources/read", "urn:a", client=client)
        assert (failed.value.code, json.loads(encode(failed.value.data))) == (code, data)


async def test_what_is_no_reply_is_the_backends_fault() -> None:
    async with online(server := web(LATEST)) as backend:
        server.on["tools/call"] = single(b"{")
        with pytest.raises(Unavailable, match="no JSON-RPC message") as failed:
            await backend.ask()
        assert failed.value.vmcp_code == Code.PROTOCOL_ERROR


async def test_the_earlier_deadline_counts_the_calls_or_the_backends() -> None:
    async with served(server := web(LATEST, **{"tools/call": silence})):
        spec = remote(server)
        async with kept(spec) as backend:
            await backend.up()
            trail = Trail()
            with pytest.raises(Overdue):
                await backend.ask(deadline=soon(0.05), trail=trail)
            assert 0.04 <= trail.upstream_seconds < 2  # the loop counts milliseconds
        async with kept(replace(spec, timeouts=replace(FAST, total=0.3))) as backend:
            await backend.up()
            with pytest.raises(Overdue, match=r"timeouts\.total is 0\.3 s"):
                await backend.ask(deadline=soon(50))


async def test_own_metadata_and_headers_go_along_and_the_protocols_do_not() -> None:
    meta = {"io.modelcontextprotocol/clientInfo": b"{}", "trace": b'"x"', "progressToken": b"1"}
    async with online(server := web("2026-07-28")) as backend:
        raws = {key: Raw(value) for key, value in meta.items()}
        await backend.ask(meta=raws, param_headers=((b"mcp-param-x", b"1"),))
        told = server.heard[-1]
        assert told.headers["mcp-param-x"] == "1"
        assert told.message["params"]["_meta"]["trace"] == "x"
        assert told.message["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] == "vmcp"
        assert told.message["params"]["_meta"]["progressToken"] == told.message["id"]


# --- the end


async def test_nothing_is_left_of_a_backend_that_stops(journal: Path) -> None:
    script = {"tools/call": [["offspring"], ["say", result({})]]}
    async with kept(local(journal, script)) as backend:
        await backend.up()
        await backend.ask()
    [pid], [grandchild] = journal_of(journal, "pid"), journal_of(journal, "grandchild")
    assert not alive(pid)
    await until(lambda: not alive(grandchild))
    with pytest.raises(Unavailable):
        await backend.ask()
    async with online(server := web(LATEST)):
        pass
    assert (server.heard[-1].verb, server.heard[-1].headers["mcp-session-id"]) == ("DELETE", "s1")


@pytest.mark.parametrize("at", ["server/discover", "initialize", "tools/list"])
async def test_it_may_be_stopped_at_any_point_of_coming_up(at: str, journal: Path) -> None:
    async with kept(local(journal, {at: []})):
        await until(lambda: any(told.get("method") == at for told in journal_of(journal, "told")))
    assert not alive(journal_of(journal, "pid")[0])


async def test_it_may_be_stopped_before_its_child_has_begun(journal: Path) -> None:
    for steps in range(6):
        async with kept(local(journal)):
            for _ in range(steps):
                await asyncio.sleep(0)
    await until(lambda: not any(map(alive, journal_of(journal, "pid"))))


async def test_it_may_be_stopped_while_it_pauses(pauses: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "backoff", lambda attempt, jitter: 60.0)
    async with kept(BackendSpec("time", "g", "stdio", command=("no-such-program",))) as backend:
        await backend.down()
    assert backend.status.state == "down"


async def test_a_call_in_flight_ends_when_the_backend_stops() -> None:
    async with asyncio.TaskGroup() as group, online(server := web(LATEST, **{"tools/call": silence})) as backend:
        task = group.create_task(_failure(backend))
        await until(lambda: "tools/call" in server.methods)
    assert task.result().vmcp_code == Code.TRANSPORT_CLOSED


async def _failure(backend: Kept) -> McpError:
    with pytest.raises(McpError) as failed:
        await backend.ask()
    return failed.value


async def test_a_silent_child_is_down_in_the_end(
    journal: Path, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "PROBE_WAIT", 0.05)
    monkeypatch.setattr(connector, "GREETING", 0.2)
    async with kept(local(journal, {"server/discover": [], "initialize": []})) as backend:
        assert "did not answer in time" in await backend.down()
    assert isinstance(backend.spec.env, MappingProxyType)


class Ends:
    """Wants to know how requests ended."""

    only_ends = True

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def asks(self, *_: Any) -> None:
        raise AssertionError("it does not want to know of beginnings")

    def asked(self, sent: Any, call: Any, backend: str, transport: str, error: str, seconds: float) -> None:
        assert (sent, seconds >= 0) == (None, True)
        self.told.append((backend, transport, error))


async def test_whoever_wants_to_know_only_how_requests_end_is_told_of_each_once() -> None:
    ends = Ends()
    async with served(server := web(LATEST)), kept(remote(server)) as backend:
        with pytest.raises(Unavailable):
            await backend.ask(trail=Trail(watcher=ends))
        await backend.up()
        await backend.ask(trail=Trail(watcher=ends))
        server.on["tools/call"] = single(failure(-32602, "no"))
        with pytest.raises(McpError):
            await backend.ask(trail=Trail(watcher=ends))
        server.on["tools/call"] = silence
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await backend.ask(trail=Trail(watcher=ends))
    assert {told[:2] for told in ends.told} == {("time", "streamable-http")}
    assert [told[2] for told in ends.told] == ["server_unavailable", "", "invalid_params", "cancelled"]
