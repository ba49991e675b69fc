"""Notes of calls. Rule: what is written of a note is what would have been written at once, and a note is small."""

import json
from typing import Any

import pytest

from vmcp.call import ANONYMOUS, Identity, Origin, Peer, Trail
from vmcp.config.audit import AuditSpec
from vmcp.middleware import event
from vmcp.middleware.audit import Auditor
from vmcp.middleware.scribe import LONGEST, Note
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.revisions import MODERN, Revision

WHO = Identity("https://idp.example", "u-1", {"azp": "cli", "act": {"sub": "agent"}})
HERE = Origin("streamable-http", "192.0.2.7", "curl/8", via="10.0.0.1")
INFO = b'{"name":"Claude","version":"2"}'


class Kept:
    """A log that keeps notes and texts apart."""

    failing: str | None = None
    load = 0.0
    crowded = False

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.texts: list[bytes] = []

    def put(self, body: bytes, *, vital: bool) -> None:
        self.texts.append(body)

    def note(self, draft: Note) -> None:
        self.notes.append(draft)


def request(method: str, params: dict[str, Any]) -> Request:
    told = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    parsed = jsonrpc.parse(json.dumps(told).encode(), 64, 10_000)
    assert isinstance(parsed, Request)
    return parsed


def tell(kept: Kept, asked: Request, peer: Peer, trail: Trail, made: Auditor | None = None) -> None:
    (made or Auditor(AuditSpec(), kept, b"k" * 16)).served(
        asked, peer, "/mcp", trail, 0.25, b'{"resultType":"complete"}'
    )


def shape(text: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(text)
    assert len(told.pop("audit_id")) == 29
    assert told.pop("logged_at").endswith("Z")
    told["data"] = None
    return told


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "push", "arguments": {"a": 1, "b": [2]}}),
        ("tools/call", {"name": "push", "arguments": []}),
        ("tools/call", {"name": "é\u2028", "arguments": None}),
        ("prompts/get", {"name": 5}),
        ("resources/read", {"uri": "https://u:p@host/x?token=hunter2"}),
        ("ping", {"": "x"}),
        ("vmcp/servers", {}),
    ],
)
@pytest.mark.parametrize("identity", [None, ANONYMOUS, WHO])
@pytest.mark.parametrize("trail", [Trail(), Trail("git", "push", 0.125, "allow", ("p",), "dev"), Trail("git", "pull")])
def test_it_is_written_as_it_would_have_been_at_once(
    method: str, params: dict[str, Any], identity: Identity | None, trail: Trail
) -> None:
    asked = request(method, params)
    for revision, session in ((MODERN, None), (Revision.V2025_11_25, "s" * 43)):
        peer = Peer(revision, info=INFO, session=session, identity=identity, origin=HERE)
        noted, told = Kept(), Kept()
        tell(noted, asked, peer, trail)
        tell(told, asked, peer, trail, Auditor(AuditSpec(requests=True), told, b"k" * 16))
        assert not noted.texts
        assert [shape(note.text()) for note in noted.notes * 2] == [shape(told.texts[0])] * 2


def test_what_is_long_is_told_at_once_and_a_note_keeps_no_more_than_it_says() -> None:
    kept, plain = Kept(), Peer(MODERN, info=INFO, identity=WHO)
    long = {"name": "push", "arguments": {"x": "y" * LONGEST}}
    tell(kept, request("tools/call", long), plain, Trail("git", "push"))
    tell(kept, request("tools/call", {"name": "n" * (event.LONGEST + 1)}), plain, Trail())
    chatty = Peer(MODERN, info=b'{"name":"%b"}' % (b"c" * LONGEST), identity=WHO)
    tell(kept, request("ping", {}), chatty, Trail())
    assert (len(kept.texts), kept.notes) == (3, [])
    tell(
        kept,
        request("tools/call", {"name": "push", "arguments": {"a": 1}, "_meta": {"x": "y" * 100_000}}),
        plain,
        Trail(),
    )
    (note,) = kept.notes
    assert type(note.arguments) is bytes, "a view would keep all that the client has sent"
    assert sum(len(each) for each in (note.arguments, note.name or "", note.info or b"")) < 100


def test_what_is_remembered_is_bounded() -> None:
    kept = Kept()
    made = Auditor(AuditSpec(), kept, b"k" * 16)
    for number in range(event.MOST + 10):
        peer = Peer(MODERN, identity=WHO, session=f"s{number}")
        tell(kept, request("tools/call", {"name": f"t{number}"}), peer, Trail("git"), made)
        kept.notes.pop().text()
    scribe = made._scribe
    assert (len(scribe.calls), len(scribe.people)) == (event.MOST, event.MOST)


def test_notes_and_texts_are_numbered_in_the_order_in_which_they_came() -> None:
    kept = Kept()
    made = Auditor(AuditSpec(), kept, b"k" * 16)
    tell(kept, request("ping", {}), Peer(MODERN), Trail(), made)
    made.happened("config_reload", "success", None, None, {}, {})
    tell(kept, request("ping", {}), Peer(MODERN), Trail(), made)
    texts = [kept.notes[0].text(), kept.texts[0], kept.notes[1].text()]
    numbers = [int(json.loads(text)["audit_id"].rpartition("-")[2]) for text in texts]
    assert numbers == sorted(set(numbers))


def test_half_a_character_loses_no_record() -> None:
    assert json.loads(event.text(event.Extra("\ud800", backend_name="é"))) == {
        "revision": "\ud800",
        "backend_name": "é",
    }
