"""Streamable HTTP towards a backend, in real bytes: what is sent, which answers are answers, and what else may come.

Rule: whatever an answer was like, no slot of the pool is held once the exchange is over.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.upstream.badserver import until
from tests.upstream.child import answers, failure, notice, result
from tests.upstream.fakes import Answer, Heard, WebServer, drop, silence, single, soon, stream, text, web, wired
from vmcp.config.model import Timeouts
from vmcp.errors import Code, McpError, Overdue, Unavailable, WireError
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream import http
from vmcp.upstream.http import HttpRefused, HttpWire
from vmcp.upstream.wire import Outgoing


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


def ask(id_: int = 1, *headers: tuple[bytes, bytes], replay: bool = False) -> Outgoing:
    return Outgoing(id_, jsonrpc.request(id_, "ping", {}), headers, replay=replay)


def ping(answer: Answer) -> WebServer:
    return WebServer({"ping": answer})


async def listened(wire: HttpWire, id_: int = 1) -> tuple[list[str], Any]:
    """The methods of what came before the answer, and the result."""
    found: list[str] = []

    async def on_message(message: Message) -> None:
        found.append(message.method)

    answer = await wire.exchange(ask(id_), on_message, soon())
    return found, json.loads(bytes(jsonrpc.result_of(answer.message)))


def shown(told: Heard, *names: str) -> list[str | None]:
    return [told.headers.get(name) for name in names]


# --- what is sent


async def test_a_request_has_the_headers_of_the_protocol_the_config_and_the_link_and_no_others() -> None:
    async with wired(server := ping(single(result({}))), (b"authorization", b"Bearer t")) as (wire, _):
        answer = await wire.exchange(ask(3, (b"mcp-session-id", b"s")), None, soon())
    [told] = server.heard
    assert (told.verb, told.message) == ("POST", {"jsonrpc": "2.0", "id": 3, "method": "ping", "params": {}})
    assert dict(told.headers) == {
        "host": f"127.0.0.1:{server.port}",
        "accept-encoding": "identity",
        "content-length": told.headers["content-length"],
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "authorization": "Bearer t",
        "mcp-session-id": "s",
    }
    assert (bytes(answer.message.result), answer.status, answer.session) == (b"{}", 200, None)


async def test_a_session_that_is_given_is_handed_on() -> None:
    async with wired(web("2025-11-25")) as (wire, _):
        request = Outgoing(1, jsonrpc.request(1, "initialize", {}))
        assert (await wire.exchange(request, None, soon())).session == b"s1"


# --- answers


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
async def test_an_answer_in_a_stream_may_be_cut_anywhere(end: bytes) -> None:
    lines = [b"\xef\xbb\xbf: hello", b"", b"id: 1", b"data:", b"", b"event: message"]
    lines += [b'data: {"jsonrpc":"2.0",', b'data: "method":"notifications/\xc3\xbc"}', b""]
    lines += ['data: {"jsonrpc":"2.0","id":1,"result":{"x":"\u2028\U0001f600"}}'.encode(), b"", b""]
    body = end.join(lines)
    for cut in range(1, len(body), 7):
        async with wired(ping(stream(body[:cut], body[cut:]))) as (wire, pool):
            assert await listened(wire) == (["notifications/ü"], {"x": "\u2028\U0001f600"})
            await until(lambda pool=pool: pool.active == 0)  # type: ignore[misc]


async def test_what_comes_before_the_answer_is_told_in_order_and_what_is_not_for_us_is_not() -> None:
    messages = [
        notice("notifications/progress", progressToken=1, progress=1),
        {"jsonrpc": "2.0", "id": 99, "result": {"for": "somebody else"}},
        {"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage"},
        notice("notifications/message", level="info", data=1),
        result({"x": 1}),
        notice("notifications/message", level="info", data="too late"),
    ]
    async with wired(ping(stream(*messages))) as (wire, pool):
        expected = ["notifications/progress", "sampling/createMessage", "notifications/message"]
        assert await listened(wire) == (expected, {"x": 1})
        assert bytes((await wire.exchange(ask(2), None, soon())).message.result) == b'{"x": 1}'
        await until(lambda: pool.active == 0)


async def test_an_error_in_a_stream_is_the_answer_even_without_an_id() -> None:
    async with wired(ping(stream(failure(-32000, "no") | {"id": None}, ends=False))) as (wire, pool):
        answer = await wire.exchange(ask(), None, soon())
        assert jsonrpc.fault(answer.message.error).message == "no"
        await until(lambda: pool.active == 0)


async def test_a_stream_that_stays_open_after_the_answer_costs_its_connection_and_no_slot() -> None:
    async with wired(server := ping(stream(result({}), ends=False))) as (wire, pool):
        assert await listened(wire) == ([], {})
        await until(lambda: pool.active == 0 and server.left == 1)


async def test_a_stream_without_an_answer_is_told_as_such() -> None:
    async with wired(ping(stream(notice("notifications/x")))) as (wire, pool):
        with pytest.raises(Unavailable, match="closed the stream before its reply") as failed:
            await wire.exchange(ask(), None, soon())
        assert failed.value.vmcp_code == Code.TRANSPORT_CLOSED
        assert pool.active == 0


@pytest.mark.parametrize("size", [100, 1 << 20, 3 << 20])
@pytest.mark.parametrize("form", [single, stream], ids=["json", "stream"])
async def test_a_large_answer_passes_in_either_form(form: Any, size: int) -> None:
    async with wired(ping(form(result({"x": "x" * size})))) as (wire, _):
        assert await listened(wire) == ([], {"x": "x" * size})


@pytest.mark.parametrize("form", [single, stream], ids=["json", "stream"])
async def test_one_that_is_larger_than_the_limit_is_refused(form: Any) -> None:
    async with wired(ping(form(result({"x": "x" * (5 << 20)})))) as (wire, pool):
        with pytest.raises(WireError):
            await wire.exchange(ask(), None, soon())
        assert pool.active == 0


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_an_error_is_an_answer_whatever_the_status(status: int) -> None:
    async with wired(ping(single(failure(-32600, "no", {"x": 1}) | {"id": "server-error"}, status))) as (wire, _):
        answer = await wire.exchange(ask(), None, soon())
        assert answer.status == status
        with pytest.raises(McpError) as failed:
            jsonrpc.result_of(answer.message)
        assert (failed.value.code, failed.value.message) == (-32600, "no")


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (text(401), 401, "it wants credentials"),
        (text(403), 403, "it refused our credentials"),
        (text(404), 404, "there is nothing at its URL"),
        (text(405), 405, "takes no POST"),
        (text(406), 406, "does not answer in a form we accept"),
        (text(429), 429, "limiting our rate"),
        (text(503), 503, "it answered with HTTP 503"),
        (text(302), 302, "it answered with HTTP 302"),
        (single(b"<html>", 404), 404, "there is nothing at its URL"),
        (single({"detail": "Not Found"}, 404), 404, "there is nothing at its URL"),
        (single(result({}), 500), 500, "it answered with HTTP 500"),
        (single(failure(-32600, "GET only") | {"id": None}, 405), 405, "takes no POST"),
    ],
)
async def test_a_status_without_an_answer_is_told_in_words(answer: Answer, status: int, why: str) -> None:
    async with wired(ping(answer)) as (wire, pool):
        with pytest.raises(HttpRefused, match=why) as refused:
            await wire.exchange(ask(), None, soon())
        assert (refused.value.status, refused.value.vmcp_code) == (status, Code.PROTOCOL_ERROR)
        assert (pool.active, pool.idle) == (0, 1)


@pytest.mark.parametrize(
    "answer",
    [single(b"", 202), text(200), text(200, b"{}", b"text/html"), single(result({}) | {"id": 9}), single(notice("x"))],
    ids=["202", "text", "html", "another id", "a notification"],
)
async def test_a_good_status_without_an_answer_is_no_answer(answer: Answer) -> None:
    async with wired(ping(answer)) as (wire, pool):
        with pytest.raises(Unavailable, match=r"it sent no reply \(HTTP 20\d\)") as refused:
            await wire.exchange(ask(), None, soon())
        assert not isinstance(refused.value, HttpRefused)
        assert pool.active == 0


@pytest.mark.parametrize("answer", [single(b"{"), single(b"[]"), stream(b"data: {\n\n", ends=False)])
async def test_an_answer_that_is_no_json_rpc_breaks_the_exchange_and_frees_its_slot_at_once(answer: Answer) -> None:
    async with wired(ping(answer)) as (wire, pool):
        with pytest.raises(WireError, match="no JSON-RPC message"):
            await wire.exchange(ask(), None, soon())
        assert pool.active == 0


async def test_a_redirect_is_not_followed() -> None:
    async with wired(server := ping(single(b"", 307, b"Location: /elsewhere"))) as (wire, _):
        with pytest.raises(HttpRefused, match="HTTP 307"):
            await wire.exchange(ask(), None, soon())
    assert len(server.heard) == 1


# --- failures on the way


async def test_a_request_that_may_run_twice_is_sent_again_when_a_kept_connection_dropped_and_no_other_is() -> None:
    for replay in (True, False):
        turns = iter([single(result({})), drop, single(result({}))])

        async def answer(peer: Any, told: Heard, turns: Any = turns) -> None:
            await next(turns)(peer, told)

        async with wired(server := ping(answer)) as (wire, _):
            await listened(wire)
            if replay:
                await wire.exchange(ask(2, replay=True), None, soon())
            else:
                with pytest.raises(Unavailable, match="closed before an answer"):
                    await wire.exchange(ask(2), None, soon())
            assert [told.message["id"] for told in server.heard] == ([1, 2, 2] if replay else [1, 2])


async def test_silence_ends_with_the_deadline() -> None:
    async with wired(server := ping(silence)) as (wire, pool):
        with pytest.raises(Overdue, match=r"timeouts\.total"):
            await wire.exchange(ask(), None, soon(0.05))
        await until(lambda: server.left == 1 and pool.active == 0)


async def test_a_listener_that_is_cancelled_leaves_the_stream_at_once() -> None:
    entered = asyncio.Event()

    async def never(message: Message) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with wired(server := ping(stream(notice("notifications/x"), ends=False))) as (wire, pool):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(wire.exchange(ask(), never, soon()))
            await entered.wait()
            task.cancel()
        await until(lambda: server.left == 1)
        assert pool.active == 0


# --- streams that are taken up again


def event(message: Any, id_: bytes = b"", more: bytes = b"") -> bytes:
    return (b"id: %b\n" % id_ if id_ else b"") + more + b"data: %b\n\n" % json.dumps(message).encode()


def cut(*pieces: bytes) -> Answer:
    """A stream that breaks off after these pieces."""

    async def answer(peer: Any, told: Heard) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await peer.send(*(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
        peer.close()

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other; the last one for ever."""
    turns = list(answers)

    async def answer(peer: Any, told: Heard) -> None:
        await (turns.pop(0) if len(turns) > 1 else turns[0])(peer, told)

    return answer


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SHORTEST", 0.0)
    monkeypatch.setattr(http, "PAUSE", 0.0)


