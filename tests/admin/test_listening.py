"""The life of the admin listener. Rule: real sockets in real folders, and nothing is left of them."""

import asyncio
import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.admin.offices import office
from tests.server.peers import house, until
from vmcp.admin import listening
from vmcp.admin.listening import Admin, Taken, at_path, at_port
from vmcp.admin.place import Unsafe
from vmcp.admin.tail import Tail
from vmcp.config.administration import AdminSpec
from vmcp.server.reloading import Reloads, Source
from vmcp.tasks import Nest


def test_a_socket_is_for_this_user_alone_and_goes_with_its_block(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with at_path(path, instead=False) as made:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert made.getsockname() == str(path)
    assert not path.exists()


def test_what_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    assert path.exists()
    with at_path(path, instead=False):
        pass


def test_who_is_alive_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with at_path(path, instead=True) as first:
        with at_path(path, instead=True) as second:
            assert second.getsockname() == str(tmp_path / f"a.{os.getpid()}.sock")
        with (
            pytest.raises(Taken, match=r"another process listens at admin\.socket") as refused,
            at_path(path, instead=False),
        ):
            pass
        assert refused.value.code == 69
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(first.getsockname())
    assert not list(tmp_path.iterdir())


def test_a_socket_that_is_not_ours_any_more_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with at_path(path, instead=False):
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


def test_what_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("precious")
    with pytest.raises(Unsafe, match="is no socket"), at_path(path, instead=True):
        pass
    assert path.read_text() == "precious"
    with pytest.raises(Unsafe, match="there can be no socket at"), at_path(tmp_path / "no" / "a.sock", instead=True):
        pass
    with pytest.raises(Unsafe, match="there can be no socket at"), at_path(tmp_path / ("x" * 150), instead=True):
        pass


def test_a_folder_that_somebody_holds_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "EACH", 0.0)
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(Unsafe, match="another process holds"), at_path(tmp_path / "a.sock", instead=False):
        pass
    os.close(held)
    with at_path(tmp_path / "a.sock", instead=False):
        pass


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with at_port("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(Taken, match=rf"admin\.listen cannot be had \(127.0.0.1:{port}\)"),
            at_port("127.0.0.1", port),
        ):
            pass
    with at_port("::1", 0) as sixth:
        assert sixth.family == socket.AF_INET6
    with pytest.raises(Unsafe, match=r"admin\.listen cannot be had"), at_port("203.0.113.7", 0):
        pass


async def test_it_ends_with_its_house_and_cuts_nobody_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began, go = asyncio.Event(), asyncio.Event()
    async with office(monkeypatch, tmp_path, text="") as here:

        async def slowly(pattern: str) -> dict[str, object]:
            began.set()
            await go.wait()
            return {"cleared": 7}

        monkeypatch.setattr("vmcp.admin.acts.Acts.clear", lambda self, who, pattern: slowly(pattern))
        asking = asyncio.get_running_loop().create_task(here.ask("POST", "/admin/v1/cache/clear"))
        await began.wait()
        idle = await asyncio.open_unix_connection(str(here.socket))
        asyncio.get_running_loop().call_later(0.01, go.set)
    assert (await asking).body == {"cleared": 7}
    assert await idle[0].read() == b"", "and who says nothing is let go"
    idle[1].close()
    await until(lambda: not here.socket.exists())


async def test_an_answer_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(listening, "PATIENCE", 0.01)
    began, ended = asyncio.Event(), asyncio.Event()

    async def never(self: object, who: str, pattern: str) -> dict[str, object]:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    monkeypatch.setattr("vmcp.admin.acts.Acts.clear", never)
    async with office(monkeypatch, tmp_path) as here:
        reader, writer = await asyncio.open_unix_connection(str(here.socket))
        writer.write(b"POST /admin/v1/cache/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await began.wait()
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_a_usual_place_that_cannot_be_had_is_no_reason_not_to_serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "open").mkdir(0o755)
    monkeypatch.setenv("VMCP_RUN_DIR", str(tmp_path / "open"))
    async with house(monkeypatch) as running, Nest("reload") as nest:
        reloads = Reloads(running, Source([], list), nest)
        async with Admin(AdminSpec(), Tail())(running, reloads, "http://x"):
            (warning,) = [each for each in caplog.records if each.getMessage() == "no admin socket"]
            assert "is not a folder of this user alone" in str(vars(warning)["why"])
        with pytest.raises(Unsafe, match=r"set admin\.tokenFile"):
            async with Admin(AdminSpec(listen=("127.0.0.1", 0)), Tail())(running, reloads, "http://x"):
                pass
        with pytest.raises(Unsafe, match="there can be no socket at"):
            async with Admin(AdminSpec(str(tmp_path / "no" / "a.sock")), Tail())(running, reloads, "http://x"):
                pass


async def test_the_usual_place_has_the_name_of_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VMCP_RUN_DIR", str(tmp_path / "run"))
    async with house(monkeypatch) as running, Nest("reload") as nest:
        spec = AdminSpec(listen=("127.0.0.1", 0))
        async with Admin(spec, Tail())(running, Reloads(running, Source([], list), nest), "http://x"):
            assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["test.sock", "test.token"]
        assert [each.name for each in (tmp_path / "run").iterdir()] == ["test.token"], "the next one shows the same"
