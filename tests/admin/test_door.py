"""Who is let in at the admin listener. Rule: every refusal stands beside the permission that differs from it in one thing."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.admin.offices import office
from tests.server.clients import Door as Client
from vmcp.admin import listening
from vmcp.admin.routes import WAYS
from vmcp.config.model import Limits

STATUS = "/admin/v1/status"


async def test_the_same_user_may_and_another_may_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int | None] = []

    def others(uid: int | None) -> bool:
        seen.append(uid)
        return False

    async with office(monkeypatch, tmp_path) as here:
        assert (await here.ask("GET", STATUS)).status == 200
    async with office(monkeypatch, tmp_path, allowed=others) as here:
        refused = await here.ask("GET", STATUS)
        assert refused.status == 403
        assert refused.body == {"error": "only the user who runs vmcp, and root, may use this socket"}
        assert (await here.ask("POST", "/admin/v1/drain")).status == 403
        assert not here.running.draining
        assert (await here.ask("GET", "/nothing")).status == 403, "he does not learn what there is"
    assert seen == [os.geteuid()] * 3, "it was the kernel's word that was judged"


async def test_a_port_wants_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, listen=True) as here:
        token = here.token.read_text().strip()
        assert here.token.stat().st_mode & 0o777 == 0o600
        for shown, status in (
            (f"Bearer {token}", 200),
            (f"bearer {token}", 200),
            (None, 401),
            ("", 401),
            (f"Bearer {token}x", 401),
            (f"Bearer {token[:-1]}", 401),
            ("Bearer ", 401),
            (f"Basic {token}", 401),
            (token, 401),
        ):
            given = {} if shown is None else {"Authorization": shown}
            answer = await here.ask("GET", STATUS, headers=given, port=True)
            assert (answer.status, shown) == (status, shown)
        assert answer.headers["www-authenticate"] == "bearer"
        assert (await here.ask("GET", "/nothing", port=True)).status == 401


async def test_a_page_of_another_origin_may_not_ask_even_with_the_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with office(monkeypatch, tmp_path, listen=True) as here:
        shown = {"Authorization": f"Bearer {here.token.read_text().strip()}"}
        own = f"127.0.0.1:{here.port}"
        for origin, status in (
            (f"http://{own}", 200),
            ("http://127.0.0.1:1", 403),
            ("http://evil.example", 403),
            (f"https://{own}", 403),
            ("null", 403),
        ):
            answer = await here.ask("POST", "/admin/v1/cache/clear", headers={**shown, "Origin": origin}, port=True)
            assert (answer.status, origin) == (status, origin)
        assert (await here.ask("GET", STATUS, headers={"Origin": "http://localhost"})).status == 403, (
            "nor over the socket"
        )


async def test_a_name_that_was_bent_to_us_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path, listen=True) as here:
        shown = {"Authorization": f"Bearer {here.token.read_text().strip()}"}
        for host, status in (("localhost", 200), ("[::1]", 200), ("127.0.0.9", 200), ("evil.example", 421), ("", 421)):
            answer = await here.ask("GET", STATUS, headers={**shown, "Host": host}, port=True)
            assert (answer.status, host) == (status, host)


async def test_a_path_and_a_method_are_what_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path) as here:
        refused = await here.ask("POST", STATUS)
        assert (refused.status, refused.headers["allow"]) == (405, "get")
        assert (await here.ask("GET", "/admin/v1/reload")).headers["allow"] == "post"
        for path in (
            "/",
            "/admin",
            "/admin/v1/",
            "/admin/v1/backends/",
            "/admin/v1/status/",
            "/admin/v2/status",
            "/mcp",
        ):
            assert (await here.ask("GET", path)).status == 404, path


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b'{"pattern": "a/*"}', 200),
        (b"[]", 400),
        (b"{", 400),
        (b'{"pattern": 5}', 400),
        (b'{"patern": "a/*"}', 400),
        (b'{"pattern": "' + b"x" * (100 << 10) + b'"}', 413),
    ],
)
async def test_a_body_is_a_small_object(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: bytes, status: int
) -> None:
    async with office(monkeypatch, tmp_path) as here:
        assert (await here.ask("POST", "/admin/v1/cache/clear", body)).status == status


async def test_it_has_room_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The listener for clients may be full and late; this one knows nothing of it."""
    monkeypatch.setattr(listening, "LIMITS", Limits(requests=1))
    async with office(monkeypatch, tmp_path, limits=Limits(requests=0, memory_bytes=1)) as here:
        here.running.load.turn(1.0, 99.0, 1 << 40, 0)
        assert here.running.load.step == 3
        assert (await here.ask("GET", STATUS)).status == 200


def test_nobody_is_turned_away_for_what_others_do() -> None:
    load = listening._Untroubled(listening.LIMITS, 1)
    for _ in range(9):
        assert not load.turn(1.0, 9.0, 1 << 40, 0)
    assert not load.uneasy
    assert load.refuses(1, None, standing=True) is None


async def test_nothing_of_it_is_on_the_listener_for_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with office(monkeypatch, tmp_path) as here:
        client = Client(here.running.app)
        for way in WAYS:
            path = f"/admin/v1/{way.path.replace('*', 'a')}"
            answer: Any = await client.http(way.method, path)
            assert answer.status == 404, path
        assert (await client.http("GET", "/livez")).status == 200
