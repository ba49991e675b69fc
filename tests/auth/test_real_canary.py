"""The canary sweep: secrets planted wherever a client, an administrator or an issuer puts one, and searched for everywhere else.

The rule: a place may know a secret only if the table below says so, for a reason; everything runs at DEBUG with the audit log on.
"""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.auth.canaries import Canaries, everything_in, of_process
from tests.auth.house import AUDIENCE, META, Caller, House, Json, bearer, failed, serving
from tests.auth.recorder import Recorder, recording
from tests.auth.settings import crossing, exchange, house, machine, oidc
from tests.real.issuer import Issuer, issuer
from tests.real.processes import ROOT, descendants, free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

CHILD = Path(__file__).with_name("child.py")
ADMINISTRATORS = ("injected", "bearer", "password", "key", "child", "environment")
BACKENDS = ("exchanging", "crossing", "serving", "passing", "injecting", "bearing", "basic", "keyed", "bare")
OWN = {
    "exchanging": {"exchanged"},
    "crossing": {"crossed"},
    "serving": {"served"},
    "passing": {"token", "signature"},
    "injecting": {"injected"},
    "bearing": {"bearer"},
    "basic": {"password"},
    "keyed": {"key"},
    "bare": set(),
}
"""The credential that each backend is there to get."""
CALL = {"argument", "meta"}
"""What a client sends to a backend by calling its tool."""


class World(NamedTuple):
    issuer: Issuer
    recorder: Recorder
    house: House
    planted: Canaries
    folder: Path


def strategies(made: Issuer) -> Json:
    """One of each."""
    return {
        "exchanging": exchange(made, "https://exchanging.example"),
        "crossing": crossing(made, "https://crossing.example"),
        "serving": machine(made, "https://serving.example"),
        "passing": {"type": "pass_through"},
        "injecting": {
            "type": "header_injection",
            "headerInjection": {"headerName": "X-Key", "headerValue": {"env": "CANARY_INJECTED"}},
        },
        "bearing": {"type": "bearer", "bearer": {"token": {"env": "CANARY_BEARER"}}},
        "basic": {"type": "basic", "basic": {"username": "vmcp", "password": {"env": "CANARY_PASSWORD"}}},
        "keyed": {"type": "api_key", "apiKey": {"key": {"env": "CANARY_KEY"}}},
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, planted = tmp_path_factory.mktemp("canary"), Canaries()
    served = folder / "served"
    served.mkdir()
    with ExitStack() as stack:
        made, recorder = stack.enter_context(issuer(folder / "issuer")), stack.enter_context(recording())
        env = {f"CANARY_{name.upper()}": planted.plant(name) for name in ADMINISTRATORS}
        env["STS_SECRET"] = planted.plant("client secret", made.secrets["gateway"])
        env["ROBOT_SECRET"] = planted.plant("robot secret", made.secrets["robot"])
        config = house(oidc(made), recorder, *BACKENDS, outgoingAuth={"source": "inline", "backends": strategies(made)})
        config["audit"] = {"enabled": True, "logFile": str(served / "audit.jsonl")}
        backends = config["groups"]["all"]["backends"]
        command = [sys.executable, str(CHILD), str(folder / "child.jsonl")]
        backends["child"] = {"command": command, "env": {"CHILD_KEY": "${CANARY_CHILD}"}}
        backends["away"] = {"url": f"http://localhost:{free_port()}/mcp"}
        yield World(made, recorder, stack.enter_context(serving(config, served, env)), planted, folder)


def sloppy(world: World, token: str, session: str | None = None) -> Caller:
    """A client that puts secrets wherever there is room."""
    planted = world.planted.planted
    caller = Caller(world.house, token, f"/mcp?api_key={planted['query']}", session=session)
    caller.http.headers["X-Secret"] = planted["header"]
    caller.http.headers["Mcp-Param-Secret"] = planted["parameter"]
    caller.http.headers["X-Forwarded-For"] = planted["forwarded"]
    caller.http.headers["User-Agent"] = "tester/1"
    caller.http.cookies.set("session", planted["cookie"], domain="localhost")
    return caller


def every_kind_of_call(world: World, caller: Caller) -> None:
    """Calls that succeed and calls that fail in every way that is known here."""
    planted = world.planted.planted
    meta = {"example.com/secret": planted["meta"]}
    for backend in (*BACKENDS, "child"):
        params = {"name": f"{backend}_say", "arguments": {"word": planted["argument"]}, "_meta": meta}
        told = caller.asked("tools/call", params)
        assert "result" in told, f"{backend}: {told}\n{world.house.log[-3000:]}"
    for name in ("away_say", "no_such_tool", "say"):
        caller.asked("tools/call", {"name": name, "arguments": {"word": planted["argument"]}, "_meta": meta})
    for status in (401, 403, 500):
        world.recorder.refuse = status
        for backend in BACKENDS:
            caller.call(f"{backend}_say", word=planted["argument"])
    world.recorder.refuse = None
    caller.post("no/such/method", {"secret": planted["argument"]})
    caller.post("tools/call", {"arguments": {"word": planted["argument"]}})
    torn = b'{"jsonrpc": "2.0", "id": 1, "method": "' + planted["argument"].encode()
    caller.http.post(f"{world.house.url}{caller.path}", content=torn, headers=caller.headers())


def failing_exchanges(world: World) -> None:
    """The same person with tokens that cannot be exchanged."""
    for number, wrong in enumerate(("refuse", "broken", "garbage", "wrong audience", "echo")):
        token = world.planted.plant(f"token {number}", world.issuer.login("ada", AUDIENCE)["access_token"])
        world.issuer.order(exchange=wrong)
        told = sloppy(world, token).open().call("exchanging_say", word=world.planted.planted["argument"])
        assert failed(told), told
        world.issuer.order(exchange="right")


def bad_tokens(world: World, token: str) -> None:
    """Refusals at the door, by every verb and by every way to show a token."""
    wrong = world.planted.plant("wrong token")
    signed = world.planted.plant("wrong signature", token.rpartition(".")[0] + "." + "A" * 342)
    message = f"/message?sessionId={world.planted.planted['query']}"
    ways = itertools.product(("POST", "GET", "DELETE"), ("/mcp", "/sse", "/ws", message, "/no/such/path"))
    shown = (f"Bearer {wrong}", f"Basic {wrong}", f"Bearer {signed}", f"bearer  {wrong} {wrong}", wrong)
    for (verb, path), credential in itertools.product(ways, shown):
        url, headers = f"{world.house.url}{path}", {"Authorization": credential, "Accept": "text/event-stream"}
        assert httpx.request(verb, url, headers=headers, trust_env=False).status_code >= 400


def modern(world: World, token: str) -> None:
    """A call of 2026-07-28."""
    planted = world.planted.planted
    meta = META | {"example.com/secret": planted["meta"]}
    params = {"name": "bare_say", "arguments": {"word": planted["argument"]}, "_meta": meta}
    told = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "bare_say"}
    caller = sloppy(world, token)
    message = {"jsonrpc": "2.0", "id": planted["id"], "method": "tools/call", "params": params}
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"} | told
    answer = caller.http.post(f"{world.house.url}{caller.path}", json=message, headers=headers | bearer(token))
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def after(world: World) -> World:
    """The world when everything has happened."""
    for name in ("cookie", "query", "header", "parameter", "forwarded", "meta", "argument", "id"):
        world.planted.plant(name)
    login = world.issuer.login("ada", AUDIENCE)
    token = world.planted.plant("token", login["access_token"])
    world.planted.plant("signature", token.rpartition(".")[2])
    caller = sloppy(world, token).open()
    world.planted.plant("session", caller.session)
    every_kind_of_call(world, caller)
    modern(world, token)
    failing_exchanges(world)
    bad_tokens(world, token)
    for backend, name in (("exchanging", "exchanged"), ("crossing", "crossed"), ("serving", "served")):
        shown = re.findall(rb"[Bb]earer (\S+)", world.recorder.bytes_of(backend))
        world.planted.plant(name, shown[-1].decode())
    caller.asked("vmcp/metrics")
    caller.asked("vmcp/servers/list")
    return world


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_gets_its_own_credential_and_what_was_said_to_it(after: World, backend: str) -> None:
    seen = after.planted.seen(after.recorder.bytes_of(backend))
    assert seen == OWN[backend] | CALL


