"""When a configuration is read anew. Rule: real files; nobody sleeps, a look at the files comes when a test lets it."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.peers import Server, config, in_memory, tool, until
from vmcp.config.load import loaded
from vmcp.config.model import Config
from vmcp.server import reloading, runtime
from vmcp.server.reloading import Reloads, Source, Unread
from vmcp.server.runtime import Runtime
from vmcp.tasks import Nest

TEXT = """\
name: house
groups:
  g:
    backends:
      a: {url: http://127.0.0.1:1/mcp}
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "LINGER", 0.0)
    monkeypatch.setattr(reloading, "EACH", 0.005)
    monkeypatch.setattr(reloading, "CALM", 0.005)


class Site:
    """A house whose configuration is a file."""

    def __init__(self, folder: Path, running: Runtime, reloads: Reloads, applied: list[Config]) -> None:
        self.folder = folder
        self.running = running
        self.reloads = reloads
        self.applied = applied

    def write(self, text: str, name: str = "vmcp.yaml") -> None:
        """As editors do it: beside, and then in its place."""
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self.folder / name)

    def counted(self) -> dict[str, int]:
        return dict(self.running.reloads)


@contextlib.asynccontextmanager
async def site(
    monkeypatch: pytest.MonkeyPatch, folder: Path, text: str = TEXT, *, watch: bool = False
) -> AsyncIterator[Site]:
    path = folder / "vmcp.yaml"
    path.write_text(text)
    applied: list[Config] = []

    def read() -> list[tuple[str, str]]:
        try:
            return [(str(path), path.read_text())]
        except OSError:
            raise Unread("no such file") from None

    backends = {name: Server(tools=[tool(name)]) for name in "abc"}
    monkeypatch.setattr(runtime, "Backend", in_memory(backends))
    async with Runtime(loaded(read(), os.environ).config) as running, Nest("reload") as nest:
        reloads = Reloads(running, Source([str(path)], read, applied.append), nest)
        looked = asyncio.Event()
        if watch:
            monkeypatch.setattr(reloading, "_contents", _noted(reloading._contents, looked))
            nest.start(reloads.watch(), "watch")
            await looked.wait()
        yield Site(folder, running, reloads, applied)


def _noted(contents: Any, looked: asyncio.Event) -> Any:
    loop = asyncio.get_running_loop()

    def noted(paths: Any) -> Any:
        found = contents(paths)
        loop.call_soon_threadsafe(looked.set)
        return found

    return noted


def shown(running: Runtime) -> list[str]:
    return sorted(running.backends)


async def test_what_the_file_says_takes_effect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with site(monkeypatch, tmp_path) as found:
        found.write(TEXT + "      b: {url: http://127.0.0.1:2/mcp}\n")
        assert await found.reloads.now("test") == "applied"
        assert shown(found.running) == ["a", "b"]
        assert [sorted(spec.name for spec in each.backends) for each in found.applied] == [["a", "b"]]
        assert await found.reloads.now("test") == "unchanged"
        assert found.counted() == {"applied": 1, "unchanged": 1}


async def test_what_is_wrong_is_said_with_its_place_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(monkeypatch, tmp_path) as found:
        before = found.running.current
        found.write(TEXT.replace("groups", "gruops"))
        assert await found.reloads.now("test") == "rejected"
        (problem,) = [one.__dict__ for one in caplog.records if one.message == "configuration problem"]
        assert problem["at"] == f"{tmp_path}/vmcp.yaml:2:1"
        assert (problem["levelno"], problem["key"]) == (logging.ERROR, "gruops")
        found.write("name: [")
        assert await found.reloads.now("test") == "rejected"
        (tmp_path / "vmcp.yaml").unlink()
        assert await found.reloads.now("test") == "rejected"
        assert [one.__dict__["why"] for one in caplog.records if one.message.startswith("configuration rejected")][
            -1
        ] == "no such file"
        assert found.running.current is before
        found.write(TEXT)
        assert await found.reloads.now("test") == "unchanged"
        assert found.counted() == {"rejected": 3, "unchanged": 1}


async def test_what_takes_effect_later_is_said_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(monkeypatch, tmp_path) as found:
        found.write(TEXT + "server:\n  port: 5000\n  limits: {sessions: 7}\n  publicUrl: https://gw.example.com\n")
        assert await found.reloads.now("test") == "applied"
    said = [(one.__dict__["key"], one.__dict__["at"]) for one in caplog.records if "after a restart" in one.message]
    file = f"{tmp_path}/vmcp.yaml"
    assert said == [("server.port", f"{file}:7:9"), ("server.limits.sessions", f"{file}:8:22")]


async def test_who_wants_it_while_it_goes_on_gets_one_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with site(monkeypatch, tmp_path) as found:
        adopt, begun, go = found.running.adopt, asyncio.Event(), asyncio.Event()

        async def slowly(config: Config) -> Any:
            begun.set()
            await go.wait()
            return await adopt(config)

        monkeypatch.setattr(found.running, "adopt", slowly)
        found.reloads.wanted("signal")
        found.reloads.wanted("signal")
        await begun.wait()
        for _ in range(5):
            found.reloads.wanted("signal")
        go.set()
        await until(lambda: found.reloads._busy is None)
        assert found.counted() == {"unchanged": 2}


