"""Limits of the listener with which nothing could be served are told, and the others are not."""

import sys

import pytest

from tests.config.samples import SMALL, config, problems


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("{memoryBytes: 0}", ["memoryBytes: is less than the gateway needs"]),
        ("{memoryBytes: 64MiB}", ["memoryBytes: is less than the gateway needs"]),
        ("{uriBytes: 33KiB}", ["uriBytes: is more than headerBytes"]),
        ("{uriBytes: 9KiB, headerBytes: 8KiB}", ["uriBytes: is more than headerBytes"]),
    ],
)
def test_what_serves_nothing_is_told(limits: str, expected: list[str]) -> None:
    found = [
        f"{each.path.split('.')[-1]}: {each.message}" for each in problems(SMALL + f"server: {{limits: {limits}}}")
    ]
    assert len(found) == len(expected)
    assert all(words in each for words, each in zip(expected, found, strict=True)), found


@pytest.mark.parametrize(
    "limits", ["{}", "{memoryBytes: 128MiB}", "{uriBytes: 33KiB, headerBytes: 64KiB}", "{uriBytes: 32768}"]
)
def test_what_serves_is_not(limits: str) -> None:
    assert problems(SMALL + f"server: {{limits: {limits}}}") == ()
    assert config(SMALL + f"server: {{limits: {limits}}}").server.limits


def test_several_workers_are_a_matter_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config(SMALL + "server: {workers: 2}").server.workers == 2
    monkeypatch.setattr(sys, "platform", "darwin")
    assert problems(SMALL + "server: {workers: 1}") == ()
    (found,) = problems(SMALL + "server: {workers: 2}")
    assert (found.path, str(found.position).rpartition("yaml:")[2]) == ("server.workers", "6:19")


@pytest.mark.parametrize("wrong", ["[]", "x", "-1", "1.5"])
def test_what_is_no_size_is_told_once(wrong: str) -> None:
    assert len(problems(SMALL + f"server: {{limits: {{memoryBytes: {wrong}, uriBytes: 1KiB}}}}")) == 1
