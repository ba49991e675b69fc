"""Three workers as one vmcp: whatever is held for a client is found, on whichever connection it asks for it.

Rule: real processes, and nearly every request on a connection of its own; a backend's child says of which worker it is.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.sync.client import connect

from tests.cli.processes import Process, serving
from tests.server.clients import modern_meta
from vmcp.protocol import envelope
from vmcp.protocol.extensions import TASKS

HOLDER = Path(__file__).parent / "holder.py"
WORKERS = 3
CONFIG = """\
name: crew
server: {{workers: {workers}}}
audit: {{enabled: true, logFile: {audit}}}
groups:
  g:
    backends:
      old: {{command: [{python}, -S, {holder}, "2025-06-18"], isolation: session}}
      shared: {{command: [{python}, -S, {holder}, "2025-06-18"]}}
      new: {{command: [{python}, -S, {holder}, "2026-07-28"]}}
"""
GREETING = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "t", "version": "1"},
}


class Said(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        """The last message in it."""
        data = [line[6:] for line in self.body.splitlines() if line.startswith(b"data: ")]
        return json.loads(data[-1] if data else self.body)

    @property
    def told(self) -> Any:
        """What the backend's child said: its number, and something."""
        return json.loads(self.message["result"]["content"][0]["text"])


class Crew:
    """A vmcp of three workers."""

    def __init__(self, process: Process, audit: Path) -> None:
        self.process = process
        self.port = process.port()
        self.audit = audit

    def line(self) -> HTTPConnection:
        """A new connection."""
        return HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(
        self, line: HTTPConnection, method: str, path: str, body: object, headers: Mapping[str, str]
    ) -> HTTPResponse:
        told = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        told |= {key.replace("_", "-"): value for key, value in headers.items()}
        line.request(method, path, None if body is None else json.dumps(body), told)
        return line.getresponse()

    @contextlib.contextmanager
    def stream(self, method: str, path: str, body: object = None, **headers: str) -> Iterator[HTTPResponse]:
        """A response that goes on."""
        with contextlib.closing(self.line()) as line, self.ask(line, method, path, body, headers) as response:
            yield response

    def http(self, method: str, body: object = None, on: HTTPConnection | None = None, **more: str) -> Said:
        """One request; on a connection of its own, if none is given."""
        line = on or self.line()
        got = self.ask(line, method, more.pop("path", "/mcp"), body, more)
        said = Said(got.status, {key.lower(): value for key, value in got.getheaders()}, got.read())
        if on is None:
            line.close()
        return said

    def session(self) -> str:
        """Begin a session."""
        return self.http("POST", request("initialize", GREETING)).headers["mcp-session-id"]

    def sessions(self) -> list[str]:
        """One session of each worker."""
        found: dict[str, str] = {}
        lines = []
        while len(found) < WORKERS:
            lines.append(self.line())  # kept open, so that the next one goes to another
            id_ = self.http("POST", request("initialize", GREETING), on=lines[-1]).headers["mcp-session-id"]
            found[id_.partition(".")[0]] = id_
        for line in lines:
            line.close()
        return [found[key] for key in sorted(found)]

    def call(self, session: str, name: str, on: HTTPConnection | None = None, **arguments: object) -> Said:
        """Call a tool in a session."""
        return self.http(
            "POST", request("tools/call", {"name": name, "arguments": arguments}), on, mcp_session_id=session
        )

    def modern(self, method: str, on: HTTPConnection | None = None, **params: object) -> Said:
        """A request of 2026-07-28."""
        able: dict[str, Any] = {"elicitation": {}, "extensions": {TASKS: {}}}
        asked = request(method, {**params, "_meta": {**modern_meta(), envelope.CAPABILITIES: able}})
        named = str(params.get("name", params.get("taskId", "")))
        return self.http("POST", asked, on, mcp_protocol_version="2026-07-28", mcp_method=method, mcp_name=named)

    def records(self) -> list[Any]:
        """The audit log."""
        return [json.loads(line) for line in self.audit.read_text().splitlines()]

    def pids(self) -> list[int]:
        """The workers."""
        of = Path(f"/proc/{self.process.process.pid}/task/{self.process.process.pid}/children").read_text()
        return [int(pid) for pid in of.split()]

    def descriptors(self) -> list[int]:
        """How many are open in each worker."""
        return [sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in self.pids()]