async def test_what_was_read_first_is_not_adopted_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with site(monkeypatch, tmp_path) as found:
        adopt, begun, go = found.running.adopt, asyncio.Event(), asyncio.Event()

        async def slowly(config: Config) -> Any:
            if not begun.is_set():
                begun.set()
                await go.wait()
            return await adopt(config)

        monkeypatch.setattr(found.running, "adopt", slowly)
        async with asyncio.TaskGroup() as group:
            group.create_task(found.reloads.now("first"))
            await begun.wait()
            found.write(TEXT + "      b: {url: http://127.0.0.1:2/mcp}\n")
            second = group.create_task(found.reloads.now("second"))
            await asyncio.wait([second], timeout=0.2)
            go.set()
        assert shown(found.running) == ["a", "b"]


async def test_a_failure_that_nobody_expected_is_counted_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with site(monkeypatch, tmp_path) as found:
        before, adopt = found.running.current, found.running.adopt

        async def fails(config: Config) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(found.running, "adopt", fails)
        found.reloads.wanted("signal")
        await until(lambda: found.counted() == {"failed": 1})
        assert found.running.current is before
        monkeypatch.setattr(found.running, "adopt", adopt)
        found.reloads.wanted("signal")
        await until(lambda: found.counted() == {"failed": 1, "unchanged": 1})


# --- files


async def test_a_file_that_changes_is_read_and_one_that_is_touched_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with site(monkeypatch, tmp_path, watch=True) as found:
        os.utime(tmp_path / "vmcp.yaml", (1, 1))
        found.write(TEXT)
        found.write(TEXT + "      b: {url: http://127.0.0.1:2/mcp}\n")
        await until(lambda: shown(found.running) == ["a", "b"])
        found.write("name: [")
        await until(lambda: found.counted().get("rejected"))
        found.write(TEXT + "      c: {url: http://127.0.0.1:2/mcp}\n")
        await until(lambda: shown(found.running) == ["a", "c"])
        assert found.counted() == {"applied": 2, "rejected": 1}


async def test_a_touch_alone_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looks: list[int] = []
    look = reloading._looks

    def counted(paths: Any) -> Any:
        looks.append(1)
        return look(paths)

    monkeypatch.setattr(reloading, "_looks", counted)
    async with site(monkeypatch, tmp_path, watch=True) as found:
        os.utime(tmp_path / "vmcp.yaml", (1, 1))
        seen = len(looks)
        await until(lambda: len(looks) > seen + 5)
        assert found.counted() == {}


async def test_a_mounted_configmap_that_is_exchanged_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As kubelet does it: the file is a link through ``..data``, which is a link to a folder, and is replaced by another."""
    mount = tmp_path / "mount"
    for name, text in (("first", TEXT), ("second", TEXT + "      b: {url: http://127.0.0.1:2/mcp}\n")):
        (mount / name).mkdir(parents=True)
        (mount / name / "vmcp.yaml").write_text(text)
        os.utime(mount / name / "vmcp.yaml", (1, 1))
    (mount / "..data").symlink_to("first")
    (tmp_path / "vmcp.yaml").symlink_to("mount/..data/vmcp.yaml")
    monkeypatch.setattr(Path, "write_text", lambda *_: None)
    async with site(monkeypatch, tmp_path, watch=True) as found:
        (mount / "..data_tmp").symlink_to("second")
        (mount / "..data_tmp").replace(mount / "..data")
        await until(lambda: shown(found.running) == ["a", "b"])


async def test_a_secret_in_a_file_that_is_rotated_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("first")
    text = TEXT.replace("/mcp}", "/mcp, headers: {X-Key: {file: key}}}")
    async with site(monkeypatch, tmp_path, text, watch=True) as found:
        before = found.running.backends["a"]
        found.write("second", "key")
        await until(lambda: found.running.backends["a"] is not before)
        assert found.counted() == {"applied": 1}


async def test_what_is_written_bit_by_bit_is_read_when_it_is_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While it changes from look to look, nobody acts on it."""
    ticks = iter(range(10**6))
    calm = asyncio.Event()
    look = reloading._looks

    def restless(paths: Any) -> Any:
        return look(paths) if calm.is_set() else {path: (next(ticks),) for path in paths}

    async with site(monkeypatch, tmp_path, watch=True) as found:
        monkeypatch.setattr(reloading, "_looks", restless)
        found.write(TEXT + "      b: {url: http://127.0.0.1:2/mcp}\n")
        before = next(ticks)
        await until(lambda: next(ticks) > before + 20)
        assert found.counted() == {}
        calm.set()
        await until(lambda: shown(found.running) == ["a", "b"])


def test_a_file_that_is_not_there_looks_like_nothing(tmp_path: Path) -> None:
    missing = [str(tmp_path / "none"), "\0"]
    assert set(reloading._looks(missing).values()) == {()}
    assert set(reloading._contents(missing).values()) == {b""}
    assert config({}).backends == ()
