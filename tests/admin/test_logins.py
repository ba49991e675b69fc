"""Codes and cookies of the web pages. Rule: each end stands beside what is still good."""

from vmcp.admin import logins
from vmcp.admin.logins import CODE_LASTS, COOKIE_LASTS, MOST, Logins, cookie_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_code_works_once_and_within_a_minute() -> None:
    clock = Clock()
    here = Logins("http://127.0.0.1:1", clock)
    first, second = here.code(), here.code()
    assert first != second
    assert here.redeemed("nothing") is None
    assert here.redeemed(first)
    assert here.redeemed(first) is None
    clock.now += CODE_LASTS - 0.1
    assert here.redeemed(second)
    late = here.code()
    clock.now += CODE_LASTS
    assert here.redeemed(late) is None


def test_a_cookie_is_somebody_until_it_ends_or_is_ended() -> None:
    clock = Clock()
    here = Logins("http://127.0.0.1:1", clock)
    cookie, other = here.redeemed(here.code()), here.redeemed(here.code())
    assert cookie
    assert other
    guest = here.guest(cookie)
    assert guest is not None
    assert here.guest(cookie) is guest
    assert here.guest(other) is not guest
    assert here.guest("") is here.guest("x" * 43) is None
    here.end(other)
    here.end("nobody")
    assert here.guest(other) is None
    clock.now += COOKIE_LASTS - 1
    assert here.guest(cookie) is guest
    clock.now += 1
    assert here.guest(cookie) is None


def test_neither_codes_nor_cookies_are_kept_themselves() -> None:
    here = Logins("http://127.0.0.1:1", Clock())
    code = here.code()
    cookie = here.redeemed(here.code())
    assert cookie
    kept = repr(here._codes) + repr(here._guests)
    assert code not in kept
    assert cookie not in kept


def test_there_is_only_so_much_room_and_the_oldest_leave_it() -> None:
    here = Logins("http://127.0.0.1:1", Clock())
    cookies = [here.redeemed(here.code()) or "" for _ in range(MOST + 3)]
    assert [here.guest(each) is None for each in cookies] == [True] * 3 + [False] * MOST
    codes = [here.code() for _ in range(MOST + 1)]
    assert here.redeemed(codes[0]) is None
    assert here.redeemed(codes[1])


def test_a_link_leads_to_the_pages() -> None:
    here = Logins("http://127.0.0.1:44", Clock())
    address, _, code = here.link().partition("?code=")
    assert address == "http://127.0.0.1:44/ui/"
    assert here.redeemed(code)


def test_a_form_is_known_by_its_token_and_a_notice_is_told_once() -> None:
    guest = logins.Guest(0.0)
    assert guest.shows(guest.csrf)
    assert not guest.shows("")
    assert not guest.shows(guest.csrf + "é")
    guest.notice = "done"
    assert (guest.told(), guest.told()) == ("done", "")


def test_a_cookie_is_found_by_its_port() -> None:
    header = "a=b; vmcp-44=x=y; vmcp-45=z"
    assert cookie_of(44, header) == "x=y"
    assert cookie_of(45, header) == "z"
    assert cookie_of(4, header) == cookie_of(44, "") == ""
