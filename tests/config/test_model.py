"""The configuration as values: what is shown of secrets, and which backends there are."""

import dataclasses

import pytest

from tests.config.samples import SMALL, config
from vmcp.config.model import Concealed, SecretRef


def test_a_reference_says_where_the_secret_is() -> None:
    assert str(SecretRef(env="TOKEN")) == "{env: TOKEN}"
    assert str(SecretRef(file="/run/secrets/a")) == "{file: /run/secrets/a}"


def test_concealed_text_is_text_that_does_not_tell_itself() -> None:
    assert repr(Concealed("hush")) == "'***'"
    assert Concealed("hush") == "hush"
    assert Concealed("hush").encode() == b"hush"


def test_a_configuration_cannot_be_changed() -> None:
    found = config(SMALL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "other"  # type: ignore[misc] # that is the point
    with pytest.raises(TypeError):
        found.groups["other"] = found.groups["code"]  # type: ignore[index] # that is the point


def test_disabled_backends_are_not_there() -> None:
    assert [each.name for each in config(SMALL + "      off: {command: [x], enabled: false}\n").backends] == ["github"]