NEWS = notice("notifications/message", level="info", data=1)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("breaks", [cut, stream], ids=["cut off", "ended"])
async def test_a_stream_that_broke_off_goes_on_where_it_ended_and_nothing_is_asked_twice(breaks: Any) -> None:
    first = breaks(b"id: 0\nretry: 1\ndata:\n\n", event(NEWS, b"1"), b"id: 2\ndata: {")
    listens = in_turn(
        breaks(event(NEWS, b"2")), text(503), stream(event(NEWS, b"3"), event(result({"x": 1}) | {"id": 1}))
    )
    server = WebServer({"ping": first, "": listens})
    async with wired(server, (b"x-key", b"k")) as (wire, pool):
        found: list[str] = []

        async def on_message(message: Message) -> None:
            found.append(message.method)

        answer = await wire.exchange(ask(1, (b"mcp-session-id", b"s")), on_message, soon())
        assert (found, bytes(answer.message.result)) == (["notifications/message"] * 3, b'{"x": 1}')
        await until(lambda: pool.active == 0)
    assert [told.verb for told in server.heard] == ["POST", "GET", "GET", "GET"]
    assert [told.headers.get("last-event-id") for told in server.heard] == [None, "1", "2", "2"]
    assert all(shown(told, "mcp-session-id", "x-key") == ["s", "k"] for told in server.heard)
    assert shown(server.heard[1], "accept", "content-type") == ["text/event-stream", None]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("refusal", "times"), [(text(405), 1), (text(404), 1), (text(400), 1), (text(200), 1), (text(502), http.FAILURES)]
)
async def test_a_backend_that_does_not_take_it_up_is_asked_so_often_and_no_more(refusal: Answer, times: int) -> None:
    server = WebServer({"ping": cut(event(NEWS, b"1")), "": refusal})
    async with wired(server) as (wire, pool):
        with pytest.raises(Unavailable, match="closed the stream before its reply"):
            await wire.exchange(ask(), None, soon())
        assert pool.active == 0
    assert [told.verb for told in server.heard] == ["POST"] + ["GET"] * times


