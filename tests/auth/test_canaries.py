"""The search itself: what hides a secret in a longer text must not hide it from the sweep.

The rule: a sweep that finds nothing proves something only if it finds what is there.
"""

import base64
import os
from urllib.parse import quote

import pytest

from tests.auth.canaries import Canaries

DISGUISES = {
    "plain": lambda text: text,
    "percent": lambda text: quote(text, safe="").encode(),
    "hex": lambda text: text.hex().encode(),
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "basic": lambda text: base64.b64encode(b"user:" + text),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(4))
def test_a_secret_is_found_in_any_disguise_wherever_it_stands(disguise: str, before: int, after: int) -> None:
    planted = Canaries()
    secret = planted.plant("one")
    planted.plant("two", "s+/e=c?r&e t" + os.urandom(8).hex())
    text = DISGUISES[disguise](b"x" * before + secret.encode() + b"y" * after)
    assert planted.seen(b"... " + text + b" ...") == {"one"}


@pytest.mark.parametrize("length", range(20, 30))
def test_secrets_of_every_length_are_found_in_base64(length: int) -> None:
    planted = Canaries()
    secret = planted.plant("one", os.urandom(32).hex()[:length])
    texts = (b"z" * before + secret.encode() + b"z" * after for before in range(3) for after in range(3))
    assert all(planted.seen(base64.b64encode(text)) for text in texts)


def test_nothing_is_found_where_nothing_is() -> None:
    planted = Canaries()
    planted.plant("one")
    assert planted.seen(b"canary-one-" + os.urandom(64)) == set()