def test_a_child_gets_its_own_environment_and_what_was_said_to_it(after: World) -> None:
    lines = [json.loads(line) for line in (after.folder / "child.jsonl").read_text("utf-8").splitlines()]
    started = [line for line in lines if "environ" in line]
    assert started
    assert {line["environ"]["CHILD_KEY"] for line in started} == {after.planted.planted["child"]}
    assert after.planted.seen(json.dumps(started).encode()) == {"child"}
    assert after.planted.seen(json.dumps([line for line in lines if "environ" not in line]).encode()) == CALL


def test_nothing_is_in_any_file_that_vmcp_wrote(after: World) -> None:
    written = everything_in(after.folder / "served", "vmcp.yaml")
    assert {"vmcp.log", "audit.jsonl"} <= written.keys()
    assert after.house.log.count("\n") > 20, "the log is not at DEBUG"
    assert {name: seen for name, text in written.items() if (seen := after.planted.seen(text))} == {}


def test_the_audit_log_is_whole_and_names_the_callers_and_the_refusals(after: World) -> None:
    file = after.folder / "served" / "audit.jsonl"
    command = [sys.executable, "-m", "vmcp", "audit", "verify", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = file.read_text("utf-8")
    assert '"ada"' in text
    assert text.count('"auth_failure"') >= 9, "three bad tokens by three verbs at /mcp"


def test_nothing_is_in_a_command_line(after: World) -> None:
    family = {after.house.pid} | descendants(after.house.pid)
    assert len(family) > 1
    for pid in family:
        assert after.planted.seen(of_process(pid, "cmdline")) == set()


def test_only_the_child_that_it_is_for_has_a_secret_in_its_environment(after: World) -> None:
    for pid in descendants(after.house.pid):
        assert after.planted.seen(of_process(pid, "environ")) <= {"child"}


def test_what_is_told_about_the_house_tells_none(after: World) -> None:
    caller = Caller(after.house, after.planted.planted["token"]).open()
    told = [caller.post(f"vmcp/{method}").text for method in ("servers/list", "servers/health", "metrics")]
    told += [
        httpx.get(f"{after.house.url}{path}", trust_env=False).text for path in ("/healthz", "/readyz", "/metrics")
    ]
    assert after.planted.seen("\n".join(told).encode()) == set()
    caller.close()


def test_the_issuer_alone_has_the_secret_of_its_client(after: World) -> None:
    assert after.planted.planted["client secret"].encode() not in after.recorder.bytes_of()
    assert after.issuer.order()["exchanges"], "nothing was ever exchanged"
