"""What is shipped says what it is: version, licences, bill of materials, checksums; and it is whole.

Rule: what a build says of itself is held against the bytes that lie there.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.binary import archive, contents, elf, known_bad, wheel
from tests.binary.conftest import FORMS, NOTES, Client, Place, made
from vmcp.cli import VERBS

pytestmark = [pytest.mark.binary, pytest.mark.timeout(300)]

CONFIG = f"name: shipped\ngroups: {{g: {{backends: {{notes: {{command: [{sys.executable}, {NOTES}]}}}}}}}}\n"
PYTHONS = ("python3", "/usr/bin/python3", sys.executable)


@pytest.fixture(scope="module")
def libraries() -> list[Path]:
    """Every ELF file of the folder."""
    found = [path for path in FORMS["folder"].parent.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in found if path.read_bytes()[:4] == b"\x7fELF"]


def test_it_says_what_it_is(place: Place) -> None:
    told = json.loads(place.run("version", "--output", "json"))
    assert told["form"] == next(form for form, program in FORMS.items() if program == place.program)
    assert re.fullmatch(r"[0-9a-f]{40}\+?", told["commit"])
    assert told["python"]["version"].count(".") == 2
    versions = {each["name"]: each["version"] for each in told["dependencies"]}
    locked = dict(
        re.findall(r"^([a-z0-9.-]+)==(\S+)", (contents.ROOT / "requirements/runtime.lock").read_text(), re.MULTILINE)
    )
    assert {"uvicorn", "msgspec", "cedarpy", "jinja2"} <= versions.keys()
    assert versions == {name: locked[name] for name in versions}
    assert not versions.keys() & contents.LEFT_OUT


def test_it_shows_the_licence_of_everything_in_it(place: Place) -> None:
    told = json.loads(place.run("version", "--licenses", "-o", "json"))
    names = {each["name"] for each in told}
    inside = {each["name"] for each in json.loads(place.run("version", "-o", "json"))["dependencies"]}
    assert inside | {"python", "openssl", "sqlite", "pyinstaller-bootloader"} <= names
    assert not [each["name"] for each in told if each["licence"] in ("", "not stated")]
    assert not [name for name in inside if not next(each for each in told if each["name"] == name)["texts"]]
    assert "Permission is hereby granted" in place.run("version", "--licenses")


def test_it_is_whole(place: Place) -> None:
    told = json.loads(place.run("selfcheck", "-o", "json"))
    assert [each["state"] for each in told] == ["ok"] * len(told)
    assert place.run("schema") == (contents.ROOT / "schemas" / "vmcp.schema.json").read_text("utf-8")
    shown = place.run("--help")
    assert not [verb for verb in VERBS if f"\n  {verb} " not in shown]
    assert "Usage: vmcp serve" in place.run("serve", "--help")
    assert "unknown-key" in place.run("help", "unknown-key")
    assert not place.unpacked()


def test_what_lies_beside_it_is_not_loaded(place: Place) -> None:
    """Modules and libraries where it is started, and where Python would look."""
    for name in ("json.py", "click.py", "vmcp.py", "sitecustomize.py", "encodings.py"):
        (place.folder / name).write_text("raise SystemExit('loaded')\n", "utf-8")
    (place.folder / "libssl.so.3").write_bytes(b"nonsense")
    place.more = {
        "PYTHONPATH": str(place.folder),
        "PYTHONHOME": str(place.folder),
        "PYTHONSTARTUP": "json.py",
        "PYTHONINSPECT": "1",
    }
    assert place.run("version").startswith("vmcp ")


def test_libraries_need_no_newer_glibc_than_it_says_and_look_beside_themselves_alone(
    place: Place, libraries: list[Path]
) -> None:
    assert len(libraries) > 20
    floor = max(filter(None, map(elf.glibc, libraries)))
    assert json.loads(place.run("version", "-o", "json"))["glibc"] == ".".join(map(str, floor))
    assert not {path.name: found for path in libraries if (found := elf.foreign_paths(path.read_bytes()))}


def test_no_path_of_the_machine_that_built_it_is_in_it(libraries: list[Path]) -> None:
    home = str(contents.ROOT).encode()
    assert not [path.name for path in (*libraries, FORMS["file"]) if home in path.read_bytes()]


def test_the_bill_of_materials_names_every_package_and_every_library(libraries: list[Path]) -> None:
    text = (contents.OUT / "vmcp.cdx.json").read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["hashes"][0]["content"] == _digest(FORMS["file"])
    parts = {each["name"]: each for each in bill["components"]}
    assert {"cryptography", "openssl", "python", "uvloop"} <= parts.keys()
    assert not [name for name, part in parts.items() if not part["licenses"] or not part["purl"]]
    files = {file["name"] for part in bill["components"] for file in part.get("components", ())}
    internal = FORMS["folder"].with_name("_internal")
    assert files == {str(path.relative_to(internal)) for path in libraries if path.is_relative_to(internal)}
    assert not list(
        known_bad.bad({name: part.get("version", "") for name, part in parts.items() if "pypi" in part["purl"]})
    )


def test_the_checksums_are_those_of_the_files() -> None:
    lines = (contents.OUT / "SHA256SUMS").read_text("utf-8").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert {"vmcp", "vmcp.pyz", "vmcp-onedir/vmcp"} <= sums.keys()
    assert sums == {name: _digest(contents.OUT / name) for name in sums}


def test_the_zip_file_runs_on_a_python_of_its_version(tmp_path: Path) -> None:
    place = made(tmp_path, contents.OUT / "vmcp.pyz")
    python = next(each for each in PYTHONS if _version(each) == sys.version_info[:2])
    launcher = tmp_path / "vmcp"
    launcher.write_text(f'#!/bin/sh\nexec {python} -I {place.program} "$@"\n', "utf-8")
    launcher.chmod(0o755)
    place.program = launcher
    assert json.loads(place.run("version", "-o", "json"))["form"] == "zipapp"
    assert "failed" not in place.run("selfcheck")
    with place.serving(CONFIG) as served:
        assert Client(f"{served.ready()}/mcp", "2026-07-28").ask("tools/list")["tools"]
        assert served.end() == 0
    place.run("start", "--port", "0")
    place.run("stop")


def test_the_zip_file_tells_another_python_what_it_needs(tmp_path: Path) -> None:
    changed = tmp_path / "vmcp.pyz"
    with zipfile.ZipFile(contents.OUT / "vmcp.pyz") as before:
        first = before.read("__main__.py").decode()
    with zipfile.ZipFile(changed, "w") as after:
        after.writestr("__main__.py", first.replace(repr(sys.version_info[:2]), "(3, 99)"))
    done = subprocess.run([sys.executable, changed], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert re.fullmatch(r"vmcp: this file is for CPython 3\.99 on \S+, this is CPython 3\S+ on .*\n", done.stderr)


def test_the_zip_file_unpacks_where_only_this_user_may_write(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").touch()
    command = [sys.executable, contents.OUT / "vmcp.pyz", "version"]
    for wrong, why in (("open", "others may write there"), ("file/below", "Not a directory")):
        environment = {**os.environ, "VMCP_CACHE_DIR": str(tmp_path / wrong)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 73
        assert f"{tmp_path / wrong}: {why}" in done.stderr


def test_the_wheel_installs_into_a_fresh_environment_and_serves(tmp_path: Path) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", home / "bin" / "python"]
    subprocess.run([*install, "--require-hashes", "-r", contents.ROOT / "requirements" / "runtime.lock"], check=True)
    (built,) = contents.OUT.glob("vmcp-*.whl")
    subprocess.run([*install, "--no-index", built], check=True)
    place = made(tmp_path, home / "bin" / "vmcp")
    assert json.loads(place.run("version", "-o", "json"))["form"] == "wheel"
    assert "failed" not in place.run("selfcheck")
    with place.serving(CONFIG) as served:
        client = Client(f"{served.ready()}/mcp", "2025-11-25")
        client.greet()
        assert client.ask("tools/list")["tools"]
        assert served.end() == 0


def test_built_again_the_zip_file_and_the_wheel_are_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the frozen ones ``build.py twice`` says the same, in a minute."""
    with zipfile.ZipFile(contents.OUT / "vmcp.pyz") as before:
        told = json.loads(before.read("site/vmcp/_build.json"))
    monkeypatch.setenv("VMCP_COMMIT", told["commit"])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(datetime.fromisoformat(told["built"]).timestamp())))
    archive.make(tmp_path / "vmcp.pyz")
    for made_again in (tmp_path / "vmcp.pyz", *wheel.make(tmp_path / "wheels")):
        assert _digest(made_again) == _digest(contents.OUT / made_again.name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(python: str) -> tuple[int, ...]:
    code = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split()))
