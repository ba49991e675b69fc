"""deploy/binary without building anything: what stops a build, what is read from libraries, what a stamp says.

Rule: what must not be shipped is refused by name. What is shipped is run in tests/binary.
"""

import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

import build
from deploy.binary import __main__ as program
from deploy.binary import bill, contents, elf, frozen, known_bad, stamp
from vmcp import about

LIBRARIES = sorted(Path(sys.prefix).rglob("_cffi_backend*.so"))


def test_nothing_in_the_locks_is_known_to_be_bad() -> None:
    for lock in ("runtime.lock", "dev.lock"):
        pins = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (build.LOCKS / lock).read_text("utf-8"), re.MULTILINE))
        assert not list(known_bad.bad(pins))


@pytest.mark.parametrize(
    ("version", "bad"),
    [("1.9.3", True), ("1.10", False), ("1.10.0", False), ("1.9rc1", True), ("1.11.0b2", False), ("", True)],
)
def test_a_version_that_is_known_to_be_bad_is_told_with_the_reason(version: str, bad: bool) -> None:
    found = list(known_bad.bad({"starlette": version, "unheard-of": "0"}))
    assert bool(found) is bad
    assert not bad or "CVE-2026-48710" in found[0]


def test_a_build_with_a_bad_version_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_bad, "FLOORS", {"click": ("9999", "a reason")})
    monkeypatch.setattr(sys, "argv", ["build", "wheel"])
    with pytest.raises(SystemExit, match=r"click .* is known to be bad, at least 9999 is needed \(a reason\)"):
        program.main()


def library_with(*paths: str) -> bytes:
    """A shared library with nothing in it but where others are to be looked for."""
    strings = b"\0" + b"".join(path.encode() + b"\0" for path in paths)
    entries, start, at = [(5, 0x1000)], 64 + 2 * 56, 1
    for tag, path in zip((29, 15), paths, strict=False):
        entries.append((tag, at))
        at += len(path) + 1
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in [*entries, (0, 0)])
    head = elf.MAGIC + b"\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, start, 0x1000, 0, len(strings), len(strings), 1)
    seen = struct.pack("<IIQQQQQQ", 2, 4, start + len(strings), 0x2000, 0, len(dynamic), len(dynamic), 8)
    return head + load + seen + strings + dynamic


def test_a_library_looks_for_others_beside_itself_alone() -> None:
    before = library_with("/home/builder/lib:$ORIGIN/../lib:/opt/x", "/usr/local/lib")
    assert elf.foreign_paths(before) == ["/home/builder/lib", "/opt/x", "/usr/local/lib"]
    after = elf.without_foreign_paths(before)
    assert elf.foreign_paths(after) == []
    assert len(after) == len(before)
    assert b"$ORIGIN/../lib\0" in after
    assert b"builder" not in after
    assert b"/usr/local" not in after
    assert elf.without_foreign_paths(b"no library") == b"no library"


def test_the_glibc_that_a_library_needs_is_read_from_it(tmp_path: Path) -> None:
    library, text = tmp_path / "a.so", tmp_path / "b"
    library.write_bytes(elf.MAGIC + b"\0GLIBC_2.14\0GLIBC_2.2.5\0GLIBC_2.9\0GLIBC_2.34x\0GLIBC_PRIVATE\0")
    text.write_bytes(b"\0GLIBC_2.99\0")
    assert elf.glibc(library) == (2, 14)
    assert elf.glibc(text) is None
    assert LIBRARIES
    assert (elf.glibc(LIBRARIES[0]) or (0,)) >= (2, 2)


def test_a_library_of_unknown_licence_stops_the_build() -> None:
    assert contents.library("libcrypto.so.3").licence == "Apache-2.0"
    with pytest.raises(
        SystemExit, match=r"libreadline\.so\.8 would be bundled, and nobody has said under which licence"
    ):
        contents.library("libreadline.so.8")


class Harvest:
    """What PyInstaller would have collected."""

    def __init__(self, *modules: str, binaries: tuple[tuple[str, str, str], ...] = ()) -> None:
        self.pure = [(name, "", "PYMODULE") for name in modules]
        self.binaries = list(binaries)
        self.datas: list[Any] = [("click-8.dist-info/RECORD", "", "DATA"), ("click-8.dist-info/METADATA", "", "DATA")]


