"""What is in a call and in its result: every byte that is not vmcp's own comes out as it went in.

Rule: payloads are compared as bytes, never as values.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.aggregator.speaking import ALL, speaking
from tests.server.clients import Answer, Door
from tests.server.peers import Asked, Notify, Server, house, said, text, tool
from vmcp.protocol.revisions import MODERN, Revision

NASTY = [
    b'{"content":[{"type":"text","text":"a"}],"n":[123456789012345678901234567890,1.0,-0.0,1e400,1E5,0.1000]}',
    b'{"content":[],"x-unknown":{"deep":[[[[{"a":null}]]]]},"_meta":{"com.example/x":{"y":[true]},"z":1}}',
    b'{"content":[{"type":"hologram","voxels":"AAAA","annotations":{"priority":1.00}}]}',
    '{"content":[{"type":"text","text":"\u2028\u2029\u0085\ufeff\U0001f600 ä"}]}'.encode(),
    b'{"content":[{"type":"text","text":"\\u2028\\ud83d\\ude00\\/\\u0000"}]}',
    b'{ "content" : [ ] , "isError" : true }',
    b'{"isError":false,"content":[{"type":"resource","resource":{"uri":"x:y","blob":"AA==","text":null}}]}',
    b'{"structuredContent":{"a":9007199254740993,"b":[{}]},"content":[]}',
]


async def through(monkeypatch: pytest.MonkeyPatch, raw: bytes, client: Revision, backend: Revision) -> Answer:
    async def script(asked: Asked, notify: Notify) -> bytes:
        return raw

    async with house(monkeypatch, {"b": Server(backend, tools=[tool("t")], script=script)}) as running:
        door = Door(running.app, client)
        await door.initialize()
        return await door.call("t")


@pytest.mark.parametrize("raw", NASTY)
async def test_a_result_comes_through_byte_for_byte(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    for revision in (Revision.V2025_11_25, Revision.V2025_03_26):
        answer = await through(monkeypatch, raw, revision, revision)
        assert answer.body == b'{"jsonrpc":"2.0","id":1,"result":' + raw + b"}"
    modern = b'{"resultType":"complete",' + raw.lstrip(b"{ ")
    answer = await through(monkeypatch, modern, MODERN, MODERN)
    assert answer.body == b'{"jsonrpc":"2.0","id":1,"result":' + modern + b"}"


@pytest.mark.parametrize("raw", NASTY)
@pytest.mark.parametrize(("client", "backend"), [(MODERN, Revision.V2025_11_25), (Revision.V2025_11_25, MODERN)])
async def test_between_the_eras_every_value_keeps_its_bytes(
    monkeypatch: pytest.MonkeyPatch, raw: bytes, client: Revision, backend: Revision
) -> None:
    said_by_backend = raw if not backend.modern else b'{"resultType":"complete",' + raw.lstrip(b"{ ")
    answer = await through(monkeypatch, said_by_backend, client, backend)
    inner = raw.strip()[1:-1].strip()
    compact = inner.replace(b" : ", b":").replace(b" , ", b",").replace(b"[ ]", b"[]")
    assert inner in answer.body or compact in answer.body.replace(b"[ ]", b"[]")
    assert ("resultType" in answer.result) is client.modern


@pytest.mark.parametrize(
    "arguments",
    [
        b'{"n":123456789012345678901234567890,"f":1.0,"e":1E300,"z":-0}',
        '{"s":"\u2028ä\U0001f600","esc":"\\u00e4\\/"}'.encode(),
        b'{ "spaced" : [ 1 , 2 ] }',
        b'{"":"empty","__proto__":{},"nested":{"a":{"a":{"a":null}}}}',
    ],
)
@pytest.mark.parametrize(("client", "backend"), [(MODERN, Revision.V2025_11_25), (Revision.V2025_11_25, MODERN)])
async def test_arguments_go_through_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, arguments: bytes, client: Revision, backend: Revision
) -> None:
    server = speaking(backend)
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app, client)
        await door.initialize()
        raw, headers = door.message("tools/call", {"name": "t", "arguments": "ARGS"})
        answer = await door.post(raw.replace(b'"ARGS"', arguments), **headers)
        assert answer.status == 200
        assert b'"arguments":' + arguments in server.calls()[-1].raw


async def test_what_params_say_besides_goes_through_too(monkeypatch: pytest.MonkeyPatch) -> None:
    server = speaking(MODERN)
    async with house(monkeypatch, {"b": server}) as running:
        meta = {"com.example/own": {"a": 1.5}, "traceparent": "00-x"}
        await Door(running.app).ask("tools/call", {"name": "t", "arguments": {}, "x-new": [1], "_meta": meta})
        told = server.calls()[-1].params
        assert told["x-new"] == [1]
        assert told["_meta"]["com.example/own"] == {"a": 1.5}
        assert told["_meta"]["traceparent"] == "00-x"
        assert told["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] == "vmcp"


@pytest.mark.parametrize("client", ALL)
async def test_what_a_revision_cannot_say_is_put_into_words(monkeypatch: pytest.MonkeyPatch, client: Revision) -> None:
    link = {"type": "resource_link", "uri": "f://x", "name": "X"}
    audio = {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}
    raw = text({"resultType": "complete", "content": [link, audio], "structuredContent": {"a": 1}})
    result = (await through(monkeypatch, raw, client, MODERN)).result
    kinds = [item["type"] for item in result["content"]]
    if client >= Revision.V2025_06_18:
        assert kinds == ["resource_link", "audio"]
        assert result["structuredContent"] == {"a": 1}
    else:
        assert kinds == ["text", "audio" if client is Revision.V2025_03_26 else "text", "text"]
        assert "structuredContent" not in result


@pytest.mark.parametrize("client", [r for r in ALL if not r.modern])
async def test_a_result_that_asks_for_what_was_not_declared_reaches_no_handshake_client(
    monkeypatch: pytest.MonkeyPatch, client: Revision
) -> None:
    raw = text({"resultType": "input_required", "inputRequests": {"r": {"method": "roots/list"}}})
    answer = await through(monkeypatch, raw, client, MODERN)
    assert answer.error["code"] == -32603
    assert "did not declare" in answer.error["message"]


async def test_calls_of_many_clients_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(asked: Asked, notify: Notify) -> bytes:
        await asyncio.sleep(0)
        return said(json.dumps(asked.params["arguments"]), backend)

    backend = Revision.V2025_06_18
    async with house(monkeypatch, {"b": Server(backend, tools=[tool("t")], script=script)}) as running:
        wrong: list[Any] = []

        async def one(number: int) -> None:
            door = Door(running.app, ALL[number % 5])
            await door.initialize()
            for turn in range(5):
                answer = await door.call("t", {"n": number, "turn": turn})
                if json.loads(answer.result["content"][0]["text"]) != {"n": number, "turn": turn}:
                    wrong.append(answer)

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(one(number))
        assert not wrong