@pytest.mark.parametrize("resumes", [True, False])
async def test_without_an_id_or_in_a_revision_without_it_a_broken_stream_is_broken(resumes: bool) -> None:
    server = WebServer({"ping": cut(event(NEWS, b"" if resumes else b"1"))})
    request = Outgoing(1, jsonrpc.request(1, "ping", {}), resumes=resumes)
    async with wired(server) as (wire, _):
        with pytest.raises(WireError, match="cut off"):
            await wire.exchange(request, None, soon())
    assert len(server.heard) == 1


async def test_a_pause_that_would_outlast_the_deadline_is_not_begun() -> None:
    server = WebServer({"ping": cut(event(NEWS, b"1", b"retry: 60000\n"))})
    async with wired(server) as (wire, _):
        with pytest.raises(Overdue, match=r"timeouts\.total"):
            await wire.exchange(ask(), None, soon())


async def test_the_pause_is_the_one_that_the_backend_named() -> None:
    first, again = cut(event(NEWS, b"1", b"retry: 150\n")), stream(result({}) | {"id": 1})
    async with wired(WebServer({"ping": first, "": again})) as (wire, _):
        began = asyncio.get_running_loop().time()
        await wire.exchange(ask(), None, soon())
        assert asyncio.get_running_loop().time() - began >= 0.15


