"""What is made of an answer. Rule: pure; whatever stands in it, it stays text, and only pictures of known kinds are pictures."""

import base64
import json
from typing import Any

import pytest

from vmcp.admin.pages.results import LARGEST, LONGEST, readable, shown

PNG = base64.b64encode(b"\x89PNG").decode()


def answered(**result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def test_texts_pictures_links_and_resources_each_have_their_way() -> None:
    content = [
        {"type": "text", "text": "<b>x</b>\u202e"},
        {"type": "image", "mimeType": "image/png", "data": PNG},
        {"type": "audio", "mimeType": "audio/wav", "data": PNG},
        {"type": "resource", "resource": {"uri": "a://1", "mimeType": "text/plain", "text": "one"}},
        {"type": "resource", "resource": {"uri": "a://2", "mimeType": "image/gif", "blob": PNG}},
        {"type": "resource_link", "uri": "a://3", "name": "three"},
        {"type": "hologram", "of": 1},
        7,
    ]
    found = shown(answered(content=content), 200)
    assert found.state == "ok"
    assert [(piece.kind, piece.about) for piece in found.pieces] == [
        ("text", "text"),
        ("image", "image/png, 6 bytes"),
        ("data", "audio, audio/wav, 6 bytes"),
        ("text", "a://1 text/plain"),
        ("image", "a://2 image/gif, 6 bytes"),
        ("link", "link to a resource, three"),
        ("data", "hologram"),
        ("data", "content"),
    ]
    assert found.pieces[0].text == "<b>x</b>\\u202e"
    assert found.pieces[1].picture == f"data:image/png;base64,{PNG}"


@pytest.mark.parametrize(
    "image",
    [
        {"mimeType": "image/svg+xml", "data": PNG},
        {"mimeType": "text/html", "data": PNG},
        {"mimeType": "image/png", "data": '"><script>'},
        {"mimeType": "image/png", "data": 3},
        {"mimeType": "image/png", "data": "A" * (LARGEST + 4)},
        {"data": PNG},
    ],
)
def test_what_is_no_picture_of_a_known_kind_is_none(image: dict[str, Any]) -> None:
    (piece,) = shown(answered(content=[{"type": "image", **image}]), 200).pieces
    assert not piece.picture


def test_an_error_of_the_tool_is_marked_and_structured_content_keeps_its_digits() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[],"structuredContent":{"n":12345678901234567890}}}'
    found = shown(body, 200)
    assert found.state == "tool-error"
    assert "12345678901234567890" in found.structured


def test_an_error_has_its_code_and_that_of_vmcp() -> None:
    error = {"code": -32602, "message": "no such tool", "data": {"vmcpCode": 2000}}
    found = shown(json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode(), 200)
    assert (found.state, found.title, found.code) == ("error", "error -32602: no such tool", "2000")
    assert shown(b'{"error":{"code":1,"data":3}}', 200).code == ""


def test_what_asks_back_says_what_it_asks() -> None:
    found = shown(answered(resultType="input_required", inputRequests={"q": {"method": "elicitation/create"}}), 200)
    assert (found.state, found.pieces[0].about) == ("asks", "q")


def test_prompts_and_resources_are_shown_too() -> None:
    found = shown(answered(messages=[{"role": "user", "content": {"type": "text", "text": "hi"}}, 3]), 200)
    assert [(piece.about, piece.text) for piece in found.pieces] == [("user: text", "hi"), (": content", "null")]
    (piece,) = shown(answered(contents=[{"uri": "a://1", "text": "one"}]), 200).pieces
    assert (piece.about, piece.text) == ("a://1", "one")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"result": 3}', b"\xff" * 9])
def test_an_answer_may_be_anything(body: bytes) -> None:
    assert shown(body, 502).state == "error"


def test_nothing_is_endless() -> None:
    found = shown(answered(content=[{"type": "text", "text": "x" * (LONGEST * 2)}] * 99), 200)
    assert len(found.pieces) == 50
    assert all(len(piece.text) < LONGEST + 99 for piece in found.pieces)
    assert readable("a\tb\r\nc\x00") == "a    b\nc\\u0000"
