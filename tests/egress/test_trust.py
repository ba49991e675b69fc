"""Whose certificates are believed. Rule: what the operator names counts alone; others are looked for where none are found."""

import ssl
from pathlib import Path

import certifi
import pytest

from vmcp.egress import trust


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in trust.NAMED:
        monkeypatch.delenv(name, raising=False)


def elsewhere(monkeypatch: pytest.MonkeyPatch, file: str | None, folder: str | None) -> None:
    """An OpenSSL that was built to look there."""
    found = ssl.DefaultVerifyPaths(file, folder, "SSL_CERT_FILE", "/x", "SSL_CERT_DIR", "/x")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)


def test_a_context_verifies_and_speaks_nothing_old() -> None:
    made = trust.context()
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2


def test_where_openssl_finds_something_that_is_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch, str(tmp_path / "bundle"), None)
    assert trust.roots() is None
    (tmp_path / "one.pem").touch()
    elsewhere(monkeypatch, None, str(tmp_path))
    assert trust.roots() is None


@pytest.mark.parametrize("folder", [None, "empty", "none"])
def test_where_it_finds_nothing_the_places_of_other_systems_are_tried(
    folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    elsewhere(monkeypatch, None, folder and str(tmp_path / folder))
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    assert trust.roots((str(tmp_path / "no"), str(bundle))) == str(bundle)
    assert trust.roots((str(tmp_path / "no"),)) == certifi.where()
    assert trust.context().cert_store_stats()["x509_ca"] > 50


@pytest.mark.parametrize("name", trust.NAMED)
def test_what_the_operator_names_counts_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch, None, None)
    monkeypatch.setenv(name, str(tmp_path))
    assert trust.roots() is None
