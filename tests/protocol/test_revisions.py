"""The revisions: their order, what ``initialize`` answers, and who may send what.

Rule: a method is known to a revision when that revision's own schema has it, or it is vmcp's own, or one of the tasks
extension of 2026-07-28 (SEP-2663), which no schema has.
"""

import pytest

from vmcp.protocol.revisions import (
    HANDSHAKE,
    KNOWN,
    LATEST_HANDSHAKE,
    MODERN,
    OWN,
    REQUESTS,
    Revision,
    knows,
    negotiate,
)

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
        ("resources/subscribe", True, False),
        ("resources/unsubscribe", True, False),
        ("server/discover", False, True),
        ("subscriptions/listen", False, True),
        *((method, True, True) for method in OWN),
        *(
            (method, False, False)
            for method in ("", "tools", "Tools/call", "tools/call ", "roots/list", "notifications/cancelled")
        ),
    ],
)
def test_a_revision_knows_its_methods(method: str, old: bool, new: bool) -> None:
    assert [knows(revision, method) for revision in Revision] == [old, old, old, old, new]


@pytest.mark.parametrize(
    ("method", "revisions"),
    [
        ("tasks/get", {Revision.V2025_11_25, MODERN}),
        ("tasks/cancel", {Revision.V2025_11_25, MODERN}),
        ("tasks/result", {Revision.V2025_11_25}),
        ("tasks/list", {Revision.V2025_11_25}),
        ("tasks/update", {MODERN}),
    ],
)
def test_tasks_have_other_verbs_in_each_era(method: str, revisions: set[Revision]) -> None:
    assert {revision for revision in Revision if knows(revision, method)} == revisions


def test_no_method_is_left_out_of_the_tables_above() -> None:
    old = {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
    tasks = {method for method in REQUESTS if method.startswith("tasks/")}
    assert set(REQUESTS) == {*EVERY.split(), *old, "server/discover", "subscriptions/listen", *tasks, *OWN}
    assert len(tasks) == 5


@pytest.mark.parametrize(
    ("key", "methods"),
    [
        ("name", {"tools/call", "prompts/get"}),
        ("uri", {"resources/read", "resources/subscribe", "resources/unsubscribe"}),
        ("taskId", {"tasks/get", "tasks/cancel", "tasks/result", "tasks/update"}),
    ],
)
def test_some_methods_name_their_target(key: str, methods: set[str]) -> None:
    assert {method for method, known in REQUESTS.items() if known.name_key == key} == methods