def next_line(stream: HTTPResponse, begins: str) -> str:
    """What stands behind ``begins`` in the next line of a stream that has it, if there is anything."""
    while line := stream.readline().decode():
        if line.startswith(begins) and line.strip() != begins.strip():
            return line[len(begins) :].strip()
    raise AssertionError("the stream has ended")


def next_event(stream: HTTPResponse) -> Any:
    return json.loads(next_line(stream, "data: "))


def request(method: str, params: Any, id_: object = 1) -> Any:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with crew_in(tmp_path_factory.mktemp("crew")) as found:
        yield found


@contextlib.contextmanager
def crew_in(folder: Path) -> Iterator[Crew]:
    audit, path = folder / "audit.jsonl", folder / "vmcp.yaml"
    names = {"workers": WORKERS, "python": json.dumps(sys.executable), "holder": json.dumps(str(HOLDER))}
    path.write_text(CONFIG.format(audit=json.dumps(str(audit)), **names))
    with serving("--config", str(path), "--log-format", "json") as process:
        process.until(r"(?s)(\"msg\":\"ready\".*?){3}")
        yield Crew(process, audit)


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- sessions


def test_a_session_is_served_by_its_worker_on_any_connection(crew: Crew) -> None:
    for session in crew.sessions():
        children = {crew.call(session, "old_pid").told[0] for _ in range(6)}
        assert len(children) == 1, "its own child has answered each time"
        told = crew.http("POST", {"jsonrpc": "2.0", "method": "notifications/initialized"}, mcp_session_id=session)
        assert told.status == 202
        assert crew.http("DELETE", mcp_session_id=session).status == 204
        assert crew.call(session, "old_pid").status == 404


def test_one_connection_can_be_for_sessions_of_all_workers(crew: Crew) -> None:
    sessions = crew.sessions()
    line = crew.line()
    children = [crew.call(session, "old_pid", on=line).told[0] for session in sessions * 3]
    assert children == children[:WORKERS] * 3
    assert len(set(children)) == WORKERS
    assert crew.modern("tools/call", line, name="new_pid", arguments={}).status == 200
    line.close()


def test_a_large_request_gets_there(crew: Crew) -> None:
    for session in crew.sessions():
        assert crew.call(session, "old_pid", words="x" * 1_000_000).told[1] > 1_000_000


def test_what_is_told_and_asked_on_streams_comes_from_the_right_worker(crew: Crew) -> None:
    for session in crew.sessions():
        asked = request("tools/call", {"name": "old_ask", "arguments": {}}, 7)
        with crew.stream("POST", "/mcp", asked, mcp_session_id=session) as stream:
            question = next_event(stream)
            assert question["method"] == "elicitation/create"
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"word": "w"}}}
            assert crew.http("POST", answer, mcp_session_id=session).status == 202
            told = next_event(stream)
            assert told["id"] == 7
            assert "accept" in told["result"]["content"][0]["text"]


def test_a_standing_stream_is_found_and_taken_up_again(crew: Crew) -> None:
    greeting = {**GREETING, "protocolVersion": "2025-11-25"}
    for _ in range(WORKERS):
        session = crew.http("POST", request("initialize", greeting)).headers["mcp-session-id"]
        more: dict[str, str] = {}
        for _ in range(3):
            with crew.stream("GET", "/mcp", mcp_session_id=session, **more) as stream:
                assert stream.status == 200
                more = {"last_event_id": next_line(stream, "id: ")}
        assert crew.http("DELETE", mcp_session_id=session).status == 204


