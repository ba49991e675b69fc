"""API keys by their hashes."""

import hashlib

import pytest

from vmcp.config.incoming import LocalKey
from vmcp.middleware.auth import LOCAL, Unproven
from vmcp.middleware.local import LocalKeys


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


CI = LocalKey("ci", "", {"groups": ["builders"]}, ("tools",))


async def test_a_key_says_who_it_is_and_another_says_nothing() -> None:
    keys = LocalKeys([(CI, digest("first").upper() + "\n"), (LocalKey("bob", ""), digest("second"))])
    found = keys.known(b"first")
    assert found is not None
    assert (found.issuer, found.subject, found.scopes, found.token) == (LOCAL, "ci", {"tools"}, "")
    assert found.claims == {"groups": ["builders"], "iss": LOCAL, "sub": "ci"}
    assert (await keys.verify("second")).subject == "bob"
    for wrong in ("", "firs", "first ", digest("first"), "é"):
        assert keys.known(wrong.encode()) is None
        with pytest.raises(Unproven):
            await keys.verify(wrong)


@pytest.mark.parametrize("wrong", ["", "secret", "0" * 63, "g" * 64])
def test_what_is_no_hash_is_told_without_being_repeated(wrong: str) -> None:
    with pytest.raises(ValueError, match="'ci' is not 64 hexadecimal digits"):
        LocalKeys([(CI, wrong)])


def test_two_clients_cannot_have_one_key() -> None:
    with pytest.raises(ValueError, match="another client's too"):
        LocalKeys([(CI, digest("x")), (LocalKey("bob", ""), digest("x"))])


def test_who_was_known_before_is_the_same_and_what_was_wrong_stays_wrong() -> None:
    keys = LocalKeys([(CI, digest("first")), (LocalKey("bob", ""), digest("second"))])
    for _ in range(3):
        assert [found and found.subject for found in map(keys.known, (b"first", b"second", b"third"))] == [
            "ci",
            "bob",
            None,
        ]
    assert len(keys._met) == 2, "only what is right is remembered"
    assert not any(b"first" in place for place in keys._met)
