"""Over whose link a call goes, and with which capabilities: the cells of design/house.md 3.5 c, as a table.

Rule: nothing is connected here; a link is only what was negotiated on it.
"""

import itertools
import json
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from msgspec import Raw

from tests.server.peers import MemoryWire, Server
from tests.upstream.fakes_backend import FACE, Deaf
from vmcp.call import Call, Identity, Peer, Trail, refine
from vmcp.config.globs import globs
from vmcp.config.model import Allow, BackendSpec, Isolation, Retry, Timeouts
from vmcp.errors import McpError, Overdue, Unavailable
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.routing.table import RoutingTable
from vmcp.tasks import Nest
from vmcp.upstream import sending
from vmcp.upstream.ask import Outgoing
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.link import Facts, Link
from vmcp.upstream.links import Key
from vmcp.upstream.sending import SHARED

OLD = Revision.V2025_11_25
ALL = b'{"sampling":{},"elicitation":{},"roots":{},"x":1}'
SPEC = BackendSpec("a", "g", "streamable-http", url="http://x/", isolation="session")


def call(revision: Revision = OLD, session: str | None = "s", capabilities: bytes = ALL, **more: Any) -> Call:
    peer = Peer(revision, capabilities, session=session, level=more.pop("level", None))
    told: dict[str, Any] = {"client": Deaf(), "deadline": 50.0, "trail": Trail(), "identity": Identity("i", "me")}
    table = RoutingTable(1, "d", {"/mcp": FACE})
    base: dict[str, Any] = {"params": {}, "meta": {}, "tree": {}, "peer": peer, "face": FACE, "table": table}
    return Call(id=b"1", method="tools/call", name="t", **base | told | more)


def link(revision: Revision = OLD, **capabilities: Any) -> Link:
    return Link(
        MemoryWire(Server(), "a"), Facts(revision, capabilities), Nest("t"), lambda *_: None, itertools.count(1)
    )


def key(spec: BackendSpec, asked: Call, spoken: Revision = OLD, *, dual: bool = True) -> Key:
    return sending.key_of(spec, asked, link(spoken), dual=dual)


@pytest.mark.parametrize("client", [OLD, MODERN])
@pytest.mark.parametrize("spoken", [OLD, MODERN])
def test_a_shared_backend_has_one_link_for_everybody(client: Revision, spoken: Revision) -> None:
    assert key(replace(SPEC, isolation="shared"), call(client), spoken) is SHARED


@pytest.mark.parametrize(
    ("isolation", "client", "kind"),
    [
        ("session", OLD, "session"),
        ("session", MODERN, "principal"),
        ("identity", OLD, "principal"),
        ("identity", MODERN, "principal"),
        ("request", OLD, "request"),
        ("request", MODERN, "request"),
    ],
)
@pytest.mark.parametrize("transport", ["stdio", "streamable-http"])
def test_a_backend_of_the_handshake_has_links_of_its_own_for(
    isolation: Isolation, client: Revision, kind: str, transport: Any
) -> None:
    found = key(replace(SPEC, isolation=isolation, transport=transport), call(client))
    assert found.kind == kind
    assert kind != "session" or found.text == "s"


@pytest.mark.parametrize(
    ("client", "more", "dual", "kind"),
    [
        (MODERN, {}, True, "shared"),
        (OLD, {}, True, "session"),
        (OLD, {}, False, "shared"),
        (OLD, {"transport": "stdio"}, True, "session"),
        (OLD, {"protocol": str(MODERN)}, True, "shared"),
    ],
)
def test_a_modern_backend_serves_the_handshake_era_in_it_if_it_can(
    client: Revision, more: dict[str, Any], dual: bool, kind: str
) -> None:
    assert key(replace(SPEC, **more), call(client), MODERN, dual=dual).kind == kind


def test_principals_and_what_their_clients_can_do_are_kept_apart() -> None:
    everyone = [
        call(MODERN),
        call(MODERN, identity=Identity("i", "you")),
        call(MODERN, identity=Identity("im", "e")),
        call(MODERN, identity=None),
        call(MODERN, capabilities=b"{}"),
        call(MODERN, capabilities=b'{"elicitation":{}}'),
    ]
    assert len({key(SPEC, asked) for asked in everyone}) == len(everyone)
    assert key(SPEC, call(MODERN, session="other")) == key(SPEC, call(MODERN))
    # Sampling and roots are not allowed here, so that it makes no difference who declared them.
    assert key(SPEC, call(MODERN, capabilities=b'{"elicitation":{},"sampling":{}}')) == key(SPEC, everyone[-1])


def test_a_handshake_client_without_a_session_is_known_by_its_principal() -> None:
    assert key(SPEC, call(session=None)) == key(replace(SPEC, isolation="identity"), call())


@pytest.mark.parametrize(
    ("allow", "told"),
    [
        (Allow(), {"elicitation": {}, "x": 1}),
        (Allow(sampling=True, roots=True), {"sampling": {}, "elicitation": {}, "roots": {}, "x": 1}),
        (Allow(form=False), {"x": 1}),
    ],
)
def test_a_backend_is_told_what_was_declared_and_is_allowed(allow: Allow, told: dict[str, Any]) -> None:
    spec = replace(SPEC, allow=allow)
    assert json.loads(sending.mirrored(spec, call())) == told
    assert sending.mirrored(spec, call(capabilities=b"{}")) == b"{}"


