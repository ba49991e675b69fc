"""Asking real servers: what is sent, what is refused, what is limited, and what becomes of those who do not wait."""

import asyncio
import gzip
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.egress.web import Asked, Said, serving
from tests.upstream.badserver import until
from tests.upstream.test_dial import Authority
from vmcp.egress import fetch, wire
from vmcp.egress.fetch import Blocked, Fetcher, Unfetched


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher()
    yield made
    await made.close()


async def hello(asked: Asked) -> Said:
    return Said(200, b"hello", {"Content-Type": "text/plain", "Set-Cookie": "a=b"})


async def test_what_is_sent_is_what_was_given_and_nothing_of_the_environment(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1/")
    async with serving(hello) as web:
        url = web.url("/token?a=b%20c")
        got = await fetcher.post(url, body=b"x=1", headers={"Authorization": "Basic eA=="}, allow_private=True)
        assert (got.status, got.body, got.headers["content-type"]) == (200, b"hello", "text/plain")
        await fetcher.get(url, allow_private=True)
        first, second = web.asked
        assert (first.method, first.path, first.body) == ("POST", "/token?a=b%20c", b"x=1")
        assert first.headers == {
            "host": f"127.0.0.1:{web.port}",
            "authorization": "Basic eA==",
            "accept-encoding": "identity",
            "connection": "close",
            "content-length": "3",
        }
        assert "cookie" not in second.headers
        assert (second.method, second.body) == ("GET", b"")


async def test_a_learned_url_never_reaches_a_private_address(fetcher: Fetcher) -> None:
    async with serving(hello) as web:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(Blocked):
                await fetcher.get(web.url(host=host, scheme="https"))
        assert web.connections == 0
        assert (await fetcher.get(web.url(), allow_private=True)).status == 200


async def test_the_checked_address_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that points elsewhere at the second look leads nowhere, for there is no second look."""
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    tried: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async def ask(job: object, target: object, address: str, context: object) -> object:
        tried.append(address)
        return fetch.Fetched(200, {}, b"")

    monkeypatch.setattr(wire, "ask", ask)
    fetcher = Fetcher(resolve=resolve)
    await fetcher.get("https://rebinding.example/")
    with pytest.raises(Blocked):
        await fetcher.get("https://rebinding.example/")
    assert tried == ["8.8.8.8"]
    await fetcher.close()


async def test_a_name_is_connected_to_by_address_and_asked_by_name() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == "idp.test"
        return ["127.0.0.2", "127.0.0.1"]  # nobody is at the first

    fetcher = Fetcher(resolve=resolve)
    async with serving(hello) as web:
        assert (await fetcher.get(web.url(host="idp.test"), allow_private=True)).status == 200
        assert web.asked[0].headers["host"] == f"idp.test:{web.port}"
    await fetcher.close()


async def test_tls_is_verified_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("idp.test"))
    trusting, strange = Fetcher(ca_bundle=authority.bundle, resolve=resolve), Fetcher(resolve=resolve)
    async with serving(hello, context) as web:
        url = web.url(host="idp.test", scheme="https")
        assert (await trusting.get(url, allow_private=True)).body == b"hello"
        for fetcher, host in ((strange, "idp.test"), (trusting, "other.test"), (trusting, "127.0.0.1")):
            with pytest.raises(Unfetched, match="its TLS certificate is not trusted"):
                await fetcher.get(web.url(host=host, scheme="https"), allow_private=True)
    await trusting.close()
    await strange.close()


async def test_a_redirect_is_an_answer_and_not_followed(fetcher: Fetcher) -> None:
    async def away(asked: Asked) -> Said:
        return Said(302, headers={"Location": "/other"})

    async with serving(away) as web:
        got = await fetcher.get(web.url(), allow_private=True)
        assert (got.status, got.headers["location"], len(web.asked)) == (302, "/other", 1)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_read_up_to_its_limit(fetcher: Fetcher, chunked: bool) -> None:
    async def large(asked: Asked) -> Said:
        if chunked:
            return Said(
                raw=b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n"
            )
        return Said(200, b"x" * 100)

    async with serving(large) as web:
        assert len((await fetcher.get(web.url(), allow_private=True, max_bytes=100)).body) == 100
        with pytest.raises(Unfetched, match="larger than 99 bytes"):
            await fetcher.get(web.url(), allow_private=True, max_bytes=99)


async def test_what_was_not_asked_for_is_not_unpacked(fetcher: Fetcher) -> None:
    async def bomb(asked: Asked) -> Said:
        return Said(200, gzip.compress(b"x" * 10_000_000), {"Content-Encoding": "gzip"})

    async with serving(bomb) as web:
        with pytest.raises(Unfetched, match="compressed"):
            await fetcher.get(web.url(), allow_private=True)


async def test_no_answer_no_http_and_nobody_there_are_told_in_words_without_the_url(fetcher: Fetcher) -> None:
    async def garbage(asked: Asked) -> Said:
        return Said(raw=b"SSH-2.0-x\r\n\r\n")

    async def nothing(asked: Asked) -> Said:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(garbage) as web:
        with pytest.raises(Unfetched, match="no HTTP"):
            await fetcher.get(web.url(), allow_private=True)
    with pytest.raises(Unfetched, match="the connection failed") as caught:
        await fetcher.get(web.url("/?secret=1"), allow_private=True)
    assert "secret" not in str(caught.value)
    with pytest.raises(Unfetched, match="cannot be resolved"):
        await fetcher.get("https://name.invalid/", allow_private=True)
    with pytest.raises(Unfetched, match=r"no answer within 0\.2 s|in time"):
        async with serving(nothing) as web:
            await fetcher.get(web.url(), allow_private=True, seconds=0.2)


async def test_whoever_asked_may_go_away_and_the_request_ends_by_itself(
    fetcher: Fetcher, caplog: pytest.LogCaptureFixture
) -> None:
    asked, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_: Asked) -> Said:
        asked.set()
        await go.wait()
        done.set()
        return Said(200, b"late")

    async with serving(slow) as web, asyncio.TaskGroup() as group:
        impatient = group.create_task(fetcher.get(web.url(), allow_private=True))
        await asked.wait()
        impatient.cancel()
        go.set()
        await done.wait()
    await until(lambda: fetcher._running == 0)
    assert "failed" not in caplog.text
    assert len(web.asked) == 1


async def test_closing_breaks_off_what_runs_and_refuses_what_comes(fetcher: Fetcher) -> None:
    asked = asyncio.Event()

    async def never(_: Asked) -> Said:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(never) as web, asyncio.TaskGroup() as group:
        waiting = group.create_task(failure(fetcher.get(web.url(), allow_private=True)))
        await asked.wait()
        await fetcher.close()
        assert "broken off" in str(await waiting)
        assert "stopping" in str(await failure(fetcher.get(web.url(), allow_private=True)))
        assert fetcher._running == 0


async def test_only_so_many_requests_are_in_flight(fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "AT_ONCE", 2)
    go, count = asyncio.Event(), asyncio.Semaphore(0)

    async def held(_: Asked) -> Said:
        count.release()
        await go.wait()
        return Said()

    async with serving(held) as web, asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(fetcher.get(web.url(), allow_private=True))
        await count.acquire()
        await count.acquire()
        assert "too many" in str(await failure(fetcher.get(web.url(), allow_private=True)))
        go.set()


async def test_a_bundle_that_cannot_be_read_is_told() -> None:
    fetcher = Fetcher(ca_bundle="/nowhere.pem")
    assert "CA bundle" in str(await failure(fetcher.get("https://127.0.0.1:1/", allow_private=True)))
    await fetcher.close()


async def test_the_library_writes_no_urls_into_our_log(fetcher: Fetcher, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(hello) as web:
        await fetcher.get(web.url("/?code=canary"), headers={"x": "canary"}, allow_private=True)
    assert "canary" not in caplog.text


async def failure(asking) -> Unfetched:  # type: ignore[no-untyped-def]
    with pytest.raises(Unfetched) as caught:
        await asking
    return caught.value