def test_the_stream_of_2024_gets_the_answers_to_what_is_sent_elsewhere(crew: Crew) -> None:
    greeting = {**GREETING, "protocolVersion": "2024-11-05"}
    marks = set()
    with contextlib.ExitStack() as stack:
        for _ in range(WORKERS):
            stream = stack.enter_context(crew.stream("GET", "/sse"))
            place = next_line(stream, "data: ")
            marks.add(place.partition("sessionId=")[2].partition(".")[0])
            assert crew.http("POST", request("initialize", greeting), path=place).status == 202
            assert next_event(stream)["result"]["protocolVersion"] == "2024-11-05"
            for number in range(4):
                asked = request("tools/call", {"name": "old_pid", "arguments": {}}, number)
                assert crew.http("POST", asked, path=place).status == 202
                assert next_event(stream)["id"] == number
    assert len(marks) > 1, "streams that stay open are spread"


def test_websockets_are_served_by_all(crew: Crew) -> None:
    for _ in range(WORKERS):
        with connect(f"ws://127.0.0.1:{crew.port}/ws", subprotocols=["mcp"]) as socket_:  # type: ignore[list-item]
            socket_.send(json.dumps(request("initialize", GREETING)))
            assert json.loads(socket_.recv())["result"]["protocolVersion"] == "2025-06-18"
            socket_.send(json.dumps(request("tools/call", {"name": "old_pid", "arguments": {}}, 2)))
            assert json.loads(socket_.recv())["id"] == 2


# --- 2026-07-28: what a client brings back


def test_a_call_that_waits_for_an_answer_is_taken_up_where_it_waits(crew: Crew) -> None:
    asked: dict[str, Any] = {"name": "old_ask", "arguments": {}}
    states = set()
    for _ in range(8):
        result = crew.modern("tools/call", **asked).message["result"]
        assert result["resultType"] == "input_required", result
        states.add(result["requestState"].partition(".")[0])
        (key,) = result["inputRequests"]
        answers = {key: {"action": "accept", "content": {"word": "w"}}}
        back = {**asked, "requestState": result["requestState"], "inputResponses": answers}
        told = crew.modern("tools/call", **back)
        assert told.told[1]["action"] == "accept"
        again = crew.modern("tools/call", **back)
        assert again.message["error"]["code"] == -32602, "once"
    assert states <= set("012")


def test_a_task_is_asked_after_where_it_was_made(crew: Crew) -> None:
    made: dict[str, tuple[str, int]] = {}
    with contextlib.ExitStack() as stack:
        while len(made) < WORKERS:
            line = stack.enter_context(contextlib.closing(crew.line()))
            task = crew.modern("tools/call", line, name="new_begin", arguments={}).message["result"]
            made[task["taskId"].partition(".")[0]] = task["taskId"], task["pid"]
    assert set(made) == set("012")
    for name, pid in made.values():
        for _ in range(4):
            state = crew.modern("tasks/get", taskId=name).message["result"]
            assert (state["taskId"], state["pid"]) == (name, pid)
        elsewhere = f"{(int(name[0]) + 1) % WORKERS}{name[1:]}"
        lost = crew.modern("tasks/get", taskId=elsewhere)
        assert "error" in lost.message, "the mark says where to look, and nothing else"


# --- what was made up


@pytest.mark.parametrize("forged", ["0.x", "1.x", "2.x", "3.x", "99.x", "x", ".", "1.", "0.0.0.x", "1" * 400 + ".x"])
def test_a_forged_session_is_as_unknown_as_ever(forged: str, crew: Crew) -> None:
    for _ in range(WORKERS + 1):
        assert crew.call(forged, "old_pid").status == 404
    assert crew.http("DELETE", mcp_session_id=forged).status == 404
    assert crew.http("GET", mcp_session_id=forged).status == 404
    assert crew.http("POST", request("ping", {}), path=f"/message?sessionId={forged}").status == 404


def test_the_id_of_a_session_under_another_mark_is_unknown(crew: Crew) -> None:
    for session in crew.sessions():
        number, _, rest = session.partition(".")
        for other in range(WORKERS + 1):
            if str(other) != number:
                assert crew.call(f"{other}.{rest}", "old_pid").status == 404
        assert crew.call(rest, "old_pid").status == 404


# --- raw connections


