"""Consents under way, with a clock of the test's own."""

from typing import Any

from tests.upstream.authorizing import person
from vmcp.upstream.credentials import desk as desks
from vmcp.upstream.credentials.desk import VALID, Desk, Invitation, Journey
from vmcp.upstream.credentials.logins import Client, Login
from vmcp.upstream.credentials.servers import Server

ADA, BOB = person("ada"), person("bob")
SERVER = Server("https://as.example", "https://as.example/a", "https://as.example/t", "https://b.example/mcp")
DRAFT = Login("https://as.example", "https://as.example/t", Client("c"), "https://b.example/mcp", "", 0.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def journey(desk: Desk, invitation: Invitation, browser: str = "b") -> Journey:
    return desk.journey(invitation, browser, "https://gw.example/oauth/callback", SERVER, DRAFT)


def test_an_invitation_ends_and_is_renewed_before_it_does() -> None:
    clock = Clock()
    desk = Desk(clock)
    first = desk.invite(ADA)
    assert desk.invite(ADA) is first
    assert desk.invite(ADA, ("more",)) is not first
    clock.now += VALID / 2
    assert desk.invite(ADA) is not first
    assert desk.invited(first.id) is first
    clock.now += VALID / 2
    assert desk.invited(first.id) is None
    assert desk.invited("") is None
    desk.invite(BOB)
    clock.now += VALID
    desk.invite(BOB)
    assert len(desk) == 1, "those that are over are forgotten"


def test_who_left_comes_back_once_and_in_time() -> None:
    clock = Clock()
    desk = Desk(clock)
    state = desk.left(journey(desk, desk.invite(ADA)))
    assert desk.awaits(state)
    assert desk.back(state, "another") is None
    assert desk.back("another", "b") is None
    found = desk.back(state, "b")
    assert found is not None
    assert found.invitation.who is ADA
    assert desk.back(state, "b") is None
    late = desk.left(journey(desk, desk.invite(ADA)))
    clock.now += VALID
    assert desk.back(late, "b") is None


def test_there_are_never_more_than_so_many(monkeypatch: Any) -> None:
    monkeypatch.setattr(desks, "MOST", 3)
    desk = Desk(Clock())
    invitations = [desk.invite(person(f"p{n}")) for n in range(5)]
    assert [desk.invited(each.id) is not None for each in invitations] == [False, False, True, True, True]
    states = [desk.left(journey(desk, desk.invite(person(f"p{n}")))) for n in range(5)]
    assert [desk.awaits(state) for state in states] == [False, False, True, True, True]


def test_nothing_of_it_is_shown() -> None:
    desk = Desk(Clock())
    invitation = desk.invite(ADA)
    going = journey(desk, invitation)
    state = desk.left(going)
    shown = repr(going) + repr(invitation)
    assert not [each for each in (invitation.id, going.verifier, state) if each in shown]
