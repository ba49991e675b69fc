"""What vmcp says that it is made of. Rule: of a checkout it is what is installed, of a build what was written down."""

from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

from vmcp import __version__, about


def test_a_checkout_tells_what_is_installed() -> None:
    told = about.facts()
    assert (told["name"], told["version"], told["form"], told["commit"]) == ("vmcp", __version__, "source", None)
    assert told["revisions"][-1] == "2026-07-28"
    versions = {each["name"]: each["version"] for each in told["dependencies"]}
    assert versions["msgspec"] == metadata.version("msgspec")
    assert "vmcp" not in versions
    assert "pytest" not in versions


def test_every_package_in_it_has_a_licence_and_its_text() -> None:
    told = about.licences()
    assert {"click", "cedarpy", "protobuf"} <= {each["name"] for each in told}
    assert not [each["name"] for each in told if each["licence"] == "not stated"]
    assert all(each["texts"] for each in told)


def test_what_was_written_down_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / about.BUILD).write_text(
        '{"commit": "abc", "form": "wheel", "dependencies": [{"name": "x"}], "glibc": "2.28"}'
    )
    (tmp_path / about.LICENCES).write_text(
        '{"packages": [{"name": "x", "version": "1", "licence": "MIT", "texts": {}}]}'
    )
    monkeypatch.setattr(about.importlib.resources, "files", lambda _: tmp_path)
    about.build.cache_clear()
    told = about.facts()
    assert (told["commit"], told["form"], told["glibc"], told["dependencies"]) == (
        "abc",
        "wheel",
        "2.28",
        [{"name": "x"}],
    )
    assert [each["name"] for each in about.licences()] == ["x"]
    about.build.cache_clear()


@pytest.mark.parametrize(("unpacked", "form"), [("_internal", "folder"), ("../tmp/_MEIx", "file")])
def test_frozen_it_knows_in_which_form(
    unpacked: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(about.sys, "frozen", True, raising=False)
    monkeypatch.setattr(about.sys, "executable", str(tmp_path / "vmcp"))
    monkeypatch.setattr(about.sys, "_MEIPASS", str(tmp_path / unpacked), raising=False)
    assert about.form({"form": "binary"}) == form


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ({"Name": "x", "License-Expression": "MIT OR Apache-2.0", "License": "no"}, "MIT OR Apache-2.0"),
        ({"Name": "x", "Classifier": "License :: OSI Approved :: Apache Software License"}, "Apache-2.0"),
        ({"Name": "x", "Classifier": "License :: Something :: Own", "License": "ISC"}, "ISC"),
        ({"Name": "x", "License": "3-Clause BSD License"}, "BSD-3-Clause"),
        ({"Name": "cedarpy", "License": "one\ntwo"}, "Apache-2.0"),
        ({"Name": "x"}, "not stated"),
    ],
)
def test_a_licence_is_told_in_the_words_of_spdx(headers: dict[str, str], licence: str) -> None:
    told = Message()
    for name, value in headers.items():
        told[name] = value
    assert about.expression(told) == licence


def test_of_what_is_not_installed_nothing_is_needed() -> None:
    assert about.closure("there-is-no-such-package") == []
