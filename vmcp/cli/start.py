"""``vmcp start``: serve in the background, and say where, or why not.

The rule: it comes back when clients can come, or when it is known that they cannot; a start that failed leaves no process.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from vmcp import outset
from vmcp.admin import place
from vmcp.cli import files, instance, output
from vmcp.config.model import Config

EACH: Final = 0.05
LAST_WORDS: Final = 20
"""Lines of the log that are shown when it failed."""
UNAVAILABLE: Final = 69


F = TypeVar("F", bound=Callable[..., Any])


def options(command: F) -> F:
    """How a process in the background is to serve."""
    for option in reversed(
        (
            click.option(
                "--config", "-c", "paths", multiple=True, envvar="VMCP_CONFIG", help="A file.  [default: vmcp.yaml]"
            ),
            click.option("--host", help="Listen here instead of server.host."),
            click.option("--port", type=click.IntRange(0, 65535), help="Listen here instead of server.port; 0 is any."),
            click.option("--workers", type=click.IntRange(1, 256), help="Processes, instead of server.workers."),
            click.option(
                "--log-file", type=click.Path(dir_okay=False), help="Where its log goes.  [default: in ~/.local/state]"
            ),
            click.option("--wait", default=60.0, show_default=True, help="Seconds for it to be ready."),
        )
    ):
        command = option(command)
    return command


@click.command()
@options
def command(
    paths: tuple[str, ...], host: str | None, port: int | None, workers: int | None, log_file: str | None, wait: float
) -> None:
    """Serve a configuration in the background; comes back when it is ready, and prints its URL.

    Exit codes: 0 ready, 69 it runs already or could not start, 75 not ready yet, 78 bad configuration, 66 no such file.
    """
    paths = paths or ("vmcp.yaml",)
    config = files.configuration(files.read(paths))
    where = running(config.name)
    if where is not None:
        raise instance.Failed(f"{config.name} runs already, at {where}; see vmcp restart", UNAVAILABLE)
    begin(config, words(paths, host, port, workers), log_file, wait)


def running(name: str) -> str | None:
    """The socket of the instance of this name."""
    return next((where for where, each in instance.running().items() if each == name), None)


def words(paths: tuple[str, ...], host: str | None, port: int | None, workers: int | None = None) -> list[str]:
    """What ``vmcp serve`` is told."""
    said = [word for path in paths for word in ("--config", path)]
    for option, value in (("--host", host), ("--port", port), ("--workers", workers)):
        said += [] if value is None else [option, str(value)]
    return said


def begin(config: Config, said: list[str], log_file: str | None, wait: float) -> None:
    """Start ``vmcp serve`` with these words, wait for it, and print where it is. Raises ``Failed``."""
    log = Path(log_file) if log_file is not None else _log(config.name)
    try:
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise instance.Failed(f"the log {log} cannot be written: {error.strerror}", 73) from None
    with os.fdopen(opened, "ab") as file:
        before = file.tell()
        started = spawned(said, file)
    status = awaited(started, config, wait)
    if status is None:
        last_words(log, before)
        raise instance.Failed(f"it did not start (exit code {started.returncode}); its log is {log}", UNAVAILABLE)
    _told(status, log)


def spawned(
    said: Sequence[str], log: IO[bytes], prepare: Callable[[], None] | None = None
) -> "subprocess.Popen[bytes]":
    """``vmcp serve`` with these words, in a session of its own; ``prepare`` is done in it before it begins."""
    return subprocess.Popen(  # noqa: S603 - ourselves
        [*outset.ourselves(), "serve", *said],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
        preexec_fn=prepare,  # noqa: PLW1509 - there are no threads in a command
    )


def _places(config: Config) -> list[Path]:
    """Where its socket may be; beside the usual place, where another instance is."""
    if config.admin.socket is not None:
        return [Path(config.admin.socket)]
    usual = [place.file(folder, config.name) for folder in place.folders(os.environ, os.geteuid())]
    return [*usual, *(beside for path in usual for beside in path.parent.glob(f"{path.stem}.*{place.SUFFIX}"))]


def awaited(started: "subprocess.Popen[bytes]", config: Config, wait: float) -> Any:
    """Its status once it is ready, and its ``socket``, or as it is after ``wait`` seconds; None when it has ended.

    Raises ``Failed`` when it has not even answered by then; it is ended.
    """
    deadline = time.monotonic() + wait
    status: Any = None
    while started.poll() is None:
        status = _status(started.pid, _places(config)) or status
        if status is not None and _is_whole(status):
            return status
        if time.monotonic() > deadline:
            if status is None:
                started.terminate()
                started.wait()
                raise instance.Failed(f"it said nothing for {wait:g} s and was ended; see --wait", instance.TEMPORARY)
            return status
        time.sleep(EACH)
    return None


def _is_whole(status: Any) -> bool:
    """Whether it is ready, with all its workers."""
    return bool(status["ready"]) and all(each["status"] not in ("away", "silent") for each in status.get("workers", ()))


def _status(session: int, places: list[Path]) -> Any:
    """The status of what was started: it has a session of its own, in which it may have started itself anew."""
    for path in places:
        found = instance.Instance(str(path))
        try:
            if path.exists() and os.getsid(found.pid()) == session:
                return {**found.get("status"), "socket": str(path)}
        except (instance.Failed, ProcessLookupError):
            continue
    return None


def _told(status: dict[str, Any], log: Path) -> None:
    backends = status["backends"]
    for each in status["endpoints"]:
        click.echo(each["url"])
    click.echo(f"{status['name']} is {status['status']}: {backends['up']} of {backends['total']} backends up", err=True)
    click.echo(f"pid {status['pid']}, log {log}; stop it with: vmcp stop", err=True)
    if not status["ready"]:
        raise instance.Failed(f"it waits for {', '.join(status['waitingFor'])}", instance.TEMPORARY)


def _log(name: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "vmcp"
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise instance.Failed(f"there is no place for a log ({folder}: {error.strerror}); use --log-file", 73) from None
    return place.file(folder, name, ".log")


def last_words(log: Path, since: int) -> None:
    """Show the end of what it has said in its log."""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - (64 << 10)))
        for line in file.read().decode("utf-8", "replace").splitlines()[-LAST_WORDS:]:
            click.echo(f"  {output.plain(line)}", err=True)