def test_the_control_link_declares_all_that_is_allowed_unless_it_is_shared() -> None:
    allow = Allow(sampling=True, form=True, url=True, roots=True)
    told = json.loads(sending.declared(replace(SPEC, allow=allow)))
    assert set(told) == {"sampling", "elicitation", "roots"}
    assert set(told["elicitation"]) == {"form", "url"}
    assert sending.declared(replace(SPEC, allow=allow, isolation="shared")) == b"{}"


async def test_what_of_a_call_goes_along() -> None:
    meta = {"progressToken": Raw(b'"p"'), "trace": Raw(b"1"), "io.modelcontextprotocol/clientInfo": Raw(b"{}")}
    outgoing = Outgoing({"name": "t"}, "t", ((b"mcp-param-x", b"1"),))
    asked = call(MODERN, level="debug", meta=meta)
    ask = sending.ask_of(SPEC, asked, outgoing, 10.0, b'{"x":1}')
    assert (ask.own_meta, bytes(ask.token), ask.level) == ({"trace": Raw(b"1")}, b'"p"', "debug")
    assert (ask.deadline, ask.capabilities, ask.name, ask.param_headers) == (
        50.0,
        b'{"x":1}',
        "t",
        outgoing.param_headers,
    )
    assert (ask.asker, ask.notify) == (None, asked.client.notify)
    quiet = sending.ask_of(replace(SPEC, allow=Allow(logging=False)), asked, outgoing, -100.0, b"{}")
    assert (quiet.level, quiet.deadline) == (None, 20.0)
    assert quiet.notify is not None
    await quiet.notify("notifications/message", {})


def test_the_limits_of_a_tool_go_along_with_its_calls_alone() -> None:
    slow = Timeouts(total=500.0, place="timeouts.tools[slow_*]")
    spec = replace(SPEC, timeouts=Timeouts(total=40.0, tools=((globs(["slow_*"]), slow),)))

    def asked(method: str, name: str, tool: str | None = None) -> tuple[str, float]:
        outgoing = Outgoing({}, name, tool=tool)
        ask = sending.ask_of(spec, refine(call(), method=method, deadline=inf), outgoing, 10.0)
        assert ask.limits is not None
        return ask.limits.place, ask.deadline

    assert asked("tools/call", "slow_one") == ("timeouts.tools[slow_*]", 510.0)
    assert asked("tools/call", "other") == ("timeouts", 50.0)
    assert asked("prompts/get", "slow_one") == ("timeouts", 50.0)
    assert asked("tasks/result", "t-1", "slow_one") == ("timeouts.tools[slow_*]", 510.0)


def test_whoever_has_less_time_than_the_limits_give_gets_no_more_by_progress() -> None:
    ask = sending.ask_of(SPEC, refine(call(), deadline=20.0), Outgoing({}), 15.0)
    assert ask.limits is not None
    assert (ask.deadline, ask.limits.total, ask.limits.longest) == (20.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("retry", "idempotent", "again"),
    [("reads", True, False), ("idempotent", False, False), ("idempotent", True, True)],
)
def test_a_tool_is_called_again_only_if_it_says_that_it_may_and_the_config_too(
    retry: Retry, idempotent: bool, again: bool
) -> None:
    ask = sending.ask_of(replace(SPEC, retry=retry), call(), Outgoing({}, "t", idempotent=idempotent), 0.0)
    assert ask.again is again


@pytest.mark.parametrize(
    ("wanted", "told", "several", "says"),
    [
        (None, None, False, None),
        ("info", None, False, None),
        ("debug", None, False, "debug"),
        ("error", None, False, "error"),
        ("error", "error", False, None),
        ("info", "error", False, "info"),
        ("error", None, True, None),
        ("debug", None, True, "debug"),
        ("info", "debug", True, None),
    ],
)
def test_the_log_level_that_a_private_link_is_told(
    wanted: str | None, told: str | None, several: bool, says: str | None
) -> None:
    ask = sending.ask_of(SPEC, call(level=wanted), Outgoing({}), 0.0, b"{}")
    private = link(logging={})
    private.level = told
    assert sending.level_for(private, ask, several=several) == says
    assert sending.level_for(link(MODERN, logging={}), ask, several=several) is None
    assert sending.level_for(link(tools={}), ask, several=several) is None


@pytest.mark.parametrize(
    ("error", "refuses"),
    [
        (McpError(-32601, "Method not found"), True),
        (HttpRefused("a", "no", 400), True),
        (HttpRefused("a", "no", 404), True),
        (HttpRefused("a", "no", 401), False),
        (HttpRefused("a", "no", 503), False),
        (Unavailable("a", "gone"), False),
        (Overdue("a", "timeouts.total", 1.0), False),
    ],
)
def test_what_counts_as_knowing_no_initialize(error: McpError, refuses: bool) -> None:
    assert sending.refuses_handshake(error) == refuses
