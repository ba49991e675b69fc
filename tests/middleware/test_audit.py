"""What an event says, and above all what it does not say.

Rule: the whole event is looked at wherever a secret was near it.
"""

import json
from typing import Any

import pytest

from vmcp.call import Identity, Origin, Peer, Trail
from vmcp.config.audit import TYPES as KNOWN
from vmcp.config.audit import AuditSpec
from vmcp.errors import Code, ConsentRequired, McpError, Overdue, Unavailable
from vmcp.middleware import audit
from vmcp.middleware.audit import Auditor, outcome_of
from vmcp.middleware.scribe import Note
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import LARGE, Request
from vmcp.protocol.revisions import MODERN, REQUESTS, Revision

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"git_push","arguments":{"password":"hunter2","n":1}}}'
Json = dict[str, Any]


class Kept:
    """A log that keeps what it is given."""

    def __init__(self) -> None:
        self.failing: str | None = None
        self.load = 0.0
        self.crowded = False
        self.naps: list[float] = []
        self.vital: list[bool] = []
        self.texts: list[bytes] = []

    def put(self, body: bytes, *, vital: bool) -> None:
        self.texts.append(body)
        self.vital.append(vital)

    def note(self, draft: Note) -> None:
        self.put(draft.text(), vital=False)

    @property
    def event(self) -> Json:
        (text,) = self.texts
        told: Json = json.loads(text)
        return told


def request(text: bytes = CALL) -> Request:
    parsed = jsonrpc.parse(text, 64, 1000)
    assert isinstance(parsed, Request)
    return parsed


def peer(**more: Any) -> Peer:
    origin = Origin("streamable-http", "192.0.2.7", "curl/8")
    return Peer(**{"revision": Revision.V2025_11_25, "session": "s" * 43, "origin": origin, **more})


def served(result: bytes = b'{"content":[]}', text: bytes = CALL, **more: Any) -> Kept:
    kept = Kept()
    who = more.pop("peer", peer())
    trail = more.pop("trail", Trail("git", "push", 0.25))
    Auditor(AuditSpec(**more), kept, b"k" * 16).served(request(text), who, "/mcp", trail, 0.5, result)
    return kept


def test_an_event_has_the_shape_of_toolhive_and_more() -> None:
    who = peer(
        identity=Identity("https://idp.example", "u-1", {"email": "u@example.com", "azp": "cli"}, token="tok-en"),
        info=b'{"name":"Claude","version":"2"}',
    )
    told = served(peer=who, trail=Trail("git", "push", 0.25, "allow", ("p1",))).event
    digest = told["metadata"]["extra"].pop("arguments_digest")
    assert digest.startswith("blake2b:")
    assert len(told.pop("audit_id")) == 29
    assert told.pop("logged_at").endswith("Z")
    mark = told["source"]["extra"].pop("session")
    assert len(mark) == 16
    assert told == {
        "msg": "audit_event",
        "type": "mcp_tool_call",
        "outcome": "success",
        "component": "vmcp",
        "source": {"type": "network", "value": "192.0.2.7", "extra": {"user_agent": "curl/8"}},
        "subjects": {
            "user_id": "u-1",
            "issuer": "https://idp.example",
            "azp": "cli",
            "client_name": "Claude",
            "client_version": "2",
        },
        "target": {"endpoint": "/mcp", "method": "tools/call", "type": "tool", "name": "git_push"},
        "metadata": {
            "extra": {
                "duration_ms": 500.0,
                "revision": "2025-11-25",
                "backend_name": "git",
                "backend_ms": 250.0,
                "backend_target": "push",
                "decision": "allow",
                "policies": ["p1"],
                "arguments_size": 28,
                "arguments_count": 2,
                "response_size": 14,
                "transport": "streamable-http",
            }
        },
    }


def test_neither_arguments_nor_results_nor_tokens_nor_ids_of_sessions_are_in_it() -> None:
    who = peer(identity=Identity("i", "u", {"email": "u@example.com", "name": "Uma"}, token="tok-en"))
    text = served(b'{"content":[{"type":"text","text":"result-words"}]}', peer=who).texts[0]
    for secret in (b"hunter2", b"password", b"result-words", b"tok-en", b"example.com", b"Uma", b"s" * 43):
        assert secret not in text


def test_they_are_in_it_redacted_and_cut_where_the_configuration_says_so() -> None:
    told = served(b'{"content":[{"text":"words"}]}', requests=True, responses=True).event
    assert told["data"] == {
        "request": {"password": "***", "n": 1},
        "response": {"content": [{"text": "words"}]},
    }
    told = served(b'{"content":"%b"}' % (b"x" * 100), responses=True, max_data=30).event
    assert told["data"] == {"response": {"truncated": True, "size": 114, "text": '{"content":"' + "x" * 18}}


