"""When two parts of a configuration are the same thing. Rule: what differs in a value, a secret or a file differs."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.server.peers import Server, config
from vmcp.config.model import BackendSpec, TlsSpec
from vmcp.config.values import Concealed, SecretRef
from vmcp.server.fingerprint import files, fingerprint, fingerprints


@dataclass(frozen=True)
class Thing:
    value: object
    ca_bundle: str | None = None
    more: frozenset[str] = field(default_factory=frozenset)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (None, ""),
        (True, 1),
        (("a", "b"), ("ab",)),
        (("a", ("b",)), ("a", "b")),
        ((), {}),
        ({"a": "b"}, {"a": "c"}),
        ({"a": "b"}, ("a", "b")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Concealed("a"), Concealed("b")),
        (SecretRef(env="A"), SecretRef(env="B")),
        (SecretRef(env="A"), "="),
        (Thing(1), Thing(2)),
        (Thing(1, more=frozenset("a")), Thing(1, more=frozenset("b"))),
    ],
)
def test_what_differs_has_another_one(one: object, other: object) -> None:
    environ = {"A": "x"}
    assert fingerprint(one, environ) != fingerprint(other, environ)
    assert fingerprint([one], environ) == fingerprint([one], environ)


def test_a_secret_counts_and_not_what_it_is_called() -> None:
    value = {"token": SecretRef(env="TOKEN")}
    assert fingerprint(value, {"TOKEN": "a"}) != fingerprint(value, {"TOKEN": "b"})
    assert fingerprint(value, {"TOKEN": "a"}) == fingerprint({"token": SecretRef(env="OTHER")}, {"OTHER": "a"})
    assert fingerprint(value, {}) != fingerprint(value, {"TOKEN": ""}), "none is not an empty one"


def test_what_is_in_a_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for value in (SecretRef(file=str(path)), Thing(1, str(path))):
        seen = {fingerprint(value, {})}
        for text in ("", "one", "two"):
            path.write_text(text)
            seen.add(fingerprint(value, {}))
        assert len(seen) == 4
        path.unlink()


def test_files_are_found_wherever_they_are_named() -> None:
    given = config({"a": Server()})
    headers: dict[str, Any] = {"X": SecretRef(file="/key"), "Y": SecretRef(env="K"), "Z": "/no/file"}
    tls = TlsSpec("/bundle", "/cert", "/cert.key")
    spec = BackendSpec("a", "g", "streamable-http", "https://x", headers=headers, tls=tls)
    group = replace(given.groups["g"], backends={"a": spec})
    assert files(replace(given, groups={"g": group})) == {"/key", "/bundle", "/cert", "/cert.key"}


def test_each_part_has_its_own() -> None:
    given = config({"a": Server(), "b": Server()})
    one, same = fingerprints(given, {}), fingerprints(given, {})
    assert one == same
    touched = fingerprints(replace(given, digest="another"), {})
    assert (touched.backends, touched.incoming, touched.audit) == (one.backends, one.incoming, one.audit)
    assert touched.all != one.all
    assert one.backends["a"] != one.backends["b"]
