"""What may stand in a record of arguments and results.

Rule: beside each secret that is hidden stands something harmless that is not.
"""

from typing import Any

import msgspec
import pytest

from vmcp.middleware.redaction import LARGEST, shown, text


def seen(value: Any, most: int = 10_000) -> Any:
    return shown(msgspec.json.encode(value), most)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "passwd",
        "userPassword",
        "dbUserPass",
        "db_pass",
        "client_secret",
        "accessToken",
        "Authorization",
        "api_key",
        "apiKey",
        "cookie",
        "privateKey",
        "credential",
        "sessionId",
        "requestState",
        "pin",
        "key",
        "jwt",
    ],
)
def test_a_value_under_such_a_name_is_hidden(name: str) -> None:
    assert seen({name: "abc", "plain": "abc"}) == {name: "***", "plain": "abc"}
    assert seen({"deep": [{name: {"a": 1}}]}) == {"deep": [{name: "***"}]}
    assert seen({name: 1234}) == {name: "***"}


@pytest.mark.parametrize("name", ["title", "passenger", "keyboard", "pinned", "author", "monkey", "compass"])
def test_a_harmless_name_hides_nothing(name: str) -> None:
    assert seen({name: "abc"}) == {name: "abc"}


def test_whether_there_is_one_is_no_secret() -> None:
    assert seen({"password": None, "token": True}) == {"password": None, "token": True}


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln",
        "Bearer abcdefgh12345",
        "sk-abcdefghijklmnopqrst",
        "ghp_abcdefghijklmnopqrstuvwx",
        "AKIAABCDEFGHIJKLMNOP",
        "xoxb-1234567890-abc",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n",
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(secret: str) -> None:
    assert seen({"note": f"it is {secret}"}) == {"note": "it is ***"}
    assert seen([[secret]]) == [["***"]]
    assert text(f"it is {secret}", 500) == "it is ***"


def test_credentials_of_a_url_are_hidden_and_the_url_is_not() -> None:
    assert seen(["https://u:p@h.example/a?access_token=abc&b=1"]) == ["https://***@h.example/a?***&b=1"]
    assert seen(["https://h.example/a?page=2"]) == ["https://h.example/a?page=2"]


def test_what_is_long_is_cut_after_it_was_redacted_and_says_so() -> None:
    told = seen({"password": "hunter2", "text": "x" * 500}, 40)
    assert told == {"truncated": True, "size": 532, "text": '{"password":"***","text":"xxxxxxxxxxxxxx'}
    assert seen(["ß" * 100], 11)["text"] == '["ßßßß'


def test_what_is_too_large_or_broken_is_not_looked_at() -> None:
    assert shown(b'"' + b"x" * LARGEST + b'"', 100) == {"truncated": True, "size": LARGEST + 2}
    assert shown(b"{nonsense", 100) == {"truncated": True, "size": 9}
    assert shown(b'"\xff"', 100) == {"truncated": True, "size": 3}
    deep = b"[" * 60 + b"]" * 60
    assert b"***" in msgspec.json.encode(shown(deep, 1000))


def test_a_text_is_cut() -> None:
    assert text("x" * 50, 10) == "x" * 10