def test_the_digest_is_the_same_for_the_same_arguments_and_nobody_can_guess_them_by_it() -> None:
    def digest(key: bytes | None, text: bytes = CALL) -> str:
        kept = Kept()
        Auditor(AuditSpec(), kept, key).served(request(text), peer(), "/mcp", Trail(), 0.0, b"{}")
        found: str = kept.event["metadata"]["extra"]["arguments_digest"]
        return found

    assert digest(b"k" * 16) == digest(b"k" * 16)
    assert digest(b"k" * 16) != digest(b"k" * 16, CALL.replace(b"hunter2", b"hunter3"))
    assert digest(b"k" * 16) != digest(b"l" * 16)
    assert digest(None) != digest(None), "without a key, nobody can compare one run with another"


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (b'{"content":[],"isError":true}', "application_error"),
        (b'{"content":[],"isError":false}', "success"),
        (b'{"structuredContent":{"isError":true}}', "success"),
        (b'{"isError":"yes"}', "success"),
        (b'{"content":[{"type":"text","text":"\\"isError\\":true"}]}', "success"),
    ],
)
def test_an_error_of_the_tool_is_seen_in_its_result(result: bytes, outcome: str) -> None:
    assert served(result).event["outcome"] == outcome
    assert served(result, application_errors=False).event["outcome"] == "success"


@pytest.mark.parametrize(
    ("text", "trail"),
    [
        (CALL, Trail("git", "push", 0.25, "allow", ("p1",), "reader")),
        (CALL, Trail("git", "git_push", 0.25)),
        (CALL.replace(b'"git_push"', b"7"), Trail()),
        (CALL.replace(b"tools/call", b"prompts/get"), Trail("git", "x" * 300)),
        (b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a://b?c=d"}}', Trail("git", "a://b?c=d")),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', Trail()),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":[1]}}', Trail("git", "t")),
    ],
)
def test_what_is_told_of_the_usual_call_is_what_is_told_of_every_other(text: bytes, trail: Trail) -> None:
    who = peer(identity=Identity("i", "u", {"azp": "cli", "act": {"sub": "agent"}}))
    short, again, full = (
        served(text=text, trail=trail, peer=who),
        Kept(),
        served(text=text, trail=trail, peer=who, responses=True),
    )
    auditor = Auditor(AuditSpec(), again, b"k" * 16)
    for _ in range(2):
        again.texts.clear()
        auditor.served(request(text), who, "/mcp", trail, 0.5, b'{"content":[]}')
    told = [kept.event for kept in (short, again, full)]
    for event in told:
        del event["audit_id"], event["logged_at"]
    assert told[2].pop("data") == {"response": {"content": []}}
    assert told[0] == told[1] == told[2]


def test_events_of_what_is_left_out_are_not_made() -> None:
    assert not served(leave_out=frozenset({"mcp_tool_call"})).texts


def test_a_result_that_asks_says_so() -> None:
    who = peer(revision=MODERN)
    told = served(b'{"resultType":"input_required","inputRequests":{}}', peer=who).event
    assert told["metadata"]["extra"]["result_type"] == "input_required"
    for result in (b'{"resultType":"complete"}', b'{"content":[],"resultType":"complete"}', b"{}"):
        assert "result_type" not in served(result, peer=who).event["metadata"]["extra"]


@pytest.mark.parametrize(
    ("error", "trail", "outcome"),
    [
        (McpError(Code.INVALID_PARAMS, "x", vmcp_code=Code.ROUTING_FAILED), Trail(), "failure"),
        (McpError(Code.INVALID_PARAMS, "x", vmcp_code=Code.ROUTING_FAILED), Trail(decision="deny"), "denied"),
        (McpError(Code.INTERNAL_ERROR, "x"), Trail(limited="rateLimiting.perUser"), "denied"),
        (McpError(Code.INVALID_REQUEST, "x", vmcp_code=Code.UNAUTHORIZED), Trail(), "denied"),
        (McpError(Code.INVALID_PARAMS, "x"), Trail("git"), "application_error"),
        (McpError(-31999, "x"), Trail("git"), "application_error"),
        (Unavailable("git", "down"), Trail("git"), "error"),
        (Overdue("git", "total", 1.0), Trail("git"), "error"),
        (McpError(Code.INTERNAL_ERROR, "x", vmcp_code=Code.GATEWAY_ERROR), Trail(), "error"),
        (None, Trail("git"), "failure"),
    ],
)
def test_how_it_ended(error: McpError | None, trail: Trail, outcome: str) -> None:
    assert outcome_of(error, trail) == outcome


def failed(error: McpError | None, trail: Trail | None = None, text: bytes = CALL, **more: Any) -> Kept:
    kept = Kept()
    Auditor(AuditSpec(**more), kept).failed(request(text), peer(), "/mcp", trail or Trail(), 0.5, error)
    return kept


def test_the_text_of_an_error_may_repeat_arguments_so_it_is_not_in_it() -> None:
    error = McpError(Code.INVALID_PARAMS, "password hunter2 is wrong", vmcp_code=Code.ROUTING_FAILED)
    kept = failed(error)
    assert b"hunter2" not in kept.texts[0]
    extra = kept.event["metadata"]["extra"]
    assert (extra["jsonrpc_error_code"], extra["vmcp_error_code"]) == (-32602, 2002)
    assert kept.vital == [True]
    told = failed(McpError(-1, "no: Bearer abcdefgh1234"), responses=True).event
    assert told["metadata"]["extra"]["jsonrpc_error_message"] == "no: ***"
    link = ConsentRequired("b", "https://gw.example/oauth/start?invitation=hunter2")
    assert b"hunter2" not in failed(link, responses=True).texts[0]


def test_what_was_cancelled_and_what_was_limited_says_so() -> None:
    assert failed(None).event["metadata"]["extra"]["cancelled"] is True
    told = failed(McpError(-32603, "slow down"), Trail(limited="rateLimiting.shared")).event
    assert (told["outcome"], told["metadata"]["extra"]["limited_by"]) == ("denied", "rateLimiting.shared")


def test_a_name_that_a_client_made_up_is_cut_and_a_uri_has_no_query() -> None:
    text = CALL.replace(b"git_push", b"x" * 5000)
    assert len(failed(None, text=text).event["target"]["name"]) == 256
    told = failed(None, text=CALL.replace(b"tools/call", b"made/up")).event
    assert (told["type"], told["target"]) == ("mcp_request", {"endpoint": "/mcp", "method": "made/up"})
    read = b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"https://u:p@h.example/a?sig=abc#f"}}'
    told = failed(None, text=read, trail=Trail("web", "https://u:p@h.example/a?sig=abc")).event
    assert told["target"]["name"] == "https://h.example/a?…"
    assert "sig" not in json.dumps(told)
    assert "p@" not in json.dumps(told)
    wrong = read.replace(b"https://u:p@h.example", b"http://[")
    assert failed(None, text=wrong).event["target"]["name"] == ""