def test_a_package_that_vmcp_does_not_need_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "STAGE", tmp_path)
    with pytest.raises(SystemExit, match=r"hypothesis, pytest would be bundled, which vmcp does not need"):
        frozen.looked_over(Harvest("click.core", "pytest", "hypothesis.core", "json"))


def test_what_was_collected_is_written_down_and_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "STAGE", tmp_path)
    monkeypatch.setattr(frozen, "FOUND", tmp_path / "found.json")
    library = tmp_path / "libz.so.1"
    library.write_bytes(library_with("/home/builder"))
    entries = (
        ("libbz2.so.1", str(library), "BINARY"),
        ("libstdc++.so.6", str(library), "BINARY"),
        (LIBRARIES[0].name, str(LIBRARIES[0]), "EXTENSION"),
    )
    binaries, data = frozen.looked_over(Harvest("click.core", "json", binaries=entries))
    assert [name for name, *_ in binaries] == ["libbz2.so.1", LIBRARIES[0].name]
    assert elf.foreign_paths(Path(binaries[0][1]).read_bytes()) == []
    assert {name for name, *_ in data} == {
        "click-8.dist-info/METADATA",
        f"vmcp/{about.BUILD}",
        f"vmcp/{about.LICENCES}",
    }
    told = json.loads((tmp_path / about.BUILD).read_text("utf-8"))
    assert [each["name"] for each in told["dependencies"]] == ["cffi", "click"]
    assert [each["name"] for each in told["libraries"]] == ["bzip2"]
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert {file["of"] for file in found["files"]} == {"bzip2", "cffi"}
    bill.make(library, tmp_path / "found.json", tmp_path / "bill.json")
    parts = json.loads((tmp_path / "bill.json").read_text("utf-8"))["components"]
    assert {part["name"]: part["licenses"][0]["license"]["id"] for part in parts} == {
        "bzip2": "bzip2-1.0.6",
        "cffi": "MIT-0",
        "click": "BSD-3-Clause",
    }


def test_without_the_tools_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen.sysconfig, "get_config_var", lambda _: "libpython-of-nobody.so")
    with pytest.raises(
        SystemExit, match=r"needs a Python with a shared library, .* has none\n.*apt-get install libpython3-dev"
    ):
        frozen.make()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"needs strip, objdump, ldd; .*apt-get install binutils"):
        frozen.make()


def test_everything_beside_the_modules_comes_along() -> None:
    plan = frozen.plan()
    names = {f"{folder}/{Path(path).name}" for path, folder in plan.data}
    assert {"vmcp/_schemas/vmcp.schema.json", "vmcp/admin/pages/assets/style.css", "vmcp/py.typed"} <= names
    assert {"vmcp.server.otel", "vmcp.server.exposition", "vmcp.admin.pages.site", "vmcp.nursery"} <= set(plan.imports)


def test_a_module_is_found_by_its_file() -> None:
    assert contents.module("a/b/c.cpython-311-x86_64-linux-gnu.so") == "a.b.c"
    assert contents.module("a/__init__.py") == "a"
    assert contents.owner("google.protobuf.message") == "protobuf"
    assert contents.owner("google.rpc.status_pb2") == "googleapis-common-protos"
    assert contents.owner("json") is None
    assert contents.owner("vmcp.errors") is None


def test_the_time_and_the_commit_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("VMCP_COMMIT", "abc")
    assert (contents.epoch(), contents.commit()) == (1700000000, "abc")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert contents.epoch() == contents.EARLIEST


def test_a_stamp_knows_whether_it_was_made_of_these_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "ROOT", tmp_path)
    monkeypatch.setattr(contents, "OUT", tmp_path)
    monkeypatch.setattr(stamp, "STAMP", tmp_path / ".sources")
    monkeypatch.setattr(stamp, "SOURCES", ("code",))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1")
    stamp.write()
    assert not stamp.fresh(), "nothing is there yet"
    for name in (*stamp.MADE, "vmcp-1.whl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert stamp.fresh()
    (tmp_path / "code" / "a.py").write_text("2")
    assert not stamp.fresh()