# --- what lasts


async def test_one_that_lasts_is_limited_by_its_own_deadline_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.upstream.fakes.FAST", Timeouts(connect=5, first_byte=0.02, total=0.02, idle_stream=0.02))

    async def slow(peer: Any, told: Heard) -> None:
        await asyncio.sleep(0.1)
        await stream(NEWS, ends=False)(peer, told)

    for deadline in (0.3, 3600.0):
        heard = asyncio.Event()

        async def on_message(message: Message, heard: asyncio.Event = heard) -> None:
            heard.set()

        async with wired(server := ping(slow)) as (wire, pool), asyncio.TaskGroup() as group:
            lasting = Outgoing(1, jsonrpc.request(1, "ping", {}), lasting=True)
            task = group.create_task(_overdue(wire.exchange(lasting, on_message, soon(deadline))))
            await heard.wait()
            await asyncio.sleep(0.05)
            if deadline > 1:
                task.cancel()
            else:
                assert await task == "timeouts.total"
            await until(lambda server=server, pool=pool: server.left == 1 and pool.active == 0)  # type: ignore[misc]


async def _overdue(work: Any) -> str:
    with pytest.raises(Overdue) as late:
        await work
    return late.value.which


# --- the standing stream


@pytest.mark.usefixtures("hasty")
async def test_the_standing_stream_is_heard_and_taken_up_as_long_as_it_has_ids() -> None:
    found: list[str] = []
    turns = [
        cut(event(NEWS, b"1"), event(result({}) | {"id": 9}), event(NEWS)),
        text(400),
        stream(event([NEWS, NEWS], b"7")),
        stream(ends=True),
        text(500),
        text(405),
        text(405),
        stream(event(NEWS)),
    ]
    opened: list[int] = []
    async with wired(server := WebServer({"": in_turn(*turns)}), (b"x-key", b"k")) as (wire, pool):
        wire.on_stray = lambda message: found.append(message.method)
        wire.on_open = lambda: opened.append(len(server.heard))
        session = [(b"mcp-session-id", b"s")]
        with pytest.raises(HttpRefused, match="HTTP 500"):
            await wire.hear(session)
        assert not await wire.hear(session)
        assert await wire.hear(session)
        assert pool.active == 0
    assert found == ["notifications/message"] * 5
    assert opened == [1, 3, 4, 8]
    assert [told.verb for told in server.heard] == ["GET"] * 8
    ids = [told.headers.get("last-event-id") for told in server.heard]
    assert ids == [None, "1", None, "7", "7", "7", None, None]
    assert shown(server.heard[0], "accept", "x-key", "mcp-session-id") == ["text/event-stream", "k", "s"]


