"""How much is logged can be changed while it runs. Rule: the level of the tests is put back."""

import logging
from collections.abc import Iterator

import pytest

from vmcp.server import levels


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


def test_one_louder_and_one_quieter(caplog: pytest.LogCaptureFixture) -> None:
    levels.put("info")
    levels.louder()
    assert levels.current() == "debug"
    levels.louder()
    assert levels.current() == "debug", "there is nothing louder"
    for expected in ("info", "warning", "error", "error"):
        levels.quieter()
        assert levels.current() == expected
    said = [record.to for record in caplog.records if record.getMessage() == "log level changed"]
    assert said[-1] == "error", "it is said, whatever the level"


def test_a_level_in_between_counts_as_the_one_that_says_more() -> None:
    logging.getLogger().setLevel(25)
    assert levels.current() == "info"
    logging.getLogger().setLevel(5)
    assert levels.current() == "debug"


def test_what_is_no_level_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        levels.put("chatty")
