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
    found = keys.known("first")
    assert found is not None
    assert (found.issuer, found.subject, found.scopes, found.token) == (LOCAL, "ci", {"tools"}, "")
    assert found.claims == {"groups": ["builders"], "iss": LOCAL, "sub": "ci"}
    assert (await keys.verify("second")).subject == "bob"
    for wrong in ("", "firs", "first ", digest("first"), "é"):
        assert keys.known(wrong) is None
        with pytest.raises(Unproven):
            await keys.verify(wrong)


@pytest.mark.parametrize("wrong", ["", "secret", "0" * 63, "g" * 64])
def test_what_is_no_hash_is_told_without_being_repeated(wrong: str) -> None:
    with pytest.raises(ValueError, match="'ci' is not 64 hexadecimal digits"):
        LocalKeys([(CI, wrong)])


def test_two_clients_cannot_have_one_key() -> None:
    with pytest.raises(ValueError, match="another client's too"):
        LocalKeys([(CI, digest("x")), (LocalKey("bob", ""), digest("x"))])
