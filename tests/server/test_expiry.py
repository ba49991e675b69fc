"""What stands open for somebody, and how it ends. Rule: an end is told once."""

import time

from vmcp.call import Identity
from vmcp.server.expiry import Guests

ADA, BOB = Identity("i", "ada"), Identity("i", "bob")


async def test_whoever_is_not_welcome_any_more_is_put_out_once() -> None:
    unwelcome: list[Identity | None] = []
    guests = Guests(lambda path, who: path != "/gone" and who not in unwelcome)
    ended: list[str] = []
    with (
        guests.stay("/mcp", lambda: ADA, lambda: ended.append("ada")),
        guests.stay("/mcp", lambda: BOB, lambda: ended.append("bob")),
        guests.stay("", lambda: None, lambda: ended.append("nobody")),
    ):
        assert guests.review() == 0
        unwelcome = [BOB]
        assert (guests.review(), ended) == (1, ["bob"])
        assert (guests.review(), ended) == (0, ["bob"])
        assert len(guests) == 3
    assert len(guests) == 0
    assert guests.review() == 0


async def test_who_was_let_in_by_a_configuration_that_is_gone_does_not_stay() -> None:
    guests = Guests(lambda path, who: path != "/gone")
    ended: list[str] = []
    with guests.stay("/gone", lambda: ADA, lambda: ended.append("ada")):
        assert ended == ["ada"]


async def test_whose_token_has_ended_is_put_out_once() -> None:
    guests, ended = Guests(), []
    late = Identity("i", "ada", expires=time.time() - 1)
    with guests.stay("/mcp", lambda: late, lambda: ended.append("ada")):
        guests.review()
    assert ended == ["ada"]