def test_who_acted_for_whom_is_told_to_a_depth() -> None:
    act = {"sub": "agent", "iss": "i", "act": {"sub": "bot", "act": {"sub": "third"}}}
    who = peer(identity=Identity("i", "u", {"act": act}))
    assert served(peer=who).event["delegation"] == [{"iss": "i", "sub": "agent"}, {"sub": "bot"}, {"sub": "third"}]
    assert served(peer=who, delegation_depth=1).event["delegation"] == [
        {"iss": "i", "sub": "agent"},
        {"truncated": "true"},
    ]
    assert "delegation" not in served(peer=peer(identity=Identity("i", "u", {"act": "x"}))).event


def test_only_the_events_that_are_wanted_are_written_but_the_request_counts_as_told() -> None:
    assert served(only=frozenset({"mcp_tool_call"})).texts
    assert not served(only=frozenset({"mcp_ping"})).texts
    made_up = CALL.replace(b"tools/call", b"made/up")
    assert served(text=made_up).texts
    assert not served(text=made_up, only=frozenset({"mcp_ping"})).texts
    who = peer()
    assert not served(leave_out=frozenset({"mcp_tool_call"}), only=frozenset({"mcp_tool_call"}), peer=who).texts
    assert who.origin is not None
    assert who.origin.told


def test_every_request_has_a_type_that_can_be_chosen() -> None:
    assert {kind for kind, _ in audit.TYPES.values()} < set(KNOWN)
    missing = {method for method in REQUESTS if method not in audit.TYPES and not method.startswith("vmcp/")}
    assert missing <= {"sampling/createMessage", "elicitation/create", "roots/list"}


def test_a_message_that_was_refused_before_it_was_a_call() -> None:
    kept = Kept()
    auditor = Auditor(AuditSpec(), kept)
    origin = Origin("websocket", "192.0.2.7", "ua", via="10.0.0.1")
    auditor.refused("initialize", McpError(Code.INVALID_PARAMS, "hunter2"), origin)
    told = kept.event
    assert (told["type"], told["outcome"], told["target"]) == ("mcp_initialize", "failure", {"method": "initialize"})
    assert told["source"]["extra"] == {"user_agent": "ua", "via": "10.0.0.1"}
    assert origin.told
    kept.texts.clear()
    auditor.refused("", McpError(Code.PARSE_ERROR, "x"), None)
    assert (kept.event["type"], kept.event["target"], kept.event["source"]["type"]) == ("mcp_request", {}, "local")


