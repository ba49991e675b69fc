"""The revisions: their order, what ``initialize`` answers, and who may send what.

Rule: a method is known to a revision when that revision's own schema has it.
"""

import pytest

from vmcp.protocol.revisions import HANDSHAKE, KNOWN, LATEST_HANDSHAKE, MODERN, REQUESTS, Revision, knows, negotiate

LISTS = "tools/list resources/list resources/templates/list prompts/list"
EVERY = f"{LISTS} tools/call resources/read prompts/get completion/complete"


def test_revisions_compare_in_order_of_time() -> None:
    assert sorted(Revision, reverse=True)[::-1] == list(Revision) == [*HANDSHAKE, MODERN]
    assert [str(revision) for revision in Revision] == list(KNOWN)
    assert max(HANDSHAKE) is LATEST_HANDSHAKE


@pytest.mark.parametrize("revision", Revision)
def test_only_the_last_revision_has_no_handshake(revision: Revision) -> None:
    assert revision.modern is (revision is MODERN) is (revision not in HANDSHAKE)


@pytest.mark.parametrize("requested", HANDSHAKE)
def test_a_handshake_revision_is_answered_with_itself(requested: Revision) -> None:
    assert negotiate(str(requested)) is requested


@pytest.mark.parametrize("requested", ["2026-07-28", "2024-10-07", "2027-01-01", "", "draft", None, 1, [], {}, True])
def test_anything_else_is_answered_with_the_latest_handshake_revision(requested: object) -> None:
    assert negotiate(requested) is Revision.V2025_11_25


@pytest.mark.parametrize(
    ("method", "old", "new"),
    [
        *((method, True, True) for method in EVERY.split()),
        ("initialize", True, False),
        ("ping", True, False),
        ("logging/setLevel", True, False),
        ("server/discover", False, True),
        *(
            (method, False, False)
            for method in ("", "tools", "Tools/call", "tools/call ", "roots/list", "notifications/cancelled")
        ),
    ],
)
def test_a_revision_knows_its_methods(method: str, old: bool, new: bool) -> None:
    assert [knows(revision, method) for revision in Revision] == [old, old, old, old, new]


def test_no_method_is_left_out_of_the_table_above() -> None:
    assert set(REQUESTS) == {*EVERY.split(), "initialize", "ping", "logging/setLevel", "server/discover"}


@pytest.mark.parametrize(
    ("key", "methods"),
    [("name", {"tools/call", "prompts/get"}), ("uri", {"resources/read"})],
)
def test_some_methods_name_their_target(key: str, methods: set[str]) -> None:
    assert {method for method, known in REQUESTS.items() if known.name_key == key} == methods
