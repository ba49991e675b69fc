"""Names of tasks. Rule: whoever is not the one that a name was made for learns nothing from it."""

import msgspec
from msgspec import Raw

from tests.middleware.calls import call
from vmcp.aggregator.taskbook import _PURPOSE, Taskbook
from vmcp.call import Call, Identity, Peer
from vmcp.protocol.revisions import Revision
from vmcp.state.crew import Common, Crew
from vmcp.state.ticket import Seal


def of(who: str = "me", session: str | None = "s1") -> Call:
    return call(identity=Identity("i", who), peer=Peer(Revision.V2025_11_25, session=session))


def status(inner: str) -> dict[str, Raw]:
    return {"taskId": Raw(msgspec.json.encode(inner)), "status": Raw(b'"working"')}


def test_a_name_opens_for_its_principal_in_any_session() -> None:
    book = Taskbook(Seal())
    name = book.name(of(), "b", "t/1")
    assert name.replace("-", "").replace("_", "").isalnum(), "a header can carry it"
    assert "t/1" not in name
    assert book.name(of(), "b", "t/1") == name
    assert book.open(of(), name) == book.open(of(session="s2"), name) == ("b", "t/1")


def test_of_several_workers_a_name_says_which_made_it_and_opens_at_all() -> None:
    common = Common(())
    one, other = (Taskbook(Seal(common.key), crew=Crew(common, index)) for index in range(2))
    name = other.name(of(), "b", "1")
    assert name.startswith("1.")
    for book in (one, other, Taskbook(Seal(common.key))):
        assert book.open(of(), name) == book.open(of(), name[2:]) == ("b", "1")
        assert book.open(of("you"), name) is None
        assert book.open(of(), f"1.{name}") is None


def test_a_name_opens_for_nobody_else() -> None:
    seal = Seal()
    book = Taskbook(seal)
    name = book.name(of(), "b", "1")
    assert book.open(of("you"), name) is None
    assert book.open(call(peer=Peer(Revision.V2026_07_28)), name) is None
    assert Taskbook(Seal()).open(of(), name) is None
    for wrong in ("", "1", name[:-1], name + "A", seal.wrap(b"x", _PURPOSE), seal.wrap(b"x", b"other")):
        assert book.open(of(), wrong) is None


def test_a_name_outlives_the_memory_of_it() -> None:
    book = Taskbook(Seal(), remembered=2)
    names = [book.name(of(), "b", str(number)) for number in range(4)]
    assert [book.known(of(), "b", str(number)) for number in range(4)] == [None, None, *names[2:]]
    assert book.open(of(), names[0]) == ("b", "0")
    assert not book.told("b", status("0"), None)


def test_what_is_remembered_is_forgotten_name_by_name() -> None:
    book = Taskbook(Seal(), remembered=2)
    book.name(of(), "b", "1")
    second = book.name(of(session="s2"), "b", "1")
    book.name(of(), "b", "2")
    assert book.known(of(), "b", "1") is None
    assert book.known(of(session="s2"), "b", "1") == second


def test_who_is_told_of_a_task_is_the_session_that_it_is_for() -> None:
    book = Taskbook(Seal())
    mine, theirs = book.name(of(), "b", "1"), book.name(of(session="s2"), "b", "1")
    book.name(of(session=None), "b", "1")
    told = dict(book.told("b", status("1"), None))
    assert {session: params["taskId"] for session, params in told.items()} == {"s1": mine, "s2": theirs}
    assert [session for session, _ in book.told("b", status("1"), "s2")] == ["s2"]
    assert not book.told("b", status("1"), "s3")
    assert not book.told("c", status("1"), None)
    assert not book.told("b", {}, None)
