"""The listener's life in this process: binding, what a refusal says, and the order of stopping.

Rule: signals are sent to ourselves, and nothing of a test outlives it.
"""

import asyncio
import logging
import os
import signal
import socket
from dataclasses import replace

import pytest

from tests.server.clients import Raw
from tests.server.peers import config, until
from vmcp.config.model import Limits, ServerSpec
from vmcp.server import serving
from vmcp.server.serving import PortTaken, bind, serve, url
from vmcp.tasks import Nest

ANY = ServerSpec(port=0)


def test_a_free_port_is_told() -> None:
    with bind(ANY) as listening:
        port = listening.getsockname()[1]
        assert url(listening) == f"http://127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port), 5):
            pass


def test_version_6_is_in_brackets() -> None:
    with bind(ServerSpec(host="::1", port=0)) as listening:
        assert url(listening).startswith("http://[::1]:")


def test_a_port_of_another_is_said_to_be_taken() -> None:
    with bind(ANY) as first:
        port = first.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} is taken on 127.0.0.1.*--port 0") as refused:
            bind(ServerSpec(port=port))
    assert refused.value.code == 69
    with bind(ServerSpec(port=port)):
        pass


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(PortTaken, match=r"cannot listen on 203\.0\.113\.7.*server\.host") as refused:
        bind(ServerSpec(host="203.0.113.7", port=0))
    assert refused.value.code == 69


@pytest.mark.parametrize("host", ["no.such.host.invalid", "localhost:80", "300.1.1.1", "a" * 300])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(PortTaken) as refused:
        bind(ServerSpec(host=host, port=0))
    assert refused.value.code == 69


def test_a_port_that_needs_a_privilege_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    class Unprivileged(socket.socket):
        bind = refuse  # type: ignore[assignment]

    monkeypatch.setattr(serving.socket, "socket", Unprivileged)
    with pytest.raises(PortTaken, match=r"no permission to listen on 127\.0\.0\.1:80.*--port") as refused:
        bind(ServerSpec(port=80))
    assert refused.value.code == 77


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(caplog: pytest.LogCaptureFixture, number: signal.Signals) -> None:
    before = asyncio.all_tasks()
    listening = bind(ANY)
    port = listening.getsockname()[1]
    with caplog.at_level(logging.INFO, "vmcp"):
        async with Nest("test") as nest:
            served = nest.start(serve(config({}, server=ANY), listening), "serve")
            idle = Raw(*await asyncio.open_connection("127.0.0.1", port))
            idle.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await idle.response()).status == 200
            os.kill(os.getpid(), number)
            assert await idle.rest() == b"", "an idle connection is closed"
            async with asyncio.timeout(5):
                await asyncio.wait([served])
            idle.close()
    assert [record.message for record in caplog.records if record.name == "vmcp.server"] == [
        "listening",
        "stopping",
        "stopped",
    ]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: asyncio.all_tasks() == before)


async def test_who_does_not_end_in_time_is_cut_off() -> None:
    listening = bind(ANY)
    port = listening.getsockname()[1]
    given = config({}, limits=replace(Limits(), shutdown_grace=1.0), server=ANY)
    async with Nest("test") as nest:
        served = nest.start(serve(given, listening), "serve")
        slow = Raw(*await asyncio.open_connection("127.0.0.1", port))
        slow.send(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        other = Raw(*await asyncio.open_connection("127.0.0.1", port))
        other.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await other.response()).status == 200
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await asyncio.wait([served])
        slow.close()
        other.close()