def raw(crew: Crew, *pieces: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", crew.port), timeout=10)
    for piece in pieces:
        made.sendall(piece)
    return made


def post(session: str, body: bytes, more: bytes = b"") -> bytes:
    head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nMcp-Session-Id: {session}\r\n"
    return head.encode() + more + b"Content-Length: %d\r\n\r\n" % len(body)


def statuses(made: socket.socket, count: int) -> list[int]:
    """Those of the next responses, in order."""
    found = []
    with made.makefile("rb") as file:
        for _ in range(count):
            found.append(int(file.readline().split()[1]))
            headers = dict(line.strip().lower().split(b": ", 1) for line in iter(file.readline, b"\r\n"))
            file.read(int(headers[b"content-length"]))
    return found


def test_a_request_in_pieces_and_one_that_asks_whether_to_go_on_get_there(crew: Crew) -> None:
    body = json.dumps(request("ping", {})).encode()
    for session in crew.sessions():
        made = raw(crew, post(session, body, b"Expect: 100-continue\r\n"))
        assert made.recv(100).startswith(b"HTTP/1.1 100 ")
        for byte in body:
            made.sendall(bytes([byte]))
        assert statuses(made, 1) == [200]
        made.sendall(post(session, body) + body)
        assert statuses(made, 1) == [200], "and the connection is as good as before"
        made.close()


def test_requests_in_line_are_answered_in_their_order(crew: Crew) -> None:
    sessions = crew.sessions()
    body = json.dumps(request("ping", {})).encode()
    line = [post(session, body) + body for session in (*sessions, "9.forged", *reversed(sessions))]
    made = raw(crew, b"".join(line))
    assert statuses(made, len(line)) == [200, 200, 200, 404, 200, 200, 200]
    made.close()


# --- what is left of it


def test_a_request_is_recorded_once_wherever_it_came_in(crew: Crew) -> None:
    called = request("tools/call", {"name": "old_pid", "arguments": {}})
    sessions = crew.sessions()
    for session in sessions:
        for _ in range(10):
            crew.http("POST", called, mcp_session_id=session, user_agent="counted")
        for _ in range(2):
            crew.http("DELETE", mcp_session_id=session, user_agent="counted")
        crew.http("POST", called, mcp_session_id=session, user_agent="counted", origin="http://evil.example")
        crew.http("POST", called, mcp_session_id=session, user_agent="last")

    def recorded(agent: str) -> list[str]:
        return [each["type"] for each in crew.records() if agent in json.dumps(each)]

    eventually(lambda: len(recorded("last")) == WORKERS)
    found = recorded("counted")
    assert found.count("mcp_tool_call") == 10 * WORKERS
    assert found.count("http_request") == 2 * WORKERS, "the end of a session, and the attempt to end it again"
    assert len(found) == 13 * WORKERS


def test_a_thousand_of_them_leave_no_descriptor(crew: Crew) -> None:
    sessions = crew.sessions()
    for session in sessions:
        crew.call(session, "shared_pid")
    time.sleep(0)
    before = crew.descriptors()
    line = crew.line()
    for number in range(1000):
        assert crew.call(sessions[number % WORKERS], "shared_pid", on=line).status == 200
    line.close()
    eventually(lambda: sum(crew.descriptors()) <= sum(before))


def test_clients_that_hang_up_in_the_middle_harm_nobody(crew: Crew) -> None:
    sessions = crew.sessions()
    body = json.dumps(request("tools/call", {"name": "old_pid", "arguments": {}})).encode()
    for number in range(60):
        whole = post(sessions[number % WORKERS], body) + body
        made = raw(crew, whole[: len(whole) - number % 3])
        made.close()
    for session in sessions:
        assert crew.call(session, "old_pid").status == 200


def test_with_a_worker_go_its_sessions_and_no_others(tmp_path: Path) -> None:
    with crew_in(tmp_path) as crew:
        sessions, pids = crew.sessions(), crew.pids()
        assert [crew.call(session, "shared_pid").status for session in sessions] == [200] * WORKERS
        os.kill(pids[1], signal.SIGKILL)
        eventually(lambda: len(set(crew.pids()) - set(pids)) == 1)
        assert [crew.call(session, "shared_pid").status for session in sessions] == [200, 404, 200]
        assert len(crew.sessions()) == WORKERS, "whoever begins again, may do so at any"
        assert crew.call(sessions[1], "shared_pid").status == 404