@pytest.mark.parametrize("answer", [text(401), text(404), text(200), single(result({}))])
async def test_what_is_no_standing_stream_is_refused(answer: Answer) -> None:
    async with wired(WebServer({"": answer})) as (wire, pool):
        with pytest.raises(HttpRefused):
            await wire.hear(())
        assert pool.active == 0


async def test_a_standing_stream_of_no_messages_is_broken_and_one_that_is_left_is_closed() -> None:
    async with wired(WebServer({"": stream(b"data: {\n\n", ends=False)})) as (wire, pool):
        with pytest.raises(WireError, match="no JSON-RPC"):
            await wire.hear(())
        assert pool.active == 0
    async with wired(server := WebServer({"": stream(NEWS, ends=False)})) as (wire, pool):
        heard = asyncio.Event()
        wire.on_stray = lambda _: heard.set()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(wire.hear(()))
            await heard.wait()
            task.cancel()
        await until(lambda: server.left == 1)
        assert pool.active == 0


# --- notifications and the end


@pytest.mark.parametrize(
    "answer",
    [single(b"", 202), single(b"", 200), single(result({})), stream(notice("x"), ends=False), text(400)],
    ids=["202", "200", "200 with a body", "a stream", "a refusal"],
)
async def test_a_notification_is_sent_and_its_answer_does_not_matter(answer: Answer) -> None:
    server = WebServer({"notifications/initialized": answer})
    async with wired(server, (b"x-key", b"k")) as (wire, pool):
        await wire.tell(jsonrpc.notification("notifications/initialized"), [(b"mcp-session-id", b"s")])
        assert pool.active == 0
    assert [told.message for told in server.heard] == [{"jsonrpc": "2.0", "method": "notifications/initialized"}]
    assert shown(server.heard[0], "x-key", "mcp-session-id", "content-type") == ["k", "s", "application/json"]


@pytest.mark.parametrize("answer", [single(b"", 200), text(405)])
async def test_a_session_is_ended_with_delete(answer: Answer) -> None:
    async with wired(server := WebServer({"": answer}), (b"x-key", b"k")) as (wire, pool):
        await wire.end_session([(b"mcp-session-id", b"s")])
        assert pool.active == 0
    assert [told.verb for told in server.heard] == ["DELETE"]
    assert shown(server.heard[0], "x-key", "mcp-session-id") == ["k", "s"]


async def test_closing_twice_is_harmless_and_nothing_can_be_asked_any_more() -> None:
    async with wired(server := web("2025-11-25")) as (wire, _):
        await wire.close()
        await wire.close()
        with pytest.raises(Unavailable):
            await wire.exchange(ask(), None, soon())
        with pytest.raises(Unavailable):
            await wire.tell(b"{}", ())
    assert not server.heard
    assert answers("2025-11-25").keys() == server.on.keys()