def test_claims_that_are_no_texts_and_infos_that_are_none_do_no_harm() -> None:
    who = peer(identity=Identity("i", "u", {"azp": ["a"], "act": {"sub": 5}}), info=b'{"name":5}')
    told = served(peer=who).event
    assert (told["subjects"], told["delegation"]) == ({"user_id": "u", "issuer": "i", "azp": "['a']"}, [{"sub": "5"}])


# --- when nothing can be written


async def test_what_cannot_be_recorded_is_not_served() -> None:
    kept = Kept()
    auditor = Auditor(AuditSpec(), kept)
    await auditor.admit("tools/call")
    kept.failing = "No space left on device"
    for method in (
        "tools/call",
        "resources/read",
        "prompts/get",
        "tasks/cancel",
        "something/new",
        "completion/complete",
    ):
        with pytest.raises(McpError, match="audit unavailable") as refused:
            await auditor.admit(method)
        assert "space" not in refused.value.message
    for method in ("ping", "initialize", "tools/list"):
        await auditor.admit(method)


async def test_a_queue_that_is_full_is_waited_for_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    auditor = Auditor(AuditSpec(), kept)

    async def nap(_: float) -> None:
        kept.naps.append(0.0)
        if len(kept.naps) == 3:
            kept.load = 0.1

    monkeypatch.setattr(audit.asyncio, "sleep", nap)
    kept.load = 0.95
    await auditor.admit("tools/call")
    assert len(kept.naps) == 3
    kept.load = 0.95
    with pytest.raises(McpError, match="audit unavailable"):
        await auditor.admit("tools/call")
    assert len(kept.naps) == 3 + 25


async def test_fail_open_serves_whatever_happens() -> None:
    kept = Kept()
    kept.failing, kept.load = "gone", 1.0
    await Auditor(AuditSpec(on_failure="fail_open"), kept).admit("tools/call")


@pytest.mark.parametrize("asks", [b"input_required", b"complete"])
@pytest.mark.parametrize("failed", [b"true", b"false"])
def test_a_large_result_is_looked_at_just_as_well(asks: bytes, failed: bytes) -> None:
    long = b'"long":"%b"' % (b"x" * LARGE)
    error, kind = b'"isError":%b' % failed, b'"resultType":"%b"' % asks
    inner = b'"structuredContent":{"isError":true,"resultType":"odd"}'
    for members in ((long, inner, error, kind), (kind, long, inner, error), (error, kind, long, inner)):
        event = served(b"{%b}" % b",".join(members), peer=peer(revision=MODERN)).event
        assert event["outcome"] == ("application_error" if failed == b"true" else "success")
        assert event["metadata"]["extra"].get("result_type") == ("input_required" if asks != b"complete" else None)


def test_a_result_of_2026_that_is_not_complete_says_so_whatever_stands_at_its_end() -> None:
    asks = b'{"resultType":"input_required","inputRequests":{},"isError":false}'
    assert served(asks, peer=peer(revision=MODERN)).event["metadata"]["extra"]["result_type"] == "input_required"
    for result in (asks.replace(b"input_required", b"complete"), b'{"content":[],"isError":false}'):
        assert "result_type" not in served(result, peer=peer(revision=MODERN)).event["metadata"]["extra"]


HIDDEN = r'"isErr\u006fr":true'


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ('{"content":[],"isError":false,"resultType":"complete","_meta":{}}', "success"),
        ('{"content":[],"isError":true,"resultType":"complete","_meta":{}}', "application_error"),
        ('{"structuredContent":{"isError":false},"isError":true,"resultType":"complete"}', "application_error"),
        ('{"structuredContent":{"isError":false},"resultType":"complete",' + HIDDEN + "}", "application_error"),
        ('{"content":[{"type":"text","text":"\\"isError\\":true"}],"isError":false,"_meta":{}}', "success"),
    ],
)
@pytest.mark.parametrize("revision", [MODERN, Revision.V2025_11_25])
def test_a_result_is_told_by_its_own_word_wherever_that_stands(result: str, outcome: str, revision: Revision) -> None:
    assert served(result.encode(), peer=peer(revision=revision)).event["outcome"] == outcome


def test_a_type_that_stands_further_within_is_not_the_results_own() -> None:
    nested = b'{"structuredContent":{"resultType":"complete"},"resultType":"input_required"}'
    assert served(nested, peer=peer(revision=MODERN)).event["metadata"]["extra"]["result_type"] == "input_required"
