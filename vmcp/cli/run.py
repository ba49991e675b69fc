"""``vmcp run -- COMMAND``: a gateway for as long as a command runs, which finds it by ``VMCP_URL``.

The rule: the terminal, the streams and the exit code are the command's; the gateway is there before it begins, says nothing while
it runs, and is gone when it has ended, however that was.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from vmcp.cli import files, instance, start
from vmcp.config.model import Config

GOODBYE: Final = 45.0
"""Seconds for the gateway to end in order."""
NOT_FOUND, NOT_RUNNABLE, SIGNALLED = 127, 126, 128
_PARENT_DEATH: Final = 1
_PASSED: Final = (signal.SIGTERM, signal.SIGHUP)


@click.command()
@click.argument("program", metavar="-- COMMAND...", nargs=-1, required=True)
@click.option("--config", "-c", "paths", multiple=True, envvar="VMCP_CONFIG", help="A file.  [default: vmcp.yaml]")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Listen here; 0 is any.")
@click.option("--endpoint", metavar="PATH", help="Which of its endpoints VMCP_URL is, as /mcp.")
@click.option("--log-file", type=click.Path(dir_okay=False), help="Keep the log of the gateway here.")
@click.option("--wait", default=60.0, show_default=True, help="Seconds for it to be ready.")
def command(program: tuple[str, ...], paths: tuple[str, ...], port: int, endpoint: str | None, **more: Any) -> None:
    """Serve a configuration, run COMMAND with VMCP_URL set to its endpoint, and end with it.

    VMCP_ADMIN is set too, so that `vmcp call` and others speak with this gateway.

    Exit codes: those of COMMAND (128 and the number of the signal that ended it); 126 and 127 it cannot be run, 2 usage, 69 the
    gateway could not start, 75 it was not ready in time, 78 bad configuration, 66 no such file.
    """
    paths = paths or ("vmcp.yaml",)
    config = files.configuration(files.read(paths))
    said = start.words(paths, None, port, workers=1)  # for one client
    with _log(more["log_file"]) as log, _gateway(config, said, log, more["wait"]) as status:
        url = _url(status, endpoint)
        code = _run(program, {**os.environ, "VMCP_URL": url, "VMCP_ADMIN": status["socket"]})
    sys.exit(code)


@contextlib.contextmanager
def _log(kept: str | None) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        if kept is not None:
            yield Path(kept)
        else:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vmcp-run-"))) / "vmcp.log"


@contextlib.contextmanager
def _gateway(config: Config, said: list[str], log: Path, wait: float) -> Iterator[Mapping[str, Any]]:
    """One that is ready; it ends with the block. Raises ``Failed``."""
    try:
        file = os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    except OSError as error:
        raise instance.Failed(f"the log {log} cannot be written: {error.strerror}", 73) from None
    with file:
        before = file.tell()
        started = start.spawned(said, file, _dying_with(os.getpid()))
    try:
        status = start.awaited(started, config, wait)
        if status is None:
            start.last_words(log, before)
            raise instance.Failed(f"the gateway did not start (exit code {started.returncode})", start.UNAVAILABLE)
        if not status["ready"]:
            raise instance.Failed(f"it waits for {', '.join(status['waitingFor'])}", instance.TEMPORARY)
        yield status
    finally:
        _end(started)


def _dying_with(parent: int) -> Callable[[], None]:
    """In the gateway, before it begins: have the kernel end it if we are killed, which may have happened just now."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        if prctl is not None:
            prctl(_PARENT_DEATH, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _end(started: "subprocess.Popen[bytes]") -> None:
    started.terminate()
    try:
        started.wait(GOODBYE)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()


def _url(status: Mapping[str, Any], endpoint: str | None) -> str:
    """Of the endpoint that is meant. Raises ``UsageError``."""
    urls: dict[str, str] = {each["path"]: each["url"] for each in status["endpoints"]}
    path = endpoint or ("/mcp" if "/mcp" in urls else next(iter(urls)) if len(urls) == 1 else None)
    if path not in urls:
        raise click.UsageError(f"name one of the endpoints with --endpoint: {', '.join(urls)}")
    return urls[path]


def _run(program: tuple[str, ...], environ: Mapping[str, str]) -> int:
    """The command's exit code. What a terminal sends goes to it as to us; what others send us, it is sent."""
    with _signals() as told:
        try:
            child = subprocess.Popen(program, env=environ)  # noqa: S603 - what the user has asked for
        except OSError as error:
            click.echo(f"vmcp: {program[0]} cannot be run: {error.strerror}", err=True)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        told.hand_on(child)
        code = child.wait()
    return SIGNALLED - code if code < 0 else code


class _Told:
    """The signals that come to us. Mutable: those that came before the command was there wait for it."""

    def __init__(self) -> None:
        self._early: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, number: int, _: object) -> None:
        if self._child is None:
            self._early.append(number)
        elif number != signal.SIGINT:  # that one a terminal has sent to both
            self._child.send_signal(number)

    def hand_on(self, child: "subprocess.Popen[bytes]") -> None:
        """From now on to the command."""
        self._child = child
        for number in self._early:
            child.send_signal(number)


@contextlib.contextmanager
def _signals() -> Iterator[_Told]:
    told = _Told()
    before = {number: signal.signal(number, told) for number in (signal.SIGINT, *_PASSED)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
